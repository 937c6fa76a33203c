/*
 * The MPI part of the shim without a JavaScript runtime, for sanitizers: run by mpi_native_test.ts under each launcher.
 * Two groups are used from two threads at once.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../native/environment_support.h"
#include "fst_group.h"

enum { PIECE = 1000, BYTES = 10240, ROUNDS = 50 };

static int rank, size;

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      fprintf(stderr, "rank %d, line %d: not so: %s\n", rank, __LINE__, #condition);  \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

static void prepare(fst_group_call *call, enum fst_group_kind kind, int root, uint64_t bytes) {
  memset(call, 0, sizeof *call);
  call->send_device = call->receive_device = -1;
  call->timeout_us = 60000000;
  call->piece_bytes = PIECE;
  call->own = (fst_group_record){.kind = kind, .root = root, .bytes = bytes, .rank = rank};
}

static void check_block(const unsigned char *block, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; i++) CHECK(block[i] == (unsigned char)(i * 7 + (uint64_t)seed));
}

static void fill(unsigned char *block, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; i++) block[i] = (unsigned char)(i * 7 + (uint64_t)seed);
}

static int32_t run_broadcast(fst_mpi_group *group, fst_group_call *call, const fst_group_block *blocks, uint64_t count,
                             uint32_t flags) {
  return fst_mpi_broadcast(group, call, blocks, count, flags, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                           NULL, NULL, NULL, NULL, NULL, NULL);
}

static void broadcast(fst_mpi_group *group, int own_rank, int root, uint64_t bytes) {
  fst_group_call *call = malloc(sizeof *call);
  unsigned char *memory = calloc(1, bytes ? bytes : 1);
  if (own_rank == root) fill(memory, bytes, root);
  prepare(call, FST_GROUP_BROADCAST, root, bytes);
  const fst_group_block block = {(uintptr_t)memory, bytes, root, 0};
  CHECK(run_broadcast(group, call, &block, 1, 0) == FST_GROUP_DONE);
  check_block(memory, bytes, root);
  free(memory);
  free(call);
}

/* Blocks of many lengths from every rank in one call, of which each rank makes parts of another length. */
static void broadcast_all(fst_mpi_group *group) {
  enum { BLOCKS = 40 };
  fst_group_call *call = malloc(sizeof *call);
  fst_group_block blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    const uint64_t bytes = (uint64_t)(i * 613 % 4001) * (i % 5 != 0);
    unsigned char *memory = calloc(1, bytes ? bytes : 1);
    blocks[i] = (fst_group_block){(uintptr_t)memory, bytes, i * 7 % 11 % size, 0};
    if (blocks[i].root == rank) fill(memory, bytes, i);
  }
  prepare(call, FST_GROUP_BROADCAST, -1, 1);
  for (uint64_t first = 0, part = 3 + 8 * (uint64_t)rank; first < BLOCKS; first += part) {
    const uint64_t count = first + part < BLOCKS ? part : BLOCKS - first;
    const uint32_t flags = (first > 0 ? FST_GROUP_LATER : 0) | (first + count < BLOCKS ? FST_GROUP_MORE : 0);
    CHECK(run_broadcast(group, call, blocks + first, count, flags) == FST_GROUP_DONE);
  }
  for (int i = 0; i < BLOCKS; i++) {
    unsigned char *memory = (unsigned char *)(uintptr_t)blocks[i].address;
    check_block(memory, blocks[i].bytes, i);
    free(memory);
  }
  free(call);
}

static void scatter(fst_mpi_group *group, int root) {
  fst_group_call *call = malloc(sizeof *call);
  uint64_t *lengths = calloc((size_t)size, sizeof *lengths), total = 0, start = 0;
  for (int i = 0; i < size; i++) {
    lengths[i] = (uint64_t)i * 1234;
    if (i < rank) start += lengths[i];
    total += lengths[i];
  }
  unsigned char *all = malloc(total ? total : 1), *part = malloc(lengths[rank] ? lengths[rank] : 1);
  fill(all, total, 3);
  prepare(call, FST_GROUP_SCATTER, root, 0);
  call->own.own_bytes = call->receive_bytes = lengths[rank];
  CHECK(fst_mpi_run(group, call, rank == root ? all : NULL, part, rank == root ? lengths : NULL, 0) == FST_GROUP_DONE);
  CHECK(memcmp(part, all + start, lengths[rank]) == 0);
  free(all);
  free(part);
  free(lengths);
  free(call);
}

