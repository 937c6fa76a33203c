/*
 * A ring, and transfers through it: each is divided into parts; the ring's size limits the parts in flight, which
 * complete in any order. One thread at a time uses a ring, as the library requires.
 */
#define _GNU_SOURCE /* O_TMPFILE */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "three_fs/three_fs.h"

/* The longest wait of one call, after which a cancelled load is noticed. */
#define SLICE ((int64_t)20 * 1000000)

/* After a failure or a cancellation, requests without a completion for this time are abandoned. */
#define PATIENCE ((int64_t)1000 * 1000000)

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Reserving shared memory ---- */

/* The most bytes of /dev/shm that the library itself uses for each ring: a header, and tables for the requests. */
#define LIBRARY_BYTES(entries) (((uint64_t)64 << 10) + (uint64_t)(entries) * 256)

/* Opens the file mapped at an address of this process: a descriptor, or -errno; -ENOENT without a file. */
static int open_behind(const void *address) {
  FILE *maps = fopen("/proc/self/maps", "re");
  if (!maps) return -errno;
  char line[4352];
  int fd = -ENOENT;
  while (fd == -ENOENT && fgets(line, sizeof line, maps)) {
    uint64_t start, stop;
    char *name = strchr(line, '/');
    if (!name || sscanf(line, "%" SCNx64 "-%" SCNx64, &start, &stop) != 2) continue;
    if ((uintptr_t)address < start || (uintptr_t)address >= stop) continue;
    name[strcspn(name, "\n")] = '\0';
    fd = open(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) fd = -errno;
    break;
  }
  fclose(maps);
  return fd;
}

static int allocate(int fd, uint64_t bytes) {
  int error;
  do error = posix_fallocate(fd, 0, (off_t)bytes);
  while (error == EINTR);
  close(fd);
  return -error;
}

/*
 * Reserves the memory of an iov. The library only sets the size of a file: without space, the first access to a page
 * would end the process by SIGBUS.
 */
static int reserve(const struct hf3fs_iov *iov) {
  int fd = open_behind(iov->base);
  return fd < 0 ? fd : allocate(fd, iov->size);
}

/* Whether /dev/shm has space for the library's own files, also for rings that are made at the same time. */
static int try_space(const fst_usrbio_options *options) {
  int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return -errno;
  return allocate(fd, LIBRARY_BYTES(options->entries) * options->rings);
}

/* ---- Making and freeing ---- */

/* Makes the memory for the reads. */
static int make_iov(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                    struct hf3fs_iov *iov, const char **failed) {
  *failed = "hf3fs_iovcreate";
  int status = library->iovcreate(iov, mount_point, options->ring_bytes, 0, options->numa);
  if (status != 0 || library->is_private) return status;
  *failed = "reserving memory in /dev/shm";
  status = reserve(iov);
  if (status == 0) status = try_space(options);
  if (status == 0) library->iovunlink(iov); /* 3FS has opened it; without its name it is freed with the process */
  else library->iovdestroy(iov);
  return status;
}

int fst_usrbio_ring_new(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                        fst_usrbio_ring **result, const char **failed) {
  *result = NULL;
  *failed = "allocating";
  fst_usrbio_ring *ring = calloc(1, sizeof *ring);
  fst_usrbio_io *ios = calloc(options->entries, sizeof *ios);
  int status = ring && ios ? 0 : -ENOMEM;
  if (status == 0) status = make_iov(library, mount_point, options, &ring->iov, failed);
  if (status == 0) {
    *failed = "hf3fs_iorcreate4";
    status = library->iorcreate4(&ring->ior, mount_point, (int)options->entries, true, options->io_depth, 0,
                                 options->numa, 0);
    if (status != 0) library->iovdestroy(&ring->iov);
  }
  if (status != 0) {
    free(ring);
    free(ios);
    return status < 0 ? status : -EIO;
  }
  ring->library = library;
  ring->ios = ios;
  ring->entries = options->entries;
  ring->bytes = options->ring_bytes;
  ring->timeout = (int64_t)options->timeout_ms * 1000000;
  *result = ring;
  return 0;
}

