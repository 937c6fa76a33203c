/* Configuration, handles, and what happens at the entrance of every runtime call. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "internal.h"

sim_state sim = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
static __thread int last_error;

void sim_lock(void) {
  pthread_mutex_lock(&sim.lock);
}

void sim_unlock(void) {
  pthread_mutex_unlock(&sim.lock);
}

void *sim_grown(void *array, size_t count, size_t *capacity, size_t item) {
  if (count < *capacity) return array;
  *capacity = *capacity ? *capacity * 2 : 64;
  array = realloc(array, *capacity * item);
  if (!array) sim_die("no memory for its own tables");
  return array;
}

/* Configuration */

/* Which of the words the variable holds; the first one if it is not set. */
static int word_of(const char *name, const char *const words[], int count) {
  const char *text = getenv(name);
  if (!text || !*text) return 0;
  for (int i = 0; i < count; i++) {
    if (strcmp(text, words[i]) == 0) return i;
  }
  char message[256];
  snprintf(message, sizeof message, "cannot use %s=%s: it is none of the words in sim.h", name, text);
  sim_die(message);
}

/* The version in the name of this library's file, if that is libcudart.so.N. */
static int named_version(int otherwise) {
  Dl_info info;
  const char *name = dladdr((void *)(uintptr_t)fst_sim_name, &info) != 0 ? strstr(info.dli_fname, "libcudart.so.") : NULL;
  int major = name ? atoi(name + strlen("libcudart.so.")) : 0;
  return major > 0 ? major * 1000 : otherwise;
}

void sim_configure(void) {
  sim_configuration *config = &sim.config;
  config->devices = (int)sim_number_of("FST_SIM_DEVICES", 2, 0, SIM_DEVICES);
  config->old_driver = word_of("FST_SIM_DRIVER", (const char *[]){"new", "old"}, 2) == 1;
  config->version = (int)sim_number_of("FST_SIM_VERSION", 12040, 10000, 99990);
  config->runtime_version = named_version(config->version);
  config->capability = (int)sim_number_of("FST_SIM_CAPABILITY", 80, 30, 200);
  config->device_bytes = (size_t)sim_number_of("FST_SIM_DEVICE_BYTES", 2147483648.0, 0, 68719476736.0);
  config->pools = sim_number_of("FST_SIM_POOLS", 1, 0, 1) != 0;
  config->peer = sim_number_of("FST_SIM_PEER", 1, 0, 1) != 0;
  config->delay_us = (unsigned)sim_number_of("FST_SIM_DELAY_US", 50, 0, 10e6);
  config->unload_us = (unsigned)sim_number_of("FST_SIM_UNLOAD_US", 0, 0, 10e6);
  config->copy_gbps = sim_number_of("FST_SIM_COPY_GBPS", 0, 0, 1e6);
  config->seed = (uint64_t)sim_number_of("FST_SIM_SEED", 1, 0, 1e15);
  config->checks = sim_number_of("FST_SIM_CHECKS", 1, 0, 1) != 0;
  config->gds = (sim_gds)word_of("FST_SIM_GDS", (const char *[]){"real", "compat", "absent"}, 3);
  config->cufile_stdin = word_of("FST_SIM_CUFILE_STDIN", (const char *[]){"stays", "closed", "taken"}, 3);
  config->cufile_taken = word_of("FST_SIM_CUFILE_TAKEN", (const char *[]){"no", "compatible", "strict"}, 3);
  config->cufile_strict = sim_number_of("FST_SIM_CUFILE_STRICT", 0, 0, 1) != 0;
  config->cufile_errno = sim_number_of("FST_SIM_CUFILE_ERRNO", 0, 0, 1) != 0;
  config->cufile_window_bytes = (size_t)sim_number_of("FST_SIM_CUFILE_WINDOW_BYTES", 16777216, 0, 1e12);
  config->cufile_pinned_bytes = (size_t)sim_number_of("FST_SIM_CUFILE_PINNED_BYTES", 1073741824, 0, 1e12);
  sim_is_verbose = sim_number_of("FST_SIM_VERBOSE", 0, 0, 1) != 0;
  sim_path_of("FST_SIM_KERNELS", config->kernels, sizeof config->kernels);
  sim_path_of("FST_SIM_REPORT", config->report, sizeof config->report);
  sim_model_configure();
  if (fst_sim_fail(getenv("FST_SIM_FAIL")) != 0) sim_die("cannot use FST_SIM_FAIL: see fst_sim_fail() in sim.h");
}

