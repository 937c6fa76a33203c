/*
 * Reads ordinary files past the page cache with many reads in flight, by io_uring. The kernel's interface is used
 * directly, and without a thread of the kernel that polls. Descriptors and memory are not registered: registered memory
 * counts as locked, which is often limited to 8 MiB, and the destination would be registered for a single use.
 */
#define _GNU_SOURCE /* MAP_POPULATE */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"

#define PAGE ((uint64_t)4096)

/* The longest wait for one read. */
#define WAIT_NS 50000000

/* ---- The kernel's interface (linux/io_uring.h, which older systems lack or have without these parts) ---- */

#define OP_ASYNC_CANCEL 14
#define OP_READ 22
#define CANCEL_ALL 1u
#define CANCEL_ANY 4u
#define SQE_ASYNC (1u << 4)
#define ENTER_GETEVENTS 1u
#define ENTER_EXT_ARG 8u
#define FEATURE_SINGLE_MMAP 1u
#define FEATURE_NODROP 2u
#define FEATURE_EXT_ARG 256u
#define OFFSET_RINGS 0
#define OFFSET_ENTRIES 0x10000000

typedef struct submission {
  uint8_t opcode, flags;
  uint16_t priority;
  int32_t fd;
  uint64_t offset, address;
  uint32_t length, operation_flags;
  uint64_t user_data;
  uint64_t unused[3];
} submission;
static_assert(sizeof(submission) == 64, "the kernel's layout");

typedef struct completion {
  uint64_t user_data;
  int32_t result;
  uint32_t flags;
} completion;
static_assert(sizeof(completion) == 16, "the kernel's layout");

/* ---- The ring ---- */

typedef struct ring {
  fst_lane *lane;
  int fd;
  char *rings;
  size_t rings_bytes;
  submission *submissions;
  size_t submissions_bytes;
  _Atomic uint32_t *tail, *results_head, *results_tail;
  uint32_t *slots, mask, results_mask;
  completion *results;
  uint32_t queued;      /* submissions that the kernel has not taken */
  uint32_t in_kernel;   /* reads that it has taken and that have not ended */
  fst_request *ended;   /* requests that need no further read; a list by `own` */
} ring;

static void unmap_ring(ring *ring) {
  if (ring->rings != MAP_FAILED) munmap(ring->rings, ring->rings_bytes);
  if ((void *)ring->submissions != MAP_FAILED) munmap(ring->submissions, ring->submissions_bytes);
  close(ring->fd);
  free(ring);
}

static int map_ring(ring *ring, const fst_uring_parameters *parameters) {
  const size_t slots = parameters->submissions.array + parameters->submission_count * sizeof(uint32_t);
  const size_t results = parameters->completions.entries + parameters->completion_count * sizeof(completion);
  ring->rings_bytes = slots > results ? slots : results;
  ring->submissions_bytes = parameters->submission_count * sizeof(submission);
  const int access = PROT_READ | PROT_WRITE, flags = MAP_SHARED | MAP_POPULATE;
  ring->rings = mmap(NULL, ring->rings_bytes, access, flags, ring->fd, OFFSET_RINGS);
  ring->submissions = mmap(NULL, ring->submissions_bytes, access, flags, ring->fd, OFFSET_ENTRIES);
  if (ring->rings == MAP_FAILED || (void *)ring->submissions == MAP_FAILED) return errno;
  ring->tail = (void *)(ring->rings + parameters->submissions.tail);
  ring->mask = parameters->submission_count - 1;
  ring->slots = (void *)(ring->rings + parameters->submissions.array);
  ring->results_head = (void *)(ring->rings + parameters->completions.head);
  ring->results_tail = (void *)(ring->rings + parameters->completions.tail);
  ring->results_mask = parameters->completion_count - 1;
  ring->results = (void *)(ring->rings + parameters->completions.entries);
  return 0;
}

