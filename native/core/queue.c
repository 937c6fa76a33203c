/*
 * Lands segments with many reads in flight. The reads are those of a deep reader; this loop cuts segments into them,
 * starts as many as help, lands what arrives in any order, and marks the segments.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/core.h"

#define PAGE ((uint64_t)4096)

/* The most reads that one lane has in flight. */
#define MOST_READS 256u

/* The least reads in flight. */
#define LEAST_DEPTH 4u

/* Bytes of one read: more are not faster, and a piece that has arrived can be cast while others are on their way. */
#define READ_BYTES ((uint64_t)4 << 20)

/* Fewer bytes that lie on parts of pages are read to staging memory at once, instead of in up to three reads. */
#define LEAST_DIRECT ((uint64_t)64 << 10)

/* Bytes on their way straight to their destination, which costs no memory, as a multiple of the staging memory. */
#define DIRECT_SHARE ((uint64_t)16)

/* Reads are slow if they take so long, and once more for every READ_BYTES: storage without latency is much faster. */
#define SLOW_US 5000u

/* A lane begins with a read in flight for so much latency, in microseconds: 1 GB/s, if latency is all that limits it. */
#define DEPTH_STEP_US 4000u

/* Lanes read one read after the other again when none of the least reads in flight was fast, so many times. */
#define MOST_SLOW 3u

/* The growth of the reads in flight, after most of as many reads have not taken twice as long as the fastest. */
#define GROWTH 4u

/* A segment that is being read. */
typedef struct flight {
  struct flight *next; /* in the list of free ones */
  uint32_t index;
  uint32_t reads;      /* in flight */
  int is_cut;          /* all of its reads have been started */
} flight;

typedef struct pending {
  fst_request request; /* first: the reader returns its address */
  struct pending *next;   /* in the list of free ones */
  flight *flight;
  uint64_t since; /* when it was started */
  char *staging;       /* NULL: the bytes go straight to their destination */
} pending;

typedef struct queue {
  fst_lane *lane;
  const fst_deep_reader *reader;
  void *state;
  pending *reads, *free_reads;
  flight *flights, *free_flights;
  uint32_t most; /* of both */

  /* The segment that is being cut. */
  flight *cutting;
  fst_parts parts;
  fst_part rest; /* of its current part */
  int has_rest;
  pending *ready;   /* a read that waits until it may start */
  int has_ended; /* no further segment */

  /* What is in flight. */
  uint32_t count, depth;
  uint64_t bytes, staged;

  /* The time of the fastest read of few bytes, and of many; the reads since the last growth, and the fast ones of them. */
  uint64_t fastest[2];
  uint32_t ended, fast;
  uint32_t slow; /* times that no read was fast */
} queue;

/* ---- Cutting segments ---- */

/* The most bytes of one read to staging memory: several such reads must fit. */
static uint64_t capacity(const queue *queue) {
  uint64_t bytes = queue->lane->plan->deep_staging / 2;
  if (bytes > READ_BYTES) bytes = READ_BYTES;
  bytes &= ~(PAGE - 1);
  return bytes > 4 * PAGE ? bytes - 2 * PAGE : 2 * PAGE;
}

/* Marks a segment if all of it has landed. */
static void settle(queue *queue, flight *flight) {
  if (!flight->is_cut || flight->reads > 0) return;
  fst_plan_landed(queue->lane->plan, flight->index);
  flight->next = queue->free_flights;
  queue->free_flights = flight;
}

/* Takes the lane's current segment to be cut, or leaves it to the lane if the reader is not the one for it. */
static void begin_segment(queue *queue) {
  fst_lane *lane = queue->lane;
  if (!queue->reader->wants(lane)) {
    lane->ahead = lane->index;
    lane->has_ahead = 1;
    queue->has_ended = 1;
    return;
  }
  flight *flight = queue->free_flights;
  queue->free_flights = flight->next;
  *flight = (struct flight){.index = lane->index};
  queue->cutting = flight;
  queue->parts = fst_parts_of(lane->plan, lane->segment, capacity(queue));
}

/* Sets `rest` to bytes that are to be read next; 0: there are none now. */
static int next_rest(queue *queue) {
  while (!queue->has_rest) {
    if (queue->cutting) {
      if (fst_parts_next(&queue->parts, &queue->rest)) {
        queue->has_rest = 1;
        break;
      }
      queue->cutting->is_cut = 1;
      settle(queue, queue->cutting);
      queue->cutting = NULL;
    }
    if (queue->has_ended || !queue->free_flights) return 0;
    if (!fst_lane_take(queue->lane)) queue->has_ended = 1;
    else begin_segment(queue);
  }
  return 1;
}

