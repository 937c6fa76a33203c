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

typedef struct verdict {
  int32_t status; /* enum fst_group_status */
  int32_t failed_rank;
  uint64_t reserved;
  fst_group_record reference, other;
  uint64_t lengths[]; /* GATHER: a rank */
} verdict;

typedef struct exchange {
  const fst_mpi_group *group;
  int answering; /* rank 0: the verdict is on its way to the others */
  int count;
  fst_mpi_handle *requests; /* rank 0: one a rank; another rank: its record and the verdict */
  size_t record_bytes;      /* of one record with its lengths */
  char *records;            /* rank 0: one a rank; another rank: its own */
  verdict *verdict;
  size_t verdict_bytes;
} exchange;

static fst_group_record *record_at(const exchange *exchange, int rank) {
  return (fst_group_record *)(exchange->records + (size_t)rank * exchange->record_bytes);
}

/* Rank 0: compares the records of all ranks. */
static void judge(const exchange *exchange) {
  verdict *verdict = exchange->verdict;
  const fst_group_record *first = record_at(exchange, 0);
  verdict->reference = *first;
  for (int rank = 0; rank < exchange->group->size; rank++) {
    const fst_group_record *record = record_at(exchange, rank);
    verdict->lengths[rank] = record->own_bytes;
    if (!record->failed || verdict->status == FST_GROUP_REFUSED) continue;
    verdict->status = FST_GROUP_REFUSED; /* worth more than any difference, which may come from it */
    verdict->failed_rank = rank;
    verdict->other = *record;
  }
  for (int rank = 1; rank < exchange->group->size && verdict->status == FST_GROUP_DONE; rank++) {
    const fst_group_record *record = record_at(exchange, rank);
    if (memcmp(record, first, FST_GROUP_COMPARED) == 0) continue;
    verdict->status = FST_GROUP_DIFFERENT;
    verdict->failed_rank = rank;
    verdict->other = *record;
  }
  if (verdict->status != FST_GROUP_DONE || first->kind != FST_GROUP_SCATTER) return;
  const fst_group_record *root = record_at(exchange, first->root);
  const uint64_t *lengths = (const uint64_t *)(root + 1);
  for (int rank = 0; rank < exchange->group->size && verdict->status == FST_GROUP_DONE; rank++) {
    const fst_group_record *record = record_at(exchange, rank);
    if (lengths[rank] == record->own_bytes) continue;
    verdict->status = FST_GROUP_DIFFERENT;
    verdict->failed_rank = rank;
    verdict->reference = *root;
    verdict->reference.own_bytes = lengths[rank];
    verdict->other = *record;
  }
}

static int answer(exchange *exchange, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  judge(exchange);
  exchange->answering = 1;
  for (int rank = 1; rank < exchange->group->size; rank++) {
    int code = mpi->MPI_Isend(exchange->verdict, (int)exchange->verdict_bytes, mpi->byte, rank, FST_MPI_TAG_VERDICT,
                              exchange->group->comm, &exchange->requests[rank]);
    if (code != 0) return fst_mpi_trouble(call, "MPI_Isend", code);
  }
  return FST_MPI_MOVED;
}

static int step(void *state, fst_group_call *call) {
  exchange *exchange = state;
  int moved = 0, pending = 0;
  for (int i = 0; i < exchange->count; i++) {
    if (exchange->requests[i] == 0) continue;
    int done = fst_mpi_test(&exchange->requests[i], call);
    if (done < 0) return FST_MPI_FAILURE;
    if (done) moved = 1;
    else pending = 1;
  }
  if (!pending && exchange->group->rank == 0 && !exchange->answering) return answer(exchange, call);
  if (!pending) return FST_MPI_FINISHED;
  /* That one rank has come is no movement: the time of a call runs until all are there. */
  return moved && exchange->answering ? FST_MPI_MOVED : FST_MPI_IDLE;
}

/* Locked. */
static int begin(exchange *exchange, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  const fst_mpi_group *group = exchange->group;
  int code = 0;
  if (group->rank == 0) {
    for (int rank = 1; rank < group->size && code == 0; rank++) {
      code = mpi->MPI_Irecv(record_at(exchange, rank), (int)exchange->record_bytes, mpi->byte, rank,
                            FST_MPI_TAG_RECORD, group->comm, &exchange->requests[rank]);
    }
    if (code != 0) return fst_mpi_trouble(call, "MPI_Irecv", code);
    return 0;
  }
  const int has_lengths = call->own.kind == FST_GROUP_SCATTER && call->own.root == group->rank;
  const size_t bytes = has_lengths ? exchange->record_bytes : sizeof(fst_group_record);
  code = mpi->MPI_Irecv(exchange->verdict, (int)exchange->verdict_bytes, mpi->byte, 0, FST_MPI_TAG_VERDICT,
                        group->comm, &exchange->requests[0]);
  if (code != 0) return fst_mpi_trouble(call, "MPI_Irecv", code);
  code = mpi->MPI_Isend(exchange->records, (int)bytes, mpi->byte, 0, FST_MPI_TAG_RECORD, group->comm,
                        &exchange->requests[1]);
  return code == 0 ? 0 : fst_mpi_trouble(call, "MPI_Isend", code);
}

