/*
 * Reads ranges of files on 3FS, through a ring that a lane takes from the file's mount when it first needs one.
 * Staged bytes are read to the ring's memory and used there.
 */
#include <errno.h>

#include "cuda/cuda.h"
#include "three_fs/three_fs.h"

/*
 * Bytes of one request whose bytes are copied when they arrive. Each request costs a wake-up: with 512 KiB a load
 * from the page cache takes 5 % longer.
 */
#define PART ((uint64_t)2 << 20)

/*
 * Bytes of one request of a staged read, whose bytes are used after all have arrived: small, so that several are in
 * flight.
 */
#define STAGED_PART ((uint64_t)512 << 10)

/* The least requests in flight, also in a small ring. */
#define LEAST_PARTS 4

#define PAGE ((uint64_t)4096)

static fst_usrbio_mount *mount_of(const fst_lane *lane) {
  return (fst_usrbio_mount *)(uintptr_t)lane->file->reader_handle;
}

/* Returns the lane's ring on the mount of the current file; NULL after a failure. */
static fst_usrbio_ring *ring_of(fst_lane *lane) {
  fst_usrbio_mount *mount = mount_of(lane);
  if (lane->usrbio_mount == mount) return lane->usrbio_ring;
  fst_usrbio_end(lane); /* the previous file was on another mount */
  int status = fst_usrbio_take(mount, &lane->plan->cancelled, &lane->usrbio_ring);
  if (status == 0) lane->usrbio_mount = mount;
  else if (status != -ECANCELED) fst_segment_fail(lane, FST_FAILURE_SYSTEM, -status);
  return lane->usrbio_ring;
}

int fst_usrbio_yields(const fst_lane *lane) {
  return lane->usrbio_mount && !lane->has_ahead && fst_usrbio_is_wanted(lane->usrbio_mount);
}

void fst_usrbio_end(fst_lane *lane) {
  if (lane->ahead_begun) fst_usrbio_drain(lane->usrbio_ring); /* the load has ended before that segment */
  if (lane->usrbio_mount) fst_usrbio_give_back(lane->usrbio_mount, lane->usrbio_ring);
  lane->ahead_begun = 0;
  lane->usrbio_mount = NULL;
  lane->usrbio_ring = NULL;
}

static int run(fst_lane *lane, fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_next *next) {
  fst_usrbio_failure failure;
  fst_plan *plan = lane->plan;
  if (fst_usrbio_finish(ring, transfer, next, lane, &plan->cancelled, &failure) == 0) {
    atomic_fetch_add(&plan->usrbio_bytes, transfer->length);
    return 0;
  }
  const int is_ahead = lane->ahead_begun && failure.transfer && failure.transfer != transfer;
  lane->ahead_begun = 0; /* no read is in flight any more */
  if (failure.error.kind != FST_FAILURE_NONE) {
    fst_plan_fail(plan, is_ahead ? lane->ahead : lane->index, &failure.error);
  }
  return -1;
}

static fst_usrbio_transfer transfer_to(const fst_usrbio_ring *ring, const fst_plan_file *file, uint64_t offset,
                                       uint64_t length, char *destination) {
  uint64_t part = (ring->bytes / LEAST_PARTS) & ~(PAGE - 1);
  if (part < PAGE) part = PAGE;
  if (part > PART) part = PART;
  return (fst_usrbio_transfer){
    .fd = file->fd,
    .offset = offset,
    .length = length,
    .part = part,
    .destination = destination,
  };
}

/* Whether a segment lands on the host with one read. */
static int is_one_range(const fst_segment *segment) {
  return segment->outer_count == 1 && segment->inner_count == 1 && segment->from == segment->to;
}

/* Starts the next segment before the current one has arrived, so that the ring is never empty between them. */
static fst_usrbio_transfer *read_ahead(void *context) {
  fst_lane *lane = context;
  fst_usrbio_ring *ring = lane->usrbio_ring;
  if (lane->has_ahead || fst_usrbio_is_wanted(lane->usrbio_mount)) return NULL;
  if (!fst_plan_take(lane->plan, lane->limit, &lane->ahead)) return NULL;
  lane->has_ahead = 1;
  const fst_segment *segment = &fst_plan_segments(lane->plan)[lane->ahead];
  const fst_plan_file *file = &fst_plan_files(lane->plan)[segment->file];
  if (!is_one_range(segment) || file->reader != FST_READER_USRBIO ||
      file->reader_handle != lane->file->reader_handle) {
    return NULL;
  }
  fst_usrbio_transfer *next = &ring->transfers[ring->turn ^ 1];
  *next = transfer_to(ring, file, segment->file_offset, segment->run, (char *)(uintptr_t)segment->destination);
  lane->ahead_begun = 1;
  return next;
}

static int read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return -1;
  if (lane->ahead_begun) {
    lane->ahead_begun = 0;
    ring->turn ^= 1;
  } else {
    ring->transfers[ring->turn] = transfer_to(ring, lane->file, offset, length, destination);
  }
  return run(lane, ring, &ring->transfers[ring->turn], is_one_range(lane->segment) ? read_ahead : NULL);
}

static int read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return -1;
  /* A lane to a CUDA device uses one half of the ring's memory. */
  char *memory = lane->cuda ? lane->staging : fst_usrbio_memory(ring);
  fst_usrbio_transfer transfer = {
    .fd = lane->file->fd,
    .offset = offset,
    .length = length,
    .part = STAGED_PART,
    .memory = memory,
  };
  *bytes = memory;
  return run(lane, ring, &transfer, NULL);
}

static uint64_t stage_capacity(const fst_lane *lane) {
  const uint64_t bytes = mount_of(lane)->options.ring_bytes;
  if (!lane->cuda) return bytes;
  return lane->plan->staging_bytes < bytes / 2 ? lane->plan->staging_bytes : bytes / 2;
}

static uint64_t stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length, uint64_t most) {
  (void)offset, (void)most; /* rings do not read from the page cache */
  uint64_t piece = stage_capacity(lane) & ~(uint64_t)63;
  return piece < length ? piece : length;
}

static char *slot(fst_lane *lane, unsigned slot) {
  fst_usrbio_ring *ring = ring_of(lane);
  if (!ring) return NULL;
  int status = fst_usrbio_pin(ring);
  if (status != 0) {
    fst_segment_fail(lane, FST_FAILURE_DEVICE, status);
    return NULL;
  }
  return fst_usrbio_memory(ring) + slot * (ring->bytes / 2);
}

const fst_reader fst_reader_usrbio = {read_range, read_staged, stage_capacity, stage_piece, slot};
