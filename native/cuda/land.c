/*
 * Lands in device memory. Each lane has a stream and two slots of pinned memory: while the device copies from one,
 * the lane reads into the other. For casts, and for reads by cuFile, each slot also has a block of device memory,
 * from which a kernel copies the bytes to their place.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"

#define PAGE ((uint64_t)4096)

/* Each piece costs calls and an event of the stream, so pieces are as large as a huge page. */
#define CACHED_PIECE ((uint64_t)2 << 20)

typedef struct slot {
  char *memory;   /* on the host */
  int is_pinned;
  uint64_t block; /* on the device; 0 if the load has no ring */
  void *event;    /* of the last work that uses either */
  int busy;       /* the event has been recorded, and not waited for */
  int finishes;   /* that work is the last of these segments */
  uint32_t segment, count;
} slot;

struct fst_cuda_lane {
  const fst_cudart *runtime;
  fst_cuda_load *load;
  int has_entered; /* the device is current */
  int number;      /* -1: not claimed */
  fst_cuda_stream *stream;
  slot slots[2];
  unsigned turn;   /* the slot in use */
  uint64_t window_bytes; /* of each block, for cuFile */
};

static int fail(fst_lane *lane, uint32_t index, int status) {
  const fst_segment *segment = &fst_plan_segments(lane->plan)[index];
  if (lane->cuda->runtime) fst_cuda_done(lane->cuda->runtime, status);
  const fst_error error = {FST_FAILURE_DEVICE, status, segment->file_offset, fst_segment_bytes(segment), 0};
  fst_plan_fail(lane->plan, index, &error);
  return -1;
}

/* ---- The lane's resources ---- */

/* Claims the lowest free number that has staging memory; -1: none. */
static int claim_number(fst_cuda_load *load, uint64_t slot_bytes) {
  uint64_t most = load->pinned_bytes / (2 * slot_bytes);
  uint32_t taken = atomic_load(&load->lanes);
  for (;;) {
    int number = 0;
    while (number < 32 && (taken >> number & 1)) number++;
    if (number == 32 || (uint64_t)number >= most) return -1;
    if (atomic_compare_exchange_weak(&load->lanes, &taken, taken | 1u << number)) return number;
  }
}

static int begin(fst_lane *lane) {
  fst_cuda_load *load = (fst_cuda_load *)(uintptr_t)lane->plan->destination_context;
  const uint64_t slot_bytes = lane->plan->staging_bytes;
  struct fst_cuda_lane *cuda = lane->cuda;
  cuda->load = load;
  int status = fst_cuda_enter(load->device, &cuda->runtime);
  if (status != 0) return status;
  cuda->has_entered = 1;
  cuda->number = claim_number(load, slot_bytes);
  if (cuda->number < 0) return -EBUSY;
  status = fst_cuda_stream_take(cuda->runtime, load->device, &cuda->stream);
  if (status != 0) return status;
  for (unsigned i = 0; i < 2; i++) {
    const uint64_t at = (2 * (uint64_t)cuda->number + i) * slot_bytes;
    cuda->slots[i].memory = fst_cuda_pinned_memory(load->pinned) + at;
    const int refused = fst_cuda_pin_piece(cuda->runtime, load->pinned, at, slot_bytes);
    int none = 0;
    if (refused != 0) atomic_compare_exchange_strong(&load->pin_failure, &none, refused);
    cuda->slots[i].is_pinned = refused == 0;
    cuda->slots[i].block = load->ring ? load->ring + at : 0;
    cuda->slots[i].event = cuda->stream->events[i];
  }
  const uint64_t share = FST_GDS_WINDOWS / (load->pinned_bytes / slot_bytes) & ~(PAGE - 1);
  cuda->window_bytes = slot_bytes < FST_GDS_WINDOW ? slot_bytes : FST_GDS_WINDOW;
  if (cuda->window_bytes > share) cuda->window_bytes = share;
  return 0;
}

/* Waits until the device has finished with a slot, and marks the segment that this finishes. */
static int settle(fst_lane *lane, slot *slot) {
  if (!slot->busy) return 0;
  slot->busy = 0;
  int status = lane->cuda->runtime->cudaEventSynchronize(slot->event);
  if (status != 0) return fail(lane, slot->segment, status);
  for (uint32_t i = 0; slot->finishes && i < slot->count; i++) fst_plan_landed(lane->plan, slot->segment + i);
  slot->finishes = 0;
  return 0;
}

