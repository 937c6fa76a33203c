/*
 * A ring, and transfers through it: each is cut into parts, of which as many are in flight as the ring takes, and which
 * complete in any order. Used by one thread at a time, as the library demands.
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

/* How long one call waits at most: a cancelled load is noticed in between. */
#define SLICE ((int64_t)20 * 1000000)

/* How long what is in flight may go without a completion, after a failure or a cancellation, before it is left alone. */
#define PATIENCE ((int64_t)1000 * 1000000)

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- Reserving shared memory ---- */

/* At most so many bytes of /dev/shm are the library's own for each ring: a header, and tables for the requests. */
#define LIBRARY_BYTES(entries) (((uint64_t)64 << 10) + (uint64_t)(entries) * 256)

/* Opens the file behind an address of this process: a descriptor, or -errno; -ENOENT if there is none. */
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
 * Has the system set the memory of an iov aside. The library gives a file a size only: the first touch of a page for
 * which there is no space would end the process by SIGBUS.
 */
static int reserve(const struct hf3fs_iov *iov) {
  int fd = open_behind(iov->base);
  return fd < 0 ? fd : allocate(fd, iov->size);
}

/* Whether there is space for what the library writes to /dev/shm itself, for rings that are made at the same time. */
static int try_space(const fst_usrbio_options *options) {
  int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) return -errno;
  return allocate(fd, LIBRARY_BYTES(options->entries) * options->rings);
}

/* ---- Making and freeing ---- */

/* Makes the memory that is read to. */
static int make_iov(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                    struct hf3fs_iov *iov, const char **failed) {
  *failed = "hf3fs_iovcreate";
  int status = library->iovcreate(iov, mount_point, options->ring_bytes, 0, options->numa);
  if (status != 0 || library->is_private) return status;
  *failed = "reserving memory in /dev/shm";
  status = reserve(iov);
  if (status == 0) status = try_space(options);
  if (status == 0) library->iovunlink(iov); /* 3FS has opened it: without its name it cannot outlive the process */
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
  /* Whatever is still in flight goes to memory that the daemon has mapped for itself. */
  ring->library->iordestroy(&ring->ior);
  ring->library->iovdestroy(&ring->iov);
  free(ring->ios);
  free(ring);
}

/* ---- Asking ---- */

static int fail(fst_usrbio_failure *failure, const fst_usrbio_transfer *transfer, enum fst_failure kind, int code,
                uint64_t offset, uint64_t expected, uint64_t actual) {
  *failure = (fst_usrbio_failure){{kind, code, offset, expected, actual}, transfer};
  return -1;
}

/* 1: asked; 0: the ring is full; -1: failed. */
static int prepare(fst_usrbio_ring *ring, fst_usrbio_io *io, fst_usrbio_failure *failure) {
  int index = ring->library->prep_io(&ring->ior, &ring->iov, true, io->memory, io->transfer->fd, io->offset, io->length,
                                     io);
  if (index == -EAGAIN) return 0;
  if (index < 0) return fail(failure, io->transfer, FST_FAILURE_SYSTEM, -index, io->offset, io->length, 0);
  ring->in_flight++;
  return 1;
}

/* The first free one: its memory has been used most recently, and is in the caches. */
static fst_usrbio_io *free_io(const fst_usrbio_ring *ring, uint64_t limit) {
  for (uint64_t i = 0; i < limit; i++) {
    if (!ring->ios[i].transfer) return &ring->ios[i];
  }
  return NULL;
}

/* Asks for what short reads have left. As prepare. */
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
  /* After a failure too: what has been prepared would never come to its end. */
  int status = ring->in_flight > before ? ring->library->submit_ios(&ring->ior) : 0;
  if (status < 0) ring->is_broken = 1; /* nobody knows what becomes of them */
  if (asked < 0) return -1;
  if (status < 0) return fail(failure, transfer, FST_FAILURE_SYSTEM, -status, transfer->offset, transfer->length, 0);
  return 0;
}

/* ---- What has been done ---- */

static int complete(fst_usrbio_ring *ring, const struct hf3fs_cqe *result, fst_usrbio_failure *failure) {
  fst_usrbio_io *io = (fst_usrbio_io *)(uintptr_t)result->userdata;
  if (io < ring->ios || io >= ring->ios + ring->entries || !io->transfer || io->is_cut) {
    return fail(failure, NULL, FST_FAILURE_SYSTEM, EIO, 0, 0, 0); /* it was not asked for */
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
  if (got < io->length) { /* the end of the file, unless asking again gives more */
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

/* Waits for completions, for a slice of time: how many there were, or -errno. */
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

/* Starts what there is room for and takes what has come. 0; 1: stopped; -1: failed. */
static int turn(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_transfer *other,
                const _Atomic uint32_t *stop, fst_usrbio_failure *failure) {
  struct hf3fs_cqe results[RESULTS];
  if (fst_usrbio_start(ring, transfer, failure) != 0) return -1;
  if (other && fst_usrbio_start(ring, other, failure) != 0) return -1;
  int got = reap(ring, results, RESULTS), status = 0;
  if (got < 0) return fail(failure, transfer, FST_FAILURE_SYSTEM, -got, transfer->offset, transfer->length, 0);
  for (int i = 0; i < got; i++) {
    /* All of them are taken note of, and the first failure is kept. */
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
  if (failure->error.code == ETIMEDOUT && ring->in_flight > 0) ring->is_broken = 1; /* it has been waited for long enough */
  fst_usrbio_drain(ring);
  return -1;
}