void fst_usrbio_ring_free(fst_usrbio_ring *ring) {
  if (ring->unpin) ring->unpin(ring);
  /* Requests in flight write to memory that the daemon has mapped itself. */
  ring->library->iordestroy(&ring->ior);
  ring->library->iovdestroy(&ring->iov);
  free(ring->ios);
  free(ring);
}

/* ---- Requests ---- */

static int fail(fst_usrbio_failure *failure, const fst_usrbio_transfer *transfer, enum fst_failure kind, int code,
                uint64_t offset, uint64_t expected, uint64_t actual) {
  *failure = (fst_usrbio_failure){{kind, code, offset, expected, actual}, transfer};
  return -1;
}

/* Adds a request. 1: added; 0: the ring is full; -1: failed. */
static int prepare(fst_usrbio_ring *ring, fst_usrbio_io *io, fst_usrbio_failure *failure) {
  int index = ring->library->prep_io(&ring->ior, &ring->iov, true, io->memory, io->transfer->fd, io->offset, io->length,
                                     io);
  if (index == -EAGAIN) return 0;
  if (index < 0) return fail(failure, io->transfer, FST_FAILURE_SYSTEM, -index, io->offset, io->length, 0);
  ring->in_flight++;
  return 1;
}

/* Returns the first free request: its memory was used most recently, and is in the caches. */
static fst_usrbio_io *free_io(const fst_usrbio_ring *ring, uint64_t limit) {
  for (uint64_t i = 0; i < limit; i++) {
    if (!ring->ios[i].transfer) return &ring->ios[i];
  }
  return NULL;
}

/* Requests the rest of short reads. Returns as prepare. */
static int ask_again(fst_usrbio_ring *ring, fst_usrbio_failure *failure) {
  for (uint32_t i = 0; i < ring->entries && ring->cut > 0; i++) {
    if (!ring->ios[i].is_cut) continue;
    int asked = prepare(ring, &ring->ios[i], failure);
    if (asked <= 0) return asked;
    ring->ios[i].is_cut = 0;
    ring->cut--;
  }
  return 1;
}

int fst_usrbio_start(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_failure *failure) {
  const uint32_t before = ring->in_flight;
  uint64_t limit = transfer->memory ? ring->entries : ring->bytes / transfer->part;
  if (limit > ring->entries) limit = ring->entries;
  int asked = ask_again(ring, failure);
  while (asked > 0 && transfer->started < transfer->length) {
    fst_usrbio_io *io = free_io(ring, limit);
    if (!io) break;
    const uint64_t at = transfer->started, rest = transfer->length - at;
    io->transfer = transfer;
    io->offset = transfer->offset + at;
    io->length = transfer->part < rest ? transfer->part : rest;
    io->memory = transfer->memory ? transfer->memory + at
                                  : fst_usrbio_memory(ring) + (uint64_t)(io - ring->ios) * transfer->part;
    asked = prepare(ring, io, failure);
    if (asked > 0) transfer->started += io->length;
    else io->transfer = NULL;
  }
  /* Also after a failure: otherwise the prepared requests would never complete. */
  int status = ring->in_flight > before ? ring->library->submit_ios(&ring->ior) : 0;
  if (status < 0) ring->is_broken = 1; /* the state of the requests is unknown */
  if (asked < 0) return -1;
  if (status < 0) return fail(failure, transfer, FST_FAILURE_SYSTEM, -status, transfer->offset, transfer->length, 0);
  return 0;
}

/* ---- Completions ---- */

