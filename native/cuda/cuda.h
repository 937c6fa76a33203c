/* CUDA devices and the kernels of native/kernels on them: inside the shim only. */
#ifndef FST_CUDA_KERNELS_H
#define FST_CUDA_KERNELS_H

#include "cuda/cudart.h"
#include "fst_cuda.h"

/* How many devices of a machine can be used: far more than any has. */
#define FST_CUDA_DEVICES 64

/* Makes `device` current for this thread; -ENOSYS without libcudart. */
int fst_cuda_enter(int device, const fst_cudart **runtime);

/* Passes a status on, and makes the runtime forget it: the next one to ask for its last error is somebody else. */
int fst_cuda_done(const fst_cudart *runtime, int status);

/* Something that is to be freed; the first field of what it frees. */
typedef struct fst_cuda_release_job {
  struct fst_cuda_release_job *next;
  int (*free)(struct fst_cuda_release_job *self); /* gives a status; on a thread of the shim's own, which may wait */
} fst_cuda_release_job;

/* Has a job done soon. Does not wait, and does not fail. */
void fst_cuda_release_later(fst_cuda_release_job *job);

/* Adds a holder of a block. */
void fst_cuda_retain(fst_cuda_block *block);

/* The kernels, loaded to one device. */
typedef struct fst_cuda_kernels fst_cuda_kernels;

/* Loads them at the first call for a device, which must be current. They stay. */
int fst_cuda_load_kernels(int device, const fst_cuda_kernels **kernels);

/* Whether the device casts the pair: floats of 8 bits or more, to one another. */
int fst_cuda_can_cast(uint32_t to, uint32_t from);

/* Launches: the work is done when the stream gets there. The kernels' device must be current. */
int fst_cuda_launch_cast(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t count, uint32_t to, uint32_t from);
int fst_cuda_launch_copy(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t bytes);
int fst_cuda_launch_gather(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                           uint64_t run, fst_cuda_level outer, fst_cuda_level inner);

/* The node of the machine's memory that a device is near to, or -1. */
int fst_cuda_numa_node(const fst_cudart *runtime, int device);

#ifdef FST_FAULTS
int fst_cuda_unload_kernels(void);
#endif

#endif
