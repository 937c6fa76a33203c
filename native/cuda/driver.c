/* libcuda, opened at run time. */
#include "cuda/cuda.h"

static fst_cuda_driver functions;

#define FUNCTION(name, optional) {#name, offsetof(fst_cuda_driver, name), optional}
#define FUNCTION_V2(name) {#name "_v2", offsetof(fst_cuda_driver, name), 0} /* the name without it has an older interface */
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(cuInit, 0),
  FUNCTION(cuDeviceGet, 0),
  FUNCTION(cuDevicePrimaryCtxRetain, 0),
  FUNCTION_V2(cuDevicePrimaryCtxRelease),
  FUNCTION_V2(cuCtxPushCurrent),
  FUNCTION_V2(cuCtxPopCurrent),
  FUNCTION_V2(cuMemGetInfo),
  FUNCTION(cuGetErrorString, 0),
  FUNCTION(cuGetErrorName, 0),
  FUNCTION(cuDeviceGetName, 1),
  FUNCTION(cuModuleLoadData, 0),
  FUNCTION(cuModuleGetFunction, 0),
  FUNCTION(cuModuleUnload, 0),
  FUNCTION(cuLaunchKernel, 0),
};
#undef FUNCTION
#undef FUNCTION_V2

static fst_library library = {
  .variable = "FASTSAFETENSORS_CUDA_LIB",
  .names = (const char *const[]){"libcuda.so.1", "libcuda.so", NULL},
  .wheels = (const char *const[]){NULL}, /* it is a part of the kernel's driver */
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

const fst_cuda_driver *fst_cuda_driver_open(char *reason, size_t size) {
  return fst_library_open(&library, reason, size) == 0 ? &functions : NULL;
}

const fst_cuda_driver *fst_cuda_driver_get(void) {
  return fst_cuda_driver_open(NULL, 0);
}