static int open_ring(fst_lane *lane, uint32_t *most, void **state) {
  ring *ring = calloc(1, sizeof *ring);
  if (!ring) return ENOMEM;
  ring->lane = lane;
  fst_uring_parameters parameters = {0};
  ring->fd = fst_sys_uring_setup(*most, &parameters);
  if (ring->fd < 0) {
    const int error = errno;
    free(ring);
    return error;
  }
  const uint32_t needed = FEATURE_SINGLE_MMAP | FEATURE_NODROP | FEATURE_EXT_ARG; /* Linux 5.11 */
  int error = (parameters.features & needed) == needed ? map_ring(ring, &parameters) : ENOSYS;
  if (error != 0) {
    if (!ring->rings) ring->rings = MAP_FAILED;
    if (!ring->submissions) ring->submissions = MAP_FAILED;
    unmap_ring(ring);
    return error;
  }
  *state = ring;
  return 0;
}

static void submit(ring *ring, const submission *entry) {
  const uint32_t tail = atomic_load_explicit(ring->tail, memory_order_relaxed), slot = tail & ring->mask;
  ring->submissions[slot] = *entry;
  ring->slots[slot] = slot;
  atomic_store_explicit(ring->tail, tail + 1, memory_order_release);
  ring->queued++;
}

/* Passes submissions to the kernel, and waits for a completion if requested. 0 or an errno. */
static int enter(ring *ring, uint32_t least, const struct timespec *timeout) {
  const int64_t time[2] = {timeout ? timeout->tv_sec : 0, timeout ? timeout->tv_nsec : 0};
  const struct {
    uint64_t signals;
    uint32_t signals_bytes, unused;
    uint64_t time;
  } argument = {.time = timeout ? (uint64_t)(uintptr_t)time : 0};
  const uint32_t flags = ENTER_GETEVENTS | ENTER_EXT_ARG;
  const int taken = fst_sys_uring_enter(ring->fd, ring->queued, least, flags, &argument, sizeof argument);
  if (taken < 0) return errno;
  ring->queued -= (uint32_t)taken;
  ring->in_kernel += (uint32_t)taken;
  return 0;
}

/* Takes back the submissions that the kernel has not taken. */
static void take_back(ring *ring, int error) {
  uint32_t tail = atomic_load_explicit(ring->tail, memory_order_relaxed);
  for (; ring->queued > 0; ring->queued--) {
    fst_request *request = (fst_request *)(uintptr_t)ring->submissions[--tail & ring->mask].user_data;
    if (!request) continue;
    request->error = (fst_error){FST_FAILURE_SYSTEM, error, request->offset + request->done,
                                 request->needed - request->done, 0};
    request->own = ring->ended;
    ring->ended = request;
  }
  atomic_store_explicit(ring->tail, tail, memory_order_release);
}

/* ---- Reads ---- */

static void read_rest(ring *ring, fst_request *request, uint8_t flags) {
  const submission entry = {
    .opcode = OP_READ,
    .flags = flags,
    .fd = request->file->fd_direct,
    .offset = request->offset + request->done,
    .address = (uint64_t)(uintptr_t)(request->memory + request->done),
    .length = (uint32_t)(request->length - request->done),
    .user_data = (uint64_t)(uintptr_t)request,
  };
  submit(ring, &entry);
}

static void start(void *state, fst_request *request) {
  read_rest(state, request, 0);
}

/* Reads the rest through the page cache: its place in the file, or the file system, allows no direct read. */
static void read_buffered(ring *ring, fst_request *request) {
  const uint64_t rest = request->needed - request->done;
  const int64_t got =
      fst_file_read(request->file->fd, request->memory + request->done, rest, request->offset + request->done);
  const uint64_t offset = request->offset + request->done;
  if (got < 0) request->error = (fst_error){FST_FAILURE_SYSTEM, (int32_t)-got, offset, rest, 0};
  else if ((uint64_t)got < rest) request->error = (fst_error){FST_FAILURE_TRUNCATED, 0, offset, rest, (uint64_t)got};
  else atomic_fetch_add(&ring->lane->plan->buffered_bytes, rest);
}

