/* Groups of ranks over MPI: making and leaving them, and what a call does. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi.h"

enum { RELAYED_BYTES = 1 << 20 }; /* of a broadcast, passed on at once */

/* ---- Making a group ---- */

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

/* ---- Calls ---- */

typedef struct memory {
  char *address;
  int device;
} memory;

/* The blocks that a scatter moves from or to this rank; how many, or -1 without memory. */
static int scatter_blocks(const fst_mpi_group *group, const fst_group_call *call, memory send, memory receive,
                          const uint64_t *lengths, fst_mpi_block **blocks) {
  const int root = call->own.root, is_root = root == group->rank;
  *blocks = calloc(is_root ? (size_t)group->size : 1, sizeof **blocks);
  if (!*blocks) return -1;
  if (!is_root) {
    **blocks = (fst_mpi_block){FST_MPI_RECEIVE, root, receive.address, call->receive_bytes, receive.device, 0, 0};
    return call->receive_bytes > 0 ? 1 : 0;
  }
  int count = 0;
  uint64_t offset = 0;
  for (int rank = 0; rank < group->size; offset += lengths[rank++]) {
    if (rank == root || lengths[rank] == 0) continue;
    (*blocks)[count++] = (fst_mpi_block){FST_MPI_SEND, rank, send.address + offset, lengths[rank], send.device, 0, 0};
  }
  return count;
}

static int scatter(fst_mpi_group *group, fst_group_call *call, memory send, memory receive, const uint64_t *lengths,
                   int staged) {
  const int root = call->own.root;
  fst_mpi_block *blocks = NULL;
  const int count = scatter_blocks(group, call, send, receive, lengths, &blocks);
  if (count < 0) return call->status = FST_GROUP_MEMORY;
  fst_mpi_move(group, call, root == group->rank ? -1 : root, blocks, (size_t)count, staged);
  free(blocks);
  if (root != group->rank || call->status != FST_GROUP_DONE) return call->status;
  uint64_t offset = 0;
  for (int rank = 0; rank < root; rank++) offset += lengths[rank];
  return fst_mpi_copy(call, receive.address, receive.device, send.address + offset, send.device, lengths[root]);
}

/* Every rank broadcasts its bytes to their place in `receive`. */
static int spread(fst_mpi_group *group, fst_group_call *call, char *receive, const uint64_t *lengths) {
  fst_mpi_block *blocks = calloc((size_t)group->size, sizeof *blocks);
  if (!blocks) return call->status = FST_GROUP_MEMORY;
  size_t count = 0;
  uint64_t offset = 0;
  for (int rank = 0; rank < group->size; offset += lengths[rank++]) {
    if (lengths[rank] == 0) continue;
    blocks[count++] = (fst_mpi_block){FST_MPI_BROADCAST, rank, receive + offset, lengths[rank], -1, 0, 0};
  }
  fst_mpi_move(group, call, -1, blocks, count, 0);
  free(blocks);
  return call->status;
}

/*
 * From the root each rank passes the bytes on to the next, in pieces small enough to be in the processor's cache still.
 * A rank sends and receives every byte once, however many ranks there are. MPI_Bcast could not be ended when a rank
 * fails, and MPI_Ibcast takes twice the time with MPICH, and no less with Open MPI. What goes through staging memory is
 * left to it: there is one set of slots, not one for each direction.
 */
static int broadcast(fst_mpi_group *group, fst_group_call *call, memory block, int staged) {
  const int root = call->own.root, size = group->size, place = (group->rank - root + size) % size;
  if (staged && block.device >= 0) {
    const fst_mpi_block whole = {FST_MPI_BROADCAST, root, block.address, call->receive_bytes, block.device, 0, 0};
    return fst_mpi_move(group, call, -1, &whole, 1, staged);
  }
  fst_mpi_block blocks[2];
  size_t count = 0;
  for (int sends = 0; sends <= 1; sends++) {
    if (sends ? place == size - 1 : place == 0) continue;
    blocks[count] = (fst_mpi_block){sends ? FST_MPI_SEND : FST_MPI_RECEIVE,
                                    (group->rank + (sends ? 1 : size - 1)) % size,
                                    block.address,
                                    call->receive_bytes,
                                    block.device,
                                    count == 1,
                                    RELAYED_BYTES};
    count++;
  }
  return fst_mpi_move(group, call, -1, blocks, count, staged);
}

static int move(fst_mpi_group *group, fst_group_call *call, memory send, memory receive, const uint64_t *lengths,
                int staged) {
  if (call->own.kind == FST_GROUP_BROADCAST) return broadcast(group, call, receive, staged);
  if (call->own.kind == FST_GROUP_SCATTER) return scatter(group, call, send, receive, lengths, staged);
  if (call->own.kind == FST_GROUP_SPREAD) return spread(group, call, receive.address, lengths);
  return call->status;
}

static int between_two(fst_mpi_group *group, fst_group_call *call, int peer, memory block, uint32_t flags) {
  const int sends = call->own.kind == FST_GROUP_SEND;
  const fst_mpi_block moved = {sends ? FST_MPI_SEND : FST_MPI_RECEIVE, peer, block.address,
                               sends ? call->send_bytes : call->receive_bytes, block.device, 0, 0};
  if (fst_mpi_pair(group, call, peer) != FST_GROUP_DONE || flags & FST_GROUP_COMPARE) return call->status;
  return fst_mpi_move(group, call, peer, &moved, 1, flags & FST_GROUP_STAGED);
}

int32_t fst_mpi_run(fst_mpi_group *group, fst_group_call *call, const void *send, void *receive, uint64_t *lengths,
                    uint32_t flags) {
  const int staged = flags & FST_GROUP_STAGED;
  const memory from = {call->send_device < 0 ? (char *)(uintptr_t)send : (char *)(uintptr_t)call->send_address,
                       call->send_device};
  const memory to = {call->receive_device < 0 ? receive : (char *)(uintptr_t)call->receive_address,
                     call->receive_device};
  switch (call->own.kind) {
    case FST_GROUP_SEND:
      return between_two(group, call, call->peer, from, flags);
    case FST_GROUP_RECEIVE:
      return between_two(group, call, call->peer, to, flags);
    case FST_GROUP_SPREAD:
      move(group, call, from, to, lengths, staged);
      break;
    default:
      call->own.sequence = group->completed;
      if (fst_mpi_exchange(group, call, lengths) != FST_GROUP_DONE || flags & FST_GROUP_COMPARE) break;
      move(group, call, from, to, lengths, staged);
  }
  /* Those that all ranks have met for are counted, also where a rank said that it failed; GATHER when it is SPREAD. */
  if (call->own.kind != FST_GROUP_GATHER && (call->status == FST_GROUP_DONE || call->status == FST_GROUP_REFUSED)) {
    fst_mpi_lock();
    group->completed++;
    fst_mpi_unlock();
  }
  return call->status;
}
