/* Common parts of the tests of plans and lanes: a file of known bytes, plans over it, and checks. */
#ifndef PLAN_SUPPORT_H
#define PLAN_SUPPORT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "added.h"
#include "cast/cast.h"
#include "fst.h"

#define NO_KEEP NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
#define ALL UINT32_MAX
#define PAGE 4096u

static unsigned long checks, failures;

/* Reports a failed check and continues, so that one run shows all of them. */
#define CHECK(condition, ...)                            \
  do {                                                   \
    checks++;                                            \
    if (!(condition) && failures++ < 20) {               \
      fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);    \
      fprintf(stderr, __VA_ARGS__);                      \
      fputc('\n', stderr);                               \
    }                                                    \
  } while (0)

/* Ends the program if a precondition of a test fails. */
static void require(int condition, const char *what) {
  if (condition) return;
  perror(what);
  exit(2);
}

static int report(const char *name) {
  printf("%s: %lu checks, %lu failed\n", name, checks, failures);
  return failures > 0;
}

/* A file of noise. */
typedef struct noise_file {
  char path[128];
  char *bytes; /* its content */
  uint64_t size;
  fst_file_info info;
  int fd_direct;
} noise_file;

static inline uint32_t noise_next(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

static inline void write_noise(noise_file *file) {
  int fd = open(file->path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  require(fd >= 0 && write(fd, file->bytes, file->size) == (ssize_t)file->size && close(fd) == 0, file->path);
}

static inline void noise_open(noise_file *file, uint64_t size) {
  const char *folder = getenv("TMPDIR");
  snprintf(file->path, sizeof file->path, "%s/fst-test-%d", folder ? folder : "/tmp", (int)getpid());
  file->size = size;
  file->bytes = malloc(size);
  require(file->bytes != NULL, "malloc");
  uint32_t state = 2463534242u;
  for (uint64_t i = 0; i < size; i++) file->bytes[i] = (char)noise_next(&state);
  write_noise(file);
  char head[16];
  require(fst_file_open(file->path, &file->info, head, sizeof head) == 0, "fst_file_open");
  file->fd_direct = fst_file_open_direct(file->info.fd);
}

static inline void noise_close(noise_file *file) {
  fst_file_close(file->info.fd);
  if (file->fd_direct >= 0) fst_file_close(file->fd_direct);
  unlink(file->path);
  free(file->bytes);
}

/* A plan over one file; free it with free(). */
static inline fst_plan *new_plan(const noise_file *file, uint32_t segments, uint32_t staging) {
  size_t size = sizeof(fst_plan) + sizeof(fst_plan_file) + segments * (sizeof(fst_segment) + 1);
  fst_plan *plan = aligned_alloc(64, (size + 63) & ~(size_t)63);
  require(plan != NULL, "aligned_alloc");
  memset(plan, 0, size);
  plan->segment_count = segments;
  plan->file_count = 1;
  plan->staging_bytes = staging;
  fst_plan_file *entry = fst_plan_files(plan);
  entry->fd = file->info.fd;
  entry->fd_direct = file->fd_direct;
  entry->size = file->info.size;
  entry->mtime_seconds = file->info.mtime_seconds;
  entry->mtime_nanoseconds = file->info.mtime_nanoseconds;
  return plan;
}

/* A segment of one plain range. */
static inline fst_segment plain(uint64_t offset, uint64_t length, const void *destination) {
  return (fst_segment){.file_offset = offset,
                       .run = length,
                       .destination = (uintptr_t)destination,
                       .from = FST_U8,
                       .to = FST_U8,
                       .outer_count = 1,
                       .inner_count = 1};
}

typedef struct lane_call {
  fst_plan *plan;
  uint32_t limit;
  int32_t status;
} lane_call;

static inline void *lane_thread(void *argument) {
  lane_call *call = argument;
  call->status = fst_lane_run(call->plan, call->limit, NO_KEEP);
  return NULL;
}

#define MAX_LANES 16

/* Runs lanes to their end; returns the number that report a cancelled or failed plan. */
static inline int run_lanes(fst_plan *plan, uint32_t limit, int lanes) {
  pthread_t threads[MAX_LANES];
  lane_call calls[MAX_LANES];
  for (int i = 0; i < lanes; i++) {
    calls[i] = (lane_call){plan, limit, -1};
    require(pthread_create(&threads[i], NULL, lane_thread, &calls[i]) == 0, "pthread_create");
  }
  int stopped = 0;
  for (int i = 0; i < lanes; i++) {
    pthread_join(threads[i], NULL);
    CHECK(calls[i].status == 0 || calls[i].status == 1, "a lane ended with status %d", calls[i].status);
    stopped += calls[i].status;
  }
  return stopped;
}

/* Memory with borders that detect a byte written outside. */
typedef struct guarded {
  char *base;
  char *bytes;
  uint64_t length;
} guarded;

#define BORDER 8192u
#define MARK 0x5a

static inline guarded guarded_new(uint64_t length, uint64_t misalignment) {
  guarded memory = {.length = length};
  memory.base = aligned_alloc(PAGE, (length + misalignment + 2 * BORDER + PAGE - 1) & ~(uint64_t)(PAGE - 1));
  require(memory.base != NULL, "aligned_alloc");
  memory.bytes = memory.base + BORDER + misalignment;
  memset(memory.base, MARK, (size_t)(memory.bytes - memory.base) + length + BORDER - misalignment);
  return memory;
}

static inline void guarded_free(guarded memory) {
  int intact = 1;
  for (char *at = memory.base; at < memory.bytes; at++) intact &= *at == MARK;
  for (char *at = memory.bytes + memory.length; at < memory.bytes + memory.length + BORDER / 2; at++) {
    intact &= *at == MARK;
  }
  CHECK(intact, "bytes around the destination were written");
  free(memory.base);
}

#endif