static _Atomic bool is_unloaded;

/* The runtime's own handler at the end of the process: calls after it crash, or fail in any way. */
static void unload(void) {
  is_unloaded = true;
  if (sim.config.unload_us > 0) usleep(sim.config.unload_us);
}

void sim_check_loaded(const char *function) {
  if (!is_unloaded) return;
  fprintf(stderr, "%s: %s is called after the library was unloaded at the end of the process\n", sim_name(), function);
  abort();
}

__attribute__((constructor)) static void start(void) {
  sim_lock();
  sim_configure();
  sim_unlock();
  atexit(unload);
}

/*
 * Handles are addresses in a range that no access is allowed to, one for every object there ever was: an object that
 * is gone is told from one that never was, and a program that looks inside a handle faults.
 */

enum { HANDLE_STEP = 16, HANDLE_MOST = 1 << 24 };
static char *handle_base;
static struct {
  sim_kind kind;
  void *object;
} *handles;
static size_t handle_count, handle_capacity;

void *sim_handle_new(sim_kind kind, void *object) {
  if (!handle_base) {
    handle_base = mmap(NULL, (size_t)HANDLE_MOST * HANDLE_STEP, PROT_NONE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (handle_base == MAP_FAILED) sim_die("no addresses for handles");
  }
  if (handle_count + 1 >= HANDLE_MOST) sim_die("out of handles");
  handles = sim_grown(handles, handle_count, &handle_capacity, sizeof *handles);
  handles[handle_count].kind = kind;
  handles[handle_count].object = object;
  return handle_base + ++handle_count * HANDLE_STEP;
}

static void **slot_of(const void *handle, sim_kind kind) {
  uintptr_t offset = (uintptr_t)handle - (uintptr_t)handle_base;
  if (!handle_base || offset % HANDLE_STEP || offset == 0 || offset / HANDLE_STEP > handle_count) return NULL;
  size_t index = offset / HANDLE_STEP - 1;
  return handles[index].kind == kind ? &handles[index].object : NULL;
}

void *sim_handle_find(const void *handle, sim_kind kind) {
  void **slot = slot_of(handle, kind);
  return slot ? *slot : NULL;
}

void *sim_handle_close(const void *handle, sim_kind kind) {
  void **slot = slot_of(handle, kind);
  void *object = slot ? *slot : NULL;
  if (object) *slot = NULL;
  return object;
}

/* Entrance and exit of runtime calls */

int sim_missing(void) {
  if (sim.config.old_driver || sim.config.runtime_version / 1000 > sim.config.version / 1000) return SIM_DRIVER_TOO_OLD;
  return sim.config.devices == 0 ? SIM_NO_DEVICE : 0;
}

int sim_runtime_enter(const char *function) {
  int code;
  sim_check_loaded(function);
  if (sim_injected(function, &code) || (code = sim_missing()) != 0) return code;
  sim_lock();
  sim_bind(function);
  code = sim.devices[sim_current].lost;
  sim.initialized = true;
  sim_unlock();
  return code;
}

int sim_plain_enter(const char *function) {
  int code;
  sim_check_loaded(function);
  if (sim_injected(function, &code) || (code = sim_missing()) != 0) return code;
  sim_lock();
  sim.initialized = true;
  sim_unlock();
  return 0;
}

bool sim_lost(int code) {
  sim_lock();
  bool lost = code != 0 && sim.devices[sim_current].lost == code;
  sim_unlock();
  return lost;
}

int sim_runtime_result(int code) {
  sim_model_leave();
  if (code != 0 && code != SIM_NOT_READY) last_error = code;
  return code;
}

SIM_EXPORT int cudaPeekAtLastError(void) {
  return last_error;
}

SIM_EXPORT int cudaGetLastError(void) {
  int code = last_error;
  last_error = 0;
  return code;
}