static void gather(fst_mpi_group *group) {
  fst_group_call *call = malloc(sizeof *call);
  uint64_t *lengths = calloc((size_t)size, sizeof *lengths), total = 0, start = 0;
  prepare(call, FST_GROUP_GATHER, 0, 0);
  call->own.own_bytes = (uint64_t)rank * 600;
  CHECK(fst_mpi_run(group, call, NULL, NULL, lengths, 0) == FST_GROUP_DONE);
  for (int i = 0; i < size; i++) {
    CHECK(lengths[i] == (uint64_t)i * 600);
    if (i < rank) start += lengths[i];
    total += lengths[i];
  }
  unsigned char *all = calloc(1, total ? total : 1);
  fill(all + start, lengths[rank], rank);
  prepare(call, FST_GROUP_SPREAD, 0, 0);
  call->receive_bytes = total;
  CHECK(fst_mpi_run(group, call, NULL, all, lengths, 0) == FST_GROUP_DONE);
  unsigned char *next = all;
  for (int i = 0; i < size; next += lengths[i++]) check_block(next, lengths[i], i);
  free(all);
  free(lengths);
  free(call);
}

static void exchange_with_next(fst_mpi_group *group) {
  if (size < 2 || rank > 1) return;
  fst_group_call *call = malloc(sizeof *call);
  unsigned char *block = calloc(1, BYTES);
  if (rank == 0) fill(block, BYTES, 9);
  prepare(call, rank == 0 ? FST_GROUP_SEND : FST_GROUP_RECEIVE, 0, BYTES);
  call->peer = 1 - rank;
  call->send_bytes = call->receive_bytes = BYTES;
  CHECK(fst_mpi_run(group, call, block, block, NULL, 0) == FST_GROUP_DONE);
  check_block(block, BYTES, 9);
  free(block);
  free(call);
}

static void disagree(fst_mpi_group *group) {
  if (size < 2) return;
  fst_group_call *call = malloc(sizeof *call);
  unsigned char memory[8] = {0};
  const fst_group_block block = {(uintptr_t)memory, rank == size - 1 ? 7 : 8, 0, 0};
  prepare(call, FST_GROUP_BROADCAST, 0, block.bytes);
  CHECK(run_broadcast(group, call, &block, 1, 0) == FST_GROUP_DIFFERENT);
  CHECK(call->failed_rank == size - 1 && call->reference.bytes == 8 && call->other.bytes == 7);
  free(call);
}

/* The last rank fails while the others wait for it. */
static void fail(fst_mpi_group *group) {
  if (size < 2) return;
  fst_group_call *call = malloc(sizeof *call);
  prepare(call, FST_GROUP_BARRIER, 0, 0);
  if (rank == size - 1) {
    fst_mpi_fail(group, rank, "no memory");
  } else {
    CHECK(fst_mpi_run(group, call, NULL, NULL, NULL, 0) == FST_GROUP_GONE);
    CHECK(call->failed_rank == size - 1 && strcmp(call->message, "no memory") == 0);
  }
  free(call);
}

typedef struct part {
  fst_mpi_group *group;
  int rank, size;
} part;

/* The ranks of a group in an order of their own: every `stride`th from `first` on, the last first. */
static part make(const part *parent, uint64_t id, int first, int stride) {
  fst_group_call *call = malloc(sizeof *call);
  part made = {NULL, rank, size};
  int32_t *ranks = calloc((size_t)size, sizeof *ranks);
  prepare(call, FST_GROUP_SPLIT, 0, 0);
  if (parent) {
    CHECK(fst_mpi_run(parent->group, call, NULL, NULL, NULL, 0) == FST_GROUP_DONE);
    made.size = 0;
    for (int other = size - 1; other >= 0; other--) {
      if (other % stride != first) continue;
      if (other == rank) made.rank = made.size;
      ranks[made.size++] = other;
    }
  }
  made.group = fst_mpi_group_make(parent ? parent->group : NULL, id, ranks, made.size, made.rank);
  CHECK(made.group);
  if (!parent) CHECK(fst_mpi_run(made.group, call, NULL, NULL, NULL, 0) == FST_GROUP_DONE);
  free(ranks);
  free(call);
  return made;
}

