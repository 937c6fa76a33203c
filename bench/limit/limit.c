/*
 * The limit probe: how fast this machine brings these files into a fresh destination, by nothing but pread.
 *
 *   limit [-t threads] [-b block bytes] [-d] [-p] [-r turns] FILE...
 *
 *   -d  O_DIRECT instead of the page cache      -p  touch the destination ahead with one more thread
 *
 * Prints the seconds of each turn, one a line. The destination is new huge-page memory in every turn, mapped before
 * the clock starts and first touched while it runs, as a loader's is. Links nothing of the package. Before the clock
 * starts it runs the command in FASTSAFETENSORS_BENCH_TOUCH, which sees to it that there is free memory at hand.
 */
#define _GNU_SOURCE
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

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

#define HUGE_PAGE ((uint64_t)2 << 20)
#define POPULATE_STEP ((uint64_t)32 << 20)
#define POPULATE_AHEAD ((uint64_t)256 << 20)

static struct {
  int *fds;
  uint64_t *sizes;   /* rounded up to a page: what is asked for */
  uint64_t *offsets; /* of each file in the destination */
  int files;
  uint64_t block, blocks, bytes;
  char *destination;
  _Atomic uint64_t next;
} job;

static void die(const char *what) {
  fprintf(stderr, "limit: %s: %s\n", what, strerror(errno));
  exit(1);
}

static uint64_t blocks_of(int file) {
  return (job.sizes[file] + job.block - 1) / job.block;
}

static void *read_blocks(void *unused) {
  (void)unused;
  for (;;) {
    uint64_t index = atomic_fetch_add(&job.next, 1);
    if (index >= job.blocks) return NULL;
    int file = 0;
    while (index >= blocks_of(file)) index -= blocks_of(file++);
    uint64_t offset = index * job.block;
    uint64_t length = job.sizes[file] - offset < job.block ? job.sizes[file] - offset : job.block;
    for (uint64_t done = 0; done < length;) {
      ssize_t got = pread(job.fds[file], job.destination + job.offsets[file] + offset + done, length - done,
                          (off_t)(offset + done));
      if (got < 0) die("pread");
      if (got == 0) break; /* the last page of the file */
      done += (uint64_t)got;
    }
  }
}

static void *populate(void *unused) {
  (void)unused;
  for (uint64_t at = 0; at < job.bytes;) {
    uint64_t reached = atomic_load(&job.next) * job.block;
    if (at < reached) at = reached & ~(HUGE_PAGE - 1);
    if (at > reached + POPULATE_AHEAD) {
      usleep(100);
      continue;
    }
    uint64_t length = job.bytes - at < POPULATE_STEP ? job.bytes - at : POPULATE_STEP;
    madvise(job.destination + at, length, MADV_POPULATE_WRITE);
    at += length;
  }
  return NULL;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double turn(int threads, int populates) {
  char *map = mmap(NULL, job.bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) die("mmap");
  job.destination = (char *)(((uintptr_t)map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  madvise(job.destination, job.bytes, MADV_HUGEPAGE);
  atomic_store(&job.next, 0);
  pthread_t ids[65];
  int count = 0;
  const char *touch = getenv("FASTSAFETENSORS_BENCH_TOUCH");
  if (touch && system(touch) != 0) die(touch);
  double start = now();
  if (populates) pthread_create(&ids[count++], NULL, populate, NULL);
  for (int i = 0; i < threads; i++) pthread_create(&ids[count++], NULL, read_blocks, NULL);
  for (int i = 0; i < count; i++) pthread_join(ids[i], NULL);
  double seconds = now() - start;
  munmap(map, job.bytes + HUGE_PAGE);
  return seconds;
}

int main(int argc, char **argv) {
  int threads = 2, direct = 0, populates = 0, turns = 1, option;
  job.block = (uint64_t)4 << 20;
  while ((option = getopt(argc, argv, "t:b:dpr:")) != -1) {
    if (option == 't') threads = atoi(optarg);
    else if (option == 'b') job.block = strtoull(optarg, NULL, 10);
    else if (option == 'd') direct = 1;
    else if (option == 'p') populates = 1;
    else if (option == 'r') turns = atoi(optarg);
    else return 2;
  }
  job.files = argc - optind;
  if (job.files < 1 || threads < 1 || threads > 64 || job.block < 4096 || job.block % 4096 != 0) {
    fprintf(stderr, "usage: limit [-t threads] [-b block bytes] [-d] [-p] [-r turns] FILE...\n");
    return 2;
  }
  job.fds = calloc((size_t)job.files, sizeof *job.fds);
  job.sizes = calloc((size_t)job.files, sizeof *job.sizes);
  job.offsets = calloc((size_t)job.files, sizeof *job.offsets);
  for (int i = 0; i < job.files; i++) {
    job.fds[i] = open(argv[optind + i], O_RDONLY | (direct ? O_DIRECT : 0));
    struct stat status;
    if (job.fds[i] < 0 || fstat(job.fds[i], &status) != 0) die(argv[optind + i]);
    job.sizes[i] = ((uint64_t)status.st_size + 4095) & ~(uint64_t)4095;
    job.offsets[i] = job.bytes;
    job.bytes += job.sizes[i];
    job.blocks += blocks_of(i);
  }
  for (int i = 0; i < turns; i++) printf("%.6f\n", turn(threads, populates));
  return 0;
}
