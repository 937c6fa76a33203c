/* Loads the kernels of native/cuda/kernels/cast.cu to a device, and launches them. */
#include <errno.h>
#include <pthread.h>

#include "cuda/cuda.h"
#include "cuda/kernels/cast_ptx.h"

#define THREADS 256u /* of a block */

struct fst_cuda_kernels {
  const fst_cuda_driver *driver;
  void *module;
  void *cast, *copy, *gather;
  unsigned most_blocks; /* as many as fill the device */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cuda_kernels loaded[FST_CUDA_DEVICES];

static int driver_status(int code) {
  return code == 0 ? 0 : FST_CUDA_DRIVER + code;
}

static int load(int device, fst_cuda_kernels *kernels) {
  const fst_cudart *runtime = fst_cudart_get();
  const fst_cuda_driver *driver = fst_cuda_driver_get();
  if (!runtime || !driver) return -ENOSYS;
  int multiprocessors = 0;
  int status = runtime->cudaDeviceGetAttribute(&multiprocessors, FST_CUDA_MULTIPROCESSORS, device);
  if (status != 0) return fst_cuda_done(runtime, status);
  int code = driver->cuModuleLoadData(&kernels->module, fst_cast_ptx);
  if (code != 0) return driver_status(code);
  code = driver->cuModuleGetFunction(&kernels->cast, kernels->module, "fst_cast_elements");
  if (code == 0) code = driver->cuModuleGetFunction(&kernels->copy, kernels->module, "fst_copy_unaligned");
  if (code == 0) code = driver->cuModuleGetFunction(&kernels->gather, kernels->module, "fst_copy_strided");
  if (code != 0) {
    driver->cuModuleUnload(kernels->module);
    return driver_status(code);
  }
  kernels->most_blocks = (unsigned)(multiprocessors > 0 ? multiprocessors : 1) * 8;
  kernels->driver = driver;
  return 0;
}

int fst_cuda_load_kernels(int device, const fst_cuda_kernels **kernels) {
  if (device < 0 || device >= FST_CUDA_DEVICES) return FST_CUDA_INVALID_DEVICE;
  pthread_mutex_lock(&mutex);
  int status = loaded[device].driver ? 0 : load(device, &loaded[device]);
  pthread_mutex_unlock(&mutex);
  *kernels = status == 0 ? &loaded[device] : NULL;
  return status;
}

static int is_float(uint32_t dtype) {
  switch (dtype) {
    case FST_F8_E5M2:
    case FST_F8_E4M3:
    case FST_F8_E8M0:
    case FST_F8_E4M3FNUZ:
    case FST_F8_E5M2FNUZ:
    case FST_F16:
    case FST_BF16:
    case FST_F32:
    case FST_F64: return 1;
    default: return 0;
  }
}

int fst_cuda_can_cast(uint32_t to, uint32_t from) {
  return to != from && is_float(from) && is_float(to);
}

/* Launches a grid in which each thread has one of `work` pieces, or several if the device has fewer threads. */
static int launch(const fst_cuda_kernels *kernels, void *function, void *stream, uint64_t work, void **parameters) {
  uint64_t blocks = (work + THREADS - 1) / THREADS;
  if (blocks > kernels->most_blocks) blocks = kernels->most_blocks;
  if (blocks == 0) blocks = 1;
  return driver_status(kernels->driver->cuLaunchKernel(function, (unsigned)blocks, 1, 1, THREADS, 1, 1, 0, stream,
                                                       parameters, NULL));
}

int fst_cuda_launch_cast(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t count, uint32_t to, uint32_t from) {
  void *parameters[] = {&destination, &source, &count, &to, &from};
  return launch(kernels, kernels->cast, stream, count / 4, parameters);
}

int fst_cuda_launch_copy(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t bytes) {
  void *parameters[] = {&destination, &source, &bytes};
  return launch(kernels, kernels->copy, stream, bytes / 4, parameters);
}

int fst_cuda_launch_gather(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                           uint64_t run, fst_cuda_level outer, fst_cuda_level inner) {
  void *parameters[] = {&destination, &source, &run, &outer.count, &outer.stride, &inner.count, &inner.stride};
  return launch(kernels, kernels->gather, stream, run * outer.count * inner.count, parameters);
}
