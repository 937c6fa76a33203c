/* CUDA devices: their number, their properties, and the names of their libraries' errors. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cuda/cuda.h"

int fst_cuda_done(const fst_cudart *runtime, int status) {
  if (status != 0) runtime->cudaGetLastError();
  return status;
}

int32_t fst_cuda_find(fst_cuda_info *info, char *path, char *reason, uint64_t size) {
  memset(info, 0, sizeof *info);
  const fst_cudart *runtime = fst_cudart_open(reason, size);
  if (!runtime) return -ENOSYS;
  snprintf(path, size, "%s", fst_cudart_path());
  int devices = 0, runtime_version = 0, driver_version = 0;
  info->count_status = fst_cuda_done(runtime, runtime->cudaGetDeviceCount(&devices));
  if (info->count_status == 0) info->devices = devices < FST_CUDA_DEVICES ? devices : FST_CUDA_DEVICES;
  if (runtime->cudaRuntimeGetVersion(&runtime_version) == 0) info->runtime_version = runtime_version;
  if (runtime->cudaDriverGetVersion(&driver_version) == 0) info->driver_version = driver_version;
  return fst_cuda_done(runtime, 0);
}

int fst_cuda_numa_node(const fst_cudart *runtime, int device) {
  char bus[20] = "", path[64];
  if (fst_cuda_done(runtime, runtime->cudaDeviceGetPCIBusId(bus, sizeof bus, device)) != 0) return -1;
  for (char *c = bus; *c; c++) *c = (char)tolower((unsigned char)*c);
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/numa_node", bus);
  FILE *file = fopen(path, "re");
  if (!file) return -1;
  int node = -1;
  if (fscanf(file, "%d", &node) != 1) node = -1;
  fclose(file);
  return node;
}

/* The bytes of a device's memory. The device's context ends with this call if nothing else uses it. */
static int measure(const fst_cuda_driver *driver, int device, fst_cuda_device_info *info) {
  void *context;
  size_t available = 0, total = 0;
  int status = driver->cuDevicePrimaryCtxRetain(&context, device);
  if (status != 0) return status;
  status = driver->cuCtxPushCurrent(context);
  if (status == 0) {
    status = driver->cuMemGetInfo(&available, &total);
    driver->cuCtxPopCurrent(&context);
  }
  int released = driver->cuDevicePrimaryCtxRelease(device);
  info->free_bytes = available;
  info->total_bytes = total;
  return status != 0 ? status : released;
}

int32_t fst_cuda_device(int32_t device, fst_cuda_device_info *info) {
  memset(info, 0, sizeof *info);
  const fst_cudart *runtime = fst_cudart_get();
  const fst_cuda_driver *driver = fst_cuda_driver_get();
  if (!runtime || !driver) return -ENOSYS;
  int number = 0, major = 0, minor = 0;
  int status = driver->cuInit(0);
  if (status == 0) status = driver->cuDeviceGet(&number, device);
  if (status == 0) status = measure(driver, number, info);
  if (status == 0) status = runtime->cudaDeviceGetAttribute(&major, FST_CUDA_CAPABILITY_MAJOR, device);
  if (status == 0) status = runtime->cudaDeviceGetAttribute(&minor, FST_CUDA_CAPABILITY_MINOR, device);
  if (status == 0) status = runtime->cudaDeviceGetPCIBusId(info->pci_bus, sizeof info->pci_bus, device);
  info->capability_major = major;
  info->capability_minor = minor;
  info->numa_node = fst_cuda_numa_node(runtime, device);
  int named = driver->cuDeviceGetName && driver->cuDeviceGetName(info->name, sizeof info->name, number) == 0;
  if (!named) info->name[0] = 0;
  return fst_cuda_done(runtime, status);
}

void fst_cuda_missing(char *reason, uint64_t size) {
  if (fst_cudart_open(reason, size)) fst_cuda_driver_open(reason, size);
}

void fst_cuda_error(int32_t status, char *name, char *text, uint64_t size) {
  const char *found_name = NULL, *found_text = NULL;
  if (status >= FST_CUDA_DRIVER) {
    const fst_cuda_driver *driver = fst_cuda_driver_get();
    if (driver) {
      driver->cuGetErrorName(status - FST_CUDA_DRIVER, &found_name);
      driver->cuGetErrorString(status - FST_CUDA_DRIVER, &found_text);
    }
  } else if (status >= FST_CUFILE_FIRST) {
    found_name = fst_cufile_error_name(status);
  } else if (status > 0) {
    const fst_cudart *runtime = fst_cudart_get();
    if (runtime) {
      found_name = runtime->cudaGetErrorName(status);
      found_text = runtime->cudaGetErrorString(status);
    }
  }
  snprintf(name, size, "%s", found_name ? found_name : "");
  snprintf(text, size, "%s", found_text ? found_text : "");
}
