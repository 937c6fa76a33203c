/**
 * The shim's functions for process groups (native/fst_group.h).
 */

/** Four buffers that a call keeps alive but does not use. */
export const KEEP_4 = ["buffer", "buffer", "buffer", "buffer"] as const;
/** `FST_KEEP_16` in native/fst_group.h. */
const KEEP_16 = [...KEEP_4, ...KEEP_4, ...KEEP_4, ...KEEP_4] as const;

/** The symbols for `Deno.dlopen`. Functions that can wait for other ranks are `nonblocking`. */
export const GROUP_SYMBOLS = {
  fst_mpi_open: {
    parameters: [
      "buffer", // fst_mpi_info *info
      "u64", // uint64_t timeout_us
      "i32", // int32_t mpich_first
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_send: {
    parameters: [
      "i32", // int32_t rank
      "buffer", // const void *message
      "u64", // uint64_t bytes
    ],
    result: "i32",
  },
  fst_mpi_receive: {
    parameters: [
      "buffer", // void *buffer
    ],
    result: "i64",
  },
  fst_mpi_wait: {
    parameters: [
      "buffer", // const fst_group_call *call
      "u64", // uint64_t wait_us: short
    ],
    result: "i32",
  },
  fst_mpi_wait_long: {
    name: "fst_mpi_wait",
    parameters: [
      "buffer", // const fst_group_call *call
      "u64", // uint64_t wait_us
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_move: {
    parameters: [
      "buffer", // fst_group_call *call
      "buffer", // const fst_mpi_pipe *pipes
      "u32", // uint32_t count
      "buffer", // const fst_group_block *pieces
    ],
    result: "i32",
  },
  fst_mpi_hold: {
    parameters: [
      "buffer", // const fst_group_call *call
      ...KEEP_16,
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_set_tags: {
    parameters: [
      "buffer", // const fst_mpi_tags *all
      "u32", // uint32_t count
    ],
    result: "i32",
  },
  fst_mpi_last_words: {
    parameters: [
      "buffer", // const void *message
      "u64", // uint64_t bytes
      "i32", // int32_t freeze
    ],
    result: "void",
  },
  fst_mpi_exit: {
    parameters: [
      "i32", // int32_t status
    ],
    result: "i32",
  },
  fst_nccl_open: {
    parameters: [
      "buffer", // int32_t *version
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_nccl_make_id: {
    parameters: [
      "buffer", // uint8_t *id
      "buffer", // fst_group_call *call
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_nccl_make: {
    parameters: [
      "buffer", // const uint8_t *id
      "i32", // int32_t rank
      "i32", // int32_t size
      "buffer", // fst_group_call *call
      "buffer", // fst_nccl_group **group
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_nccl_run: {
    parameters: [
      "u64", // fst_nccl_group *group
      "buffer", // fst_group_call *call
      "buffer", // const fst_group_block *blocks
      "u64", // uint64_t block_count
      "buffer", // const uint64_t *lengths
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_nccl_free: {
    parameters: [
      "u64", // fst_nccl_group *group
      "i32", // int32_t abort
    ],
    result: "i32",
    nonblocking: true,
  },
} as const satisfies Deno.ForeignLibraryInterface;
