/**
 * The symbols of native/fst_cuda.h, each parameter with its C declaration.
 *
 * Device addresses and pointers of the shim are numbers here, because JavaScript does not read the memory.
 */

/** CUDA functions. Functions that wait for a device or a library are `nonblocking`. */
export const CUDA_SYMBOLS = {
  fst_cuda_find: {
    parameters: [
      "buffer", // fst_cuda_info *info
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true, // the first call can initialize the driver
  },
  fst_cuda_device: {
    parameters: [
      "i32", // int32_t device
      "buffer", // fst_cuda_device_info *info
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_error: {
    parameters: [
      "i32", // int32_t status
      "buffer", // char *name
      "buffer", // char *text
      "u64", // uint64_t size
    ],
    result: "void",
  },
  fst_cuda_missing: {
    parameters: [
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "void",
  },
  fst_cuda_allocate: {
    parameters: [
      "i32", // int32_t device
      "buffer", // fst_cuda_allocation *allocations
      "u32", // uint32_t count
      "u64", // fst_cuda_load *load
      "buffer", // uint64_t *free_bytes
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_release: {
    parameters: [
      "u64", // fst_cuda_block *block
    ],
    result: "void",
  },
  fst_cuda_releases_now: {
    parameters: [
      "buffer", // fst_cuda_releases *result
    ],
    result: "void",
  },
  fst_cuda_releases_wait: {
    parameters: [
      "u64", // uint64_t queued
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_pin: {
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t bytes
      "u32", // uint32_t pinning
      "buffer", // uint64_t *address
      "buffer", // fst_cuda_pinned **pinned
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_unpin: {
    parameters: [
      "u64", // fst_cuda_pinned *pinned
    ],
    result: "void",
  },
  fst_cuda_load_open: {
    parameters: [
      "buffer", // const fst_cuda_load_options *options
      "buffer", // fst_cuda_load **load
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_load_report_of: {
    parameters: [
      "u64", // const fst_cuda_load *load
      "buffer", // fst_cuda_load_report *report
    ],
    result: "void",
  },
  fst_cuda_load_close: {
    parameters: [
      "u64", // fst_cuda_load *load
    ],
    result: "void",
  },
  fst_gds_probe: {
    parameters: [
      "buffer", // char *state
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_write: {
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t destination
      "buffer", // const void *source
      "u64", // uint64_t bytes
      "i32", // int32_t is_pinned
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_read: {
    parameters: [
      "i32", // int32_t device
      "buffer", // void *destination
      "u64", // uint64_t source
      "u64", // uint64_t bytes
      "i32", // int32_t is_pinned
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_write_pinned: {
    name: "fst_cuda_write",
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t destination
      "u64", // const void *source: pinned memory
      "u64", // uint64_t bytes
      "i32", // int32_t is_pinned
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_read_pinned: {
    name: "fst_cuda_read",
    parameters: [
      "i32", // int32_t device
      "u64", // void *destination: pinned memory
      "u64", // uint64_t source
      "u64", // uint64_t bytes
      "i32", // int32_t is_pinned
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_copy: {
    parameters: [
      "i32", // int32_t to_device
      "u64", // uint64_t destination
      "i32", // int32_t from_device
      "u64", // uint64_t source
      "u64", // uint64_t bytes
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_cast: {
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t destination
      "u64", // uint64_t source
      "u64", // uint64_t count
      "u32", // uint32_t to
      "u32", // uint32_t from
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_gather: {
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t destination
      "u64", // uint64_t source
      "u64", // uint64_t run
      "buffer", // const fst_cuda_level *levels
      "u32", // uint32_t level_count
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_cuda_scatter: {
    parameters: [
      "i32", // int32_t device
      "u64", // uint64_t destination
      "u64", // uint64_t pitch
      "u64", // uint64_t source
      "u64", // uint64_t width
      "u64", // uint64_t rows
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_dlpack_new: {
    parameters: [
      "buffer", // const fst_dlpack_source *source
      "buffer", // const int64_t *shape
      "i32", // int32_t versioned
      "buffer", // fst_dlpack_lease **lease
    ],
    result: "usize",
  },
  fst_dlpack_copy: {
    parameters: [
      "buffer", // const fst_dlpack_source *source
      "buffer", // const int64_t *shape
      "i32", // int32_t versioned
      "buffer", // const void *bytes
      "u64", // uint64_t length
    ],
    result: "usize",
    nonblocking: true, // copies the bytes
  },
  fst_dlpack_is_over: {
    parameters: [
      "u64", // fst_dlpack_lease *lease
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;
