/*
 * CUDA: devices, memory, loads to a device, and operations on tensors there. The libraries are
 * opened at run time, by the first call that needs them.
 *
 * A function that returns int32_t returns, unless stated otherwise, a status:
 *   0           done
 *   1 … 4999    an error of libcudart
 *   5000 …      an error of libcufile
 *   100000 …    FST_CUDA_DRIVER and an error of libcuda
 *   negative    -errno; -ENOSYS if a library is not available
 *
 * Any thread may call. The thread's current device, and its context, are afterwards what they were before.
 */
#ifndef FST_CUDA_H
#define FST_CUDA_H

#include "fst.h"

#define FST_CUDA_DRIVER 100000

/* ---- Libraries and devices (cuda/device.c) ---- */

typedef struct fst_cuda_info {
  int32_t count_status; /* of counting devices: 35 and 100 mean no device */
  int32_t devices;
  int32_t runtime_version; /* 12040 is 12.4; 0: unknown */
  int32_t driver_version;
} fst_cuda_info;
static_assert(sizeof(fst_cuda_info) == 16, "ffi/cuda.ts knows this layout");

/*
 * Opens libcudart and counts devices; -ENOSYS without the library. `path` receives the library's path, `reason` the
 * reason why it is not available, with the places that were tried, or is empty. Both have `size` bytes.
 */
FST_EXPORT int32_t fst_cuda_find(fst_cuda_info *info, char *path, char *reason, uint64_t size);

typedef struct fst_cuda_device_info {
  uint64_t free_bytes, total_bytes;
  int32_t capability_major, capability_minor;
  int32_t numa_node; /* -1: unknown */
  char pci_bus[20];  /* "0000:01:00.0" */
  char name[64];     /* empty: unknown */
} fst_cuda_device_info;
static_assert(sizeof(fst_cuda_device_info) == 112, "ffi/cuda.ts knows this layout");

FST_EXPORT int32_t fst_cuda_device(int32_t device, fst_cuda_device_info *info);

/* The name and the meaning of a status, both cut at `size` bytes; empty if the library does not know them. */
FST_EXPORT void fst_cuda_error(int32_t status, char *name, char *text, uint64_t size);

/* The library of a status -ENOSYS, and the places that were tried; empty if none is missing. */
FST_EXPORT void fst_cuda_missing(char *reason, uint64_t size);

/* ---- Releasing (cuda/release.c) ---- */

/* The released objects, and those not freed yet. */
typedef struct fst_cuda_releases {
  uint64_t queued; /* since the start of the process */
  uint64_t done;   /* of these, in the same order; the others are pending */
  uint32_t failed; /* of those done */
  int32_t status;  /* of the latest that failed */
} fst_cuda_releases;
static_assert(sizeof(fst_cuda_releases) == 24, "ffi/cuda_release.ts knows this layout");

/* Does not wait. */
FST_EXPORT void fst_cuda_releases_now(fst_cuda_releases *result);

/*
 * Waits until the first `queued` of all have been freed. That takes as long as the devices work: for ever if a kernel
 * never ends. 0; -EAGAIN if the thread that frees cannot be created.
 */
FST_EXPORT int32_t fst_cuda_releases_wait(uint64_t queued);

/* ---- Memory (cuda/memory.c) ---- */

/* Device memory with a count of its users: the caller of fst_cuda_allocate, and DLPack tensors. */
typedef struct fst_cuda_block fst_cuda_block;

/* One allocation of fst_cuda_allocate. */
typedef struct fst_cuda_allocation {
  uint64_t bytes;        /* requested; 0: no memory, and address 0 */
  uint64_t address;      /* on the device */
  fst_cuda_block *block; /* the caller is its first user */
} fst_cuda_allocation;
static_assert(sizeof(fst_cuda_allocation) == 24, "ffi/cuda.ts knows this layout");

/* Data that the lanes of one load to a device share. */
typedef struct fst_cuda_load fst_cuda_load;

