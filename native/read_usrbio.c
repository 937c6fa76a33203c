/*
 * Reading ranges of files on 3FS, by the ring that a lane takes from the file's mount when it first needs one. What is
 * to be staged is read to the ring's memory and used there.
 */
#include <errno.h>

#include "cuda.h"
#include "lane.h"
#include "usrbio.h"

/* Bytes of one request: a few of them are in flight for each segment, and each is still in a cache when it is used. */
#define PART ((uint64_t)512 << 10)

static fst_usrbio_mount *mount_of(const fst_lane *lane) {
  return (fst_usrbio_mount *)(uintptr_t)lane->file->reader_handle;
}

static void fail(fst_lane *lane, enum fst_failure failure, int status) {
  const fst_segment *segment = lane->segment;
  fst_plan_fail(lane->plan, lane->index, failure, status, segment->file_offset, fst_segment_bytes(segment), 0);
}

/* The lane's ring on the mount of the file in hand; NULL after a failure. */
static fst_usrbio_ring *ring_of(fst_lane *lane) {
  fst_usrbio_mount *mount = mount_of(lane);
  if (lane->usrbio_mount == mount) return lane->usrbio_ring;
  fst_usrbio_end(lane); /* the file before was on another mount */
  int status = fst_usrbio_take(mount, &lane->usrbio_ring);
  if (status == 0) lane->usrbio_mount = mount;
  else fail(lane, FST_FAILURE_SYSTEM, -status);
  return lane->usrbio_ring;
}

void fst_usrbio_end(fst_lane *lane) {
  if (lane->usrbio_mount) fst_usrbio_give_back(lane->usrbio_mount, lane->usrbio_ring);
  lane->usrbio_mount = NULL;
  lane->usrbio_ring = NULL;
}

static int run(fst_lane *lane, fst_usrbio_ring *ring, fst_usrbio_transfer *transfer) {
  fst_usrbio_failure failure;
  fst_plan *plan = lane->plan;
  if (fst_usrbio_finish(ring, transfer, NULL, &plan->cancelled, &failure) == 0) {
    atomic_fetch_add(&plan->usrbio_bytes, transfer->length);
    return 0;
  }
  if (failure.kind != FST_FAILURE_NONE) {
    fst_plan_fail(plan, lane->index, failure.kind, failure.error, failure.offset, failure.expected, failure.actual);
  }
  return -1;
}

static int read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return -1;
  fst_usrbio_transfer transfer = {
    .fd = lane->file->fd,
    .offset = offset,
    .length = length,
    .part = ring->bytes < PART ? ring->bytes : PART,
    .destination = destination,
  };
  return run(lane, ring, &transfer);
}

static int read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return -1;
  /* A lane to a CUDA device has been given one half of the ring's memory. */
  char *memory = lane->cuda ? lane->staging : fst_usrbio_memory(ring);
  fst_usrbio_transfer transfer = {
    .fd = lane->file->fd,
    .offset = offset,
    .length = length,
    .part = PART,
    .memory = memory,
  };
  *bytes = memory;
  return run(lane, ring, &transfer);
}

static uint64_t stage_capacity(const fst_lane *lane) {
  const uint64_t bytes = mount_of(lane)->options.ring_bytes;
  if (!lane->cuda) return bytes;
  return lane->plan->staging_bytes < bytes / 2 ? lane->plan->staging_bytes : bytes / 2;
}

static uint64_t stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length) {
  (void)offset;
  uint64_t piece = stage_capacity(lane) & ~(uint64_t)63;
  return piece < length ? piece : length;
}

static char *slot(fst_lane *lane, unsigned slot) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return NULL;
  int status = fst_usrbio_pin(ring);
  if (status != 0) {
    fail(lane, FST_FAILURE_DEVICE, status);
    return NULL;
  }
  return fst_usrbio_memory(ring) + slot * (ring->bytes / 2);
}

const fst_reader fst_reader_usrbio = {read_range, read_staged, stage_capacity, stage_piece, slot};
