/* Operations on tensors on a device. Each call has its own stream, and waits for it. */
#include <errno.h>
#include <stdint.h>

#include "cuda/cuda.h"

/* Pitches of two-dimensional copies are signed 32 bits on every device so far. */
#define MOST_PITCH ((uint64_t)INT32_MAX)

/* The resources of a call, from begin to end. */
typedef struct work {
  const fst_cudart *runtime;
  const fst_cuda_kernels *kernels; /* if the call needs them */
  void *stream;
} work;

static int begin(work *work, int device, int with_kernels) {
  *work = (struct work){0};
  int status = fst_cuda_enter(device, &work->runtime);
  if (status != 0) return status;
  if (with_kernels) status = fst_cuda_load_kernels(device, &work->kernels);
  if (status == 0) status = work->runtime->cudaStreamCreateWithFlags(&work->stream, FST_CUDA_STREAM_NON_BLOCKING);
  if (status == 0) return 0;
  fst_cuda_done(work->runtime, status);
  fst_cuda_leave();
  return status;
}

/* Waits, also after a failure, because earlier work must end. */
static int end(work *work, int status) {
  int waited = fst_cuda_wait(work->runtime, work->stream);
  int destroyed = work->runtime->cudaStreamDestroy(work->stream);
  if (status == 0) status = waited;
  if (status == 0) status = destroyed;
  fst_cuda_done(work->runtime, status);
  fst_cuda_leave();
  return status;
}

static void *pointer(uint64_t address) {
  return (void *)(uintptr_t)address;
}

/* The driver copies memory that is not pinned through memory of its own, at once, and to the device later. */
int32_t fst_cuda_write(int32_t device, uint64_t destination, const void *source, uint64_t bytes, int32_t is_pinned) {
  work work;
  int status = begin(&work, device, 0);
  if (status != 0) return status;
  if (is_pinned) {
    status = work.runtime->cudaMemcpyAsync(pointer(destination), source, bytes, FST_CUDA_TO_DEVICE, work.stream);
  } else {
    status = work.runtime->cudaMemcpy(pointer(destination), source, bytes, FST_CUDA_TO_DEVICE);
    if (status == 0) status = fst_cuda_wait(work.runtime, NULL);
  }
  return end(&work, status);
}

int32_t fst_cuda_read(int32_t device, void *destination, uint64_t source, uint64_t bytes, int32_t is_pinned) {
  work work;
  int status = begin(&work, device, 0);
  if (status != 0) return status;
  if (is_pinned) {
    status = work.runtime->cudaMemcpyAsync(destination, pointer(source), bytes, FST_CUDA_TO_HOST, work.stream);
  } else {
    status = work.runtime->cudaMemcpy(destination, pointer(source), bytes, FST_CUDA_TO_HOST);
  }
  return end(&work, status);
}

int32_t fst_cuda_copy(int32_t to_device, uint64_t destination, int32_t from_device, uint64_t source, uint64_t bytes) {
  work work;
  int status = begin(&work, from_device, 0);
  if (status != 0) return status;
  if (to_device == from_device) {
    status = work.runtime->cudaMemcpyAsync(pointer(destination), pointer(source), bytes, FST_CUDA_ON_DEVICE,
                                           work.stream);
  } else {
    status = work.runtime->cudaMemcpyPeerAsync(pointer(destination), to_device, pointer(source), from_device, bytes,
                                               work.stream);
  }
  return end(&work, status);
}

int32_t fst_cuda_cast(int32_t device, uint64_t destination, uint64_t source, uint64_t count, uint32_t to,
                      uint32_t from) {
  if (!fst_cuda_can_cast(to, from)) return -ENOTSUP;
  work work;
  int status = begin(&work, device, 1);
  if (status != 0) return status;
  return end(&work, fst_cuda_launch_cast(work.kernels, work.stream, destination, source, count, to, from));
}

/* The two innermost levels are one launch; the outer ones are loops. */
static int gather(const work *work, uint64_t *destination, uint64_t source, uint64_t run, const fst_cuda_level *levels,
                  uint32_t level_count) {
  if (level_count > 2) {
    int status = 0;
    for (uint64_t i = 0; i < levels->count && status == 0; i++) {
      status = gather(work, destination, source + i * levels->stride, run, levels + 1, level_count - 1);
    }
    return status;
  }
  const fst_cuda_level once = {1, 0};
  fst_cuda_level inner = level_count > 0 ? levels[level_count - 1] : once;
  fst_cuda_level outer = level_count > 1 ? levels[0] : once;
  int status = fst_cuda_launch_gather(work->kernels, work->stream, *destination, source, run, outer, inner);
  *destination += run * inner.count * outer.count;
  return status;
}

int32_t fst_cuda_gather(int32_t device, uint64_t destination, uint64_t source, uint64_t run,
                        const fst_cuda_level *levels, uint32_t level_count) {
  if (level_count == 0) return fst_cuda_copy(device, destination, device, source, run);
  work work;
  int status = begin(&work, device, 1);
  if (status != 0) return status;
  return end(&work, gather(&work, &destination, source, run, levels, level_count));
}

int32_t fst_cuda_scatter(int32_t device, uint64_t destination, uint64_t pitch, uint64_t source, uint64_t width,
                         uint64_t rows) {
  work work;
  int status = begin(&work, device, 0);
  if (status != 0) return status;
  if (pitch <= MOST_PITCH) {
    status = work.runtime->cudaMemcpy2DAsync(pointer(destination), pitch, pointer(source), width, width, rows,
                                             FST_CUDA_ON_DEVICE, work.stream);
  } else {
    for (uint64_t row = 0; row < rows && status == 0; row++) {
      status = work.runtime->cudaMemcpyAsync(pointer(destination + row * pitch), pointer(source + row * width), width,
                                             FST_CUDA_ON_DEVICE, work.stream);
    }
  }
  return end(&work, status);
}
