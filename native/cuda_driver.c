/* libcuda, opened at run time. */
#include "cuda_driver.h"

#include <pthread.h>

#include "library.h"

static const fst_library_place PLACE = {
  .variable = "FASTSAFETENSORS_CUDA_LIB",
  .names = (const char *const[]){"libcuda.so.1", "libcuda.so", NULL},
  .wheels = (const char *const[]){NULL}, /* it belongs to the kernel's driver, and comes with it alone */
};

#define FUNCTION(name, optional) {#name, offsetof(fst_cuda_driver, name), optional}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(cuGetErrorString, 0),
  FUNCTION(cuGetErrorName, 0),
  FUNCTION(cuDeviceGetName, 1),
  FUNCTION(cuDevicePrimaryCtxGetState, 1),
  FUNCTION(cuModuleLoadData, 0),
  FUNCTION(cuModuleGetFunction, 0),
  FUNCTION(cuModuleUnload, 0),
  FUNCTION(cuLaunchKernel, 0),
};
#undef FUNCTION

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cuda_driver functions;
static int is_open;

const fst_cuda_driver *fst_cuda_driver_open(char *message, size_t size) {
  pthread_mutex_lock(&mutex);
  if (!is_open) {
    void *library = fst_library_open(&PLACE, message, size);
    const size_t count = sizeof SYMBOLS / sizeof *SYMBOLS;
    is_open = library && fst_library_bind(library, SYMBOLS, count, &functions, message, size) == 0;
  }
  const fst_cuda_driver *result = is_open ? &functions : NULL;
  pthread_mutex_unlock(&mutex);
  return result;
}

const fst_cuda_driver *fst_cuda_driver_get(void) {
  char message[1024];
  return fst_cuda_driver_open(message, sizeof message);
}