/* Who has not come, as far as this rank knows. */
static void name_missing(const exchange *exchange, fst_group_call *call) {
  call->failed_rank = 0;
  snprintf(call->message, sizeof call->message, "%s", exchange->group->rank == 0 ? "" : "0");
  if (exchange->group->rank != 0 || exchange->answering) return;
  call->failed_rank = -1;
  for (int rank = 1; rank < exchange->count; rank++) {
    if (exchange->requests[rank] == 0) continue;
    if (call->failed_rank < 0) call->failed_rank = rank;
    size_t length = strlen(call->message);
    snprintf(call->message + length, sizeof call->message - length, "%s%d", length ? ", " : "", rank);
  }
}

int fst_mpi_exchange(fst_mpi_group *group, fst_group_call *call, uint64_t *lengths) {
  const size_t size = (size_t)group->size;
  exchange exchange = {.group = group, .count = group->rank == 0 ? group->size : 2};
  exchange.record_bytes = sizeof(fst_group_record) + size * sizeof(uint64_t);
  exchange.verdict_bytes = sizeof(verdict) + size * sizeof(uint64_t);
  exchange.requests = calloc((size_t)exchange.count, sizeof *exchange.requests);
  exchange.records = calloc(group->rank == 0 ? size : 1, exchange.record_bytes);
  exchange.verdict = calloc(1, exchange.verdict_bytes);
  int pending = 0;
  if (!exchange.requests || !exchange.records || !exchange.verdict) {
    call->status = FST_GROUP_MEMORY;
  } else {
    memcpy(exchange.records, &call->own, sizeof call->own);
    if (call->own.kind == FST_GROUP_SCATTER && call->own.root == group->rank) {
      memcpy(exchange.records + sizeof call->own, lengths, size * sizeof *lengths);
    }
    fst_mpi_lock();
    const int failed = begin(&exchange, call);
    fst_mpi_unlock();
    if (!failed) fst_mpi_wait(group, call, -1, FST_MPI_MEETING, step, &exchange);
    if (call->status == FST_GROUP_TIMED_OUT) name_missing(&exchange, call);
    if (call->status == FST_GROUP_DONE) {
      call->status = exchange.verdict->status;
      call->failed_rank = exchange.verdict->failed_rank;
      call->reference = exchange.verdict->reference;
      call->other = exchange.verdict->other;
      if (call->own.kind == FST_GROUP_GATHER) memcpy(lengths, exchange.verdict->lengths, size * sizeof *lengths);
    } else {
      fst_mpi_lock();
      const int receives = group->rank != 0 ? 1 : exchange.answering ? 0 : exchange.count;
      pending = fst_mpi_take_back(exchange.requests, receives, 1);
      if (pending) fst_mpi.stuck = 1;
      /* A short message that its receiver has not looked at holds up nothing but its memory. */
      pending |= fst_mpi_take_back(exchange.requests + receives, exchange.count - receives, 0);
      fst_mpi_unlock();
    }
  }
  if (!pending) { /* else the library may still write there */
    free(exchange.requests);
    free(exchange.records);
    free(exchange.verdict);
  }
  return call->status;
}

/* ---- Two ranks ---- */

typedef struct pair {
  fst_mpi_handle requests[2];
  fst_group_record own, other;
} pair;

static int step_pair(void *state, fst_group_call *call) {
  pair *pair = state;
  for (int i = 0; i < 2; i++) {
    int done = fst_mpi_test(&pair->requests[i], call);
    if (done <= 0) return done < 0 ? FST_MPI_FAILURE : FST_MPI_IDLE;
  }
  return FST_MPI_FINISHED;
}

int fst_mpi_pair(fst_mpi_group *group, fst_group_call *call, int peer) {
  const fst_mpi_library *mpi = fst_mpi.library;
  pair *pair = calloc(1, sizeof *pair);
  if (!pair) return call->status = FST_GROUP_MEMORY;
  pair->own = call->own;
  fst_mpi_lock();
  const int size = sizeof pair->own, tag = fst_mpi_pair_tag(group);
  int code = mpi->MPI_Irecv(&pair->other, size, mpi->byte, peer, tag, group->comm, &pair->requests[0]);
  if (code == 0) code = mpi->MPI_Isend(&pair->own, size, mpi->byte, peer, tag, group->comm, &pair->requests[1]);
  if (code != 0) fst_mpi_trouble(call, "MPI_Isend", code);
  fst_mpi_unlock();
  if (code == 0) fst_mpi_wait(group, call, peer, FST_MPI_MEETING, step_pair, pair);
  if (call->status == FST_GROUP_TIMED_OUT) {
    call->failed_rank = peer;
    snprintf(call->message, sizeof call->message, "%d", peer);
  }
  if (call->status != FST_GROUP_DONE) {
    fst_mpi_lock();
    int pending = fst_mpi_take_back(pair->requests, 1, 1);
    if (pending) fst_mpi.stuck = 1;
    pending |= fst_mpi_take_back(pair->requests + 1, 1, 0);
    fst_mpi_unlock();
    if (!pending) free(pair);
    return call->status;
  }
  const size_t kind = sizeof pair->own.kind;
  const int same = memcmp((char *)&pair->own + kind, (char *)&pair->other + kind, FST_GROUP_COMPARED - kind) == 0;
  if (!same || pair->own.kind == pair->other.kind) {
    call->status = FST_GROUP_DIFFERENT;
    call->failed_rank = peer;
    call->reference = pair->own;
    call->other = pair->other;
  }
  free(pair);
  return call->status;
}
