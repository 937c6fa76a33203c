/**
 * The symbols of native/fst_usrbio.h, each parameter with its C declaration.
 *
 * Pointers of the shim are numbers here, because JavaScript does not read the memory.
 */

/** 3FS functions. Functions that wait for the library, the mount or a read are `nonblocking`. */
export const USRBIO_SYMBOLS = {
  fst_usrbio_find: {
    parameters: [
      "buffer", // fst_usrbio **library
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true, // starts threads and reads files
  },
  fst_usrbio_posix: { parameters: [], result: "u64" },
  fst_usrbio_is_mounted: {
    parameters: [
      "i32", // int32_t fd
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_usrbio_is_3fs: {
    parameters: [
      "u64", // const fst_usrbio *library
      "i32", // int32_t fd
    ],
    result: "i32",
    nonblocking: true, // accesses the file system
  },
  fst_usrbio_mount_point: {
    parameters: [
      "u64", // const fst_usrbio *library
      "buffer", // const char *path
      "buffer", // char *mount
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_usrbio_open: {
    parameters: [
      "u64", // const fst_usrbio *library
      "buffer", // const char *mount_point
      "buffer", // const fst_usrbio_options *options
      "buffer", // fst_usrbio_mount **mount
      "buffer", // char *message
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_usrbio_close: {
    parameters: [
      "u64", // fst_usrbio_mount *mount
    ],
    result: "void",
    nonblocking: true, // frees rings, with calls to the file system and CUDA
  },
  fst_usrbio_register: {
    parameters: [
      "u64", // const fst_usrbio *library
      "i32", // int32_t fd
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_usrbio_deregister: {
    parameters: [
      "u64", // const fst_usrbio *library
      "i32", // int32_t fd
    ],
    result: "void",
    nonblocking: true, // accesses the file system
  },
  fst_usrbio_read: {
    parameters: [
      "u64", // fst_usrbio_mount *mount
      "buffer", // const fst_usrbio_request *request
      "buffer", // void *buffer
      "buffer", // const uint32_t *stop
      "buffer", // fst_error *error
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;
