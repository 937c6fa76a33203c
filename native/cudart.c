/* libcudart, opened at run time. */
#include "cudart.h"

#include <pthread.h>
#include <stdio.h>

#include "library.h"

static const fst_library_place PLACE = {
  .variable = "FASTSAFETENSORS_CUDART_LIB",
  .names = (const char *const[]){"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so", NULL},
  .wheels = (const char *const[]){"nvidia/cu13/lib", "nvidia/cuda_runtime/lib", NULL},
};

#define FUNCTION(name) {#name, offsetof(fst_cudart, name), 0}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(cudaRuntimeGetVersion),
  FUNCTION(cudaDriverGetVersion),
  FUNCTION(cudaGetDeviceCount),
  FUNCTION(cudaSetDevice),
  FUNCTION(cudaGetDevice),
  FUNCTION(cudaDeviceGetAttribute),
  FUNCTION(cudaDeviceGetPCIBusId),
  FUNCTION(cudaMemGetInfo),
  FUNCTION(cudaGetLastError),
  FUNCTION(cudaGetErrorString),
  FUNCTION(cudaGetErrorName),
  FUNCTION(cudaMalloc),
  FUNCTION(cudaFree),
  FUNCTION(cudaHostAlloc),
  FUNCTION(cudaFreeHost),
  FUNCTION(cudaHostRegister),
  FUNCTION(cudaHostUnregister),
  FUNCTION(cudaMemcpy),
  FUNCTION(cudaMemcpyAsync),
  FUNCTION(cudaMemcpy2DAsync),
  FUNCTION(cudaMemcpyPeerAsync),
  FUNCTION(cudaStreamCreateWithFlags),
  FUNCTION(cudaStreamSynchronize),
  FUNCTION(cudaStreamDestroy),
  FUNCTION(cudaEventCreateWithFlags),
  FUNCTION(cudaEventRecord),
  FUNCTION(cudaEventQuery),
  FUNCTION(cudaEventSynchronize),
  FUNCTION(cudaEventDestroy),
};
#undef FUNCTION

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cudart functions;
static int is_open;
static char path[1024];

const fst_cudart *fst_cudart_open(char *message, size_t size) {
  pthread_mutex_lock(&mutex);
  if (is_open) {
    snprintf(message, size, "%s", path);
  } else {
    void *library = fst_library_open(&PLACE, message, size);
    const size_t count = sizeof SYMBOLS / sizeof *SYMBOLS;
    if (library && fst_library_bind(library, SYMBOLS, count, &functions, message, size) == 0) {
      snprintf(path, sizeof path, "%s", message);
      is_open = 1;
    }
  }
  const fst_cudart *result = is_open ? &functions : NULL;
  pthread_mutex_unlock(&mutex);
  return result;
}

const fst_cudart *fst_cudart_get(void) {
  char message[1024];
  return fst_cudart_open(message, sizeof message);
}
