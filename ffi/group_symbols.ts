/**
 * The shim's functions for process groups (native/fst_group.h).
 */

/** Buffers that a call only keeps alive: `FST_KEEP_16` in native/fst_group.h. */
const KEEP_4 = ["buffer", "buffer", "buffer", "buffer"] as const;
const KEEP_16 = [...KEEP_4, ...KEEP_4, ...KEEP_4, ...KEEP_4] as const;

/** What `Deno.dlopen` is told about them. Whatever may wait for other ranks is `nonblocking`. */
export const GROUP_SYMBOLS = {
  fst_mpi_open: {
    parameters: [
      "buffer", // fst_mpi_info *info
      "u64", // uint64_t timeout_us
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_group_make: {
    parameters: [
      "u64", // fst_mpi_group *parent
      "u64", // uint64_t id
      "buffer", // const int32_t *ranks
      "i32", // int32_t size
      "i32", // int32_t rank
    ],
    result: "u64",
    nonblocking: true,
  },
  fst_mpi_run: {
    parameters: [
      "u64", // fst_mpi_group *group
      "buffer", // fst_group_call *call
      "buffer", // const void *send
      "buffer", // void *receive
      "buffer", // uint64_t *lengths
      "u32", // uint32_t flags
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_broadcast: {
    parameters: [
      "u64", // fst_mpi_group *group
      "buffer", // fst_group_call *call
      "buffer", // const fst_group_block *blocks
      "u64", // uint64_t count
      "u32", // uint32_t flags
      ...KEEP_16,
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_fail: {
    parameters: [
      "u64", // fst_mpi_group *group
      "i32", // int32_t rank
      "buffer", // const char *text
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_watch: {
    parameters: [
      "u64", // fst_mpi_group *group
      "buffer", // fst_group_call *call
    ],
    result: "i32",
  },
  fst_mpi_leave: {
    parameters: [
      "u64", // fst_mpi_group *group
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_mpi_pending: {
    parameters: [
      "u64", // uint64_t number
    ],
    result: "i32",
  },
  fst_mpi_exit: {
    parameters: [
      "i32", // int32_t status
    ],
    result: "i32",
  },
  fst_mpi_last_words: {
    parameters: [
      "buffer", // const char *text
    ],
    result: "void",
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
