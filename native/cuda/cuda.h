/*
 * NVIDIA's libraries, opened at run time, and their use with devices. Internal.
 */
#ifndef FST_CUDA_PRIVATE_H
#define FST_CUDA_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "core/core.h"
#include "fst_cuda.h"

/* ---- libcudart (cudart.c) ---- */

/* The functions have the C interface that versions 11 to 13 share; each returns 0 or an error number. */

/* cudaMemcpyKind */
enum { FST_CUDA_TO_DEVICE = 1, FST_CUDA_TO_HOST = 2, FST_CUDA_ON_DEVICE = 3 };

/* cudaError: the values that the library handles. */
enum {
  FST_CUDA_OUT_OF_MEMORY = 2,
  FST_CUDA_DRIVER_TOO_OLD = 35,
  FST_CUDA_NO_DEVICE = 100,
  FST_CUDA_INVALID_DEVICE = 101,
};

/* cudaDeviceAttr */
enum { FST_CUDA_MULTIPROCESSORS = 16, FST_CUDA_CAPABILITY_MAJOR = 75, FST_CUDA_CAPABILITY_MINOR = 76 };

/* Flags of streams, events and host memory. Without the first flag of an event, a wait for it uses a whole core. */
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
 * The functions of libcudart, opened at the first call that finds it; from any thread. NULL if it is not available,
 * with the reason in `reason`, which is otherwise empty.
 */
const fst_cudart *fst_cudart_open(char *reason, size_t size);

/* The same without the reason. */
const fst_cudart *fst_cudart_get(void);

/* The path of the open library. */
const char *fst_cudart_path(void);

/* ---- libcuda (driver.c) ---- */

/* Functions that the runtime lacks: contexts, modules of PTX, and launches from them. */

