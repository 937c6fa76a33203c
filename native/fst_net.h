/*
 * Files of HTTP servers: ranges read through libcurl, which is opened at run time, at the caller's first request. "0 or
 * -errno" is the status unless stated otherwise. Any thread may call.
 */
#ifndef FST_NET_H
#define FST_NET_H

#include "fst.h"

/* A file of an HTTP server: fst_plan_file.reader_handle of FST_READER_HTTP. */
typedef struct fst_net_file fst_net_file;

/* Why an answer is not valid: `code` of FST_FAILURE_ANSWER. */
enum fst_net_answer {
  FST_NET_ANSWER_RANGE = 1,   /* its Content-Range is missing, or is not the requested one */
  FST_NET_ANSWER_ENCODED = 2, /* its body is encoded */
  FST_NET_ANSWER_HEAD = 3,    /* its head is longer than any sound one */
  FST_NET_ANSWER_LONG = 4,    /* its body is longer than the range */
};

/*
 * Opens libcurl: the library that FASTSAFETENSORS_CURL_LIB names, or the system's. `path` receives its path and
 * version, `reason` the reason why it is not available, with everything that was tried, or is empty. Both have `size`
 * bytes.
 */
FST_EXPORT int32_t fst_net_find(char *path, char *reason, uint64_t size);

typedef struct fst_net_options {
  uint64_t size;       /* of the file, in bytes */
  uint32_t retries;    /* attempts for one range after the first one, as long as they bring few bytes */
  uint32_t timeout_ms; /* an attempt ends after this time without a byte */
} fst_net_options;
static_assert(sizeof(fst_net_options) == 16, "ffi/net.ts knows this layout");

/*
 * Prepares reads of a file; no connection is made. `url` is an http or https URL. `headers` are "Name: value" strings,
 * each with its NUL, and `header_bytes` bytes altogether: they are sent with every request. `etag` is a strong
 * validator with its quotes, or empty. Certificates and proxies come from the variables SSL_CERT_FILE and so on
 * (fst_environment_set). fst_net_find must have succeeded.
 */
FST_EXPORT int32_t fst_net_open(const fst_net_options *options, const char *url, const char *headers,
                                uint64_t header_bytes, const char *etag, fst_net_file **file);

/* Frees a file that no lane reads. */
FST_EXPORT void fst_net_close(fst_net_file *file);

/*
 * Whether a server has refused the file's current address (1 or 0): lanes then wait for fst_net_renew. The plan's `wake`
 * has changed.
 */
FST_EXPORT int32_t fst_net_is_stale(fst_net_file *file);

/* Sets a new address, as for fst_net_open; waiting lanes continue with it. */
FST_EXPORT int32_t fst_net_renew(fst_net_file *file, const char *url, const char *headers, uint64_t header_bytes);

/* The text of a code of FST_FAILURE_CONNECTION: its length, at most `size` - 1; 0 without libcurl. */
FST_EXPORT int32_t fst_net_error_text(int32_t code, char *text, uint64_t size);

#endif
