#include "added.h"

void fst_cuda_drop_pinned(void) {
  for (int device = 0; device < FST_CUDA_DEVICES; device++) {
    fst_cuda_pinned *pinned;
    while ((pinned = take_idle(device, 0))) fst_cuda_release_later(&pinned->job);
  }
}