/* Returns the slot that was used less recently, for the next read; NULL after a failure. */
static slot *next_slot(fst_lane *lane) {
  struct fst_cuda_lane *cuda = lane->cuda;
  slot *slot = &cuda->slots[cuda->turn ^= 1];
  if (settle(lane, slot) != 0) return NULL;
  if (fst_cuda_is_ending()) {
    fail(lane, lane->index, -ECANCELED);
    return NULL;
  }
  slot->segment = lane->index;
  slot->count = 1;
  const fst_reader *reader = fst_reader_of(lane);
  lane->staging = reader->slot ? reader->slot(lane, cuda->turn) : slot->memory;
  return lane->staging ? slot : NULL;
}

void fst_land_cuda_end(fst_lane *lane) {
  struct fst_cuda_lane *cuda = lane->cuda;
  if (!cuda) return;
  const fst_cudart *runtime = cuda->runtime;
  settle(lane, &cuda->slots[cuda->turn ^ 1]);
  settle(lane, &cuda->slots[cuda->turn]);
  /* Also after a failure: the device must not use the slots or the tensors after the lane returns. */
  if (cuda->stream) {
    int status = fst_cuda_wait_by(runtime, cuda->stream->stream, cuda->stream->events[0]);
    if (status != 0) fail(lane, lane->index, status);
    fst_cuda_stream_give(runtime, cuda->stream, status == 0 && atomic_load(&lane->plan->failure) == 0);
  }
  if (cuda->number >= 0) atomic_fetch_and(&cuda->load->lanes, ~(1u << cuda->number));
  if (cuda->has_entered) fst_cuda_leave();
  lane->staging = NULL; /* the load owns it */
  lane->cuda = NULL;
  free(cuda);
}

/* ---- Sending bytes to their place ---- */

/* Ends a lane whose plan was cancelled, or whose process ends. */
static int give_up(fst_lane *lane) {
  return atomic_load(&lane->plan->cancelled) ? -1 : fail(lane, lane->index, -ECANCELED);
}

static int record(fst_lane *lane, slot *slot, int status) {
  if (status == 0) status = lane->cuda->runtime->cudaEventRecord(slot->event, lane->cuda->stream->stream);
  if (status != 0) return fail(lane, lane->index, status);
  slot->busy = 1;
  return 0;
}

static int cast(fst_lane *lane, uint64_t destination, uint64_t source, uint64_t length) {
  const fst_segment *segment = lane->segment;
  uint64_t count = length / (fst_dtype_bits(segment->from) / 8);
  return fst_cuda_launch_cast(lane->cuda->load->kernels, lane->cuda->stream->stream, destination, source, count, segment->to,
                              segment->from);
}

/* Copies bytes of a slot to the device. Memory that is not pinned has been copied, or can be reused, afterwards. */
static int copy(fst_lane *lane, const slot *slot, void *target, const char *bytes, uint64_t length) {
  struct fst_cuda_lane *cuda = lane->cuda;
  if (slot->is_pinned || fst_reader_of(lane)->slot) {
    return cuda->runtime->cudaMemcpyAsync(target, bytes, length, FST_CUDA_TO_DEVICE, cuda->stream->stream);
  }
  const int status = cuda->runtime->cudaMemcpy(target, bytes, length, FST_CUDA_TO_DEVICE);
  return status == 0 ? fst_cuda_wait(cuda->runtime, NULL) : status; /* the stream does not wait for the default one */
}

/* Sends bytes from the slot, as soon as there is memory for them. */
static int send_slot(fst_lane *lane, slot *slot, const char *bytes, uint64_t length, uint64_t destination) {
  const fst_segment *segment = lane->segment;
  uint64_t base;
  if (fst_cuda_load_address(lane->cuda->load, lane->plan, segment, &base) != 0) return give_up(lane);
  destination += base;
  const int casts = segment->from != segment->to;
  void *target = (void *)(uintptr_t)(casts ? slot->block : destination);
  int status = copy(lane, slot, target, bytes, length);
  if (status == 0 && casts) status = cast(lane, destination, slot->block, length);
  return record(lane, slot, status);
}

