/* libcudart, opened at run time. */
#include "cuda/cuda.h"

static fst_cudart functions;

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

/* A toolkit that is newer than the driver does not work, and an older one may be installed beside it. */
static int is_too_new(void) {
  int devices;
  return fst_cuda_done(&functions, functions.cudaGetDeviceCount(&devices)) == FST_CUDA_DRIVER_TOO_OLD;
}

static fst_library library = {
  .variable = "FASTSAFETENSORS_CUDART_LIB",
  .names = (const char *const[]){"libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so", NULL},
  .wheels = (const char *const[]){"nvidia/cu13/lib", "nvidia/cuda_runtime/lib", NULL},
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .refuses = is_too_new,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

const fst_cudart *fst_cudart_open(char *reason, size_t size) {
  return fst_library_open(&library, reason, size) == 0 ? &functions : NULL;
}

const fst_cudart *fst_cudart_get(void) {
  return fst_cudart_open(NULL, 0);
}

const char *fst_cudart_path(void) {
  return library.path;
}
