/* Device memory with a count of users, and pinned host memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuda/cuda.h"

/* ---- Device memory ---- */

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
  if (allocation->bytes == 0) return 0;
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

static int allocate_all(const fst_cudart *runtime, int device, fst_cuda_allocation *allocations, uint32_t count,
                        uint64_t *free_bytes) {
  uint64_t wanted = 0;
  size_t available, total;
  int status = runtime->cudaMemGetInfo(&available, &total);
  if (status != 0) return status;
  *free_bytes = available;
  for (uint32_t i = 0; i < count; i++) wanted += allocations[i].bytes;
  /* Check first: a partial allocation could use up memory that others need, only to be freed again. */
  if (wanted > available) return FST_CUDA_OUT_OF_MEMORY;
  for (uint32_t i = 0; i < count && status == 0; i++) status = allocate(runtime, device, &allocations[i]);
  if (status == 0) return 0;
  for (uint32_t i = 0; i < count; i++) {
    if (allocations[i].block) fst_cuda_release(allocations[i].block);
    allocations[i].address = 0;
    allocations[i].block = NULL;
  }
  return status;
}

int32_t fst_cuda_allocate(int32_t device, fst_cuda_allocation *allocations, uint32_t count,
                          uint64_t *free_bytes) {
  const fst_cudart *runtime;
  *free_bytes = 0;
  for (uint32_t i = 0; i < count; i++) {
    allocations[i].address = 0;
    allocations[i].block = NULL;
  }
  int status = fst_cuda_enter(device, &runtime);
  if (status != 0) return status;
  status = fst_cuda_done(runtime, allocate_all(runtime, device, allocations, count, free_bytes));
  fst_cuda_leave();
  return status;
}

void fst_cuda_retain(fst_cuda_block *block) {
  atomic_fetch_add(&block->holders, 1);
}

void fst_cuda_release(fst_cuda_block *block) {
  if (atomic_fetch_sub(&block->holders, 1) == 1) fst_cuda_release_later(&block->job);
}

/* ---- Pinned memory ---- */

#define PREFER 1 /* MPOL_PREFERRED of mbind(2), which libc does not declare */

/* Advice only: memory of another node also works, but slower. */
static void place_near(const fst_cudart *runtime, int device, void *memory, uint64_t bytes) {
  unsigned long nodes[16] = {0};
  const unsigned bits = 8 * sizeof *nodes;
  int node = fst_cuda_numa_node(runtime, device);
  if (node < 0 || (unsigned)node >= bits * (sizeof nodes / sizeof *nodes)) return;
  nodes[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
  syscall(SYS_mbind, memory, (unsigned long)bytes, PREFER, nodes, sizeof nodes * 8 + 1, 0ul);
}

struct fst_cuda_pinned {
  fst_cuda_release_job job;
  int device;
  void *memory;
  uint64_t bytes;
};

static int free_pinned(fst_cuda_release_job *job) {
  fst_cuda_pinned *pinned = (fst_cuda_pinned *)job;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(pinned->device, &runtime);
  if (status == 0) {
    status = fst_cuda_done(runtime, runtime->cudaHostUnregister(pinned->memory));
    fst_cuda_leave();
  }
  fst_staging_unmap(pinned->memory, pinned->bytes);
  free(pinned);
  return status;
}

int32_t fst_cuda_pin(int32_t device, uint64_t bytes, uint64_t *address, fst_cuda_pinned **result) {
  const fst_cudart *runtime;
  int status = fst_cuda_enter(device, &runtime);
  if (status != 0) return status;
  fst_cuda_pinned *pinned = calloc(1, sizeof *pinned);
  void *memory = pinned ? fst_staging_map(bytes) : NULL;
  if (memory) {
    place_near(runtime, device, memory, bytes);
    status = fst_cuda_done(runtime, runtime->cudaHostRegister(memory, bytes, FST_CUDA_HOST_PORTABLE));
  } else {
    status = -ENOMEM;
  }
  fst_cuda_leave();
  if (status != 0) {
    fst_staging_unmap(memory, bytes);
    free(pinned);
    return status;
  }
  *pinned = (fst_cuda_pinned){{.free = free_pinned}, device, memory, bytes};
  *address = (uint64_t)(uintptr_t)memory;
  *result = pinned;
  return 0;
}

void fst_cuda_unpin(fst_cuda_pinned *pinned) {
  fst_cuda_release_later(&pinned->job);
}