/* Cuts the next read off `rest`; without memory if it needs staging memory. */
static void cut(queue *queue, fst_request *request) {
  fst_lane *lane = queue->lane;
  const fst_segment *segment = lane->segment;
  const uint64_t align = queue->reader->alignment;
  fst_part *rest = &queue->rest;
  *request = (fst_request){.segment = lane->index, .part = *rest, .file = lane->file};
  uint64_t length = rest->length;
  int is_direct = 0;
  if (fst_part_is_range(rest)) {
    const uint64_t to_page = -rest->offset & (align - 1);
    const int agrees = segment->from == segment->to && ((rest->destination - rest->offset) & (align - 1)) == 0;
    if (!agrees || (length < LEAST_DIRECT && align > 1)) {
      if (length > capacity(queue)) length = capacity(queue);
    } else if (to_page > 0) {
      length = to_page;
    } else {
      const uint64_t most = queue->reader->part ? queue->reader->part(queue->state) : READ_BYTES;
      length = (length < most ? length : most) & ~(align - 1);
      is_direct = 1;
    }
  }
  request->part.length = length;
  request->offset = rest->offset & ~(align - 1);
  request->needed = rest->offset + length - request->offset;
  request->length = (request->needed + align - 1) & ~(align - 1);
  request->memory = is_direct ? (char *)(uintptr_t)rest->destination : NULL;
  rest->offset += length;
  rest->destination += fst_segment_landing(segment, length);
  rest->length -= length;
  queue->has_rest = rest->length > 0;
}

/* ---- Reads in flight ---- */

static int may_start(const queue *queue, const fst_request *request, int is_staged) {
  if (queue->count == 0) return 1;
  const uint64_t staging = queue->lane->plan->deep_staging;
  if (queue->count >= queue->depth) return 0;
  return is_staged ? queue->staged + request->length <= staging
                   : queue->bytes - queue->staged + request->length <= DIRECT_SHARE * staging;
}

static void give_back(queue *queue, pending *read) {
  if (read->staging) queue->staged -= read->request.length;
  fst_staging_give(read->staging);
  read->staging = NULL;
  queue->bytes -= read->request.length;
  queue->count--;
  read->next = queue->free_reads;
  queue->free_reads = read;
}

/* Starts as many reads as possible. 0, or -1 after a failure. */
static int start_reads(queue *queue) {
  fst_plan *plan = queue->lane->plan;
  while (!atomic_load(&plan->cancelled)) {
    if (!queue->ready) {
      if (!queue->free_reads || queue->count >= queue->depth) return 0;
      if (!next_rest(queue)) return 0;
      queue->ready = queue->free_reads;
      queue->free_reads = queue->ready->next;
      queue->ready->flight = queue->cutting;
      queue->cutting->reads++; /* so that the segment is not marked before this read has landed */
      cut(queue, &queue->ready->request);
    }
    pending *read = queue->ready;
    fst_request *request = &read->request;
    const int is_staged = !request->memory;
    if (!may_start(queue, request, is_staged)) return 0;
    if (is_staged) {
      request->memory = read->staging = fst_staging_take(request->length);
      if (!read->staging) {
        const fst_error error = {FST_FAILURE_SYSTEM, ENOMEM, request->offset, request->length, 0};
        fst_plan_fail(plan, request->segment, &error);
        return -1;
      }
      queue->staged += request->length;
    }
    queue->ready = NULL;
    read->since = fst_now();
    queue->bytes += request->length;
    queue->count++;
    queue->reader->start(queue->state, request);
  }
  return 0;
}

/*
 * Raises the number of reads in flight for as long as each takes no longer than a few would. When they take longer,
 * bandwidth limits the storage, and more reads would only wait for each other.
 */
static void grow(queue *queue, const pending *read) {
  const uint64_t time = fst_now() - read->since;
  uint64_t *fastest = &queue->fastest[read->request.length >= LEAST_DIRECT];
  if (time < *fastest) *fastest = time;
  queue->ended++;
  queue->fast += time < 2 * *fastest;
  if (queue->ended < queue->depth) return;
  FST_TRACE("%u reads in flight: %u of %u are fast, the latest took %.1f ms, the fastest %.1f", queue->depth, queue->fast,
            queue->ended, (double)time / 1e6, (double)*fastest / 1e6);
  if (queue->fast >= queue->ended - queue->ended / 4 && queue->depth < queue->most) {
    queue->depth = queue->depth < queue->most / GROWTH ? queue->depth * GROWTH : queue->most;
    atomic_store(&queue->lane->plan->deep_depth, queue->depth);
  }
  /* Storage that serves few reads no faster than one of each lane needs no queue. */
  queue->slow = queue->fast == 0 && queue->depth == LEAST_DEPTH ? queue->slow + 1 : 0;
  if (queue->slow == MOST_SLOW) {
    atomic_store(&queue->lane->plan->deep_depth, LEAST_DEPTH);
    atomic_store(&queue->lane->plan->deep_latency, 0);
  }
  queue->ended = queue->fast = 0;
}