typedef struct fst_cuda_driver {
  int (*cuInit)(unsigned flags);
  int (*cuDeviceGet)(int *device, int ordinal);
  int (*cuDevicePrimaryCtxRetain)(void **context, int device);
  int (*cuDevicePrimaryCtxRelease)(int device);
  int (*cuCtxPushCurrent)(void *context);
  int (*cuCtxPopCurrent)(void **context);
  int (*cuMemGetInfo)(size_t *available, size_t *total);
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

/* The most devices that can be used: more than any machine has. */
#define FST_CUDA_DEVICES 64

/* ---- The current device (context.c) ---- */

/*
 * Makes `device` current for this thread until fst_cuda_leave, which is only called after a success. -ENOSYS without
 * libcudart or libcuda, -ECANCELED if the process is ending.
 */
int fst_cuda_enter(int device, const fst_cudart **runtime);

/* Makes current what was current before. */
void fst_cuda_leave(void);

/* Waits for the work of a stream, without using a core meanwhile. The stream's device must be current. */
int fst_cuda_wait(const fst_cudart *runtime, void *stream);

/* The same by an event that nothing waits for, made with FST_CUDA_EVENT_BLOCKING_WAIT. */
int fst_cuda_wait_by(const fst_cudart *runtime, void *stream, void *event);

/* Whether the process is ending: a call that takes long should return. */
int fst_cuda_is_ending(void);

/*
 * Refuses further calls, and waits for those that run, for some seconds at most. Called when the process ends. Whether
 * all have ended.
 */
int fst_cuda_end(void);

/* Returns a status, and clears the runtime's last error, so that other code does not see it. */
int fst_cuda_done(const fst_cudart *runtime, int status);

/* The memory node near a device, or -1. */
int fst_cuda_numa_node(const fst_cudart *runtime, int device);

/* ---- Releasing and using (release.c, memory.c) ---- */

/* A job that frees an object; the first field of that object. */
typedef struct fst_cuda_release_job {
  struct fst_cuda_release_job *next;
  int (*free)(struct fst_cuda_release_job *self); /* returns a status; called by the library's thread, may wait */
} fst_cuda_release_job;

/* Queues a job. Does not wait, and cannot fail. */
void fst_cuda_release_later(fst_cuda_release_job *job);

/* Adds a user of a block. */
void fst_cuda_retain(fst_cuda_block *block);

/* ---- Pinned memory (pinned.c) ---- */

char *fst_cuda_pinned_memory(const fst_cuda_pinned *pinned);

/*
 * Pins the piece with these bytes, unless that has been tried. 0; a status if the bytes are not pinned: they can be used
 * all the same, by synchronous copies. The device must be current.
 */
int fst_cuda_pin_piece(const fst_cudart *runtime, fst_cuda_pinned *pinned, uint64_t offset, uint64_t length);

/* ---- Streams of lanes (stream.c) ---- */

/* A stream, and an event for each slot of a lane. */
typedef struct fst_cuda_stream {
  struct fst_cuda_stream *next;
  int device;
  void *stream;
  void *events[2];
} fst_cuda_stream;

/* Takes an idle stream, or makes one. The device must be current. */
int fst_cuda_stream_take(const fst_cudart *runtime, int device, fst_cuda_stream **stream);

/* Gives back a stream without work; it is destroyed unless it `is_sound`. */
void fst_cuda_stream_give(const fst_cudart *runtime, fst_cuda_stream *stream, int is_sound);

/* ---- Kernels (kernels.c) ---- */

/* The kernels, loaded to one device. */
typedef struct fst_cuda_kernels fst_cuda_kernels;

/* Loads them at the first call for a device, which must be current. They are never unloaded. */
int fst_cuda_load_kernels(int device, const fst_cuda_kernels **kernels);

/* Whether the device casts the pair: both floats of 8 bits or more. */
int fst_cuda_can_cast(uint32_t to, uint32_t from);

/* Launches a kernel on a stream. The kernels' device must be current. */
int fst_cuda_launch_cast(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t count, uint32_t to, uint32_t from);
int fst_cuda_launch_copy(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                         uint64_t bytes);
int fst_cuda_launch_gather(const fst_cuda_kernels *kernels, void *stream, uint64_t destination, uint64_t source,
                           uint64_t run, fst_cuda_level outer, fst_cuda_level inner);

/* ---- libcufile and its driver (cufile.c) ---- */

/* The first of its errors. */
#define FST_CUFILE_FIRST 5000

typedef struct fst_cufile_error {
  int err, cu_err; /* err is the status; cu_err has details if err is 5011 */
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

/* CUfileDrvProps_t. */
typedef struct fst_cufile_properties {
  unsigned major_version, minor_version;
  size_t poll_bytes, direct_bytes;
  unsigned status_flags, control_flags;
  unsigned feature_flags, device_cache_kb, buffer_cache_kb, device_pinned_kb, batch_size, batch_ms;
} fst_cufile_properties;

typedef struct fst_cufile {
  fst_cufile_error (*cuFileDriverOpen)(void);
  fst_cufile_error (*cuFileDriverClose_v2)(void); /* may be NULL */
  fst_cufile_error (*cuFileDriverClose)(void);
  fst_cufile_error (*cuFileHandleRegister)(void **handle, fst_cufile_description *description);
  void (*cuFileHandleDeregister)(void *handle);
  fst_cufile_error (*cuFileBufRegister)(const void *base, size_t bytes, int flags);
  fst_cufile_error (*cuFileBufDeregister)(const void *base);
  ssize_t (*cuFileRead)(void *handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset);
  fst_cufile_error (*cuFileDriverGetProperties)(fst_cufile_properties *properties);
  /* May be NULL: since cuFile 1.14. */
  fst_cufile_error (*cuFileSetParameterBool)(int parameter, bool value);
  fst_cufile_error (*cuFileSetParameterString)(int parameter, const char *value);
} fst_cufile;

/* The open driver. */
typedef struct fst_cufile_driver {
  const fst_cufile *cufile;
  enum fst_gds_mode mode; /* FST_GDS_REAL only if cuFile says that it does not read in compatibility mode */
} fst_cufile_driver;

/*
 * Opens the driver for the process, if it is wanted and can succeed. A CUDA device must be current. 0, also with
 * `driver->mode` FST_GDS_OFF if it is not used; a status if opening failed. `reason` receives the reason why
 * GPUDirect Storage itself is not used, and is empty if it is used.
 */
int fst_cufile_open(enum fst_gds_wish wish, fst_cufile_driver *driver, char *reason, size_t size);

/* The name of an error of cuFile; NULL if unknown. */
const char *fst_cufile_error_name(int status);

/* ---- One load's use of cuFile: its files and its windows of device memory (gds.c) ---- */

/* The most bytes of one read and of one registered window: max_direct_io of the driver. */
#define FST_GDS_WINDOW ((uint64_t)16 << 20)

/* The most bytes of all windows of a load: half of what the GPU with the smallest BAR1 can show to other devices. */
#define FST_GDS_WINDOWS ((uint64_t)128 << 20)

typedef struct fst_gds fst_gds;

#define FST_GDS_MOST_WINDOWS 64

/* For a plan with `files` files; NULL without memory. `required`: a failure ends the load. */
fst_gds *fst_gds_new(const fst_cufile_driver *driver, uint32_t files, int required);

/* Frees it, and deregisters the files and the windows. */
void fst_gds_free(fst_gds *gds);

/* Fewer bytes than this are read by the host. */
uint64_t fst_gds_least(const fst_gds *gds);

/* Whether cuFile should read a range of the current file: not after a failure, and not if the bytes are cached. */
int fst_gds_wants(fst_gds *gds, fst_lane *lane, uint64_t offset, uint64_t length);

/*
 * Registers device memory, at most FST_GDS_WINDOW of it, as a window with a number below FST_GDS_MOST_WINDOWS, unless
 * that has been done. It stays registered until fst_gds_free. 0; 1 if cuFile is not used any more; -1 if the plan
 * failed.
 */
int fst_gds_window(fst_gds *gds, fst_lane *lane, uint32_t number, uint64_t address, uint64_t bytes);

/*
 * Reads a range of the current file to a registered window as far as possible, by whole pages. `*got` bytes of the
 * range are then at offset `*skip` of the window; 0 if the host must read. 0, or -1 if the plan failed.
 */
int fst_gds_read(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t window_bytes, uint64_t offset, uint64_t length,
                 uint64_t *skip, uint64_t *got);

/* File bytes read so far, and the first failure or 0. */
void fst_gds_tally(fst_gds *gds, uint64_t *bytes, int *failure);

/* ---- Loads (load.c) ---- */

/* The shared data of the lanes of one load to a device. */
struct fst_cuda_load {
  fst_cuda_release_job job;
  int device;
  const fst_cuda_kernels *kernels; /* NULL if not needed */
  fst_cuda_pinned *pinned;         /* host memory: two slots for each lane; owned by the caller */
  uint64_t pinned_bytes;
  _Atomic int pin_failure;         /* the first status for which some of it is not pinned */
  void *ring_memory;               /* device memory of the same size plus an alignment; NULL if not needed */
  uint64_t ring;                   /* its start, at a page of the GPU */
  fst_gds *gds;                    /* NULL: reads by the host */
  enum fst_gds_mode gds_mode;
  _Atomic uint32_t lanes;          /* one bit for each running lane */
  pthread_mutex_t mutex;           /* guards waiting for addresses */
  pthread_cond_t placed;
  uint32_t allocation_count;       /* 0: destinations are addresses */
  _Atomic uint64_t addresses[];    /* of each allocation; 0: not yet known */
};

/* Sets the address of an allocation, for which lanes may wait. */
void fst_cuda_load_place(fst_cuda_load *load, uint32_t allocation, uint64_t address);

/*
 * Sets the address of the allocation of a segment, which is 0 if destinations are addresses. Waits until it is known.
 * 0, or -1 if the plan or the process ends before.
 */
int fst_cuda_load_address(fst_cuda_load *load, fst_plan *plan, const fst_segment *segment, uint64_t *address);

#endif
