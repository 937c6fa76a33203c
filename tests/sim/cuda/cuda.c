/* libcuda: modules from PTX, and launches of the kernels' host build. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

typedef struct module {
  int device;
  sim_ptx ptx;
  struct function *functions; /* all that were asked for */
} module;

typedef struct function {
  struct function *next;
  void *handle;
  int device;
  sim_entry entry;
  sim_host_kernel kernel; /* NULL without a host build */
  const char *signature;
} function;

/* 0, or what the call gives at once. `bound`: the call needs a driver context. */
static int enter(const char *name, bool bound) {
  int code;
  sim_check_loaded(name);
  if (sim_injected(name, &code)) return code;
  if (sim.config.devices == 0) return SIM_NO_DEVICE;
  sim_lock();
  if (!sim.initialized) {
    sim_violation("no-init", "%s: neither cuInit nor a runtime call came before", name);
    code = SIM_NOT_INITIALIZED;
  } else if (bound && sim_bound < 0) {
    sim_violation("no-context", "%s: no context is current on this thread: a runtime call such as cudaFree(0) makes "
                  "that of the current device so", name);
    code = SIM_INVALID_CONTEXT;
  } else {
    code = bound ? sim.devices[sim_bound].lost : 0;
  }
  sim_unlock();
  return code;
}

SIM_EXPORT int cuInit(unsigned flags) {
  int code;
  if (sim_injected(__func__, &code)) return code;
  if (flags != 0) return SIM_INVALID_VALUE;
  if (sim.config.devices == 0) return SIM_NO_DEVICE;
  sim_lock();
  sim.initialized = true;
  sim_unlock();
  return 0;
}

SIM_EXPORT int cuDeviceGet(int *device, int ordinal) {
  int code = enter(__func__, false);
  if (code == 0 && (ordinal < 0 || ordinal >= sim.config.devices)) code = SIM_INVALID_DEVICE;
  if (code == 0) *device = ordinal;
  return code;
}

/* Modules */

/* The PTX version that a CUDA version brought: 10.1 has 6.4, 11.x has 7.x, 12.x 8.x, 13.x 9.x. */
static int newest_ptx(void) {
  int major = sim.config.version / 1000, minor = sim.config.version % 1000 / 10;
  return major <= 10 ? 63 + minor : (major - 4) * 10 + minor;
}

SIM_EXPORT int cuModuleLoadData(void **handle, const void *image) {
  int code = enter(__func__, true);
  if (code != 0) return code;
  module *made = sim_zeroed(sizeof *made);
  sim_ptx_parse(image, &made->ptx);
  if (made->ptx.reason) {
    sim_violation("bad-ptx", "%s: the image is not PTX that can be read: %s", __func__, made->ptx.reason);
    code = made->ptx.version ? SIM_INVALID_PTX : SIM_INVALID_IMAGE;
  } else if (made->ptx.version > newest_ptx()) {
    code = SIM_UNSUPPORTED_PTX;
  } else if (made->ptx.target > sim.config.capability) {
    code = SIM_NO_BINARY;
  }
  if (code != 0) {
    free(made->ptx.entries);
    free(made);
    return code;
  }
  made->device = sim_bound;
  sim_lock();
  *handle = sim_handle_new(SIM_MODULE, made);
  sim.live.modules++;
  sim_unlock();
  return 0;
}

/* Locked. */
static int find_module(const char *name, const void *handle, module **found) {
  *found = sim_handle_find(handle, SIM_MODULE);
  if (!*found) {
    sim_violation("bad-module", "%s: %p is not a module, or was unloaded", name, handle);
    return SIM_INVALID_HANDLE;
  }
  if ((*found)->device == sim_bound) return 0;
  sim_violation("wrong-device", "%s: a module of device %d is used while the context of device %d is current", name,
                (*found)->device, sim_bound);
  return SIM_INVALID_CONTEXT;
}

/* Locked. The library named by FST_SIM_KERNELS, or NULL. */
static void *kernel_library(void) {
  static char opened[sizeof sim.config.kernels];
  static void *library;
  if (!*sim.config.kernels) return NULL;
  if (strcmp(opened, sim.config.kernels) != 0) {
    library = dlopen(sim.config.kernels, RTLD_NOW | RTLD_LOCAL);
    if (!library) sim_die(dlerror());
    memcpy(opened, sim.config.kernels, sizeof opened);
  }
  return library;
}

/* Locked. Finds the host build of an entry; whether its signature is that of the PTX. */
static bool find_host_build(function *made) {
  void *library = kernel_library();
  if (!library) return true;
  char symbol[sizeof made->entry.name + 16];
  snprintf(symbol, sizeof symbol, "fst_sig_%s", made->entry.name);
  made->signature = dlsym(library, symbol);
  snprintf(symbol, sizeof symbol, "fst_host_%s", made->entry.name);
  void *address = dlsym(library, symbol);
  memcpy(&made->kernel, &address, sizeof address);
  if (!made->signature || !made->kernel) {
    made->kernel = NULL;
    return true;
  }
  const char *letters = made->signature, *widths = made->entry.widths;
  for (; *letters && *widths; letters++, widths++) {
    if (*widths != (*letters == 'P' ? 'Q' : *letters)) break;
  }
  if (!*letters && !*widths) return true;
  sim_violation("kernel-signature", "cuModuleGetFunction: %s has parameters %s in the PTX, %s in its host build",
                made->entry.name, made->entry.widths, made->signature);
  return false;
}

