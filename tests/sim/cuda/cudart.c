/* libcudart: devices and memory. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

const char *sim_name(void) {
  return "fastsafetensors CUDA stand-in";
}

SIM_EXPORT const char *fst_sim_name(void) {
  return sim_name();
}

SIM_EXPORT int cudaRuntimeGetVersion(int *version) {
  int code;
  if (sim_injected(__func__, &code)) return sim_runtime_result(code);
  *version = sim.config.runtime_version;
  return 0;
}

SIM_EXPORT int cudaDriverGetVersion(int *version) {
  int code;
  if (sim_injected(__func__, &code)) return sim_runtime_result(code);
  *version = sim.config.old_driver ? 10010 : sim.config.version;
  return 0;
}

/* Binds no context. */
SIM_EXPORT int cudaGetDeviceCount(int *count) {
  int code;
  if (!sim_injected(__func__, &code)) code = sim_missing();
  *count = code == 0 ? sim.config.devices : 0;
  return sim_runtime_result(code);
}

/* As the real one, it may create a context, and another device's is not current any more. */
SIM_EXPORT int cudaSetDevice(int device) {
  int code;
  if (sim_injected(__func__, &code) || (code = sim_missing()) != 0) return sim_runtime_result(code);
  if (device < 0 || device >= sim.config.devices) return sim_runtime_result(SIM_INVALID_DEVICE);
  sim_lock();
  sim_choose(device);
  sim.initialized = true;
  sim_unlock();
  return 0;
}

SIM_EXPORT int cudaGetDevice(int *device) {
  int code = sim_plain_enter(__func__);
  if (code == 0) *device = sim_current;
  return sim_runtime_result(code);
}

static int check_device(int device) {
  return device >= 0 && device < sim.config.devices ? 0 : SIM_INVALID_DEVICE;
}

SIM_EXPORT int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  int code = sim_plain_enter(__func__);
  if (code == 0) code = check_device(device);
  if (code != 0) return sim_runtime_result(code);
  switch (attribute) {
    case 1: *value = 1024; return 0;                        /* threads of a block */
    case 10: *value = 32; return 0;                         /* threads of a warp */
    case 16: *value = 8; return 0;                          /* multiprocessors */
    case 33: *value = device + 1; return 0;                 /* PCI bus */
    case 34: case 50: *value = 0; return 0;                 /* PCI device, domain */
    case 41: *value = 1; return 0;                          /* unified addressing */
    case 75: *value = sim.config.capability / 10; return 0; /* compute capability */
    case 76: *value = sim.config.capability % 10; return 0;
    case 115: *value = sim.config.pools; return 0;
    case 116: *value = sim.config.gds == SIM_GDS_REAL; return 0; /* GPUDirect RDMA */
    default: return sim_runtime_result(SIM_INVALID_VALUE);
  }
}

