/*
 * Reads a range outside any plan: in batches of chunks as large as the ring's memory, one after another; or, if
 * requested, in batches of half its size, of which one is read while the other is copied.
 */
#include <errno.h>

#include "cuda/cuda.h"
#include "three_fs/three_fs.h"

#define PAGE ((uint64_t)4096)

/* ---- Memory registered with devices ---- */

static void unpin(fst_usrbio_ring *ring) {
  const fst_cudart *runtime;
  if (fst_cuda_enter(ring->pinned_device, &runtime) != 0) return;
  fst_cuda_done(runtime, runtime->cudaHostUnregister(fst_usrbio_memory(ring)));
  fst_cuda_leave();
}

int fst_usrbio_pin(fst_usrbio_ring *ring) {
  if (ring->unpin) return 0;
  const fst_cudart *runtime = fst_cudart_get();
  if (!runtime) return -ENOSYS;
  int status = runtime->cudaGetDevice(&ring->pinned_device);
  if (status == 0) {
    status = runtime->cudaHostRegister(fst_usrbio_memory(ring), ring->bytes, FST_CUDA_HOST_PORTABLE);
  }
  if (status == 0) ring->unpin = unpin;
  return fst_cuda_done(runtime, status);
}

/* ---- Copying a batch to its destination ---- */

typedef struct sink {
  const fst_usrbio_request *request;
  const _Atomic uint32_t *stop;
  char *buffer;
  const fst_cudart *runtime; /* for FST_USRBIO_CUDA */
  int has_entered;           /* the device is current */
  void *stream;
  void *copied[2]; /* events: the end of the copy from each area */
  int is_copying[2];
} sink;

static int open_sink(sink *sink, fst_usrbio_ring *ring) {
  if (sink->request->target != FST_USRBIO_CUDA) return 0;
  int status = fst_cuda_enter(sink->request->device, &sink->runtime);
  if (status != 0) return status;
  sink->has_entered = 1;
  status = fst_usrbio_pin(ring);
  if (status == 0) status = sink->runtime->cudaStreamCreateWithFlags(&sink->stream, FST_CUDA_STREAM_NON_BLOCKING);
  for (unsigned i = 0; i < 2 && status == 0; i++) {
    status = sink->runtime->cudaEventCreateWithFlags(&sink->copied[i],
                                                     FST_CUDA_EVENT_NO_TIMING | FST_CUDA_EVENT_BLOCKING_WAIT);
  }
  return status;
}

/* Waits until an area is free for the next read. */
static int settle(sink *sink, unsigned area) {
  if (!sink->is_copying[area]) return 0;
  sink->is_copying[area] = 0;
  return sink->runtime->cudaEventSynchronize(sink->copied[area]);
}

static int copy(sink *sink, unsigned area, const fst_usrbio_transfer *batch) {
  const uint64_t at = batch->offset - sink->request->offset;
  if (sink->request->target == FST_USRBIO_HOST) fst_copy(sink->buffer + at, batch->memory, batch->length);
  if (sink->request->target != FST_USRBIO_CUDA) return 0;
  void *target = (void *)(uintptr_t)(sink->request->device_address + at);
  int status =
      sink->runtime->cudaMemcpyAsync(target, batch->memory, batch->length, FST_CUDA_TO_DEVICE, sink->stream);
  if (status == 0) status = sink->runtime->cudaEventRecord(sink->copied[area], sink->stream);
  if (status == 0) sink->is_copying[area] = 1;
  return status;
}

/* Waits for all copies. */
static int close_sink(sink *sink, int has_failed) {
  if (!sink->has_entered) return 0;
  int status = sink->stream ? fst_cuda_wait(sink->runtime, sink->stream) : 0;
  for (unsigned i = 0; i < 2; i++) {
    if (sink->copied[i]) fst_cuda_done(sink->runtime, sink->runtime->cudaEventDestroy(sink->copied[i]));
  }
  if (sink->stream) fst_cuda_done(sink->runtime, sink->runtime->cudaStreamDestroy(sink->stream));
  fst_cuda_done(sink->runtime, status != 0 ? status : has_failed);
  fst_cuda_leave();
  return status;
}

