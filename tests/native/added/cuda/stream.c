#include "added.h"

int fst_cuda_drop_streams(void) {
  int result = 0;
  for (int device = 0; device < FST_CUDA_DEVICES; device++) {
    fst_cuda_stream *stream;
    while ((stream = take_idle(device))) {
      const fst_cudart *runtime;
      int status = fst_cuda_enter(device, &runtime);
      if (status == 0) {
        status = destroy(runtime, stream);
        fst_cuda_leave();
      }
      if (result == 0) result = status;
    }
  }
  return result;
}
