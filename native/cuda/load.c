/* Prepares a load to a CUDA device, and reports its result. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/cuda.h"

#define GPU_PAGE ((uint64_t)64 << 10) /* the granularity of cuFile's registrations */

static int allocate_ring(const fst_cudart *runtime, fst_cuda_load *load) {
  int status = runtime->cudaMalloc(&load->ring_memory, load->pinned_bytes + GPU_PAGE);
  if (status == 0) load->ring = ((uint64_t)(uintptr_t)load->ring_memory + GPU_PAGE - 1) & ~(GPU_PAGE - 1);
  return fst_cuda_done(runtime, status);
}

/* Opens cuFile, its windows and the kernel that copies bytes from there to their place. */
static int open_gds(const fst_cudart *runtime, fst_cuda_load *load, const fst_cuda_load_options *options,
                    char *reason, size_t size) {
  const enum fst_gds_wish wish = (enum fst_gds_wish)options->gds;
  fst_cufile_driver driver;
  int status = fst_cufile_open(wish, &driver, reason, size);
  if (status != 0 || driver.mode == FST_GDS_OFF) return status;
  status = fst_cuda_load_kernels(load->device, &load->kernels);
  if (status == 0 && !load->ring_memory) status = allocate_ring(runtime, load);
  if (status == 0) {
    load->gds = fst_gds_new(&driver, options->files, wish == FST_GDS_REQUIRE);
    if (!load->gds) status = -ENOMEM;
  }
  if (status != 0) {
    snprintf(reason, size, "its kernels, or its ring of device memory, failed with status %d", status);
    return wish == FST_GDS_REQUIRE ? status : 0;
  }
  load->gds_mode = driver.mode;
  return 0;
}

static int free_load(fst_cuda_release_job *job) {
  fst_cuda_load *load = (fst_cuda_load *)job;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(load->device, &runtime);
  if (status == 0) {
    if (load->gds) fst_gds_free(load->gds);
    if (load->ring_memory) status = fst_cuda_done(runtime, runtime->cudaFree(load->ring_memory));
    fst_cuda_leave();
  }
  pthread_cond_destroy(&load->placed);
  pthread_mutex_destroy(&load->mutex);
  free(load);
  return status;
}

/* ---- The addresses of a load's memory ---- */

/* How often a lane that waits looks whether the plan was cancelled. */
#define LOOK_NS 20000000L

void fst_cuda_load_place(fst_cuda_load *load, uint32_t allocation, uint64_t address) {
  pthread_mutex_lock(&load->mutex);
  atomic_store(&load->addresses[allocation], address);
  pthread_cond_broadcast(&load->placed);
  pthread_mutex_unlock(&load->mutex);
}

int fst_cuda_load_address(fst_cuda_load *load, fst_plan *plan, const fst_segment *segment, uint64_t *address) {
  *address = 0;
  if (load->allocation_count == 0) return 0;
  FST_ASSERT(segment->allocation < load->allocation_count);
  _Atomic uint64_t *const place = &load->addresses[segment->allocation];
  if ((*address = atomic_load(place)) != 0) return 0;
  pthread_mutex_lock(&load->mutex);
  while ((*address = atomic_load(place)) == 0 && !atomic_load(&plan->cancelled) && !fst_cuda_is_ending()) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOOK_NS;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    pthread_cond_timedwait(&load->placed, &load->mutex, &until);
  }
  pthread_mutex_unlock(&load->mutex);
  return *address != 0 ? 0 : -1;
}

/* ---- Opening and closing ---- */

int32_t fst_cuda_load_open(const fst_cuda_load_options *options, fst_cuda_load **result, char *reason,
                           uint64_t size) {
  *result = NULL;
  if (size > 0) *reason = 0;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(options->device, &runtime);
  if (status != 0) return status;
  fst_cuda_load *load = calloc(1, sizeof *load + options->allocations * sizeof *load->addresses);
  if (!load) {
    fst_cuda_leave();
    return -ENOMEM;
  }
  pthread_mutex_init(&load->mutex, NULL);
  pthread_cond_init(&load->placed, NULL);
  load->allocation_count = options->allocations;
  load->job.free = free_load;
  load->device = options->device;
  load->pinned = (fst_cuda_pinned *)(uintptr_t)options->pinned;
  load->pinned_bytes = options->pinned_bytes;
  if (options->casts) {
    status = fst_cuda_load_kernels(load->device, &load->kernels);
    if (status == 0) status = allocate_ring(runtime, load);
  }
  if (status == 0 && options->gds != FST_GDS_NEVER) status = open_gds(runtime, load, options, reason, size);
  fst_cuda_leave();
  if (status == 0) *result = load;
  else fst_cuda_load_close(load);
  return status;
}

void fst_cuda_load_report_of(const fst_cuda_load *load, fst_cuda_load_report *report) {
  memset(report, 0, sizeof *report);
  report->gds = load->gds_mode;
  report->pin_failure = atomic_load(&load->pin_failure);
  if (load->gds) fst_gds_tally(load->gds, &report->gds_bytes, &report->gds_failure);
}

void fst_cuda_load_close(fst_cuda_load *load) {
  fst_cuda_release_later(&load->job);
}
