/*
 * Streams of lanes, which the process keeps for its next loads: to make one with its events takes as long as a copy of
 * some megabytes.
 */
#include <stdlib.h>

#include "cuda/cuda.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cuda_stream *idle; /* never more than lanes ran at once */

static int destroy(const fst_cudart *runtime, fst_cuda_stream *stream) {
  int status = 0;
  for (unsigned i = 0; i < 2; i++) {
    const int destroyed = stream->events[i] ? runtime->cudaEventDestroy(stream->events[i]) : 0;
    if (status == 0) status = destroyed;
  }
  const int destroyed = stream->stream ? runtime->cudaStreamDestroy(stream->stream) : 0;
  free(stream);
  return fst_cuda_done(runtime, status != 0 ? status : destroyed);
}

static fst_cuda_stream *take_idle(int device) {
  pthread_mutex_lock(&mutex);
  fst_cuda_stream **place = &idle;
  while (*place && (*place)->device != device) place = &(*place)->next;
  fst_cuda_stream *stream = *place;
  if (stream) *place = stream->next;
  pthread_mutex_unlock(&mutex);
  return stream;
}

int fst_cuda_stream_take(const fst_cudart *runtime, int device, fst_cuda_stream **result) {
  *result = take_idle(device);
  if (*result) return 0;
  fst_cuda_stream *stream = calloc(1, sizeof *stream);
  if (!stream) return FST_CUDA_OUT_OF_MEMORY;
  stream->device = device;
  int status = runtime->cudaStreamCreateWithFlags(&stream->stream, FST_CUDA_STREAM_NON_BLOCKING);
  for (unsigned i = 0; i < 2 && status == 0; i++) {
    status = runtime->cudaEventCreateWithFlags(&stream->events[i],
                                               FST_CUDA_EVENT_NO_TIMING | FST_CUDA_EVENT_BLOCKING_WAIT);
  }
  if (status == 0) *result = stream;
  else destroy(runtime, stream);
  return status;
}

void fst_cuda_stream_give(const fst_cudart *runtime, fst_cuda_stream *stream, int is_sound) {
  if (!is_sound) {
    destroy(runtime, stream);
    return;
  }
  pthread_mutex_lock(&mutex);
  stream->next = idle;
  idle = stream;
  pthread_mutex_unlock(&mutex);
}
