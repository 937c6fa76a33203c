/*
 * NVIDIA's libraries, opened at run time, and what is done with devices by them. Inside the shim only.
 */
#ifndef FST_CUDA_PRIVATE_H
#define FST_CUDA_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/core.h"
#include "fst_cuda.h"

/* ---- libcudart (cudart.c) ---- */

/* The functions have the C interface that versions 11 to 13 share; every one of them gives 0 or an error number. */

/* cudaMemcpyKind */
enum { FST_CUDA_TO_DEVICE = 1, FST_CUDA_TO_HOST = 2, FST_CUDA_ON_DEVICE = 3 };

/* cudaError: those that mean something to the shim. */
enum {
  FST_CUDA_OUT_OF_MEMORY = 2,
  FST_CUDA_DRIVER_TOO_OLD = 35,
  FST_CUDA_NO_DEVICE = 100,
  FST_CUDA_INVALID_DEVICE = 101,
};

/* cudaDeviceAttr */
enum { FST_CUDA_MULTIPROCESSORS = 16, FST_CUDA_CAPABILITY_MAJOR = 75, FST_CUDA_CAPABILITY_MINOR = 76 };

/* Flags of streams, events and host memory. Without the first of an event's, waiting for it keeps a core busy. */
enum {
  FST_CUDA_STREAM_NON_BLOCKING = 1,
  FST_CUDA_EVENT_BLOCKING_WAIT = 1,
  FST_CUDA_EVENT_NO_TIMING = 2,
  FST_CUDA_HOST_PORTABLE = 1,
};

typedef struct fst_cudart {
  int (*cudaRuntimeGetVersion)(int *version);
  int (*cudaDriverGetVersion)(int *version);
  int (*cudaGetDeviceCount)(int *count);
  int (*cudaSetDevice)(int device);
  int (*cudaGetDevice)(int *device);
  int (*cudaDeviceGetAttribute)(int *value, int attribute, int device);
  int (*cudaDeviceGetPCIBusId)(char *text, int length, int device);
  int (*cudaMemGetInfo)(size_t *available, size_t *total);
  int (*cudaGetLastError)(void);
  const char *(*cudaGetErrorString)(int code);
  const char *(*cudaGetErrorName)(int code);
  int (*cudaMalloc)(void **pointer, size_t bytes);
  int (*cudaFree)(void *pointer);
  int (*cudaHostAlloc)(void **pointer, size_t bytes, unsigned flags);
  int (*cudaFreeHost)(void *pointer);
  int (*cudaHostRegister)(void *pointer, size_t bytes, unsigned flags);
  int (*cudaHostUnregister)(void *pointer);
  int (*cudaMemcpy)(void *to, const void *from, size_t bytes, int kind);
  int (*cudaMemcpyAsync)(void *to, const void *from, size_t bytes, int kind, void *stream);
  int (*cudaMemcpy2DAsync)(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                           int kind, void *stream);
  int (*cudaMemcpyPeerAsync)(void *to, int to_device, const void *from, int from_device, size_t bytes, void *stream);
  int (*cudaStreamCreateWithFlags)(void **stream, unsigned flags);
  int (*cudaStreamSynchronize)(void *stream);
  int (*cudaStreamDestroy)(void *stream);
  int (*cudaEventCreateWithFlags)(void **event, unsigned flags);
  int (*cudaEventRecord)(void *event, void *stream);
  int (*cudaEventQuery)(void *event);
  int (*cudaEventSynchronize)(void *event);
  int (*cudaEventDestroy)(void *event);
} fst_cudart;

/*
 * The functions of libcudart, opened at the first call that finds it; from any thread. NULL where it is not available,
 * with the reason in `reason`, which is empty otherwise.
 */
const fst_cudart *fst_cudart_open(char *reason, size_t size);

/* The same without the reason. */
const fst_cudart *fst_cudart_get(void);

/* Where the open library was found. */
const char *fst_cudart_path(void);

/* ---- libcuda (driver.c) ---- */

/* What the runtime does not offer: modules of PTX, and launching from them. */

typedef struct fst_cuda_driver {
  int (*cuGetErrorString)(int code, const char **text);
  int (*cuGetErrorName)(int code, const char **text);
  int (*cuDeviceGetName)(char *name, int size, int device); /* may be NULL */
  int (*cuModuleLoadData)(void **module, const void *image);
  int (*cuModuleGetFunction)(void **function, void *module, const char *name);
  int (*cuModuleUnload)(void *module);
  int (*cuLaunchKernel)(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
                        void **extra);
} fst_cuda_driver;

/* The functions of libcuda, opened at the first call that finds it; NULL with the reason in `reason`. */
const fst_cuda_driver *fst_cuda_driver_open(char *reason, size_t size);

/* The same without the reason. */
const fst_cuda_driver *fst_cuda_driver_get(void);

/* ---- Devices (device.c) ---- */

/* How many devices of a machine can be used: far more than any has. */
#define FST_CUDA_DEVICES 64

/* Makes `device` current for this thread; -ENOSYS without libcudart. */
int fst_cuda_enter(int device, const fst_cudart **runtime);

/* Passes a status on, and makes the runtime forget it: the next one to ask for its last error is somebody else. */
int fst_cuda_done(const fst_cudart *runtime, int status);

/* The node of the machine's memory that a device is near to, or -1. */
int fst_cuda_numa_node(const fst_cudart *runtime, int device);

/* ---- Freeing and holding (release.c, memory.c) ---- */

