/**
 * The symbols of native/fst.h (core/write.c), each parameter with its C declaration.
 */

/** Functions that create, write, sync and rename files. Functions that can wait for storage are `nonblocking`. */
export const WRITE_SYMBOLS = {
  fst_write_create: {
    parameters: [
      "buffer", // const char *path
      "u32", // uint32_t mode
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_write_open: {
    parameters: [
      "buffer", // const char *path
      "i32", // int32_t writes
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_write_open_direct: {
    parameters: [
      "i32", // int32_t fd
    ],
    result: "i32",
  },
  fst_write_allocate: {
    parameters: [
      "i32", // int32_t fd
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_write_range: {
    parameters: [
      "i32", // int32_t fd
      "i32", // int32_t fd_direct
      "buffer", // const void *source
      "u64", // uint64_t count
      "u64", // uint64_t offset
      "u32", // uint32_t from
      "u32", // uint32_t to
      "buffer", // void *staging
      "u64", // uint64_t staging_length
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_write_sync: {
    parameters: [
      "i32", // int32_t fd
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_path_rename: {
    parameters: [
      "buffer", // const char *from
      "buffer", // const char *to
      "i32", // int32_t replace
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_folder_sync: {
    parameters: [
      "buffer", // const char *path
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;
