/* The part of the CUDA runtime, driver and cuFile C interfaces that the stand-ins carry. Handles are void pointers. */
#ifndef FST_SIM_CUDA_ABI_H
#define FST_SIM_CUDA_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* libcudart */
int cudaRuntimeGetVersion(int *version);
int cudaDriverGetVersion(int *version);
int cudaGetDeviceCount(int *count);
int cudaSetDevice(int device);
int cudaGetDevice(int *device);
int cudaDeviceGetAttribute(int *value, int attribute, int device);
int cudaDeviceGetPCIBusId(char *text, int length, int device);
int cudaDeviceSynchronize(void);
int cudaDeviceCanAccessPeer(int *can, int device, int peer);
int cudaMemGetInfo(size_t *free, size_t *total);
int cudaGetLastError(void);
int cudaPeekAtLastError(void);
const char *cudaGetErrorString(int code);
const char *cudaGetErrorName(int code);

int cudaMalloc(void **pointer, size_t bytes);
int cudaFree(void *pointer);
int cudaMallocAsync(void **pointer, size_t bytes, void *stream);
int cudaFreeAsync(void *pointer, void *stream);
int cudaHostAlloc(void **pointer, size_t bytes, unsigned flags);
int cudaFreeHost(void *pointer);
int cudaHostRegister(void *pointer, size_t bytes, unsigned flags);
int cudaHostUnregister(void *pointer);

/* 88 bytes since CUDA 13, 24 before. */
typedef struct cudaPointerAttributes {
  int type; /* 0 unregistered, 1 host, 2 device */
  int device;
  void *devicePointer, *hostPointer;
  long reserved[8];
} cudaPointerAttributes;
int cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer);

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind);
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream);
int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                      int kind, void *stream);
int cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream);
int cudaMemsetAsync(void *to, int value, size_t bytes, void *stream);

int cudaStreamCreateWithFlags(void **stream, unsigned flags);
int cudaStreamSynchronize(void *stream);
int cudaStreamQuery(void *stream);
int cudaStreamDestroy(void *stream);
int cudaStreamWaitEvent(void *stream, void *event, unsigned flags);
int cudaEventCreateWithFlags(void **event, unsigned flags);
int cudaEventRecord(void *event, void *stream);
int cudaEventQuery(void *event);
int cudaEventSynchronize(void *event);
int cudaEventDestroy(void *event);

/* libcuda */
int cuInit(unsigned flags);
int cuDeviceGet(int *device, int ordinal);
int cuDevicePrimaryCtxRetain(void **context, int device);
int cuDevicePrimaryCtxRelease_v2(int device);
int cuCtxCreate_v2(void **context, unsigned flags, int device);
int cuCtxDestroy_v2(void *context);
int cuCtxPushCurrent_v2(void *context);
int cuCtxPopCurrent_v2(void **context);
int cuCtxGetCurrent(void **context);
int cuMemGetInfo_v2(size_t *available, size_t *total);
int cuGetErrorString(int code, const char **text);
int cuGetErrorName(int code, const char **text);
int cuModuleLoadData(void **module, const void *image);
int cuModuleGetFunction(void **function, void *module, const char *name);
int cuModuleUnload(void *module);
int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
                   void **extra);

/* libcufile */
typedef struct CUfileError_t {
  int err, cu_err;
} CUfileError_t;
typedef struct CUfileDescr_t {
  int type; /* 1: fd */
  union {
    int fd;
    void *handle;
  } handle;
  const void *fs_ops;
} CUfileDescr_t;
typedef struct CUfileDrvProps_t {
  struct {
    unsigned major_version, minor_version;
    size_t poll_thresh_size, max_direct_io_size;
    unsigned dstatusflags, dcontrolflags;
  } nvfs;
  unsigned fflags, max_device_cache_size, per_buffer_cache_size, max_device_pinned_mem_size, max_batch_io_size,
      max_batch_io_timeout_msecs;
} CUfileDrvProps_t;
CUfileError_t cuFileDriverOpen(void);
CUfileError_t cuFileDriverGetProperties(CUfileDrvProps_t *properties);
CUfileError_t cuFileDriverClose(void);
CUfileError_t cuFileDriverClose_v2(void);
long cuFileUseCount(void);
CUfileError_t cuFileGetVersion(int *version);
CUfileError_t cuFileSetParameterBool(int parameter, bool value);
CUfileError_t cuFileSetParameterString(int parameter, const char *value);
CUfileError_t cuFileHandleRegister(void **handle, CUfileDescr_t *description);
void cuFileHandleDeregister(void *handle);
CUfileError_t cuFileBufRegister(const void *base, size_t bytes, int flags);
CUfileError_t cuFileBufDeregister(const void *base);
ssize_t cuFileRead(void *handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset);

#endif