/*
 * Makes those without a block. All or none, unless `load` is given: its lanes get each address at once, so that after
 * a failure those that were made are left for another call, or for the caller to release after the lanes have ended.
 * `free_bytes` receives the free bytes before; 2 (out of memory) if they do not fit.
 */
FST_EXPORT int32_t fst_cuda_allocate(int32_t device, fst_cuda_allocation *allocations, uint32_t count,
                                     fst_cuda_load *load, uint64_t *free_bytes);

/* Removes one user. After the last, the memory is freed when the device has finished with it; does not wait. */
FST_EXPORT void fst_cuda_release(fst_cuda_block *block);

/* ---- Pinned memory (cuda/pinned.c) ---- */

/* Host memory that devices can access. */
typedef struct fst_cuda_pinned fst_cuda_pinned;

/* When memory is pinned, and what becomes of it. */
enum fst_cuda_pinning {
  FST_CUDA_PIN_NOW = 0,    /* at once, or the call fails */
  FST_CUDA_PIN_LATER = 1,  /* by lanes, piece by piece */
  FST_CUDA_PIN_SHARED = 2, /* the same; the process keeps up to 128 MiB of it for its next loads */
};

/*
 * Maps memory on huge pages, near to `device`; `pinning` is enum fst_cuda_pinning. `address` receives its address,
 * `pinned` the argument of fst_cuda_unpin.
 */
FST_EXPORT int32_t fst_cuda_pin(int32_t device, uint64_t bytes, uint32_t pinning, uint64_t *address,
                                fst_cuda_pinned **pinned);

/* Keeps it for the next load, or queues it for freeing. No lane may be using it. Does not wait. */
FST_EXPORT void fst_cuda_unpin(fst_cuda_pinned *pinned);

/* ---- Loads (cuda/load.c) ---- */

/* How cuFile reads. */
enum fst_gds_mode { FST_GDS_OFF = 0, FST_GDS_REAL = 1, FST_GDS_COMPAT = 2 };

/* The caller's choice. */
enum fst_gds_wish { FST_GDS_NEVER = 0, FST_GDS_AUTO = 1, FST_GDS_REQUIRE = 2 };

typedef struct fst_cuda_load_options {
  int32_t device;
  uint32_t files;        /* of the plan */
  uint64_t pinned;       /* an fst_cuda_pinned, the staging memory of all lanes; owned by the caller */
  uint64_t pinned_bytes; /* of it, for the load */
  uint32_t gds;          /* enum fst_gds_wish */
  uint32_t casts;        /* whether the plan has casts */
  /*
   * 0: destinations of segments are addresses. Else they count from the start of their allocation, one of so many, whose
   * addresses fst_cuda_allocate sets: lanes read meanwhile.
   */
  uint32_t allocations;
  uint32_t reserved;
} fst_cuda_load_options;
static_assert(sizeof(fst_cuda_load_options) == 40, "ffi/cuda.ts knows this layout");

/*
 * Prepares a load, the fst_plan.destination_context of FST_DESTINATION_CUDA: kernels if the plan has casts, cuFile if it is wanted and available, and for either a ring of
 * device memory as large as the staging memory. `reason` receives the reason why GPUDirect Storage itself is not
 * used, or is empty; if a status reports a failure, this is its reason.
 */
FST_EXPORT int32_t fst_cuda_load_open(const fst_cuda_load_options *options, fst_cuda_load **load, char *reason,
                                      uint64_t size);

typedef struct fst_cuda_load_report {
  uint64_t gds_bytes;  /* file bytes that cuFile read */
  uint32_t gds;        /* enum fst_gds_mode */
  int32_t gds_failure; /* the status that ended its use in the middle of the load, or 0 */
  int32_t pin_failure; /* the status for which staging memory is not pinned, so that copies are slower; or 0 */
  uint32_t reserved;
} fst_cuda_load_report;
static_assert(sizeof(fst_cuda_load_report) == 24, "ffi/cuda.ts knows this layout");

/* Fills in the report of a load. No lane may be running. */
FST_EXPORT void fst_cuda_load_report_of(const fst_cuda_load *load, fst_cuda_load_report *report);