/* Notes the result of a read; returns whether the request has ended. */
static int advance(ring *ring, fst_request *request, int result) {
  fst_plan *plan = ring->lane->plan;
  if (result == -EINTR || result == -EAGAIN) {
    read_rest(ring, request, SQE_ASYNC);
    return 0;
  }
  if ((result == -EINVAL || result == -EOPNOTSUPP) && request->done == 0) {
    FST_TRACE("direct reads are refused: error %d", -result);
    atomic_store(&request->file->direct_off, 1);
    atomic_fetch_add(&plan->direct_refused, 1);
    read_buffered(ring, request);
    return 1;
  }
  const uint64_t at = request->offset + request->done, rest = request->needed - request->done;
  if (result < 0) {
    request->error = (fst_error){FST_FAILURE_SYSTEM, -result, at, rest, 0};
    return 1;
  }
  if (result == 0) {
    request->error = (fst_error){FST_FAILURE_TRUNCATED, 0, request->offset, request->needed, request->done};
    return 1;
  }
  request->done += (uint64_t)result;
  atomic_fetch_add(&plan->direct_bytes, rest < (uint64_t)result ? rest : (uint64_t)result);
  if (request->done >= request->needed) return 1;
  if (request->done % PAGE != 0) { /* ended inside a page */
    read_buffered(ring, request);
    return 1;
  }
  read_rest(ring, request, 0);
  return 0;
}

/* Returns a request that has ended, without waiting; NULL: none. */
static fst_request *reap(ring *ring) {
  fst_request *request = ring->ended;
  if (request) {
    ring->ended = request->own;
    return request;
  }
  uint32_t head = atomic_load_explicit(ring->results_head, memory_order_relaxed);
  while (head != atomic_load_explicit(ring->results_tail, memory_order_acquire)) {
    const completion result = ring->results[head & ring->results_mask];
    atomic_store_explicit(ring->results_head, ++head, memory_order_release);
    ring->in_kernel--;
    request = (fst_request *)(uintptr_t)result.user_data;
    if (request && advance(ring, request, fst_sys_uring_result(result.result))) return request;
  }
  return NULL;
}

static fst_request *wait_request(void *state) {
  ring *ring = state;
  const struct timespec timeout = {0, WAIT_NS};
  for (int has_waited = 0;; has_waited = 1) {
    if (ring->queued > 0) { /* at once, so that storage has work while the lane lands what has arrived */
      const int error = enter(ring, 0, NULL);
      if (error != 0 && error != EINTR && error != EAGAIN && error != EBUSY) take_back(ring, error);
    }
    fst_request *request = reap(ring);
    if (request || has_waited) return request;
    const int error = enter(ring, 1, &timeout);
    if (error != 0 && error != ETIME && error != EINTR && error != EAGAIN && error != EBUSY) take_back(ring, error);
  }
}

static void close_ring(void *state) {
  ring *ring = state;
  take_back(ring, ECANCELED);
  if (ring->in_kernel > 0) { /* Linux 5.19; before, the reads end by themselves */
    submit(ring, &(submission){.opcode = OP_ASYNC_CANCEL, .fd = -1, .operation_flags = CANCEL_ALL | CANCEL_ANY});
  }
  const struct timespec timeout = {0, WAIT_NS};
  while (ring->in_kernel > 0 || ring->queued > 0) {
    const int error = enter(ring, 1, &timeout);
    if (error != 0 && error != ETIME) nanosleep(&(struct timespec){0, 1000000}, NULL);
    uint32_t head = atomic_load_explicit(ring->results_head, memory_order_relaxed);
    for (; head != atomic_load_explicit(ring->results_tail, memory_order_acquire); head++) ring->in_kernel--;
    atomic_store_explicit(ring->results_head, head, memory_order_release);
  }
  unmap_ring(ring);
}

/* ---- The choice of this reader ---- */

static int wants(const fst_lane *lane) {
  const fst_plan *plan = lane->plan;
  const fst_plan_file *file = lane->file;
  const fst_segment *segment = lane->segment;
  if (file->reader != FST_READER_POSIX || plan->destination_kind != FST_DESTINATION_HOST) return 0;
  if (plan->deep_staging == 0 || atomic_load(&plan->deep_latency) == 0 || atomic_load(&plan->deep_refused) != 0) return 0;
  if (file->fd_direct < 0 || atomic_load(&file->direct_off)) return 0;
  const uint64_t span = fst_span_bytes(segment, segment->outer_count, segment->inner_count);
  const int64_t cached = fst_file_cached(file->fd, segment->file_offset, span);
  return cached >= 0 && (uint64_t)cached < span / 2;
}

const fst_deep_reader fst_deep_reader_uring = {
  .alignment = PAGE,
  .wants = wants,
  .open = open_ring,
  .start = start,
  .wait = wait_request,
  .close = close_ring,
};
