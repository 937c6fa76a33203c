#include "added.h"

int fst_cuda_unload_kernels(void) {
  int result = 0;
  pthread_mutex_lock(&mutex);
  for (int device = 0; device < FST_CUDA_DEVICES; device++) {
    fst_cuda_kernels *kernels = &loaded[device];
    if (!kernels->driver) continue;
    const fst_cudart *runtime;
    int status = fst_cuda_enter(device, &runtime);
    if (status == 0) {
      status = driver_status(kernels->driver->cuModuleUnload(kernels->module));
      fst_cuda_leave();
    }
    if (status == 0) kernels->driver = NULL;
    if (result == 0) result = status;
  }
  pthread_mutex_unlock(&mutex);
  return result;
}