/* Sends bytes from the slot's block, to which cuFile has read them. */
static int send_block(fst_lane *lane, slot *slot, uint64_t source, uint64_t length, uint64_t destination) {
  const fst_segment *segment = lane->segment;
  struct fst_cuda_lane *cuda = lane->cuda;
  uint64_t base;
  if (fst_cuda_load_address(cuda->load, lane->plan, segment, &base) != 0) return give_up(lane);
  destination += base;
  int status;
  if (segment->from != segment->to) {
    status = cast(lane, destination, source, length);
  } else if (source % 16 == destination % 16) {
    status = cuda->runtime->cudaMemcpyAsync((void *)(uintptr_t)destination, (const void *)(uintptr_t)source, length,
                                            FST_CUDA_ON_DEVICE, cuda->stream->stream);
  } else {
    status = fst_cuda_launch_copy(cuda->load->kernels, cuda->stream->stream, destination, source, length);
  }
  return record(lane, slot, status);
}

/* ---- Reading ---- */

/* Reads with cuFile to the slot's block: `*got` bytes are then at `*source`, or 0 if the host must read. */
static int read_gds(fst_lane *lane, slot *slot, uint64_t offset, uint64_t length, uint64_t *source, uint64_t *got) {
  struct fst_cuda_lane *cuda = lane->cuda;
  fst_gds *gds = cuda->load->gds;
  *got = 0;
  if (!gds || !fst_gds_wants(gds, lane, offset, length)) return 0;
  const uint32_t number = 2 * (uint32_t)cuda->number + (slot == &cuda->slots[1]);
  int status = fst_gds_window(gds, lane, number, slot->block, cuda->window_bytes);
  if (status != 0) return status < 0 ? -1 : 0;
  uint64_t skip;
  if (fst_gds_read(gds, lane, slot->block, cuda->window_bytes, offset, length, &skip, got) != 0) return -1;
  if (lane->segment->from != lane->segment->to) *got -= *got % (fst_dtype_bits(lane->segment->from) / 8);
  *source = slot->block + skip;
  return 0;
}

/* The bytes of one read by the host: pieces of about the same length; the next one starts at a page. */
static uint64_t piece(const fst_lane *lane, uint64_t offset, uint64_t length) {
  uint64_t part = fst_stage_piece(lane, offset, length, CACHED_PIECE);
  if (part == length) return length;
  uint64_t pieces = (length + part - 1) / part, even = (length / pieces + PAGE) & ~(PAGE - 1);
  if (even < part) part = even;
  if (lane->segment->from == lane->segment->to) part -= (offset + part) % PAGE; /* a cast needs whole elements */
  return part;
}

static int land_range(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t destination) {
  while (length > 0) {
    slot *slot = next_slot(lane);
    uint64_t part, source = 0;
    if (!slot || read_gds(lane, slot, offset, length, &source, &part) != 0) return -1;
    if (part > 0) {
      if (send_block(lane, slot, source, part, destination) != 0) return -1;
    } else {
      const char *bytes;
      part = piece(lane, offset, length);
      if (fst_read_staged(lane, offset, part, &bytes) != 0) return -1;
      if (send_slot(lane, slot, bytes, part, destination) != 0) return -1;
    }
    destination += fst_segment_landing(lane->segment, part);
    offset += part;
    length -= part;
  }
  return 0;
}

/* Gathers runs in place: each run moves towards the start, over runs that were already moved. */
static int land_span(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t destination) {
  const fst_segment *segment = lane->segment;
  slot *slot = next_slot(lane);
  const char *bytes;
  if (!slot || fst_read_staged(lane, offset, fst_span_bytes(segment, outer, inner), &bytes) != 0) return -1;
  char *dense = lane->staging;
  for (uint64_t o = 0; o < outer; o++) {
    for (uint64_t i = 0; i < inner; i++) {
      memmove(dense, bytes + o * segment->outer_stride + i * segment->inner_stride, segment->run);
      dense += segment->run;
    }
  }
  return send_slot(lane, slot, lane->staging, (uint64_t)(dense - lane->staging), destination);
}

/* ---- Several segments at once ---- */

/*
 * Small tensors whose bytes follow each other in the file, and whose places follow each other in memory but for padding,
 * are one read, one copy and at most one cast: the padding is copied too.
 */
