/*
 * libcudart, opened at run time: inside the shim only. The functions have the C interface that versions 11 to 13
 * share; every one of them gives 0 or an error number.
 */
#ifndef FST_CUDART_H
#define FST_CUDART_H

#include <stddef.h>

/* cudaMemcpyKind */
enum { FST_CUDA_TO_DEVICE = 1, FST_CUDA_TO_HOST = 2, FST_CUDA_ON_DEVICE = 3 };

/* cudaError: those that mean something to the shim. */
enum {
  FST_CUDA_OUT_OF_MEMORY = 2,
  FST_CUDA_DRIVER_TOO_OLD = 35,
  FST_CUDA_NO_DEVICE = 100,
  FST_CUDA_INVALID_DEVICE = 101,
};

/* cudaDeviceAttr */
enum { FST_CUDA_MULTIPROCESSORS = 16, FST_CUDA_CAPABILITY_MAJOR = 75, FST_CUDA_CAPABILITY_MINOR = 76 };

/* Flags of streams, events and host memory. Without the first of an event's, waiting for it keeps a core busy. */
enum {
  FST_CUDA_STREAM_NON_BLOCKING = 1,
  FST_CUDA_EVENT_BLOCKING_WAIT = 1,
  FST_CUDA_EVENT_NO_TIMING = 2,
  FST_CUDA_HOST_PORTABLE = 1,
};

typedef struct fst_cudart {
  int (*cudaRuntimeGetVersion)(int *version);
  int (*cudaDriverGetVersion)(int *version);
  int (*cudaGetDeviceCount)(int *count);
  int (*cudaSetDevice)(int device);
  int (*cudaGetDevice)(int *device);
  int (*cudaDeviceGetAttribute)(int *value, int attribute, int device);
  int (*cudaDeviceGetPCIBusId)(char *text, int length, int device);
  int (*cudaMemGetInfo)(size_t *available, size_t *total);
  int (*cudaGetLastError)(void);
  const char *(*cudaGetErrorString)(int code);
  const char *(*cudaGetErrorName)(int code);
  int (*cudaMalloc)(void **pointer, size_t bytes);
  int (*cudaFree)(void *pointer);
  int (*cudaHostAlloc)(void **pointer, size_t bytes, unsigned flags);
  int (*cudaFreeHost)(void *pointer);
  int (*cudaHostRegister)(void *pointer, size_t bytes, unsigned flags);
  int (*cudaHostUnregister)(void *pointer);
  int (*cudaMemcpy)(void *to, const void *from, size_t bytes, int kind);
  int (*cudaMemcpyAsync)(void *to, const void *from, size_t bytes, int kind, void *stream);
  int (*cudaMemcpy2DAsync)(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                           int kind, void *stream);
  int (*cudaMemcpyPeerAsync)(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream);
  int (*cudaStreamCreateWithFlags)(void **stream, unsigned flags);
  int (*cudaStreamSynchronize)(void *stream);
  int (*cudaStreamDestroy)(void *stream);
  int (*cudaEventCreateWithFlags)(void **event, unsigned flags);
  int (*cudaEventRecord)(void *event, void *stream);
  int (*cudaEventQuery)(void *event);
  int (*cudaEventSynchronize)(void *event);
  int (*cudaEventDestroy)(void *event);
} fst_cudart;

/*
 * The functions of libcudart, opened at the first call that finds it; from any thread. NULL where it is not available,
 * with the reason in `reason`, which is empty otherwise.
 */
const fst_cudart *fst_cudart_open(char *reason, size_t size);

/* The same without the reason. */
const fst_cudart *fst_cudart_get(void);

/* Where the open library was found. */
const char *fst_cudart_path(void);

#endif