/* Queues the resources of fst_cuda_load_open for freeing. No lane may be running. Does not wait. */
FST_EXPORT void fst_cuda_load_close(fst_cuda_load *load);

/*
 * Whether cuFile would be used without being required (0 or 1). `state` receives the reason. The library is opened,
 * its driver is not.
 */
FST_EXPORT int32_t fst_gds_probe(char *state, uint64_t size);

/* ---- Tensors (cuda/tensor.c): each call waits for its end ---- */

/* Copies from host memory; `is_pinned` says whether it is pinned. */
FST_EXPORT int32_t fst_cuda_write(int32_t device, uint64_t destination, const void *source, uint64_t bytes,
                                  int32_t is_pinned);

/* Copies to host memory; `is_pinned` says whether it is pinned. */
FST_EXPORT int32_t fst_cuda_read(int32_t device, void *destination, uint64_t source, uint64_t bytes,
                                 int32_t is_pinned);

/* Copies to another device, or within one. */
FST_EXPORT int32_t fst_cuda_copy(int32_t to_device, uint64_t destination, int32_t from_device, uint64_t source,
                                 uint64_t bytes);

/* Casts elements; dtypes are enum fst_dtype. -ENOTSUP unless fst_cuda_can_cast. */
FST_EXPORT int32_t fst_cuda_cast(int32_t device, uint64_t destination, uint64_t source, uint64_t count, uint32_t to,
                                 uint32_t from);

/* One repetition: `count` times, `stride` bytes apart. */
typedef struct fst_cuda_level {
  uint64_t count, stride;
} fst_cuda_level;

/* Gathers runs of `run` bytes, repeated by `levels`, outer to inner, to contiguous memory. */
FST_EXPORT int32_t fst_cuda_gather(int32_t device, uint64_t destination, uint64_t source, uint64_t run,
                                   const fst_cuda_level *levels, uint32_t level_count);

/* Copies `rows` rows of `width` bytes from contiguous memory to places `pitch` bytes apart. */
FST_EXPORT int32_t fst_cuda_scatter(int32_t device, uint64_t destination, uint64_t pitch, uint64_t source,
                                    uint64_t width, uint64_t rows);

/* ---- DLPack (cuda/dlpack.c) ---- */

/*
 * Passes tensors to other libraries of the process. The structs are those of DLPack 1.x and, for consumers without
 * versions, of 0.x. Each is freed by its own deleter, in C and from any thread.
 */

/* The place and the element type of a tensor. */
typedef struct fst_dlpack_source {
  uint64_t data;       /* address of the first element */
  int32_t device_type; /* 1: CPU; 2: CUDA */
  int32_t device;      /* index of the device */
  int32_t rank;
  uint8_t code, bits; /* of DLDataType */
  uint16_t lanes;
  fst_cuda_block *block; /* in use until the deleter runs; NULL: the caller's memory, see fst_dlpack_lease */
} fst_dlpack_source;
static_assert(sizeof(fst_dlpack_source) == 32, "ffi/dlpack.ts knows this layout");

/* Reports when the deleter of a tensor in the caller's memory has run. Owned by the caller and by the tensor. */
typedef struct fst_dlpack_lease fst_dlpack_lease;

/*
 * A DLManagedTensor (DLManagedTensorVersioned if `versioned`) for a dense tensor; `shape` has `rank` entries and is
 * copied. NULL without memory. `lease` receives a lease if the source has no block, else NULL.
 */
FST_EXPORT void *fst_dlpack_new(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                                fst_dlpack_lease **lease);

/*
 * Like fst_dlpack_new, over a copy of `length` bytes that the tensor owns: `source` has neither data nor a block. For
 * memory that may be freed before the consumer has finished.
 */
FST_EXPORT void *fst_dlpack_copy(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                                 const void *bytes, uint64_t length);

/* Whether the deleter has run. When this returns 1, the lease is freed, and the caller must drop its pointer. */
FST_EXPORT int32_t fst_dlpack_is_over(fst_dlpack_lease *lease);

#endif
