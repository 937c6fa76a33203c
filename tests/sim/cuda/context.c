/*
 * Contexts: one primary context a device, which the runtime uses, and contexts that the program makes. Each thread has
 * a stack of them. The runtime works on the context on top; with none, on the primary one of the device that
 * cudaSetDevice chose, which it makes current.
 */
#include <stdlib.h>

#include "internal.h"

enum { DEPTH = 16 };

struct sim_context {
  struct sim_context *next;
  int device;
  bool is_primary, exists;
  unsigned retained; /* by cuDevicePrimaryCtxRetain */
  bool by_runtime;   /* the runtime retains it too, until the process ends */
  void *handle;
};

__thread int sim_current;
__thread int sim_bound = -1;
static __thread int chosen; /* by cudaSetDevice */
static __thread struct sim_context *stack[DEPTH];
static __thread int depth;
static struct sim_context *primary[SIM_DEVICES];
static struct sim_context *all; /* never freed: stacks of other threads can name them */

static void look(void) {
  const struct sim_context *top = depth > 0 ? stack[depth - 1] : NULL;
  sim_bound = top && top->exists ? top->device : -1;
  sim_current = sim_bound >= 0 ? sim_bound : chosen;
}

/* Locked. */
static struct sim_context *new_context(int device, bool is_primary) {
  struct sim_context *made = sim_zeroed(sizeof *made);
  made->device = device;
  made->is_primary = is_primary;
  made->handle = sim_handle_new(SIM_CONTEXT, made);
  made->next = all;
  return all = made;
}

/* Locked. */
static struct sim_context *primary_of(int device) {
  if (!primary[device]) primary[device] = new_context(device, true);
  return primary[device];
}

/* Locked. */
static void create(struct sim_context *context) {
  if (context->exists) return;
  context->exists = true;
  sim.live.contexts++;
}

static void set_top(struct sim_context *context) {
  if (depth == 0) depth = 1;
  stack[depth - 1] = context;
  look();
}

void sim_bind(const char *function) {
  look();
  struct sim_context *top = depth > 0 ? stack[depth - 1] : NULL;
  if (top && !top->is_primary) {
    sim_violation("foreign-context", "%s: the current context is one that the program made: what the runtime makes "
                  "belongs to it", function);
  }
  if (sim_bound >= 0) return;
  struct sim_context *own = primary_of(sim_current);
  create(own);
  own->by_runtime = true;
  set_top(own);
}

/* Since CUDA 12 this makes the context. That it also makes it current is not relied on here. */
void sim_choose(int device) {
  chosen = device;
  if (sim.config.version >= 12000) {
    create(primary_of(device));
    primary_of(device)->by_runtime = true;
  }
  look();
  if (sim_bound != device || !stack[depth - 1]->is_primary) set_top(NULL);
}

static int enter(const char *name) {
  int code;
  sim_check_loaded(name);
  if (sim_injected(name, &code)) return code;
  if (sim.config.devices == 0) return SIM_NO_DEVICE;
  if (sim.initialized) return 0;
  sim_violation("no-init", "%s: neither cuInit nor a runtime call came before", name);
  return SIM_NOT_INITIALIZED;
}

SIM_EXPORT int cuDevicePrimaryCtxRetain(void **handle, int device) {
  sim_lock();
  int code = enter(__func__);
  if (code == 0 && (device < 0 || device >= sim.config.devices)) code = SIM_INVALID_DEVICE;
  if (code == 0) {
    struct sim_context *context = primary_of(device);
    create(context);
    context->retained++;
    *handle = context->handle;
  }
  sim_unlock();
  return code;
}

