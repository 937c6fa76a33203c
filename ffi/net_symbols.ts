/**
 * The symbols of native/fst_net.h, each parameter with its C declaration.
 */

/** Functions for files on HTTP servers. The search for libcurl reads files; the others return at once. */
export const NET_SYMBOLS = {
  fst_net_find: {
    parameters: [
      "buffer", // char *path
      "buffer", // char *reason
      "u64", // uint64_t size
    ],
    result: "i32",
    nonblocking: true,
  },
  fst_net_open: {
    parameters: [
      "buffer", // const fst_net_options *options
      "buffer", // const char *url
      "buffer", // const char *headers
      "u64", // uint64_t header_bytes
      "buffer", // const char *etag
      "buffer", // fst_net_file **file
    ],
    result: "i32",
  },
  fst_net_close: {
    parameters: [
      "u64", // fst_net_file *file
    ],
    result: "void",
  },
  fst_net_is_stale: {
    parameters: [
      "u64", // fst_net_file *file
    ],
    result: "i32",
  },
  fst_net_renew: {
    parameters: [
      "u64", // fst_net_file *file
      "buffer", // const char *url
      "buffer", // const char *headers
      "u64", // uint64_t header_bytes
    ],
    result: "i32",
  },
  fst_net_error_text: {
    parameters: [
      "i32", // int32_t code
      "buffer", // char *text
      "u64", // uint64_t size
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;
