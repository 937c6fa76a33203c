/* Device memory with a count of users. */
#include <errno.h>
#include <stdlib.h>

#include "cuda/cuda.h"

struct fst_cuda_block {
  fst_cuda_release_job job;
  _Atomic uint32_t holders;
  int device;
  void *address;
};

static int free_block(fst_cuda_release_job *job) {
  fst_cuda_block *block = (fst_cuda_block *)job;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(block->device, &runtime);
  if (status == 0) {
    status = fst_cuda_done(runtime, runtime->cudaFree(block->address));
    fst_cuda_leave();
  }
  free(block);
  return status;
}

static int allocate(const fst_cudart *runtime, int device, fst_cuda_allocation *allocation) {
  if (allocation->bytes == 0 || allocation->block) return 0;
  fst_cuda_block *block = calloc(1, sizeof *block);
  if (!block) return -ENOMEM;
  int status = runtime->cudaMalloc(&block->address, allocation->bytes);
  if (status != 0) {
    free(block);
    return status;
  }
  atomic_init(&block->holders, 1);
  block->job.free = free_block;
  block->device = device;
  allocation->block = block;
  allocation->address = (uint64_t)(uintptr_t)block->address;
  return 0;
}

static void release_all(fst_cuda_allocation *allocations, uint32_t count) {
  for (uint32_t i = 0; i < count; i++) {
    if (allocations[i].block) fst_cuda_release(allocations[i].block);
    allocations[i].address = 0;
    allocations[i].block = NULL;
  }
}

static int allocate_all(const fst_cudart *runtime, int device, fst_cuda_allocation *allocations, uint32_t count,
                        fst_cuda_load *load, uint64_t *free_bytes) {
  uint64_t wanted = 0;
  size_t available, total;
  int status = runtime->cudaMemGetInfo(&available, &total);
  if (status != 0) return status;
  *free_bytes = available;
  for (uint32_t i = 0; i < count; i++) wanted += allocations[i].block ? 0 : allocations[i].bytes;
  /* Check first: a partial allocation could use up memory that others need, only to be freed again. */
  if (wanted > available) return FST_CUDA_OUT_OF_MEMORY;
  for (uint32_t i = 0; i < count; i++) {
    status = allocate(runtime, device, &allocations[i]);
    if (status != 0) return status;
    if (load && allocations[i].block) fst_cuda_load_place(load, i, allocations[i].address);
  }
  return 0;
}

int32_t fst_cuda_allocate(int32_t device, fst_cuda_allocation *allocations, uint32_t count, fst_cuda_load *load,
                          uint64_t *free_bytes) {
  const fst_cudart *runtime;
  *free_bytes = 0;
  int status = fst_cuda_enter(device, &runtime);
  if (status != 0) return status;
  status = fst_cuda_done(runtime, allocate_all(runtime, device, allocations, count, load, free_bytes));
  if (status != 0 && !load) release_all(allocations, count);
  fst_cuda_leave();
  return status;
}

void fst_cuda_retain(fst_cuda_block *block) {
  atomic_fetch_add(&block->holders, 1);
}

void fst_cuda_release(fst_cuda_block *block) {
  if (atomic_fetch_sub(&block->holders, 1) == 1) fst_cuda_release_later(&block->job);
}
