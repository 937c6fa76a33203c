/*
 * What a machine with a GPU can do at most, by nothing but the calls that it takes.
 *
 *   peak copy BYTES [-t threads] [-b block bytes]        from pinned memory to the device, a stream for each thread
 *   peak read [-d] [-t threads] [-b block bytes] FILE... to memory that is used again and again; -d: O_DIRECT
 *
 * Prints the seconds. Links nothing of the package: libcudart is opened by the name that FASTSAFETENSORS_CUDART_LIB
 * gives, or by its own. Pinning, and the first contact with the device, are not in the time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
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

#define PAGE 4096u
#define SLOTS 2
#define MOST_THREADS 64

static struct {
  int (*cudaSetDevice)(int);
  int (*cudaMalloc)(void **, size_t);
  int (*cudaHostRegister)(void *, size_t, unsigned);
  int (*cudaStreamCreateWithFlags)(void **, unsigned);
  int (*cudaStreamSynchronize)(void *);
  int (*cudaMemcpyAsync)(void *, const void *, size_t, int, void *);
  int (*cudaEventCreateWithFlags)(void **, unsigned);
  int (*cudaEventRecord)(void *, void *);
  int (*cudaEventSynchronize)(void *);
} cuda;

static struct {
  int is_copy, is_direct, threads, files;
  uint64_t block, bytes, blocks;
  int *fds;
  uint64_t *sizes;
  char *device;
  _Atomic uint64_t next;
  pthread_barrier_t ready;
} job;

static void die(const char *what) {
  fprintf(stderr, "peak: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void check(int code, const char *what) {
  if (code == 0) return;
  fprintf(stderr, "peak: %s failed with error %d\n", what, code);
  exit(1);
}

static void open_cuda(void) {
  const char *named = getenv("FASTSAFETENSORS_CUDART_LIB");
  const char *const names[] = {named && *named ? named : "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0",
                               "libcudart.so", "/usr/local/cuda/lib64/libcudart.so"};
  void *library = NULL;
  for (size_t i = 0; i < sizeof names / sizeof *names && !library; i++) library = dlopen(names[i], RTLD_NOW);
  if (!library) {
    fprintf(stderr, "peak: there is no libcudart: %s\n", dlerror());
    exit(1);
  }
#define FIND(name)                                  \
  do {                                              \
    void *found = dlsym(library, #name);            \
    if (!found) {                                   \
      fprintf(stderr, "peak: no function " #name "\n"); \
      exit(1);                                      \
    }                                               \
    memcpy(&cuda.name, &found, sizeof found);       \
  } while (0)
  FIND(cudaSetDevice);
  FIND(cudaMalloc);
  FIND(cudaHostRegister);
  FIND(cudaStreamCreateWithFlags);
  FIND(cudaStreamSynchronize);
  FIND(cudaMemcpyAsync);
  FIND(cudaEventCreateWithFlags);
  FIND(cudaEventRecord);
  FIND(cudaEventSynchronize);
#undef FIND
}

static char *map_buffer(uint64_t bytes) {
  const uint64_t huge = (uint64_t)2 << 20;
  char *base = mmap(NULL, bytes + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (base == MAP_FAILED) die("mmap");
  char *aligned = (char *)(((uintptr_t)base + huge - 1) & ~(uintptr_t)(huge - 1));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  memset(aligned, 1, bytes);
  return aligned;
}

static void copy_blocks(void) {
  char *slots[SLOTS];
  void *events[SLOTS], *stream;
  check(cuda.cudaSetDevice(0), "cudaSetDevice");
  check(cuda.cudaStreamCreateWithFlags(&stream, 1), "cudaStreamCreateWithFlags");
  for (int i = 0; i < SLOTS; i++) {
    slots[i] = map_buffer(job.block);
    check(cuda.cudaHostRegister(slots[i], job.block, 1), "cudaHostRegister");
    check(cuda.cudaEventCreateWithFlags(&events[i], 2), "cudaEventCreateWithFlags");
  }
  pthread_barrier_wait(&job.ready);
  for (uint64_t turn = 0;; turn++) {
    uint64_t index = atomic_fetch_add(&job.next, 1);
    if (index >= job.blocks) break;
    uint64_t at = index * job.block, length = job.bytes - at < job.block ? job.bytes - at : job.block;
    int slot = (int)(turn % SLOTS);
    if (turn >= SLOTS) check(cuda.cudaEventSynchronize(events[slot]), "cudaEventSynchronize");
    check(cuda.cudaMemcpyAsync(job.device + at, slots[slot], length, 1, stream), "cudaMemcpyAsync");
    check(cuda.cudaEventRecord(events[slot], stream), "cudaEventRecord");
  }
  check(cuda.cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

static uint64_t blocks_of(int file) {
  return (job.sizes[file] + job.block - 1) / job.block;
}

static void read_blocks(void) {
  char *buffer = map_buffer(job.block);
  pthread_barrier_wait(&job.ready);
  for (;;) {
    uint64_t index = atomic_fetch_add(&job.next, 1);
    if (index >= job.blocks) return;
    int file = 0;
    while (index >= blocks_of(file)) index -= blocks_of(file++);
    uint64_t at = index * job.block, length = job.sizes[file] - at < job.block ? job.sizes[file] - at : job.block;
    for (uint64_t done = 0; done < length;) {
      uint64_t left = length - done, whole = (left + PAGE - 1) & ~(uint64_t)(PAGE - 1);
      ssize_t got = pread(job.fds[file], buffer + done, job.is_direct ? whole : left, (off_t)(at + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) die("pread");
      done += (uint64_t)got;
    }
  }
}

static void *run(void *unused) {
  (void)unused;
  if (job.is_copy) copy_blocks();
  else read_blocks();
  return NULL;
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void open_files(char **paths) {
  job.fds = calloc((size_t)job.files, sizeof *job.fds);
  job.sizes = calloc((size_t)job.files, sizeof *job.sizes);
  if (!job.fds || !job.sizes) die("calloc");
  for (int i = 0; i < job.files; i++) {
    struct stat status;
    job.fds[i] = open(paths[i], O_RDONLY | O_CLOEXEC | (job.is_direct ? O_DIRECT : 0));
    if (job.fds[i] < 0 || fstat(job.fds[i], &status) != 0) die(paths[i]);
    job.sizes[i] = (uint64_t)status.st_size;
    job.blocks += blocks_of(i);
  }
}

int main(int argc, char **argv) {
  if (argc < 3 || (strcmp(argv[1], "copy") != 0 && strcmp(argv[1], "read") != 0)) {
    fprintf(stderr, "usage: peak copy BYTES [options] | peak read [options] FILE...\n");
    return 2;
  }
  job.is_copy = strcmp(argv[1], "copy") == 0;
  job.threads = 4;
  job.block = (uint64_t)2 << 20;
  for (int option; (option = getopt(argc - 1, argv + 1, "dt:b:")) != -1;) {
    if (option == 'd') job.is_direct = 1;
    else if (option == 't') job.threads = atoi(optarg);
    else if (option == 'b') job.block = strtoull(optarg, NULL, 10);
    else return 2;
  }
  if (job.threads < 1 || job.threads > MOST_THREADS || job.block < PAGE || job.block % PAGE != 0) return 2;
  char **rest = argv + 1 + optind;
  job.files = (int)(argv + argc - rest);
  if (job.files < 1) return 2;
  if (job.is_copy) {
    job.bytes = strtoull(rest[0], NULL, 10);
    job.blocks = (job.bytes + job.block - 1) / job.block;
    open_cuda();
    check(cuda.cudaSetDevice(0), "cudaSetDevice");
    check(cuda.cudaMalloc((void **)&job.device, job.bytes), "cudaMalloc");
  } else {
    open_files(rest);
  }
  pthread_barrier_init(&job.ready, NULL, (unsigned)job.threads + 1);
  pthread_t threads[MOST_THREADS];
  for (int i = 0; i < job.threads; i++) {
    if (pthread_create(&threads[i], NULL, run, NULL) != 0) die("pthread_create");
  }
  pthread_barrier_wait(&job.ready);
  double start = now();
  for (int i = 0; i < job.threads; i++) pthread_join(threads[i], NULL);
  printf("%.6f\n", now() - start);
  return 0;
}
