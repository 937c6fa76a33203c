/**
 * The symbols of the shim, each parameter with its C declaration (native/fst.h).
 *
 * Functions that can wait for storage or for other lanes are `nonblocking`; the others return within microseconds.
 */
import { CUDA_SYMBOLS } from "./cuda_symbols.ts";
import { GROUP_SYMBOLS, KEEP_4 } from "./group_symbols.ts";
import { HOST_SYMBOLS } from "./host_symbols.ts";
import { NET_SYMBOLS } from "./net_symbols.ts";
import { USRBIO_SYMBOLS } from "./usrbio_symbols.ts";
import { WRITE_SYMBOLS } from "./write_symbols.ts";

/** Buffers that a call keeps alive but does not use: `FST_KEEP_8` in native/fst.h. */
const KEEP_8 = [...KEEP_4, ...KEEP_4] as const;

/** The symbols of the shim for `Deno.dlopen`. */
export const SYMBOLS = {
  ...CUDA_SYMBOLS,
  ...GROUP_SYMBOLS,
  ...HOST_SYMBOLS,
  ...NET_SYMBOLS,
  ...USRBIO_SYMBOLS,
  ...WRITE_SYMBOLS,
  fst_abi_version: { parameters: [], result: "u32" },
  fst_environment_set: {
    parameters: [
      "buffer", // const char *variables
      "u64", // uint64_t bytes
    ],
    result: "i32",
  },
  fst_address: {
    parameters: [
      "buffer", // const void *buffer
    ],
    result: "usize",
  },
  fst_file_open: {
    parameters: [
      "buffer", // const char *path
      "buffer", // fst_file_info *info
      "buffer", // void *head
      "u64", // uint64_t head_length
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_file_open_direct: {
    parameters: [
      "i32", // int32_t fd
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_file_close: {
    parameters: [
      "i32", // int32_t fd
    ],
    result: "i32",
  },
  fst_file_release: {
    parameters: [
      "i32", // int32_t fd
      "i32", // int32_t fd_direct
    ],
    result: "void",
    nonblocking: true,
  },
  fst_file_read: {
    parameters: [
      "i32", // int32_t fd
      "buffer", // void *buffer
      "u64", // uint64_t length
      "u64", // uint64_t offset
    ],
    result: "i64",
    nonblocking: true,
  },
  fst_file_read_cached: {
    parameters: [
      "i32", // int32_t fd
      "buffer", // void *buffer
      "u64", // uint64_t length
      "u64", // uint64_t offset
      "u64", // uint64_t size
      "i64", // int64_t mtime_seconds
      "i64", // int64_t mtime_nanoseconds
    ],
    result: "i32",
  },
  fst_file_cached: {
    parameters: [
      "i32", // int32_t fd
      "u64", // uint64_t offset
      "u64", // uint64_t length
    ],
    result: "i64",
  },
  fst_memory_advise: {
    parameters: [
      "buffer", // void *buffer
      "u64", // uint64_t offset
      "u64", // uint64_t length
    ],
    result: "i32",
  },
  fst_memory_mapped: {
    parameters: [
      "buffer", // uint64_t *ranges
      "u64", // uint64_t capacity
    ],
    result: "i64",
  },
  fst_memory_available: { parameters: [], result: "i64" },
  fst_lane_run: {
    parameters: [
      "buffer", // fst_plan *plan
      "u32", // uint32_t limit
      ...KEEP_8,
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_plan_populate: {
    parameters: [
      "buffer", // fst_plan *plan
      "u32", // uint32_t limit
      "u64", // uint64_t ahead
      ...KEEP_8,
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_plan_wait: {
    parameters: [
      "buffer", // fst_plan *plan
      "u32", // uint32_t seen
      "u32", // uint32_t timeout_us
      "u32", // uint32_t gather_us
    ],
    result: "u32",
    nonblocking: true,
  },
  fst_plan_cancel: {
    parameters: [
      "buffer", // fst_plan *plan
    ],
    result: "void",
  },
} as const satisfies Deno.ForeignLibraryInterface;

/** The functions of the shim. */
export type Shim = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** `FST_ABI_VERSION` of native/plan.h, which these symbols and ffi/plan_memory.ts require. */
export const ABI_VERSION = 2;