SIM_EXPORT int cudaDeviceGetPCIBusId(char *text, int length, int device) {
  int code = sim_plain_enter(__func__);
  if (code == 0) code = check_device(device);
  if (code == 0 && length < 13) code = SIM_INVALID_VALUE;
  if (code == 0) snprintf(text, (size_t)length, "0000:%02X:00.0", (unsigned)device + 1);
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaDeviceCanAccessPeer(int *can, int device, int peer) {
  int code = sim_plain_enter(__func__);
  if (code == 0) code = check_device(device);
  if (code == 0) code = check_device(peer);
  if (code == 0) *can = sim.config.peer && device != peer;
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaDeviceSynchronize(void) {
  int code = sim_runtime_enter(__func__);
  if (code == 0) {
    sim_lock();
    code = sim_device_wait(sim_current);
    sim_unlock();
  }
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaMemGetInfo(size_t *available, size_t *total) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  sim_lock();
  size_t used = sim.devices[sim_current].used;
  *total = sim.config.device_bytes;
  *available = used < *total ? *total - used : 0;
  sim_unlock();
  return 0;
}

SIM_EXPORT int cudaMalloc(void **pointer, size_t bytes) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  *pointer = NULL;
  if (bytes == 0) return 0;
  sim_allocation *allocation;
  sim_lock();
  code = sim_allocate(sim_current, bytes, &allocation);
  if (code == 0) *pointer = (void *)allocation->address;
  sim_unlock();
  if (code == 0) sim_model_allocate(bytes);
  return sim_runtime_result(code);
}

/* Waits for the whole device first, as the real one does. */
SIM_EXPORT int cudaFree(void *pointer) {
  int code = sim_runtime_enter(__func__);
  if ((code != 0 && !sim_lost(code)) || !pointer) return sim_runtime_result(code);
  sim_allocation *allocation;
  sim_lock();
  int found = sim_find_for_free(__func__, pointer, &allocation);
  if (found == 0) {
    allocation->state = SIM_FREEING;
    int failed = sim_device_wait(allocation->device);
    if (code == 0) code = failed;
    if (allocation->pending > 0) {
      sim_violation("freed-in-use", "%s: %u operations of another device or cuFile reads still use allocation %" PRIu64
                    " (%zu bytes)", __func__, allocation->pending, allocation->id, allocation->bytes);
      while (allocation->pending > 0) pthread_cond_wait(&sim.changed, &sim.lock);
    }
    if (allocation->registered > 0) {
      sim_violation("free-registered", "%s: %u cuFile buffers are still registered in allocation %" PRIu64, __func__,
                    allocation->registered, allocation->id);
    }
    sim_release(allocation);
  }
  sim_unlock();
  if (found == 0) sim_model_free(allocation->bytes);
  return sim_runtime_result(code ? code : found);
}

SIM_EXPORT int cudaMallocAsync(void **pointer, size_t bytes, void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && !sim.config.pools) code = SIM_NOT_SUPPORTED;
  if (code != 0) return sim_runtime_result(code);
  *pointer = NULL;
  if (bytes == 0) return 0;
  sim_stream *stream;
  sim_allocation *allocation;
  sim_lock();
  code = sim_stream_find(__func__, handle, true, &stream);
  if (code == 0) code = sim_allocate(sim_current, bytes, &allocation);
  if (code == 0) {
    allocation->ready_stream = stream;
    allocation->ready_ticket = sim_stream_submit(stream, sim_operation_new(SIM_MARK));
    *pointer = (void *)allocation->address;
  }
  sim_unlock();
  if (code == 0) sim_model_pool(sim_current, bytes);
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaFreeAsync(void *pointer, void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && !sim.config.pools) code = SIM_NOT_SUPPORTED;
  if ((code != 0 && !sim_lost(code)) || !pointer) return sim_runtime_result(code);
  sim_stream *stream;
  sim_allocation *allocation;
  sim_lock();
  int found = sim_stream_find(__func__, handle, true, &stream);
  if (found == 0 || (found != SIM_INVALID_HANDLE && stream->surfaced)) { /* a failed stream still frees */
    int wrong = sim_find_for_free(__func__, pointer, &allocation);
    if (wrong == 0) {
      allocation->state = SIM_FREEING;
      sim_operation *operation = sim_operation_new(SIM_FREE);
      sim_operation_hold(operation, &(sim_place){.allocation = allocation});
      sim_stream_submit(stream, operation);
    }
    if (found == 0) found = wrong;
  }
  sim_unlock();
  return sim_runtime_result(code ? code : found);
}

SIM_EXPORT int cudaHostAlloc(void **pointer, size_t bytes, unsigned flags) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && flags > 7) code = SIM_INVALID_VALUE;
  if (code != 0) return sim_runtime_result(code);
  *pointer = NULL;
  if (bytes == 0) return 0;
  void *base;
  code = sim_host_map(bytes, &base);
  if (code == 0) {
    sim_lock();
    code = sim_pin_memory(__func__, base, bytes, false);
    sim_unlock();
    *pointer = base;
  }
  if (code == 0) sim_model_pin(bytes, false);
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaHostRegister(void *pointer, size_t bytes, unsigned flags) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && flags > 15) code = SIM_INVALID_VALUE;
  if (code == 0) {
    sim_lock();
    code = sim_pin_memory(__func__, pointer, bytes, true);
    sim_unlock();
  }
  if (code == 0) sim_model_pin(bytes, true);
  return sim_runtime_result(code);
}

static int unpin(const char *function, void *pointer, bool registered) {
  int code = sim_runtime_enter(function);
  if ((code != 0 && !sim_lost(code)) || (!pointer && !registered)) return sim_runtime_result(code);
  size_t bytes = 0;
  sim_lock();
  int found = sim_unpin_memory(function, pointer, registered, &bytes);
  sim_unlock();
  if (found == 0 && !registered) sim_host_retire(pointer, bytes);
  return sim_runtime_result(code ? code : found);
}

SIM_EXPORT int cudaFreeHost(void *pointer) {
  return unpin(__func__, pointer, false);
}

SIM_EXPORT int cudaHostUnregister(void *pointer) {
  return unpin(__func__, pointer, true);
}

/* Of the size that this version's struct has: a caller that allowed for less is written over. */
SIM_EXPORT int cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  cudaPointerAttributes found = {.device = -1};
  sim_place place = {0};
  sim_lock();
  if (sim_is_device_address(pointer)) {
    code = sim_place_device(__func__, pointer, 0, &place);
    if (code == 0) found = (cudaPointerAttributes){2, place.allocation->device, (void *)pointer, NULL, {0}};
  } else {
    code = sim_place_host(__func__, pointer, 1, &place);
    if (code == 0 && place.pin) found = (cudaPointerAttributes){1, 0, (void *)pointer, (void *)pointer, {0}};
    else found.hostPointer = (void *)pointer;
  }
  sim_unlock();
  if (code == 0) memcpy(attributes, &found, sim.config.version >= 13000 ? sizeof found : 24);
  return sim_runtime_result(code);
}