SIM_EXPORT int cuModuleGetFunction(void **handle, void *module_handle, const char *name) {
  int code = enter(__func__, true);
  if (code != 0) return code;
  function *made = sim_zeroed(sizeof *made);
  module *from;
  sim_lock();
  code = find_module(__func__, module_handle, &from);
  if (code == 0) {
    code = SIM_NOT_FOUND;
    for (size_t i = 0; i < from->ptx.entry_count; i++) {
      if (strcmp(from->ptx.entries[i].name, name) != 0) continue;
      made->entry = from->ptx.entries[i];
      made->device = from->device;
      code = find_host_build(made) ? 0 : SIM_NOT_FOUND;
    }
  }
  if (code == 0) {
    made->next = from->functions;
    from->functions = made;
    *handle = made->handle = sim_handle_new(SIM_FUNCTION, made);
  } else {
    free(made);
  }
  sim_unlock();
  return code;
}

/* Launches that are queued still run: they need nothing of the module. */
SIM_EXPORT int cuModuleUnload(void *handle) {
  int code = enter(__func__, true);
  if (code != 0 && !(sim_bound >= 0 && sim_lost(code))) return code;
  module *found;
  sim_lock();
  int wrong = find_module(__func__, handle, &found);
  if (wrong == 0) {
    sim_handle_close(handle, SIM_MODULE);
    while (found->functions) {
      function *gone = found->functions;
      found->functions = gone->next;
      sim_handle_close(gone->handle, SIM_FUNCTION);
      free(gone);
    }
    free(found->ptx.entries);
    free(found);
    sim.live.modules--;
  }
  sim_unlock();
  return code ? code : wrong;
}

/* Launches */

/*
 * Locked. Puts the bytes' address in the place of a device pointer. Memory that the device cannot reach is found by
 * the real one when the kernel runs, so the operation is doomed and the launch goes well.
 */
static void translate(sim_operation *operation, uint64_t *value, const char *name) {
  const void *pointer = (const void *)(uintptr_t)*value;
  if (!pointer) return;
  sim_place place = {0};
  int code = (sim_is_device_address(pointer) ? sim_place_device : sim_place_host)(name, pointer, 1, &place);
  if (code == 0 && !place.allocation && !place.pin) {
    sim_violation("not-a-device-pointer", "%s: a kernel is given %p, pageable host memory", name, pointer);
    code = SIM_ILLEGAL_ADDRESS;
  }
  if (code == 0 && place.allocation && place.allocation->device != sim_current) {
    sim_violation("wrong-device", "%s: a kernel on device %d is given memory of device %d", name, sim_current,
                  place.allocation->device);
    code = SIM_ILLEGAL_ADDRESS;
  }
  if (code != 0) {
    operation->doomed = SIM_ILLEGAL_ADDRESS;
    return;
  }
  sim_operation_hold(operation, &place);
  *value = (uintptr_t)place.bytes;
}

/* Locked. */
static int launch(const char *name, const function *called, sim_stream *stream, unsigned grid, unsigned block,
                  void **parameters) {
  if (!called->kernel) {
    sim_violation("no-host-build", "%s: %s has no host build: set FST_SIM_KERNELS", name, called->entry.name);
    return SIM_NOT_SUPPORTED;
  }
  sim_operation *operation = sim_operation_new(SIM_KERNEL);
  operation->kernel = called->kernel;
  operation->grid = grid;
  operation->block = block;
  for (size_t i = 0; called->signature[i]; i++) {
    memcpy(&operation->parameters[i], parameters[i], called->signature[i] == 'I' ? 4 : 8);
    if (called->signature[i] == 'P') translate(operation, &operation->parameters[i], name);
  }
  sim.counts.launches++;
  sim_stream_submit(stream, operation);
  return 0;
}

SIM_EXPORT int cuLaunchKernel(void *handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                              unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream_handle,
                              void **parameters, void **extra) {
  int code = enter(__func__, true);
  if (code != 0) return code;
  if (grid_x == 0 || grid_x > 0x7FFFFFFF || grid_y != 1 || grid_z != 1 || block_x == 0 || block_x > 1024 ||
      block_y != 1 || block_z != 1 || shared_bytes > 49152 || extra) {
    sim_violation("bad-launch", "%s: grid %u %u %u, block %u %u %u, %u bytes shared%s", __func__, grid_x, grid_y,
                  grid_z, block_x, block_y, block_z, shared_bytes, extra ? ", extra given" : "");
    return SIM_INVALID_VALUE;
  }
  sim_stream *stream;
  sim_lock();
  const function *called = sim_handle_find(handle, SIM_FUNCTION);
  if (!called) {
    sim_violation("bad-function", "%s: %p is not a function, or its module was unloaded", __func__, handle);
    code = SIM_INVALID_HANDLE;
  }
  if (code == 0) code = sim_stream_find(__func__, stream_handle, true, &stream);
  if (code == 0 && (called->device != sim_bound || stream->device != sim_bound)) {
    sim_violation("wrong-device", "%s: a function of device %d on a stream of device %d while the context of device "
                  "%d is current", __func__, called->device, stream->device, sim_bound);
    code = SIM_INVALID_HANDLE;
  }
  if (code == 0) code = launch(__func__, called, stream, grid_x, block_x, parameters);
  sim_unlock();
  return code;
}
