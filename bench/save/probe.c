/*
 * The write probe: how fast this machine takes these bytes from memory into one new file, by nothing but pwrite.
 *
 *   probe [-t threads] [-b block bytes] [-d] [-a] [-s] BYTES FILE
 *
 *   -d  O_DIRECT from aligned memory, instead of through the page cache
 *   -a  reserves the space first      -s  waits until the bytes are on storage
 *
 * Prints the seconds from creating the file to closing it. The bytes lie in huge-page memory that has been touched
 * before, as a model's do that is about to be saved. The file is left there. Links nothing of the package.
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
#include <time.h>
#include <unistd.h>

#define PAGE ((uint64_t)4096)
#define HUGE_PAGE ((uint64_t)2 << 20)

static struct {
  int fd;
  uint64_t block, bytes;
  const char *source;
  _Atomic uint64_t next;
} job;

static void die(const char *what) {
  fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void *write_blocks(void *unused) {
  (void)unused;
  for (;;) {
    uint64_t offset = atomic_fetch_add(&job.next, job.block);
    if (offset >= job.bytes) return NULL;
    uint64_t length = job.bytes - offset < job.block ? job.bytes - offset : job.block;
    for (uint64_t done = 0; done < length;) {
      ssize_t put = pwrite(job.fd, job.source + offset + done, length - done, (off_t)(offset + done));
      if (put <= 0) die("pwrite");
      done += (uint64_t)put;
    }
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Memory on huge pages, no two pages of which are alike. */
static char *fill(uint64_t bytes) {
  char *map = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) die("mmap");
  char *aligned = (char *)(((uintptr_t)map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  uint64_t *words = (uint64_t *)(void *)aligned, state = 88172645463325252u;
  for (uint64_t i = 0; i < bytes / sizeof *words; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    words[i] = state ^= state << 17;
  }
  return aligned;
}

int main(int argc, char **argv) {
  int threads = 1, direct = 0, reserves = 0, syncs = 0, option;
  job.block = (uint64_t)4 << 20;
  while ((option = getopt(argc, argv, "t:b:das")) != -1) {
    if (option == 't') threads = atoi(optarg);
    else if (option == 'b') job.block = strtoull(optarg, NULL, 10);
    else if (option == 'd') direct = O_DIRECT;
    else if (option == 'a') reserves = 1;
    else if (option == 's') syncs = 1;
    else return 2;
  }
  if (argc - optind != 2 || threads < 1 || threads > 64 || job.block < PAGE || job.block % PAGE != 0) {
    fprintf(stderr, "usage: probe [-t threads] [-b block bytes] [-d] [-a] [-s] BYTES FILE\n");
    return 2;
  }
  job.bytes = strtoull(argv[optind], NULL, 10) & ~(PAGE - 1);
  job.source = fill(job.bytes);
  pthread_t ids[64];
  double start = now();
  job.fd = open(argv[optind + 1], O_WRONLY | O_CREAT | O_EXCL | direct, 0666);
  if (job.fd < 0) die("open");
  if (reserves && fallocate(job.fd, 0, 0, (off_t)job.bytes) != 0) die("fallocate");
  for (int i = 0; i < threads; i++) pthread_create(&ids[i], NULL, write_blocks, NULL);
  for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
  if (syncs && fsync(job.fd) != 0) die("fsync");
  if (close(job.fd) != 0) die("close");
  printf("%.6f\n", now() - start);
  return 0;
}
