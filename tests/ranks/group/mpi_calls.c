/*
 * The MPI part of the shim without a JavaScript runtime, for sanitizers: run by mpi_native_test.ts under each launcher.
 * Two threads move bytes at once, while a third one passes messages.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fst_group.h"

enum { PIECE = 1000, BYTES = 10240, ROUNDS = 50, MAX_RANKS = 8, MAX_PIECES = 1000 };

static int rank, size;

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      fprintf(stderr, "rank %d, line %d: not so: %s\n", rank, __LINE__, #condition);  \
      exit(1);                                                                        \
    }                                                                                 \
  } while (0)

/* What a thread moves bytes with, the same on all ranks: some of them in an order of their own, and tags. */
typedef struct group {
  int32_t ranks[MAX_RANKS], size, rank, tag;
  fst_group_call *call;
} group;

/* Every `stride`th rank from `first` on, the last first. */
static group make(int first, int stride, int tag) {
  group made = {.tag = tag, .call = calloc(1, sizeof(fst_group_call))};
  for (int other = size - 1; other >= 0; other--) {
    if (other % stride != first) continue;
    if (other == rank) made.rank = made.size;
    made.ranks[made.size++] = other;
  }
  return made;
}

static void prepare(fst_group_call *call, uint64_t bytes) {
  memset(call, 0, sizeof *call);
  call->send_device = call->receive_device = -1;
  call->send_bytes = call->receive_bytes = bytes;
  call->timeout_us = 60000000;
}

/* Cuts blocks into pieces, as TypeScript does; returns their number. */
static uint32_t cut(const fst_group_block *blocks, uint32_t count, fst_group_block *pieces) {
  uint32_t made = 0;
  for (uint32_t i = 0; i < count; i++) {
    for (uint64_t at = 0; at < blocks[i].bytes; at += PIECE) {
      const uint64_t rest = blocks[i].bytes - at;
      CHECK(made < MAX_PIECES);
      pieces[made++] = (fst_group_block){blocks[i].address + at, rest < PIECE ? rest : PIECE, 0, 0};
    }
  }
  return made;
}

/* Moves bytes as the event loop does: looks for a short while, and then has a thread wait. */
static int32_t move(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count, const fst_group_block *blocks) {
  fst_mpi_pipe cut_pipes[MAX_RANKS];
  fst_group_block *pieces = calloc(MAX_PIECES, sizeof *pieces), *next = pieces;
  for (uint32_t i = 0; i < count; blocks += pipes[i++].count) {
    cut_pipes[i] = pipes[i];
    cut_pipes[i].count = cut(blocks, pipes[i].count, next);
    next += cut_pipes[i].count;
  }
  CHECK(fst_mpi_move(call, cut_pipes, count, pieces) == 0);
  free(pieces);
  if (fst_mpi_wait(call, 50)) return call->status;
  return fst_mpi_hold(call, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
                      NULL);
}

/* From the root on, each rank passes bytes on to the next one. */
static fst_mpi_pipe pipe_of(const group *group, int root, uint32_t blocks) {
  const int ranks = group->size, place = (group->rank - root + ranks) % ranks;
  const int next = (group->rank + 1) % ranks, previous = (group->rank + ranks - 1) % ranks;
  return (fst_mpi_pipe){
    place > 0 ? group->ranks[previous] : -1, place < ranks - 1 ? group->ranks[next] : -1, group->tag + root, blocks,
  };
}

static void check_block(const unsigned char *block, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; i++) CHECK(block[i] == (unsigned char)(i * 7 + (uint64_t)seed));
}

static void fill(unsigned char *block, uint64_t bytes, int seed) {
  for (uint64_t i = 0; i < bytes; i++) block[i] = (unsigned char)(i * 7 + (uint64_t)seed);
}

static void broadcast(const group *group, int root, uint64_t bytes) {
  unsigned char *memory = calloc(1, bytes ? bytes : 1);
  if (group->rank == root) fill(memory, bytes, root);
  prepare(group->call, bytes);
  const fst_group_block block = {(uintptr_t)memory, bytes, 0, 0};
  const fst_mpi_pipe pipe = pipe_of(group, root, 1);
  CHECK(move(group->call, &pipe, 1, &block) == FST_GROUP_DONE);
  check_block(memory, bytes, root);
  free(memory);
}

/* Nobody goes on before all are here, so that messages of two parts of this program do not mix. */
static void meet(const group *group) {
  for (int root = 0; root < size; root++) broadcast(group, root, 8);
}