static void *broadcasts(void *argument) {
  const part *info = argument;
  for (int round = 0; round < ROUNDS; round++) {
    broadcast(info->group, info->rank, round % info->size, (uint64_t)round * 211);
  }
  return NULL;
}

/* ---- Ends at random moments ---- */

enum { ENDINGS = 30, GUARD = 64 };

typedef struct ending {
  fst_mpi_group *group;
  fst_group_call *call;
} ending;

static void *broadcast_until_failed(void *argument) {
  ending *ending = argument;
  for (int round = 0; round < ROUNDS && ending->call->status == FST_GROUP_DONE; round++) {
    const uint64_t bytes = 1 + (uint64_t)(round * 7919 % 200000);
    unsigned char *memory = malloc(bytes + 2 * GUARD);
    memset(memory, 0xa5, bytes + 2 * GUARD);
    const fst_group_block block = {(uintptr_t)(memory + GUARD), bytes, round % size, 0};
    prepare(ending->call, FST_GROUP_BROADCAST, round % size, bytes);
    run_broadcast(ending->group, ending->call, &block, 1, 0);
    for (uint64_t i = 0; i < GUARD; i++) CHECK(memory[i] == 0xa5 && memory[GUARD + bytes + i] == 0xa5);
    if (ending->call->status != FST_GROUP_DONE) fst_mpi_fail(ending->group, rank, "after that");
    const struct timespec millisecond = {0, 1000000};
    for (int ms = 0; fst_mpi_pending(ending->call->pending); ms++) {
      CHECK(ms < 60000); /* the others receive what was sent, and send what was announced */
      nanosleep(&millisecond, NULL);
    }
    free(memory);
  }
  return NULL;
}

/* A rank cancels its call, fails, or leaves without a word, while all of them make calls. */
static void end_at_random(uint64_t id) {
  ending all[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    all[i] = (ending){make(NULL, id + (uint64_t)i, 0, 1).group, calloc(1, sizeof(fst_group_call))};
    CHECK(pthread_create(&threads[i], NULL, broadcast_until_failed, &all[i]) == 0);
  }
  unsigned random = (unsigned)(id * 64 + (uint64_t)rank);
  const struct timespec moment = {0, rand_r(&random) % 8000000};
  nanosleep(&moment, NULL);
  const int culprit = (int)(id / 2 % (uint64_t)size);
  if (rank == culprit) fst_mpi_fail(all[id / 4 % 2].group, rank, "at random");
  if (rank == culprit && id % 4 < 2) atomic_store(&all[0].call->cancelled, 1u);
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    fst_mpi_leave(all[i].group);
    free(all[i].call);
  }
}

int main(void) {
  fst_mpi_info world;
  char path[1024], reason[1024];
  for (const char *const *name = (const char *const[]){"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", NULL}; *name; name++) {
    set_variable(*name, getenv(*name));
  }
  if (fst_mpi_open(&world, 60000000, path, reason, sizeof path) != 0) {
    fprintf(stderr, "%s\n", reason);
    return 1;
  }
  if (*path != '/' || *reason) {
    fprintf(stderr, "the library at \"%s\", for the reason \"%s\"\n", path, reason);
    return 1;
  }
  rank = world.rank;
  size = world.size;
  part group = make(NULL, 1ull << 40, 0, 1);
  for (int root = 0; root < size; root++) {
    for (uint64_t bytes = 0; bytes <= BYTES; bytes += 512) broadcast(group.group, rank, root, bytes);
    scatter(group.group, root);
  }
  broadcast_all(group.group);
  gather(group.group);
  exchange_with_next(group.group);

  part parts[2] = {make(&group, (uint64_t)rank % 2 + 1, rank % 2, 2), make(&group, 3, 0, 1)};
  CHECK(parts[1].rank == size - 1 - rank);
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, broadcasts, &parts[i]) == 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 2; i++) fst_mpi_leave(parts[i].group);

  disagree(group.group);
  fst_mpi_leave(group.group);
  group = make(NULL, (1ull << 40) + 1, 0, 1);
  fail(group.group);
  fst_mpi_leave(group.group);
  for (int round = 0; size > 1 && round < ENDINGS; round++) end_at_random((1ull << 41) + 2 * (uint64_t)round);
  printf("{\"rank\":%d}\n", rank);
  return 0;
}
