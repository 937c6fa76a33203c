/*
 * Before bytes move, the ranks say what they call, and nobody goes on unless all say the same: a rank that calls
 * something else, or has failed, is named at once, where plain MPI would hang or mix up bytes.
 *
 * Every rank sends its record to rank 0, which compares them and sends its verdict to all. One place then knows who is
 * missing. For two short messages a call this costs a few microseconds.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mpi.h"

typedef struct meeting {
  fst_mpi_group *group;
  uint64_t *lengths; /* the caller's */
  int begun, here;
  fst_mpi_message *records[]; /* rank 0: of each rank, NULL where it has not come */
} meeting;

static const fst_group_record *record_of(const fst_mpi_message *message) {
  return (const fst_group_record *)message->payload;
}

static void differ(fst_group_call *call, const fst_group_record *reference, const fst_group_record *other) {
  call->status = FST_GROUP_DIFFERENT;
  call->failed_rank = other->rank;
  call->reference = *reference;
  call->other = *other;
}

/* Rank 0: compares the records of all ranks. */
static void judge(const meeting *meeting, fst_group_call *call) {
  const int size = meeting->group->size;
  const fst_group_record *first = record_of(meeting->records[0]);
  for (int rank = 0; rank < size; rank++) {
    const fst_group_record *record = record_of(meeting->records[rank]);
    if (!record->failed) continue;
    call->status = FST_GROUP_REFUSED; /* worth more than any difference, which may come from it */
    call->failed_rank = rank;
    call->other = *record;
    return;
  }
  for (int rank = 1; rank < size; rank++) {
    const fst_group_record *record = record_of(meeting->records[rank]);
    if (memcmp(record, first, FST_GROUP_COMPARED) == 0) continue;
    differ(call, first, record);
    return;
  }
  if (first->kind != FST_GROUP_SCATTER) return;
  fst_group_record root = *record_of(meeting->records[first->root]);
  for (int rank = 0; rank < size; rank++) {
    const fst_group_record *record = record_of(meeting->records[rank]);
    uint64_t length;
    memcpy(&length, meeting->records[first->root]->payload + sizeof root + (size_t)rank * sizeof length, sizeof length);
    if (length == record->own_bytes) continue;
    root.own_bytes = length;
    differ(call, &root, record);
    return;
  }
}

/* What every rank gets out of it. */
static void conclude(const meeting *meeting, fst_group_call *call, const uint64_t *own_bytes) {
  const size_t size = (size_t)meeting->group->size;
  if (call->status != FST_GROUP_DONE) return;
  if (call->own.kind == FST_GROUP_GATHER) memcpy(meeting->lengths, own_bytes, size * sizeof *own_bytes);
  if (call->own.kind != FST_GROUP_SPLIT) return;
  if (meeting->group->tags == UINT64_MAX) meeting->group->tags = own_bytes[0];
  else meeting->group->next_tags = own_bytes[0];
}

/* Tags that no other group gets: rank 0 of the group says which, out of those of its process. */
static uint64_t new_tags(void) {
  const uint64_t world = (uint64_t)fst_mpi.size;
  return (fst_mpi.splits++ * world + (uint64_t)fst_mpi.rank) * world;
}

static enum fst_mpi_outcome answer(meeting *meeting, fst_group_call *call) {
  const size_t size = (size_t)meeting->group->size, record = sizeof(fst_group_record);
  judge(meeting, call);
  uint64_t *own_bytes = calloc(size, sizeof *own_bytes);
  enum fst_mpi_outcome outcome = own_bytes ? FST_MPI_FINISHED : FST_MPI_FAILURE;
  if (!own_bytes) call->status = FST_GROUP_MEMORY;
  for (size_t rank = 0; own_bytes && rank < size; rank++) {
    own_bytes[rank] = record_of(meeting->records[rank])->own_bytes;
  }
  const int32_t status = call->status, blamed = call->failed_rank;
  for (int rank = 1; rank < (int)size && outcome == FST_MPI_FINISHED; rank++) {
    fst_mpi_message *verdict = fst_mpi_compose(meeting->group, FST_MPI_VERDICT, NULL, 2 * record + size * 8);
    if (verdict) {
      verdict->status = status;
      verdict->blamed = blamed;
      memcpy(verdict->payload, &call->reference, record);
      memcpy(verdict->payload + record, &call->other, record);
      memcpy(verdict->payload + 2 * record, own_bytes, size * 8);
    }
    if (fst_mpi_send(meeting->group, rank, verdict, call) == FST_MPI_FAILURE) outcome = FST_MPI_FAILURE;
  }
  if (outcome == FST_MPI_FINISHED) conclude(meeting, call, own_bytes);
  free(own_bytes);
  return outcome;
}

static fst_mpi_message *own_record(const meeting *meeting, const fst_group_call *call) {
  const fst_mpi_group *group = meeting->group;
  const size_t record = sizeof call->own;
  const int has_lengths = call->own.kind == FST_GROUP_SCATTER && call->own.root == group->rank;
  const size_t lengths = has_lengths ? (size_t)group->size * sizeof *meeting->lengths : 0;
  fst_mpi_message *message = fst_mpi_compose(group, FST_MPI_RECORD, NULL, record + lengths);
  if (!message) return NULL;
  memcpy(message->payload, &call->own, record);
  if (lengths) memcpy(message->payload + record, meeting->lengths, lengths);
  return message;
}

