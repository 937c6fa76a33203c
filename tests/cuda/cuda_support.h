/* Common parts of the C tests on the stand-ins. */
#ifndef CUDA_SUPPORT_H
#define CUDA_SUPPORT_H

#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>

#include "../sim/cuda/sim.h"
#include "environment_support.h"
#include "fst_cuda.h"
#include "plan_support.h"

/* The file of the kernel's module of GPUDirect Storage, also for the stand-ins. */
static inline void set_module(const char *path) {
  set_variable("FASTSAFETENSORS_NVFS_PROC", path);
  setenv("FASTSAFETENSORS_NVFS_PROC", path, 1);
}

/* Makes the library use the stand-ins that this program is linked with. */
static inline void use_stand_ins(void) {
  Dl_info sim;
  require(dladdr((void *)(uintptr_t)fst_sim_name, &sim) != 0, "dladdr");
  set_variable("FASTSAFETENSORS_CUDART_LIB", sim.dli_fname);
  set_variable("FASTSAFETENSORS_CUDA_LIB", sim.dli_fname);
  set_variable("FASTSAFETENSORS_CUFILE_LIB", sim.dli_fname);
  set_module("/proc/self/stat"); /* any existing file */
}

/* Waits until all released resources have been freed. */
static inline void wait_for_releases(void) {
  fst_cuda_releases releases;
  fst_cuda_releases_now(&releases);
  CHECK(fst_cuda_releases_wait(releases.queued) == 0, "nothing frees");
}

/* Sets FST_SIM_… variables, and makes the stand-ins read them again. */
static inline void set_sim(const char *name, const char *value) {
  if (value) setenv(name, value, 1);
  else unsetenv(name);
  wait_for_releases(); /* no other thread may be in a call */
  fst_sim_reset();
}

/* Checks that only the resources of later loads are left, and that no call violated the rules of CUDA. */
static inline void check_clean(const char *where) {
  wait_for_releases();
  CHECK(fst_cuda_shutdown() == 0, "shutting down failed (%s)", where);
  CHECK(fst_sim_live_total() == 0, "%llu objects are left (%s)", (unsigned long long)fst_sim_live_total(), where);
  if (fst_sim_violations() == 0) return;
  static char text[65536];
  fst_sim_report(text, sizeof text);
  CHECK(0, "%s: %s", where, text);
  fst_sim_reset();
}

static inline fst_cuda_allocation allocate(int32_t device, uint64_t bytes) {
  fst_cuda_allocation memory = {.bytes = bytes};
  uint64_t free_bytes;
  require(fst_cuda_allocate(device, &memory, 1, NULL, &free_bytes) == 0, "fst_cuda_allocate");
  return memory;
}

#endif
