/*
 * What the ranks tell one another outside of calls.
 *
 * A rank that fails or leaves says so in a short message to every other rank ("notice"). Whoever waits in a call reads
 * notices meanwhile, so nobody waits for a rank that will not come.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi.h"

enum {
  SENDING_MS = 50,
  ORPHANS = 8,
};

typedef struct notice {
  uint64_t group;
  uint64_t sequence; /* calls of the group that the sender has done */
  int32_t from;      /* rank in the world */
  int32_t blamed;    /* rank in the group */
  uint32_t kind;
  uint32_t reserved;
  char text[480];
} notice;
static_assert(sizeof(notice) == 512, "short enough for every library to send it at once");

fst_mpi_group fst_mpi_everyone;
static notice arriving;
static fst_mpi_handle arrival;  /* the request that receives it; 0: none */
static notice orphans[ORPHANS]; /* of groups that are not made here yet */
static int orphan_count;

static int rank_of(const fst_mpi_group *group, int member) {
  for (int rank = 0; rank < group->size; rank++) {
    if (group->members[rank] == member) return rank;
  }
  return -1;
}

int fst_mpi_know(fst_mpi_group *group) {
  const size_t size = group->size > 0 ? (size_t)group->size : 1;
  group->members = calloc(size, sizeof *group->members);
  group->left = malloc(size * sizeof *group->left);
  group->reasons = calloc(size, sizeof *group->reasons);
  group->blamed = calloc(size, sizeof *group->blamed);
  group->departures = calloc(size, sizeof *group->departures);
  if (!group->members || !group->left || !group->reasons || !group->blamed || !group->departures) return -1;
  memset(group->left, 0xff, size * sizeof *group->left);
  return 0;
}

void fst_mpi_forget(fst_mpi_group *group) {
  for (int rank = 0; group->reasons && rank < group->size; rank++) free(group->reasons[rank]);
  free(group->members);
  free(group->left);
  free(group->reasons);
  free(group->blamed);
  free(group->departures);
  free(group);
}

void fst_mpi_note(fst_mpi_group *group, int rank, uint64_t completed, int blamed, const char *reason) {
  if (group->left[rank] == UINT64_MAX) {
    group->left[rank] = completed;
    group->departures[group->departed++] = rank;
  }
  if (!reason || !*reason || group->reasons[rank]) return;
  group->reasons[rank] = strdup(reason);
  group->blamed[rank] = blamed;
}

static void take(fst_mpi_group *group, const notice *said) {
  int rank = rank_of(group, said->from);
  if (rank < 0) return;
  if (said->kind == FST_MPI_HURRY) {
    group->hurried = said->sequence + 1;
    return;
  }
  char reason[sizeof said->text + 1];
  snprintf(reason, sizeof reason, "%.*s", (int)sizeof said->text, said->text);
  fst_mpi_note(group, rank, said->sequence, said->blamed, reason);
}

static void heed(const notice *said) {
  if (said->kind == FST_MPI_EXIT) {
    take(&fst_mpi_everyone, said);
    return;
  }
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) {
    if (group->id == said->group) {
      take(group, said);
      return;
    }
  }
  if (orphan_count < ORPHANS) orphans[orphan_count++] = *said;
}

void fst_mpi_listen(void) {
  const fst_mpi_library *mpi = fst_mpi.library;
  char status[64];
  for (int arrived = 1; arrived;) {
    if (arrival == 0 && mpi->MPI_Irecv(&arriving, sizeof arriving, mpi->byte, mpi->any_source, FST_MPI_TAG_NOTICE,
                                       fst_mpi_everyone.comm, &arrival) != 0) {
      arrival = 0;
      return;
    }
    if (mpi->MPI_Test(&arrival, &arrived, status) != 0) return;
    if (!arrived) return;
    arrival = 0;
    heed(&arriving);
  }
}

void fst_mpi_tell(const fst_mpi_group *group, enum fst_mpi_notice_kind kind, int only, int32_t blamed,
                  const char *text) {
  const fst_mpi_library *mpi = fst_mpi.library;
  notice *said = calloc(1, sizeof *said);
  fst_mpi_handle *requests = calloc((size_t)group->size, sizeof *requests);
  if (!said || !requests) {
    free(said);
    free(requests);
    return;
  }
  *said = (notice){group->id, group->completed, fst_mpi.rank, blamed, kind, 0, ""};
  snprintf(said->text, sizeof said->text, "%s", text);
  for (int rank = 0; rank < group->size; rank++) {
    if (rank == group->rank || (only >= 0 && rank != only)) continue;
    if (mpi->MPI_Isend(said, sizeof *said, mpi->byte, group->members[rank], FST_MPI_TAG_NOTICE, fst_mpi_everyone.comm,
                       &requests[rank]) != 0) {
      requests[rank] = 0;
    }
  }
  const struct timespec millisecond = {0, 1000000};
  int pending = 1;
  for (int waited = 0; pending && waited < SENDING_MS; waited++) {
    pending = fst_mpi_take_back(requests, group->size, 0);
    if (pending) nanosleep(&millisecond, NULL);
  }
  if (pending) return; /* a rank does not look: the memory stays until it does */
  free(said);
  free(requests);
}

int fst_mpi_gone(const fst_mpi_group *group, int only, fst_group_call *call) {
  int gone = -1;
  for (int i = 0; i < group->departed; i++) {
    const int rank = group->departures[i];
    /* Between two ranks the failure of a third counts as well, not that it has left. */
    const int counts = only < 0 ? group->left[rank] <= group->completed : rank == only || group->reasons[rank];
    if (!counts) continue;
    if (gone < 0) gone = rank;
    if (!group->reasons[rank]) continue; /* it may have left because of one that says why */
    gone = rank;
    break;
  }
  if (gone < 0) return 0;
  const char *reason = group->reasons[gone], *last = fst_mpi_everyone.reasons[group->members[gone]];
  call->failed_rank = reason ? group->blamed[gone] : gone;
  if (reason) snprintf(call->message, sizeof call->message, "%s", reason);
  /* Who closes a group because of an error says why when its process ends. */
  else if (last) snprintf(call->message, sizeof call->message, "Rank %d failed: %.400s", gone, last);
  return 1;
}

void fst_mpi_enlist(fst_mpi_group *group) {
  group->next = fst_mpi.groups;
  fst_mpi.groups = group;
  int kept = 0;
  for (int i = 0; i < orphan_count; i++) {
    if (orphans[i].group == group->id) take(group, &orphans[i]);
    else orphans[kept++] = orphans[i];
  }
  orphan_count = kept;
}

void fst_mpi_delist(fst_mpi_group *group) {
  fst_mpi_group **link = &fst_mpi.groups;
  while (*link && *link != group) link = &(*link)->next;
  if (*link) *link = group->next;
}

void fst_mpi_stop_listening(void) {
  if (arrival != 0) fst_mpi_take_back(&arrival, 1, 1);
}
