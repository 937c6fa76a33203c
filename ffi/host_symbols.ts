/**
 * The symbols of native/fst.h (core/host_ops.c), each parameter with its C declaration.
 */

/** Slices, casts and joins in host memory, `nonblocking` because they can take long. */
export const HOST_SYMBOLS = {
  fst_host_gather: {
    parameters: [
      "buffer", // const void *source
      "u64", // uint64_t source_length
      "buffer", // void *target
      "u64", // uint64_t target_length
      "u64", // uint64_t offset
      "u64", // uint64_t run
      "buffer", // const fst_level *levels
      "u32", // uint32_t level_count
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_host_cast: {
    parameters: [
      "buffer", // const void *source
      "u64", // uint64_t source_length
      "buffer", // void *target
      "u64", // uint64_t target_length
      "u64", // uint64_t count
      "u32", // uint32_t from
      "u32", // uint32_t to
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_host_scatter: {
    parameters: [
      "buffer", // const void *source
      "u64", // uint64_t source_length
      "buffer", // void *target
      "u64", // uint64_t target_length
      "u64", // uint64_t offset
      "u64", // uint64_t pitch
      "u64", // uint64_t width
      "u64", // uint64_t rows
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;
