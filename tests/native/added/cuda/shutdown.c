#include "added.h"

#include "fst_cuda.h"

int32_t fst_cuda_shutdown(void) {
  fst_cuda_releases releases;
  fst_cuda_drop_pinned();
  fst_cuda_releases_now(&releases);
  fst_cuda_releases_wait(releases.queued);
  int status = fst_cufile_shutdown();
  int kernels = fst_cuda_unload_kernels(), streams = fst_cuda_drop_streams();
  return status != 0 ? status : kernels != 0 ? kernels : streams;
}