typedef struct batch {
  uint32_t count;
  uint64_t bytes; /* of the file */
  uint64_t image; /* of memory before a cast: the bytes of the file with the padding between them */
} batch;

/* The most padding between two segments that is copied. */
#define MOST_PADDING ((uint64_t)64)

static int is_range(const fst_segment *segment) {
  return segment->outer_count == 1 && segment->inner_count == 1;
}

/* The bytes of the image between two segments; -1: they cannot be copied together. */
static int64_t padding(const fst_segment *first, const fst_segment *next) {
  const uint64_t end = first->destination + fst_segment_landing(first, first->run);
  const int follows = is_range(next) && next->file == first->file && next->from == first->from &&
                      next->to == first->to && next->allocation == first->allocation &&
                      next->file_offset == first->file_offset + first->run && next->destination >= end;
  if (!follows || next->destination - end >= MOST_PADDING) return -1;
  const uint64_t gap = next->destination - end;
  if (first->from == first->to) return (int64_t)gap;
  const uint64_t bytes = fst_dtype_bits(first->to) / 8;
  return gap % bytes == 0 ? (int64_t)(gap / bytes * (fst_dtype_bits(first->from) / 8)) : -1;
}

/* Takes the segments that follow the lane's current one, as many as fit. */
static batch take_batch(fst_lane *lane, uint64_t capacity) {
  const fst_gds *gds = lane->cuda->load->gds;
  batch batch = {1, lane->segment->run, lane->segment->run};
  for (;;) {
    const uint32_t index = lane->index + batch.count;
    if (index >= lane->limit || index >= lane->plan->segment_count) return batch;
    const fst_segment *next = &lane->segment[batch.count];
    const int64_t gap = padding(next - 1, next);
    if (gap < 0 || batch.image + (uint64_t)gap + next->run > capacity) return batch;
    if (gds && next->run >= fst_gds_least(gds)) return batch;
    if (!fst_plan_take_next(lane->plan, lane->limit, index)) return batch;
    batch.count++;
    batch.bytes += next->run;
    batch.image += (uint64_t)gap + next->run;
  }
}

/* Lands the lane's current segment and those that follow it. 0; 1: it must be landed alone; -1 after a failure. */
static int land_batch(fst_lane *lane) {
  const fst_segment *first = lane->segment;
  const fst_gds *gds = lane->cuda->load->gds;
  const uint64_t capacity = fst_stage_capacity(lane);
  if (!is_range(first) || first->run > capacity / 2 || (gds && first->run >= fst_gds_least(gds))) return 1;
  const batch batch = take_batch(lane, capacity);
  if (batch.count == 1) return 1;
  slot *slot = next_slot(lane);
  const char *read;
  if (!slot || fst_read_staged(lane, first->file_offset, batch.bytes, &read) != 0) return -1;
  slot->count = batch.count;
  /* From the last segment on, because each moves away from the start. */
  char *bytes = lane->staging + (read - lane->staging);
  uint64_t from = batch.bytes, to = batch.image;
  for (uint32_t i = batch.count - 1; i > 0 && from != to; i--) {
    from -= first[i].run;
    to -= first[i].run;
    memmove(bytes + to, bytes + from, first[i].run);
    to -= (uint64_t)padding(&first[i - 1], &first[i]);
  }
  return send_slot(lane, slot, bytes, batch.image, first->destination);
}

int fst_land_cuda(fst_lane *lane) {
  static const fst_sink sink = {land_range, land_span};
  if (!lane->cuda) {
    lane->cuda = calloc(1, sizeof *lane->cuda);
    if (!lane->cuda) return fst_segment_fail(lane, FST_FAILURE_SYSTEM, ENOMEM);
    lane->cuda->number = -1;
    int status = begin(lane);
    if (status != 0) return fail(lane, lane->index, status);
  }
  const int batched = land_batch(lane);
  if (batched < 0 || (batched > 0 && fst_land_segment(lane, &sink, fst_stage_capacity(lane)) != 0)) return -1;
  /* The stream runs all copies in order: after the last one, all have ended. */
  slot *last = &lane->cuda->slots[lane->cuda->turn];
  last->finishes = 1;
  return 0;
}