static int complete(fst_usrbio_ring *ring, const struct hf3fs_cqe *result, fst_usrbio_failure *failure) {
  fst_usrbio_io *io = (fst_usrbio_io *)(uintptr_t)result->userdata;
  if (io < ring->ios || io >= ring->ios + ring->entries || !io->transfer || io->is_cut) {
    return fail(failure, NULL, FST_FAILURE_SYSTEM, EIO, 0, 0, 0); /* it was not requested */
  }
  fst_usrbio_transfer *transfer = io->transfer;
  ring->in_flight--;
  if (result->result < 0) {
    return fail(failure, transfer, FST_FAILURE_SYSTEM, (int)-result->result, io->offset, io->length, 0);
  }
  const uint64_t got = (uint64_t)result->result;
  if (got > io->length) return fail(failure, transfer, FST_FAILURE_SYSTEM, EIO, io->offset, io->length, got);
  if (got == 0) {
    const uint64_t actual = io->offset - transfer->offset;
    return fail(failure, transfer, FST_FAILURE_TRUNCATED, 0, transfer->offset, transfer->length, actual);
  }
  if (!transfer->memory && transfer->destination) {
    fst_copy(transfer->destination + (io->offset - transfer->offset), io->memory, got);
  }
  transfer->landed += got;
  if (got < io->length) { /* the end of the file, unless a second request gets more */
    io->offset += got;
    io->memory += got;
    io->length -= got;
    io->is_cut = 1;
    ring->cut++;
  } else {
    io->transfer = NULL;
  }
  return 0;
}

/* Waits at most SLICE for completions; returns their number, or -errno. */
static int reap(fst_usrbio_ring *ring, struct hf3fs_cqe *results, int count) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += SLICE;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  int got = ring->library->wait_for_ios(&ring->ior, results, count, 1, &until);
  if (got > 0) ring->moved = now();
  return got;
}

enum { RESULTS = 16 };

void fst_usrbio_drain(fst_usrbio_ring *ring) {
  struct hf3fs_cqe results[RESULTS];
  const int64_t begun = now();
  while (ring->in_flight > 0 && !ring->is_broken) {
    int got = reap(ring, results, RESULTS);
    const int64_t since = ring->moved > begun ? ring->moved : begun;
    if (got > 0) ring->in_flight -= (uint32_t)got;
    else if (got < 0 || now() - since > PATIENCE) ring->is_broken = 1;
  }
  memset(ring->ios, 0, ring->entries * sizeof *ring->ios);
  ring->cut = 0;
}

/* Starts requests as far as the ring has space, and handles completions. 0; 1: stopped; -1: failed. */
static int turn(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_transfer *other,
                const _Atomic uint32_t *stop, fst_usrbio_failure *failure) {
  struct hf3fs_cqe results[RESULTS];
  if (fst_usrbio_start(ring, transfer, failure) != 0) return -1;
  if (other && fst_usrbio_start(ring, other, failure) != 0) return -1;
  int got = reap(ring, results, RESULTS), status = 0;
  if (got < 0) return fail(failure, transfer, FST_FAILURE_SYSTEM, -got, transfer->offset, transfer->length, 0);
  for (int i = 0; i < got; i++) {
    /* All completions are handled, and the first failure is reported. */
    fst_usrbio_failure later;
    if (complete(ring, &results[i], status == 0 ? failure : &later) != 0) status = -1;
  }
  if (status != 0) return -1;
  if (stop && atomic_load(stop)) return 1;
  if (got == 0 && ring->timeout > 0 && now() - ring->moved > ring->timeout) {
    return fail(failure, transfer, FST_FAILURE_SYSTEM, ETIMEDOUT, transfer->offset, transfer->length, transfer->landed);
  }
  return 0;
}

int fst_usrbio_finish(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_next *next, void *context,
                      const _Atomic uint32_t *stop, fst_usrbio_failure *failure) {
  *failure = (fst_usrbio_failure){.error.kind = FST_FAILURE_NONE};
  fst_usrbio_transfer *other = NULL;
  int status = 0;
  ring->moved = now();
  while (status == 0 && transfer->landed < transfer->length) {
    if (next && !other && transfer->landed > 0 && transfer->started == transfer->length) other = next(context);
    status = turn(ring, transfer, other, stop, failure);
  }
  if (status == 0) return 0;
  if (failure->error.code == ETIMEDOUT && ring->in_flight > 0) ring->is_broken = 1; /* the timeout has passed */
  fst_usrbio_drain(ring);
  return -1;
}