SIM_EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
  sim_lock();
  int code = enter(__func__);
  if (code == 0 && (device < 0 || device >= sim.config.devices)) code = SIM_INVALID_DEVICE;
  if (code == 0 && primary_of(device)->retained == 0) {
    sim_violation("bad-context", "%s: the primary context of device %d is not retained", __func__, device);
    code = SIM_INVALID_CONTEXT;
  }
  if (code == 0 && --primary[device]->retained == 0 && !primary[device]->by_runtime) {
    if (sim.devices[device].used > 0) {
      sim_violation("context-in-use", "%s: device %d still has %zu bytes of memory, which end with its context",
                    __func__, device, sim.devices[device].used);
    }
    primary[device]->exists = false;
    sim.live.contexts--;
  }
  sim_unlock();
  return code;
}

SIM_EXPORT int cuCtxCreate_v2(void **handle, unsigned flags, int device) {
  sim_lock();
  int code = enter(__func__);
  if (code == 0 && (flags != 0 || device < 0 || device >= sim.config.devices)) code = SIM_INVALID_DEVICE;
  if (code == 0) {
    struct sim_context *made = new_context(device, false);
    create(made);
    if (depth == DEPTH) sim_die("too many contexts of a thread");
    stack[depth++] = made;
    look();
    *handle = made->handle;
  }
  sim_unlock();
  return code;
}

/* Locked. Pops the top. */
static struct sim_context *pop(void) {
  struct sim_context *top = depth > 0 ? stack[--depth] : NULL;
  look();
  return top;
}

SIM_EXPORT int cuCtxDestroy_v2(void *handle) {
  sim_lock();
  int code = enter(__func__);
  struct sim_context *context = code == 0 ? sim_handle_find(handle, SIM_CONTEXT) : NULL;
  if (code == 0 && (!context || context->is_primary)) code = SIM_INVALID_CONTEXT;
  if (code == 0) {
    if (depth > 0 && stack[depth - 1] == context) pop();
    context->exists = false;
    sim.live.contexts--;
    sim_handle_close(handle, SIM_CONTEXT);
  }
  sim_unlock();
  return code;
}

SIM_EXPORT int cuCtxPushCurrent_v2(void *handle) {
  sim_lock();
  int code = enter(__func__);
  struct sim_context *context = code == 0 ? sim_handle_find(handle, SIM_CONTEXT) : NULL;
  if (code == 0 && (!context || !context->exists)) {
    sim_violation("bad-context", "%s: %p is no context, or was destroyed", __func__, handle);
    code = SIM_INVALID_CONTEXT;
  }
  if (code == 0) {
    if (depth == DEPTH) sim_die("too many contexts of a thread");
    stack[depth++] = context;
    look();
  }
  sim_unlock();
  return code;
}

SIM_EXPORT int cuCtxPopCurrent_v2(void **handle) {
  sim_lock();
  int code = enter(__func__);
  struct sim_context *top = code == 0 ? pop() : NULL;
  if (code == 0 && !top) {
    sim_violation("bad-context", "%s: no context is current", __func__);
    code = SIM_INVALID_CONTEXT;
  }
  if (code == 0 && handle) *handle = top->handle;
  sim_unlock();
  return code;
}

SIM_EXPORT int cuCtxGetCurrent(void **handle) {
  sim_lock();
  int code = enter(__func__);
  const struct sim_context *top = depth > 0 ? stack[depth - 1] : NULL;
  if (code == 0) *handle = top && top->exists ? top->handle : NULL;
  sim_unlock();
  return code;
}

SIM_EXPORT int cuMemGetInfo_v2(size_t *available, size_t *total) {
  sim_lock();
  int code = enter(__func__);
  look();
  if (code == 0 && sim_bound < 0) {
    sim_violation("no-context", "%s: no context is current on this thread", __func__);
    code = SIM_INVALID_CONTEXT;
  }
  if (code == 0) {
    size_t used = sim.devices[sim_bound].used;
    *total = sim.config.device_bytes;
    *available = used < *total ? *total - used : 0;
  }
  sim_unlock();
  return code;
}

SIM_EXPORT uint64_t fst_sim_live_contexts(void) {
  sim_lock();
  uint64_t contexts = sim.live.contexts;
  sim_unlock();
  return contexts;
}