/* Who has not come, as far as this rank knows, should the time be up. */
static void name_missing(const meeting *meeting, fst_group_call *call) {
  call->failed_rank = 0;
  snprintf(call->message, sizeof call->message, "%s", meeting->group->rank == 0 ? "" : "0");
  if (meeting->group->rank != 0) return;
  call->failed_rank = -1;
  for (int rank = 1; rank < meeting->group->size; rank++) {
    if (meeting->records[rank]) continue;
    if (call->failed_rank < 0) call->failed_rank = rank;
    const size_t length = strlen(call->message);
    snprintf(call->message + length, sizeof call->message - length, "%s%d", length ? ", " : "", rank);
  }
}

static enum fst_mpi_outcome step(void *state, fst_group_call *call) {
  meeting *meeting = state;
  fst_mpi_group *group = meeting->group;
  if (!meeting->begun) {
    meeting->begun = 1;
    call->own.sequence = group->completed;
    if (call->own.kind == FST_GROUP_SPLIT && group->rank == 0) call->own.own_bytes = new_tags();
    fst_mpi_message *record = own_record(meeting, call);
    if (group->rank != 0) {
      if (fst_mpi_send(group, 0, record, call) == FST_MPI_FAILURE) return FST_MPI_FAILURE;
    } else if (record) {
      meeting->records[0] = record;
      meeting->here = 1;
    } else {
      call->status = FST_GROUP_MEMORY;
      return FST_MPI_FAILURE;
    }
  }
  fst_mpi_message *said;
  if (group->rank != 0 && (said = fst_mpi_take(group, FST_MPI_VERDICT, 0)) != NULL) {
    const size_t record = sizeof(fst_group_record);
    call->status = said->status;
    call->failed_rank = said->blamed;
    memcpy(&call->reference, said->payload, record);
    memcpy(&call->other, said->payload + record, record);
    conclude(meeting, call, (const uint64_t *)(said->payload + 2 * record));
    free(said);
    return FST_MPI_FINISHED;
  }
  while (group->rank == 0 && (said = fst_mpi_take(group, FST_MPI_RECORD, -1)) != NULL) {
    free(meeting->records[said->from]);
    meeting->records[said->from] = said;
    meeting->here++;
  }
  if (group->rank == 0 && meeting->here == group->size) return answer(meeting, call);
  /* A rank that waits for this one in SEND or RECEIVE cannot come to a call of all ranks. */
  said = fst_mpi_take(group, FST_MPI_PAIR, -1);
  if (said) {
    differ(call, &call->own, record_of(said));
    free(said);
    return FST_MPI_FAILURE;
  }
  return FST_MPI_IDLE; /* that one rank has come is no movement: the time of a call runs until all are there */
}

static int drop(void *state, fst_group_call *call) {
  if (call && call->status == FST_GROUP_TIMED_OUT) name_missing(state, call);
  return 0; /* messages are the process's */
}

static void release(void *state) {
  meeting *meeting = state;
  for (int rank = 0; rank < meeting->group->size; rank++) free(meeting->records[rank]);
  free(meeting);
}

int fst_mpi_meeting(fst_mpi_part *part, fst_mpi_group *group, uint64_t *lengths) {
  meeting *state = calloc(1, sizeof *state + (size_t)group->size * sizeof *state->records);
  if (!state) return -1;
  state->group = group;
  state->lengths = lengths;
  *part = (fst_mpi_part){step, drop, release, state, -1, FST_MPI_MEETING};
  return 0;
}

/* ---- Two ranks ---- */

typedef struct pair {
  fst_mpi_group *group;
  int peer, begun;
} pair;

static enum fst_mpi_outcome step_pair(void *state, fst_group_call *call) {
  pair *pair = state;
  if (!pair->begun) {
    pair->begun = 1;
    fst_mpi_message *record = fst_mpi_compose(pair->group, FST_MPI_PAIR, &call->own, sizeof call->own);
    return fst_mpi_send(pair->group, pair->peer, record, call);
  }
  fst_mpi_message *said = fst_mpi_take(pair->group, FST_MPI_PAIR, pair->peer);
  if (!said) return FST_MPI_IDLE;
  const fst_group_record *other = record_of(said);
  const size_t kind = sizeof call->own.kind;
  const int same = memcmp((char *)&call->own + kind, (const char *)other + kind, FST_GROUP_COMPARED - kind) == 0;
  if (!same || call->own.kind == other->kind) differ(call, &call->own, other);
  free(said);
  return FST_MPI_FINISHED;
}

static int drop_pair(void *state, fst_group_call *call) {
  const int peer = ((const pair *)state)->peer;
  if (!call || call->status != FST_GROUP_TIMED_OUT) return 0;
  call->failed_rank = peer;
  snprintf(call->message, sizeof call->message, "%d", peer);
  return 0;
}

int fst_mpi_pairing(fst_mpi_part *part, fst_mpi_group *group, int peer) {
  pair *state = calloc(1, sizeof *state);
  if (!state) return -1;
  *state = (pair){group, peer, 0};
  *part = (fst_mpi_part){step_pair, drop_pair, free, state, peer, FST_MPI_MEETING};
  return 0;
}
