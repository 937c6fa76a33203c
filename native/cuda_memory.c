/* Device memory that is counted, and host memory that devices reach. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuda.h"
#include "cuda_driver.h"
#include "memory.h"

/* ---- Device memory ---- */

struct fst_cuda_block {
  _Atomic uint32_t holders;
  int device;
  void *address;
};

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
  block->device = device;
  allocation->block = block;
  allocation->address = (uint64_t)(uintptr_t)block->address;
  return 0;
}

int32_t fst_cuda_allocate(int32_t device, fst_cuda_allocation *allocations, uint32_t count,
                          uint64_t *free_bytes) {
  const fst_cudart *runtime;
  *free_bytes = 0;
  int status = fst_cuda_enter(device, &runtime);
  if (status != 0) return status;
  size_t available, total;
  status = runtime->cudaMemGetInfo(&available, &total);
  if (status != 0) return fst_cuda_done(runtime, status);
  *free_bytes = available;
  uint64_t wanted = 0;
  for (uint32_t i = 0; i < count; i++) {
    wanted += allocations[i].bytes;
    allocations[i].address = 0;
    allocations[i].block = NULL;
  }
  /* Asked before: what is taken bit by bit can take the last that somebody else needs, and is given back in vain. */
  if (wanted > available) return FST_CUDA_OUT_OF_MEMORY;
  for (uint32_t i = 0; i < count && status == 0; i++) status = allocate(runtime, device, &allocations[i]);
  if (status == 0) return 0;
  for (uint32_t i = 0; i < count; i++) {
    if (allocations[i].block) fst_cuda_release(allocations[i].block);
    allocations[i].address = 0;
    allocations[i].block = NULL;
  }
  return fst_cuda_done(runtime, status);
}

void fst_cuda_retain(fst_cuda_block *block) {
  atomic_fetch_add(&block->holders, 1);
}

int32_t fst_cuda_release(fst_cuda_block *block) {
  if (atomic_fetch_sub(&block->holders, 1) != 1) return 0;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(block->device, &runtime);
  /* cudaFree waits for all work of the device, and so for whatever was told to use this memory. */
  if (status == 0) status = fst_cuda_done(runtime, runtime->cudaFree(block->address));
  free(block);
  return status;
}

/* Whether a device is in use. To make another one current would wake it, and cost some of its memory. */
static int is_awake(int device) {
  const fst_cuda_driver *driver = fst_cuda_driver_get();
  unsigned flags = 0;
  int active = 1;
  if (!driver || !driver->cuDevicePrimaryCtxGetState) return 1;
  return driver->cuDevicePrimaryCtxGetState(device, &flags, &active) != 0 || active;
}

int32_t fst_cuda_release_as_guest(fst_cuda_block *block) {
  const fst_cudart *runtime = fst_cudart_get();
  const int device = block->device;
  int current = device;
  if (runtime && fst_cuda_done(runtime, runtime->cudaGetDevice(&current)) != 0) current = device;
  int32_t status = fst_cuda_release(block);
  if (runtime && current != device && is_awake(current)) fst_cuda_done(runtime, runtime->cudaSetDevice(current));
  return status;
}

/* ---- Pinned memory ---- */

#define PREFER 1 /* MPOL_PREFERRED of mbind(2), which libc does not declare */

/* Advice only: the memory of another node works as well, and slower. */
static void place_near(const fst_cudart *runtime, int device, void *memory, uint64_t bytes) {
  unsigned long nodes[16] = {0};
  const unsigned bits = 8 * sizeof *nodes;
  int node = fst_cuda_numa_node(runtime, device);
  if (node < 0 || (unsigned)node >= bits * (sizeof nodes / sizeof *nodes)) return;
  nodes[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
  syscall(SYS_mbind, memory, (unsigned long)bytes, PREFER, nodes, sizeof nodes * 8 + 1, 0ul);
}

int32_t fst_cuda_pin(int32_t device, uint64_t bytes, uint64_t *address) {
  const fst_cudart *runtime;
  int status = fst_cuda_enter(device, &runtime);
  if (status != 0) return status;
  void *memory = fst_staging_map(bytes);
  if (!memory) return -ENOMEM;
  place_near(runtime, device, memory, bytes);
  status = runtime->cudaHostRegister(memory, bytes, FST_CUDA_HOST_PORTABLE);
  if (status != 0) fst_staging_unmap(memory, bytes);
  else *address = (uint64_t)(uintptr_t)memory;
  return fst_cuda_done(runtime, status);
}

int32_t fst_cuda_unpin(int32_t device, uint64_t address, uint64_t bytes) {
  const fst_cudart *runtime;
  void *memory = (void *)(uintptr_t)address;
  int status = fst_cuda_enter(device, &runtime);
  if (status == 0) status = fst_cuda_done(runtime, runtime->cudaHostUnregister(memory));
  fst_staging_unmap(memory, bytes);
  return status;
}