/* Something that is to be freed; the first field of what it frees. */
typedef struct fst_cuda_release_job {
  struct fst_cuda_release_job *next;
  int (*free)(struct fst_cuda_release_job *self); /* gives a status; on a thread of the shim's own, which may wait */
} fst_cuda_release_job;

/* Has a job done soon. Does not wait, and does not fail. */
void fst_cuda_release_later(fst_cuda_release_job *job);

/* Adds a holder of a block. */
void fst_cuda_retain(fst_cuda_block *block);

/* ---- Kernels (kernels.c) ---- */

/* The kernels, loaded to one device. */
typedef struct fst_cuda_kernels fst_cuda_kernels;

/* Loads them at the first call for a device, which must be current. They stay. */
int fst_cuda_load_kernels(int device, const fst_cuda_kernels **kernels);

/* Whether the device casts the pair: floats of 8 bits or more, to one another. */
int fst_cuda_can_cast(uint32_t to, uint32_t from);

/* Launches: the work is done when the stream gets there. The kernels' device must be current. */
int fst_cuda_launch_cast(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t count, uint32_t to, uint32_t from);
int fst_cuda_launch_copy(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t bytes);
int fst_cuda_launch_gather(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                           uint64_t run, fst_cuda_level outer, fst_cuda_level inner);

/* ---- libcufile and its driver (cufile.c) ---- */

/* Its errors begin here. */
#define FST_CUFILE_FIRST 5000

typedef struct fst_cufile_error {
  int err, cu_err; /* err is the status; cu_err says more where that is 5011 */
} fst_cufile_error;

typedef struct fst_cufile_description {
  int type; /* 1: fd */
  union {
    int fd;
    void *handle;
  } handle;
  const void *fs_ops;
} fst_cufile_description;
static_assert(sizeof(fst_cufile_description) == 24, "CUfileDescr_t");

typedef struct fst_cufile {
  fst_cufile_error (*cuFileDriverOpen)(void);
  fst_cufile_error (*cuFileDriverClose_v2)(void); /* may be NULL */
  fst_cufile_error (*cuFileDriverClose)(void);
  fst_cufile_error (*cuFileHandleRegister)(void **handle, fst_cufile_description *description);
  void (*cuFileHandleDeregister)(void *handle);
  fst_cufile_error (*cuFileBufRegister)(const void *base, size_t bytes, int flags);
  fst_cufile_error (*cuFileBufDeregister)(const void *base);
  ssize_t (*cuFileRead)(void *handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset);
  /* May be NULL: since cuFile 1.14. */
  fst_cufile_error (*cuFileSetParameterBool)(int parameter, bool value);
  fst_cufile_error (*cuFileSetParameterString)(int parameter, const char *value);
} fst_cufile;

/* The driver, once it is open. */
typedef struct fst_cufile_driver {
  const fst_cufile *cufile;
  enum fst_gds_mode mode; /* FST_GDS_REAL only where cuFile has agreed never to read in compatibility mode */
} fst_cufile_driver;

/*
 * Opens the driver for the process, if it is wanted and not in vain. A CUDA device must be current. 0, also with
 * `driver->mode` FST_GDS_OFF where it is not used; a status where it was tried and failed. `reason` gets why GPUDirect
 * Storage proper is not used, and is empty where it is.
 */
int fst_cufile_open(enum fst_gds_wish wish, fst_cufile_driver *driver, char *reason, size_t size);

/* What cuFile calls an error; NULL where it is not known. */
const char *fst_cufile_error_name(int status);

/* ---- One load's use of cuFile: its files, its windows of device memory, and when to stop (gds.c) ---- */

/* The most that one read, and one registered window, may have: max_direct_io of the driver. */
#define FST_GDS_WINDOW ((uint64_t)16 << 20)

typedef struct fst_gds fst_gds;

/* For a plan with `files` files; NULL without memory. `required`: a failure ends the load. */
fst_gds *fst_gds_new(const fst_cufile_driver *driver, uint32_t files, int required);

/* Gives the files back. */
void fst_gds_free(fst_gds *gds);

/* Whether cuFile should read a range of the file in hand: no longer after a failure, and not what is cached. */
int fst_gds_wants(fst_gds *gds, fst_lane *lane, uint64_t offset, uint64_t length);

/*
 * Registers device memory, at most FST_GDS_WINDOW of it, as a window. 0; 1 where cuFile is given up; -1 if the plan
 * failed.
 */
int fst_gds_register(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t bytes);

void fst_gds_deregister(fst_gds *gds, uint64_t window);

/*
 * Reads what it can of a range of the file in hand to a registered window, by whole pages. `*got` bytes of the range
 * are then `*skip` bytes into the window; 0 where the host is to read. 0, or -1 if the plan failed.
 */
int fst_gds_read(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t window_bytes, uint64_t offset, uint64_t length,
                 uint64_t *skip, uint64_t *got);

/* File bytes read so far, and the first failure or 0. */
void fst_gds_tally(fst_gds *gds, uint64_t *bytes, int *failure);

/* ---- Loads (load.c) ---- */

/* What the lanes of one load to a device share. */
struct fst_cuda_load {
  fst_cuda_release_job job;
  int device;
  const fst_cuda_kernels *kernels; /* NULL where nothing needs them */
  char *pinned;                    /* host memory: two slots for each lane; the caller's */
  uint64_t pinned_bytes;
  void *ring_memory;               /* device memory of the same shape, and a bit more; NULL where nothing needs it */
  uint64_t ring;                   /* where it begins, at a page of the GPU */
  fst_gds *gds;                    /* NULL: by way of the host */
  enum fst_gds_mode gds_mode;
  _Atomic uint32_t lanes;          /* at work, a bit each */
};

#endif
