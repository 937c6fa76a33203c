/* Groups of ranks over MPI: making and leaving them. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi.h"

/* What the ranks of a new group tell each other: from the first one's numbers all know the group's id. */
typedef struct member {
  uint64_t rank; /* in the world */
  uint64_t groups_made;
} member;

typedef struct making {
  fst_mpi_handle comm, request;
  fst_mpi_group *group;
  member own;
  member *members;
} making;

static int done(void *state, fst_group_call *call) {
  making *making = state;
  int tested = fst_mpi_test(&making->request, call);
  return tested < 0 ? FST_MPI_FAILURE : tested ? FST_MPI_FINISHED : FST_MPI_IDLE;
}

static int wait_for(making *making, fst_group_call *call, const char *function, int code) {
  if (code != 0) {
    fst_mpi_lock();
    fst_mpi_trouble(call, function, code);
    fst_mpi_unlock();
    return call->status;
  }
  return fst_mpi_wait(NULL, call, -1, FST_MPI_MEETING, done, making);
}

/* A communicator of its own for the group. */
static int make_comm(making *making, fst_mpi_group *parent, int color, int key, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_lock();
  const char *function = parent ? "MPI_Comm_split" : "MPI_Comm_idup";
  int code = parent ? mpi->MPI_Comm_split(parent->comm, color, key, &making->comm)
                    : mpi->MPI_Comm_idup(mpi->world, &making->comm, &making->request);
  fst_mpi_unlock();
  return wait_for(making, call, function, code);
}

static int meet(making *making, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_group *group = making->group;
  group->comm = making->comm;
  fst_mpi_lock();
  int code = mpi->MPI_Comm_rank(group->comm, &group->rank);
  if (code == 0) code = mpi->MPI_Comm_size(group->comm, &group->size);
  const size_t size = (size_t)group->size;
  making->members = calloc(size ? size : 1, sizeof *making->members);
  const int has_memory = fst_mpi_know(group) == 0 && making->members;
  if (code == 0 && has_memory) {
    making->own = (member){(uint64_t)fst_mpi.rank, ++fst_mpi.groups_made};
    code = mpi->MPI_Iallgather(&making->own, sizeof(member), mpi->byte, making->members, sizeof(member), mpi->byte,
                               group->comm, &making->request);
  }
  fst_mpi_unlock();
  if (!has_memory) return call->status = FST_GROUP_MEMORY;
  return wait_for(making, call, "MPI_Iallgather", code);
}

int32_t fst_mpi_group_make(fst_mpi_group *parent, int32_t color, int32_t key, fst_group_call *call,
                           fst_mpi_group_info *info) {
  making *making = calloc(1, sizeof *making);
  fst_mpi_group *group = calloc(1, sizeof *group);
  if (!making || !group) {
    free(making);
    free(group);
    return call->status = FST_GROUP_MEMORY;
  }
  making->group = group;
  if (make_comm(making, parent, color, key, call) != FST_GROUP_DONE || meet(making, call) != FST_GROUP_DONE) {
    fst_mpi_lock();
    fst_mpi.stuck = 1; /* the library may still write to what was allocated: it stays */
    fst_mpi_unlock();
    return call->status;
  }
  for (int rank = 0; rank < group->size; rank++) group->members[rank] = (int32_t)making->members[rank].rank;
  group->id = making->members[0].rank << 32 | making->members[0].groups_made;
  fst_mpi_lock();
  fst_mpi_enlist(group);
  fst_mpi_unlock();
  *info = (fst_mpi_group_info){group, group->rank, group->size};
  free(making->members);
  free(making);
  return call->status;
}

int32_t fst_mpi_leave(fst_mpi_group *group) {
  fst_mpi_lock();
  fst_mpi_tell(group, FST_MPI_LEFT, -1, group->rank, "");
  fst_mpi_delist(group);
  const int stuck = fst_mpi.stuck;
  if (!stuck) fst_mpi.library->MPI_Comm_free(&group->comm);
  fst_mpi_unlock();
  if (!stuck) fst_mpi_staging_free(group->staging);
  fst_mpi_forget(group);
  return 0;
}

int32_t fst_mpi_fail(fst_mpi_group *group, int32_t rank, const char *text) {
  fst_mpi_lock();
  fst_mpi_note(group, group->rank, group->completed, rank, text);
  fst_mpi_tell(group, FST_MPI_FAILED, -1, rank, text);
  fst_mpi_unlock();
  return 0;
}

int32_t fst_mpi_watch(fst_mpi_group *group, fst_group_call *call) {
  fst_mpi_lock();
  fst_mpi_listen();
  const int gone = fst_mpi_gone(group, -1, call);
  fst_mpi_unlock();
  return gone;
}
