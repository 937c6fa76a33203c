/*
 * What the limit probes share: threads, the clock, fresh memory, and files cut into blocks. A probe links nothing of the
 * package.
 */
#ifndef PROBE_H
#define PROBE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((uint64_t)2 << 20)
#define PAGE ((uint64_t)4096)
#define MOST_THREADS 64

static inline void die(const char *what) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, what, strerror(errno));
  exit(1);
}

static inline double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Memory on huge pages, mapped but not touched. */
struct fresh {
  char *memory;
  void *map;
  uint64_t mapped;
};

static inline struct fresh make_fresh(uint64_t bytes) {
  struct fresh fresh = {.mapped = bytes + HUGE_PAGE};
  fresh.map = mmap(NULL, fresh.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (fresh.map == MAP_FAILED) die("mmap");
  fresh.memory = (char *)(((uintptr_t)fresh.map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  madvise(fresh.memory, bytes, MADV_HUGEPAGE);
  return fresh;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define POPULATE_STEP ((uint64_t)32 << 20)
#define POPULATE_AHEAD ((uint64_t)256 << 20)

/* A destination that one more thread touches ahead of those that fill it. */
struct ahead {
  char *memory;
  uint64_t bytes;
  uint64_t (*reached)(void); /* the bytes that the other threads have taken */
};

static inline void *populate_ahead(void *argument) {
  const struct ahead *ahead = argument;
  for (uint64_t at = 0; at < ahead->bytes;) {
    uint64_t reached = ahead->reached();
    if (at < reached) at = reached & ~(HUGE_PAGE - 1);
    if (at >= ahead->bytes) break;
    if (at > reached + POPULATE_AHEAD) {
      usleep(100);
      continue;
    }
    uint64_t length = ahead->bytes - at < POPULATE_STEP ? ahead->bytes - at : POPULATE_STEP;
    madvise(ahead->memory + at, length, MADV_POPULATE_WRITE);
    at += length;
  }
  return NULL;
}

/* Runs the command in FASTSAFETENSORS_BENCH_TOUCH, which sees to it that there is free memory at hand. */
static inline void touch_memory(void) {
  const char *touch = getenv("FASTSAFETENSORS_BENCH_TOUCH");
  if (touch && system(touch) != 0) die(touch);
}

static inline void run_threads(int count, void *(*body)(void *)) {
  pthread_t ids[MOST_THREADS];
  for (int i = 0; i < count; i++) {
    if ((errno = pthread_create(&ids[i], NULL, body, NULL)) != 0) die("pthread_create");
  }
  for (int i = 0; i < count; i++) pthread_join(ids[i], NULL);
}

/* The same; if there is `ahead`, one more thread touches its destination. */
static inline void run_filling(int count, void *(*body)(void *), struct ahead *ahead) {
  pthread_t populator;
  if (ahead && (errno = pthread_create(&populator, NULL, populate_ahead, ahead)) != 0) die("pthread_create");
  run_threads(count, body);
  if (ahead) pthread_join(populator, NULL);
}

/* Fewer bytes than asked for only at the end of the file. */
static inline uint64_t read_range(int fd, char *to, uint64_t length, uint64_t offset) {
  uint64_t done = 0;
  while (done < length) {
    ssize_t got = pread(fd, to + done, length - done, (off_t)(offset + done));
    if (got < 0) die("pread");
    if (got == 0) break;
    done += (uint64_t)got;
  }
  return done;
}

/* Writes the destination of a turn, for the tests. */
static inline void write_output(const char *path, const char *memory, uint64_t bytes) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(memory, 1, bytes, file) != bytes || fclose(file) != 0) die(path);
}

/* Files that threads take block by block. */
struct blocks {
  int *fds;
  uint64_t *sizes;   /* rounded up to a page: what is asked for */
  uint64_t *offsets; /* of each file among all bytes */
  int files;
  uint64_t block, count, bytes;
  _Atomic uint64_t next;
};

/* A block: `length` bytes of a file, at `offset` in it and at `at` among all bytes. */
struct block {
  int fd;
  uint64_t offset, length, at;
};

static inline uint64_t blocks_of(const struct blocks *blocks, int file) {
  return (blocks->sizes[file] + blocks->block - 1) / blocks->block;
}

static inline void open_blocks(struct blocks *blocks, char **paths, int files, uint64_t block, int flags) {
  blocks->files = files;
  blocks->block = block;
  blocks->fds = calloc((size_t)files, sizeof *blocks->fds);
  blocks->sizes = calloc((size_t)files, sizeof *blocks->sizes);
  blocks->offsets = calloc((size_t)files, sizeof *blocks->offsets);
  if (!blocks->fds || !blocks->sizes || !blocks->offsets) die("calloc");
  for (int i = 0; i < files; i++) {
    struct stat status;
    blocks->fds[i] = open(paths[i], O_RDONLY | flags);
    if (blocks->fds[i] < 0 || fstat(blocks->fds[i], &status) != 0) die(paths[i]);
    blocks->sizes[i] = ((uint64_t)status.st_size + PAGE - 1) & ~(PAGE - 1);
    blocks->offsets[i] = blocks->bytes;
    blocks->bytes += blocks->sizes[i];
    blocks->count += blocks_of(blocks, i);
  }
}

/* Takes the next block; 0 when none is left. */
static inline int take_block(struct blocks *blocks, struct block *taken) {
  uint64_t index = atomic_fetch_add(&blocks->next, 1);
  if (index >= blocks->count) return 0;
  int file = 0;
  while (index >= blocks_of(blocks, file)) index -= blocks_of(blocks, file++);
  taken->fd = blocks->fds[file];
  taken->offset = index * blocks->block;
  taken->at = blocks->offsets[file] + taken->offset;
  const uint64_t left = blocks->sizes[file] - taken->offset;
  taken->length = left < blocks->block ? left : blocks->block;
  return 1;
}

#endif
