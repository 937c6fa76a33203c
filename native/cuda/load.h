/* What the lanes of one load to a CUDA device share: inside the shim only. */
#ifndef FST_CUDA_LOAD_H
#define FST_CUDA_LOAD_H

#include "cuda/cuda.h"
#include "cuda/gds.h"

struct fst_cuda_load {
  fst_cuda_release_job job;
  int device;
  const fst_cuda_kernels *kernels; /* NULL where nothing needs them */
  char *pinned;                    /* host memory: two slots for each lane; the caller's */
  uint64_t pinned_bytes;
  void *ring_memory;               /* device memory of the same shape, and a bit more; NULL where nothing needs it */
  uint64_t ring;                   /* where it begins, at a page of the GPU */
  fst_gds *gds;                    /* NULL: by way of the host */
  enum fst_gds_mode gds_mode;
  _Atomic uint32_t lanes;          /* at work, a bit each */
};

#endif