/* ---- Batches ---- */

static fst_usrbio_transfer batch_at(const fst_usrbio_request *request, uint64_t at, uint64_t chunk, uint64_t bytes,
                                    char *memory) {
  const uint64_t rest = request->length - at;
  return (fst_usrbio_transfer){
    .fd = request->fd,
    .offset = request->offset + at,
    .length = bytes < rest ? bytes : rest,
    .part = chunk,
    .memory = memory,
  };
}

static int fail_device(fst_usrbio_failure *failure, const fst_usrbio_request *request, int status) {
  failure->error = (fst_error){FST_FAILURE_DEVICE, status, request->offset, request->length, 0};
  return -1;
}

static fst_usrbio_transfer *this_one(void *batch) {
  return batch;
}

/* 0, or -1 after a failure. */
static int read_batches(fst_usrbio_ring *ring, sink *sink, fst_usrbio_failure *failure) {
  const fst_usrbio_request *request = sink->request;
  const unsigned areas = request->pipelined ? 2 : 1;
  const uint64_t area_bytes = ring->bytes / areas;
  const uint64_t chunk = request->chunk > 0 && request->chunk < area_bytes ? request->chunk : area_bytes;
  const uint64_t most = ring->entries / areas > 0 ? ring->entries / areas : 1;
  const uint64_t fits = area_bytes / chunk, bytes = chunk * (fits < most ? fits : most);
  fst_usrbio_transfer batches[2];
  uint64_t at = 0; /* the start of the next batch */
  unsigned begun = 0, area = 0;
  for (;;) {
    while (begun < areas && at < request->length) {
      const unsigned next = (area + begun) % areas;
      int status = settle(sink, next);
      if (status != 0) return fail_device(failure, request, status);
      batches[next] = batch_at(request, at, chunk, bytes, fst_usrbio_memory(ring) + next * area_bytes);
      if (fst_usrbio_start(ring, &batches[next], failure) != 0) return -1;
      at += batches[next].length;
      begun++;
    }
    if (begun == 0) return 0;
    fst_usrbio_next *next = begun > 1 ? this_one : NULL;
    if (fst_usrbio_finish(ring, &batches[area], next, &batches[area ^ 1], sink->stop, failure) != 0) return -1;
    int status = copy(sink, area, &batches[area]);
    if (status != 0) return fail_device(failure, request, status);
    area = (area + 1) % areas;
    begun--;
  }
}

static int read_through(fst_usrbio_ring *ring, sink *sink, fst_usrbio_failure *failure) {
  int opened = open_sink(sink, ring);
  int result = opened == 0 ? read_batches(ring, sink, failure) : fail_device(failure, sink->request, opened);
  fst_usrbio_drain(ring);
  int closed = close_sink(sink, result != 0);
  if (result == 0 && closed != 0) result = fail_device(failure, sink->request, closed);
  return result;
}

int32_t fst_usrbio_read(fst_usrbio_mount *mount, const fst_usrbio_request *request, void *buffer,
                        const uint32_t *stop, fst_error *error) {
  *error = (fst_error){0};
  sink sink = {.request = request, .stop = (const _Atomic uint32_t *)stop, .buffer = buffer};
  fst_usrbio_failure failure = {.error = {FST_FAILURE_SYSTEM, 0, request->offset, request->length, 0}};
  fst_usrbio_ring *ring;
  failure.error.code = -fst_usrbio_take(mount, sink.stop, &ring);
  if (failure.error.code == ECANCELED) {
    failure.error.kind = FST_FAILURE_NONE;
  } else if (failure.error.code == 0) {
    int result = read_through(ring, &sink, &failure);
    fst_usrbio_give_back(mount, ring);
    if (result == 0) return 0;
  }
  *error = failure.error;
  return -1;
}
