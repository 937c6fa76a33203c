/*
 * Reads files with a fixed number of requests in flight, with O_DIRECT, into fresh huge-page memory:
 *
 *   reader [-u] [-q requests] [-b bytes of a request] FILE...    prints the seconds
 *   reader -u                                                    prints whether io_uring is allowed: yes or no
 *
 *   -u  io_uring by one thread; without it, one thread with blocking reads for each request
 *
 * The size of each file must be a multiple of a page. Links nothing of the package. Before the clock starts it runs the
 * command in FASTSAFETENSORS_BENCH_TOUCH, which makes sure that free memory is available.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HUGE_PAGE ((uint64_t)2 << 20)
#define MOST_REQUESTS 1024

/* A part of a file that is still to be read. */
struct request {
  int fd;
  uint64_t offset, length;
  char *to;
};

static struct {
  struct request *requests;
  uint64_t count;
  _Atomic uint64_t next;
} job;

static void die(const char *what) {
  fprintf(stderr, "reader: error: %s: %s\n", what, strerror(errno));
  exit(1);
}

/* Notes what a request has read; returns whether it is finished. */
static int advance(struct request *request, int64_t got) {
  if (got <= 0) {
    errno = got < 0 ? (int)-got : EIO;
    die("read");
  }
  request->offset += (uint64_t)got;
  request->to += got;
  request->length -= (uint64_t)got;
  return request->length == 0;
}

static void *read_blocking(void *unused) {
  (void)unused;
  for (uint64_t index; (index = atomic_fetch_add(&job.next, 1)) < job.count;) {
    struct request *request = &job.requests[index];
    ssize_t got;
    do {
      got = pread(request->fd, request->to, request->length, (off_t)request->offset);
    } while (!advance(request, got < 0 ? -errno : got));
  }
  return NULL;
}

static void read_with_threads(int depth) {
  pthread_t ids[MOST_REQUESTS];
  for (int i = 0; i < depth; i++)
    if ((errno = pthread_create(&ids[i], NULL, read_blocking, NULL)) != 0) die("pthread_create");
  for (int i = 0; i < depth; i++) pthread_join(ids[i], NULL);
}

/* The rings that this process shares with the kernel. */
struct ring {
  int fd;
  struct io_uring_sqe *entries;
  struct io_uring_cqe *results;
  uint32_t *slots, mask, results_mask;
  _Atomic uint32_t *tail, *results_head, *results_tail;
};

static void *map_ring(int fd, size_t length, off_t what) {
  void *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);
  if (map == MAP_FAILED) die("mmap of io_uring");
  return map;
}

/* Returns 0 if io_uring is refused. */
static int open_ring(struct ring *ring, unsigned depth) {
  struct io_uring_params params = {0};
  ring->fd = (int)syscall(SYS_io_uring_setup, depth, &params);
  if (ring->fd < 0) return 0;
  char *submit = map_ring(ring->fd, params.sq_off.array + params.sq_entries * sizeof(uint32_t), IORING_OFF_SQ_RING);
  char *results = map_ring(ring->fd, params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe),
                           IORING_OFF_CQ_RING);
  ring->entries = map_ring(ring->fd, params.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
  ring->results = (void *)(results + params.cq_off.cqes);
  ring->slots = (void *)(submit + params.sq_off.array);
  ring->mask = params.sq_entries - 1;
  ring->results_mask = params.cq_entries - 1;
  ring->tail = (void *)(submit + params.sq_off.tail);
  ring->results_head = (void *)(results + params.cq_off.head);
  ring->results_tail = (void *)(results + params.cq_off.tail);
  return 1;
}

static void submit(struct ring *ring, uint64_t index) {
  const struct request *request = &job.requests[index];
  const uint32_t tail = atomic_load(ring->tail), slot = tail & ring->mask;
  ring->entries[slot] = (struct io_uring_sqe){
      .opcode = IORING_OP_READ,
      .fd = request->fd,
      .off = request->offset,
      .addr = (uint64_t)(uintptr_t)request->to,
      .len = (uint32_t)request->length,
      .user_data = index,
  };
  ring->slots[slot] = slot;
  atomic_store(ring->tail, tail + 1);
}

static void read_with_ring(int depth) {
  struct ring ring;
  if (!open_ring(&ring, (unsigned)depth)) die("io_uring_setup");
  uint64_t next = 0, finished = 0;
  unsigned queued = 0;
  for (; next < job.count && next < (uint64_t)depth; next++, queued++) submit(&ring, next);
  while (finished < job.count) {
    long took = syscall(SYS_io_uring_enter, ring.fd, queued, 1, IORING_ENTER_GETEVENTS, NULL, 0);
    if (took < 0 && errno != EINTR) die("io_uring_enter");
    if (took > 0) queued -= (unsigned)took;
    uint32_t head = atomic_load(ring.results_head);
    for (; head != atomic_load(ring.results_tail); head++) {
      const struct io_uring_cqe *result = &ring.results[head & ring.results_mask];
      const uint64_t index = result->user_data;
      if (!advance(&job.requests[index], result->res)) {
        submit(&ring, index);
        queued++;
        continue;
      }
      finished++;
      if (next == job.count) continue;
      submit(&ring, next++);
      queued++;
    }
    atomic_store(ring.results_head, head);
  }
  close(ring.fd);
}

/* Opens the files, cuts them into requests, and returns the bytes of all. */
static uint64_t plan(char **paths, int files, uint64_t block) {
  uint64_t bytes = 0, room = 0;
  for (int i = 0; i < files; i++) {
    int fd = open(paths[i], O_RDONLY | O_DIRECT | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0) die(paths[i]);
    uint64_t size = (uint64_t)status.st_size;
    room += (size + block - 1) / block;
    if (!(job.requests = realloc(job.requests, room * sizeof *job.requests))) die("realloc");
    for (uint64_t offset = 0; offset < size; offset += block) {
      uint64_t length = size - offset < block ? size - offset : block;
      job.requests[job.count++] = (struct request){fd, offset, length, (char *)(uintptr_t)(bytes + offset)};
    }
    bytes += size;
  }
  return bytes;
}

static void map_destination(uint64_t bytes) {
  char *map = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) die("mmap");
  char *destination = (char *)(((uintptr_t)map + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
  madvise(destination, bytes, MADV_HUGEPAGE);
  for (uint64_t i = 0; i < job.count; i++) job.requests[i].to = destination + (uintptr_t)job.requests[i].to;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  int uring = 0, depth = 16, option;
  uint64_t block = (uint64_t)4 << 20;
  while ((option = getopt(argc, argv, "uq:b:")) != -1) {
    if (option == 'u') uring = 1;
    else if (option == 'q') depth = atoi(optarg);
    else if (option == 'b') block = strtoull(optarg, NULL, 10);
    else return 2;
  }
  if (uring && optind == argc) {
    struct ring ring;
    puts(open_ring(&ring, 1) ? "yes" : "no");
    return 0;
  }
  if (optind == argc || depth < 1 || depth > MOST_REQUESTS || block < 4096 || block % 4096 != 0) {
    fprintf(stderr, "usage: reader [-u] [-q requests] [-b bytes of a request] FILE...\n");
    return 2;
  }
  map_destination(plan(argv + optind, argc - optind, block));
  const char *touch = getenv("FASTSAFETENSORS_BENCH_TOUCH");
  if (touch && system(touch) != 0) die(touch);
  double start = now();
  if (uring) read_with_ring(depth);
  else read_with_threads(depth);
  printf("%.6f\n", now() - start);
  return 0;
}