/* Blocks of many lengths from every rank in one call, of which each rank makes parts of another length. */
static void broadcast_all(const group *group) {
  enum { BLOCKS = 40 };
  fst_group_block blocks[BLOCKS];
  for (int i = 0; i < BLOCKS; i++) {
    const uint64_t bytes = (uint64_t)(i * 613 % 4001) * (i % 5 != 0);
    unsigned char *memory = calloc(1, bytes ? bytes : 1);
    blocks[i] = (fst_group_block){(uintptr_t)memory, bytes, i * 7 % 11 % size, 0};
    if (blocks[i].root == group->rank) fill(memory, bytes, i);
  }
  prepare(group->call, 1);
  for (int first = 0, part = 3 + 8 * rank; first < BLOCKS; first += part) {
    fst_mpi_pipe pipes[MAX_RANKS];
    fst_group_block ordered[BLOCKS];
    uint32_t count = 0;
    for (int root = 0; root < size; root++) {
      const uint32_t before = count;
      for (int i = first; i < first + part && i < BLOCKS; i++) {
        if (blocks[i].root == root) ordered[count++] = blocks[i];
      }
      pipes[root] = pipe_of(group, root, count - before);
    }
    CHECK(move(group->call, pipes, (uint32_t)size, ordered) == FST_GROUP_DONE);
  }
  for (int i = 0; i < BLOCKS; i++) {
    unsigned char *memory = (unsigned char *)(uintptr_t)blocks[i].address;
    check_block(memory, blocks[i].bytes, i);
    free(memory);
  }
}

/* From one rank to several, each with bytes of its own. */
static void scatter(const group *group, int root) {
  unsigned char *all = malloc((size_t)size * BYTES), *part = malloc(BYTES);
  fst_group_block blocks[MAX_RANKS];
  fst_mpi_pipe pipes[MAX_RANKS];
  uint32_t count = 0;
  fill(all, (uint64_t)size * BYTES, 3);
  prepare(group->call, BYTES);
  for (int to = 0; to < size && group->rank == root; to++) {
    if (to == root) continue;
    blocks[count] = (fst_group_block){(uintptr_t)(all + to * BYTES), BYTES, 0, 0};
    pipes[count++] = (fst_mpi_pipe){-1, group->ranks[to], group->tag + root, 1};
  }
  if (group->rank != root) {
    blocks[count] = (fst_group_block){(uintptr_t)part, BYTES, 0, 0};
    pipes[count++] = (fst_mpi_pipe){group->ranks[root], -1, group->tag + root, 1};
  }
  CHECK(move(group->call, pipes, count, blocks) == FST_GROUP_DONE);
  if (group->rank == root) memcpy(part, all + root * BYTES, BYTES);
  CHECK(memcmp(part, all + group->rank * BYTES, BYTES) == 0);
  free(all);
  free(part);
}

static void *broadcasts(void *argument) {
  const group *group = argument;
  for (int round = 0; round < ROUNDS; round++) broadcast(group, round % group->size, (uint64_t)round * 211);
  return NULL;
}

/* ---- Messages ---- */

static void tell_others(const void *message, uint64_t bytes) {
  for (int to = 0; to < size; to++) {
    if (to != rank) CHECK(fst_mpi_send(to, message, bytes) == 0);
  }
}

static void receive(void *buffer, int64_t bytes) {
  int64_t received;
  while ((received = fst_mpi_receive(buffer)) == 0) fst_mpi_wait(NULL, 60000000);
  CHECK(received == bytes);
}

/* Every rank sends to every other one; what one rank sends arrives in its order. */
static void pass_messages(void) {
  enum { MESSAGES = 300 };
  char *buffer = malloc(FST_MPI_MESSAGE_BYTES);
  int32_t next[MAX_RANKS] = {0};
  for (int32_t number = 0; number < MESSAGES; number++) tell_others((const int32_t[]){rank, number}, 8);
  for (int count = 0; count < (size - 1) * MESSAGES; count++) {
    int32_t said[2];
    receive(buffer, sizeof said);
    memcpy(said, buffer, sizeof said);
    CHECK(said[1] == next[said[0]]++);
  }
  free(buffer);
}

/* The longest message, from each rank to the next one. */
static void pass_long_message(void) {
  unsigned char *buffer = malloc(FST_MPI_MESSAGE_BYTES);
  const int next = (rank + 1) % size, previous = (rank + size - 1) % size;
  fill(buffer, FST_MPI_MESSAGE_BYTES, rank);
  if (size > 1) {
    CHECK(fst_mpi_send(next, buffer, FST_MPI_MESSAGE_BYTES) == 0);
    receive(buffer, FST_MPI_MESSAGE_BYTES);
  }
  check_block(buffer, FST_MPI_MESSAGE_BYTES, previous);
  CHECK(fst_mpi_receive(buffer) == 0);
  CHECK(fst_mpi_wait(NULL, 100) == 0);
  free(buffer);
}