/* Lands what a read has brought. 0, or -1 after a failure. */
static int land(queue *queue, pending *read) {
  const fst_request *request = &read->request;
  fst_plan *plan = queue->lane->plan;
  if (request->error.kind != FST_FAILURE_NONE) {
    fst_plan_fail(plan, request->segment, &request->error);
    give_back(queue, read);
    return -1;
  }
  if (read->staging) {
    const fst_segment *segment = &fst_plan_segments(plan)[request->segment];
    fst_land_host_part(segment, &request->part, read->staging + (request->part.offset - request->offset));
  }
  grow(queue, read);
  give_back(queue, read);
  read->flight->reads--;
  settle(queue, read->flight);
  return 0;
}

/* Waits for a read, a short time, and lands it. 0, or -1 after a failure or if the plan was cancelled. */
static int land_next(queue *queue) {
  fst_plan *plan = queue->lane->plan;
  if (queue->count > atomic_load(&plan->deep_most)) atomic_store(&plan->deep_most, queue->count);
  fst_request *request = queue->reader->wait(queue->state);
  if (atomic_load(&plan->cancelled)) return -1;
  return request ? land(queue, (pending *)request) : 0;
}

static int run(queue *queue) {
  int status = 0;
  begin_segment(queue);
  while (status == 0 && (status = start_reads(queue)) == 0) {
    if (atomic_load(&queue->lane->plan->cancelled)) return -1;
    if (queue->count == 0) return 0;
    status = land_next(queue);
  }
  return status;
}

/* ---- The queue ---- */

static int open_queue(queue *queue) {
  fst_plan *plan = queue->lane->plan;
  queue->most = MOST_READS;
  const int status = queue->reader->open(queue->lane, &queue->most, &queue->state);
  if (status != 0) return status;
  queue->reads = calloc(queue->most, sizeof *queue->reads);
  queue->flights = calloc(queue->most, sizeof *queue->flights);
  if (!queue->reads || !queue->flights) {
    queue->reader->close(queue->state);
    return ENOMEM;
  }
  for (uint32_t i = 0; i < queue->most; i++) {
    queue->reads[i].next = i + 1 < queue->most ? &queue->reads[i + 1] : NULL;
    queue->flights[i].next = i + 1 < queue->most ? &queue->flights[i + 1] : NULL;
  }
  queue->free_reads = queue->reads;
  queue->free_flights = queue->flights;
  const uint32_t latency = atomic_load(&plan->deep_latency);
  queue->depth = atomic_load(&plan->deep_depth);
  if (queue->depth == 0) queue->depth = latency / DEPTH_STEP_US;
  if (queue->depth < LEAST_DEPTH) queue->depth = LEAST_DEPTH;
  if (queue->depth > queue->most || queue->reader->is_deep_at_once) queue->depth = queue->most;
  queue->fastest[0] = queue->fastest[1] = latency > 0 ? (uint64_t)latency * 1000 : UINT64_MAX / 2;
  return 0;
}

int fst_queue_run(fst_lane *lane, const fst_deep_reader *reader) {
  queue queue = {.lane = lane, .reader = reader};
  fst_staging_give(lane->staging); /* its bytes count for the reads in flight now */
  lane->staging = NULL;
  int status = open_queue(&queue);
  if (status == 0) {
    status = run(&queue);
    reader->close(queue.state);
    for (uint32_t i = 0; i < queue.most; i++) fst_staging_give(queue.reads[i].staging);
  } else if (lane->file->reader == FST_READER_POSIX) {
    atomic_store(&lane->plan->deep_refused, status);
    status = fst_lane_land(lane);
  } else {
    status = fst_segment_fail(lane, FST_FAILURE_SYSTEM, status);
  }
  free(queue.reads);
  free(queue.flights);
  return status;
}

/* ---- Slow reads ---- */

void fst_queue_note(fst_lane *lane, uint64_t nanoseconds, uint64_t reads) {
  fst_plan *plan = lane->plan;
  const uint64_t us = nanoseconds / 1000;
  if (reads == 0 || us < SLOW_US * (reads + fst_segment_bytes(lane->segment) / READ_BYTES)) return;
  uint32_t none = 0;
  /* Bandwidth that the lanes share can also be the reason: so no more than the least depth, and only once. */
  if (!atomic_compare_exchange_strong(&plan->deep_depth, &none, LEAST_DEPTH)) return;
  atomic_store(&plan->deep_latency, us / reads < UINT32_MAX ? (uint32_t)(us / reads) : UINT32_MAX);
}
