/*
 * The device that calls work on, and the end of the process.
 *
 * Threads belong to the program: it may have chosen a device, or made a context of its own current, and a call must
 * not change either. cudaSetDevice would replace the context, and since CUDA 12 create one that stays. So a call
 * pushes the primary context of its device, which the runtime shares, and pops it at its end.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "cuda/cuda.h"

#define LONGEST_END_SECONDS 2

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t left = PTHREAD_COND_INITIALIZER;
static void *contexts[FST_CUDA_DEVICES]; /* retained by the first call for a device, until the process ends */
static unsigned users;                   /* calls between fst_cuda_enter and fst_cuda_leave */
static _Atomic int is_ending;

int fst_cuda_is_ending(void) {
  return atomic_load(&is_ending);
}

/* Libraries are unloaded after this: calls that run may still need them. A device that never answers ends the wait. */
int fst_cuda_end(void) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += LONGEST_END_SECONDS;
  pthread_mutex_lock(&mutex);
  atomic_store(&is_ending, 1);
  while (users > 0 && pthread_cond_timedwait(&left, &mutex, &until) == 0) continue;
  const int has_ended = users == 0;
  pthread_mutex_unlock(&mutex);
  return has_ended;
}

static void end(void) {
  fst_cuda_end();
}

/* The caller has the lock. 0, or an error that runtime and driver share. */
static int retain(const fst_cuda_driver *driver, int device, void **context) {
  static int has_end; /* registered after the libraries are open, it runs before their own handlers */
  if (!has_end) has_end = atexit(end) == 0;
  if (device < 0 || device >= FST_CUDA_DEVICES) return FST_CUDA_INVALID_DEVICE;
  int status = 0, number;
  if (!contexts[device]) {
    status = driver->cuInit(0);
    if (status == 0) status = driver->cuDeviceGet(&number, device);
    if (status == 0) status = driver->cuDevicePrimaryCtxRetain(&contexts[device], number);
  }
  *context = contexts[device];
  return status;
}

int fst_cuda_enter(int device, const fst_cudart **runtime) {
  *runtime = fst_cudart_get();
  const fst_cuda_driver *driver = fst_cuda_driver_get();
  if (!*runtime || !driver) return -ENOSYS;
  void *context = NULL;
  pthread_mutex_lock(&mutex);
  int status = atomic_load(&is_ending) ? -ECANCELED : retain(driver, device, &context);
  if (status == 0) status = driver->cuCtxPushCurrent(context);
  if (status == 0) users++;
  pthread_mutex_unlock(&mutex);
  return status;
}

void fst_cuda_leave(void) {
  void *context;
  fst_cuda_driver_get()->cuCtxPopCurrent(&context);
  pthread_mutex_lock(&mutex);
  if (--users == 0) pthread_cond_broadcast(&left);
  pthread_mutex_unlock(&mutex);
}

int fst_cuda_wait_by(const fst_cudart *runtime, void *stream, void *event) {
  const int status = runtime->cudaEventRecord(event, stream);
  if (status == 0) return runtime->cudaEventSynchronize(event);
  runtime->cudaStreamSynchronize(stream); /* which uses a whole core, but must not fail */
  return status;
}

int fst_cuda_wait(const fst_cudart *runtime, void *stream) {
  void *event = NULL;
  int status =
    runtime->cudaEventCreateWithFlags(&event, FST_CUDA_EVENT_NO_TIMING | FST_CUDA_EVENT_BLOCKING_WAIT);
  if (status != 0) return runtime->cudaStreamSynchronize(stream);
  status = fst_cuda_wait_by(runtime, stream, event);
  int destroyed = runtime->cudaEventDestroy(event);
  return status != 0 ? status : destroyed;
}