/* ---- Ends at random moments ---- */

enum { ENDINGS = 30, GUARD = 64 };

static void *broadcast_until_ended(void *argument) {
  const group *group = argument;
  const struct timespec millisecond = {0, 1000000};
  for (int round = 0; round < ROUNDS && group->call->status == FST_GROUP_DONE; round++) {
    const uint64_t bytes = 1 + (uint64_t)(round * 7919 % 200000);
    unsigned char *memory = malloc(bytes + 2 * GUARD);
    memset(memory, 0xa5, bytes + 2 * GUARD);
    const fst_group_block block = {(uintptr_t)(memory + GUARD), bytes, 0, 0};
    const fst_mpi_pipe pipe = pipe_of(group, round % size, 1);
    move(group->call, &pipe, 1, &block);
    for (uint64_t i = 0; i < GUARD; i++) CHECK(memory[i] == 0xa5 && memory[GUARD + bytes + i] == 0xa5);
    for (int ms = 0; atomic_load(&group->call->pending); ms++) {
      CHECK(ms < 60000); /* the others receive what was sent, and send what was announced */
      nanosleep(&millisecond, NULL);
    }
    free(memory);
  }
  return NULL;
}

/* A rank ends one of two groups on all ranks, while all of them move bytes. */
static void end_at_random(int number) {
  const int culprit = number % size, which = number / size % 2;
  group all[2];
  pthread_t threads[2];
  fst_mpi_tags tags[2];
  char *buffer = malloc(FST_MPI_MESSAGE_BYTES);
  for (int i = 0; i < 2; i++) {
    all[i] = make(0, 1, 100 + (2 * number + i) * size);
    prepare(all[i].call, 0);
    tags[i] = (fst_mpi_tags){all[i].tag, size, 0};
  }
  CHECK(fst_mpi_set_tags(tags, 2) == 0);
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, broadcast_until_ended, &all[i]) == 0);
  if (rank == culprit) {
    unsigned random = (unsigned)(number * 64 + rank);
    const struct timespec moment = {0, rand_r(&random) % 8000000};
    nanosleep(&moment, NULL);
    tell_others(&number, sizeof number);
  } else {
    receive(buffer, sizeof number);
    CHECK(memcmp(buffer, &number, sizeof number) == 0);
  }
  atomic_store(&all[which].call->cancelled, 1u);
  tags[which].dropped = 1;
  CHECK(fst_mpi_set_tags(tags, 2) == 0);
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  CHECK(all[1 - which].call->status == FST_GROUP_DONE);
  /* Nobody stops dropping before all are through. */
  tell_others(&number, sizeof number);
  for (int from = 1; from < size; from++) receive(buffer, sizeof number);
  for (int i = 0; i < 2; i++) free(all[i].call);
  free(buffer);
}

int main(void) {
  fst_mpi_info world;
  char path[1024], reason[1024];
  if (fst_mpi_open(&world, 60000000, getenv("PMI_SIZE") != NULL, path, reason, sizeof path) != 0) {
    fprintf(stderr, "%s\n", reason);
    return 1;
  }
  if (*path != '/' || *reason) {
    fprintf(stderr, "the library at \"%s\", for the reason \"%s\"\n", path, reason);
    return 1;
  }
  rank = world.rank;
  size = world.size;
  CHECK(size <= MAX_RANKS && world.tags > 30000);
  group whole = make(0, 1, 0);
  pass_messages();
  meet(&whole);
  pass_long_message();
  for (int root = 0; root < size; root++) {
    for (uint64_t bytes = 0; bytes <= BYTES; bytes += 512) broadcast(&whole, root, bytes);
    scatter(&whole, root);
  }
  if (size > 1) broadcast_all(&whole);
  group parts[2] = {make(rank % 2, 2, 16), make(0, 1, 32)};
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) CHECK(pthread_create(&threads[i], NULL, broadcasts, &parts[i]) == 0);
  pass_messages();
  for (int i = 0; i < 2; i++) {
    pthread_join(threads[i], NULL);
    free(parts[i].call);
  }
  for (int round = 0; size > 1 && round < ENDINGS; round++) {
    meet(&whole);
    end_at_random(round);
  }
  meet(&whole); /* before the last words of a rank that ends */
  free(whole.call);
  fst_mpi_last_words("the end", 7, 0);
  printf("{\"rank\":%d}\n", rank);
  return 0;
}
