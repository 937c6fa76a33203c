/* Files of HTTP servers, read by libcurl. Internal. */
#ifndef FST_NET_PRIVATE_H
#define FST_NET_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "core/core.h"
#include "fst_net.h"

/* ---- libcurl (curl.c) ---- */

/*
 * The functions of libcurl 7.55 and later, as its headers declare them. Those with "..." are called with a long, a
 * curl_off_t (int64_t) or a pointer, exactly as the option demands: on some processors such calls pass arguments
 * differently from others.
 */
typedef struct fst_curl {
  int (*curl_global_init)(long flags);
  const char *(*curl_version)(void);
  void *(*curl_easy_init)(void);
  int (*curl_easy_setopt)(void *easy, int option, ...);
  int (*curl_easy_getinfo)(void *easy, int info, ...);
  void (*curl_easy_cleanup)(void *easy);
  const char *(*curl_easy_strerror)(int code);
  void *(*curl_multi_init)(void);
  int (*curl_multi_setopt)(void *multi, int option, ...);
  int (*curl_multi_add_handle)(void *multi, void *easy);
  int (*curl_multi_remove_handle)(void *multi, void *easy);
  int (*curl_multi_perform)(void *multi, int *running);
  int (*curl_multi_wait)(void *multi, void *extra, unsigned extra_count, int timeout_ms, int *ready);
  int (*curl_multi_poll)(void *multi, void *extra, unsigned extra_count, int timeout_ms, int *ready); /* 7.66; or NULL */
  struct fst_curl_message *(*curl_multi_info_read)(void *multi, int *left);
  int (*curl_multi_cleanup)(void *multi);
  void *(*curl_share_init)(void);
  int (*curl_share_setopt)(void *share, int option, ...);
  struct curl_slist *(*curl_slist_append)(struct curl_slist *list, const char *text);
  void (*curl_slist_free_all)(struct curl_slist *list);
  time_t (*curl_getdate)(const char *text, const time_t *unused);
} fst_curl;

/* CURLMsg */
typedef struct fst_curl_message {
  int message; /* FST_CURLMSG_DONE */
  void *easy;
  union {
    void *whatever;
    int result;
  } data;
} fst_curl_message;

enum { FST_CURLMSG_DONE = 1 };

/* CURLcode: the results that the library handles. */
enum {
  FST_CURLE_COULDNT_RESOLVE_PROXY = 5,
  FST_CURLE_COULDNT_RESOLVE_HOST = 6,
  FST_CURLE_COULDNT_CONNECT = 7,
  FST_CURLE_PARTIAL_FILE = 18,
  FST_CURLE_OUT_OF_MEMORY = 27,
  FST_CURLE_OPERATION_TIMEDOUT = 28,
  FST_CURLE_SSL_CONNECT_ERROR = 35,
  FST_CURLE_GOT_NOTHING = 52,
  FST_CURLE_SEND_ERROR = 55,
  FST_CURLE_RECV_ERROR = 56,
};

/* CURLoption: 0 + n is a long, 10000 + n a pointer, 20000 + n a function, 30000 + n a curl_off_t. */
enum {
  FST_CURLOPT_FOLLOWLOCATION = 52,
  FST_CURLOPT_NETRC = 51,
  FST_CURLOPT_HTTP_VERSION = 84,
  FST_CURLOPT_BUFFERSIZE = 98,
  FST_CURLOPT_NOSIGNAL = 99,
  FST_CURLOPT_TCP_NODELAY = 121,
  FST_CURLOPT_CONNECTTIMEOUT_MS = 156,
  FST_CURLOPT_PROTOCOLS = 181,
  FST_CURLOPT_REDIR_PROTOCOLS = 182,
  FST_CURLOPT_TCP_KEEPALIVE = 213,
  FST_CURLOPT_SUPPRESS_CONNECT_HEADERS = 265,
  FST_CURLOPT_WRITEDATA = 10001,
  FST_CURLOPT_URL = 10002,
  FST_CURLOPT_PROXY = 10004,
  FST_CURLOPT_RANGE = 10007,
  FST_CURLOPT_HTTPHEADER = 10023,
  FST_CURLOPT_HEADERDATA = 10029,
  FST_CURLOPT_CAINFO = 10065,
  FST_CURLOPT_CAPATH = 10097,
  FST_CURLOPT_SHARE = 10100,
  FST_CURLOPT_PRIVATE = 10103,
  FST_CURLOPT_NOPROXY = 10177,
  FST_CURLOPT_PROTOCOLS_STR = 10318, /* 7.85 */
  FST_CURLOPT_WRITEFUNCTION = 20011,
  FST_CURLOPT_HEADERFUNCTION = 20079,
};

/* CURLINFO */
enum { FST_CURLINFO_PRIVATE = 0x100000 + 21 };

/* Values of options. */
enum {
  FST_CURL_GLOBAL_DEFAULT = 3,
  FST_CURL_HTTP_VERSION_1_1 = 2,
  FST_CURLPROTO_HTTP = 1,
  FST_CURLPROTO_HTTPS = 2,
  FST_CURLMOPT_MAXCONNECTS = 6,
};

/* CURLSHoption, curl_lock_data */
enum { FST_CURLSHOPT_SHARE = 1, FST_CURLSHOPT_LOCKFUNC = 3, FST_CURLSHOPT_UNLOCKFUNC = 4 };
enum { FST_CURL_LOCK_DATA_DNS = 3, FST_CURL_LOCK_DATA_SSL_SESSION = 4, FST_CURL_LOCK_DATA_LAST = 16 };

/*
 * The functions of libcurl, which is opened and initialized at the first call that finds it; from any thread. NULL if
 * it is not available, with the reason in `reason`, which is otherwise empty.
 */
const fst_curl *fst_curl_open(char *reason, size_t size);

/* The functions after fst_curl_open has succeeded, else NULL. */
const fst_curl *fst_curl_get(void);

/* The object that shares names of hosts and TLS sessions, but no connections, between threads; NULL without memory. */
void *fst_curl_share(void);

/* ---- The head of an answer (answer.c) ---- */

/* The decision about an answer, before its first byte is used. */
enum fst_net_verdict {
  FST_NET_WAITING = 0, /* its head is not complete */
  FST_NET_ACCEPTED,    /* its body is the expected range */
  FST_NET_RETRY,       /* the server cannot answer now: `status` */
  FST_NET_STALE,       /* the address is not valid any more: `status` is 401 or 403 */
  FST_NET_CHANGED,     /* the file has changed */
  FST_NET_STATUS,      /* `status` is not one of an answer with a range */
  FST_NET_REFUSED,     /* the answer is not valid: `code` */
};

/* The expected answer. */
typedef struct fst_net_expected {
  uint64_t offset, length; /* the requested range */
  uint64_t size;           /* of the file */
  const char *etag;        /* NULL: unknown */
} fst_net_expected;

typedef struct fst_net_head {
  enum fst_net_verdict verdict;
  enum fst_net_answer code;
  int status;
  int has_range;       /* a Content-Range was parsed */
  int is_encoded;      /* a Content-Encoding other than identity */
  int is_other;        /* an ETag other than the expected one */
  uint64_t first, last, total; /* of Content-Range; total UINT64_MAX: "*" */
  uint64_t bytes;      /* of the head so far */
  uint64_t retry_ms;   /* the least pause before another attempt; 0: none */
} fst_net_head;

/* Most bytes of the head of an answer. */
#define FST_NET_HEAD_BYTES ((uint64_t)64 << 10)

/*
 * Reads one line of the head, with its line break, which may lack a NUL. 0, or -1 if the body must not be read: then
 * `verdict` says why.
 */
int fst_net_head_line(fst_net_head *head, const fst_net_expected *expected, const char *line, size_t length);

/* ---- Files (file.c) ---- */

/* An address of a file: constant, and shared by the file and the transfers that use it. */
typedef struct fst_net_address {
  _Atomic uint32_t users;
  uint32_t generation;        /* of the file's addresses, from 1 on */
  _Atomic uint32_t has_worked; /* a server has accepted it */
  struct curl_slist *headers; /* all headers of a request */
  const char *proxy;          /* an empty string: none */
  char *url;
} fst_net_address;

struct fst_net_file {
  pthread_mutex_t mutex;
  fst_net_address *address; /* guarded by the mutex, as the others that change */
  uint32_t stale;           /* the generation of the last address that a server has refused */
  uint64_t size;
  uint32_t retries, timeout_ms;
  char *etag;             /* NULL: unknown */
  char *ca_file, *ca_path; /* NULL: libcurl's */
  char *no_proxy;         /* an empty string: none */
};

/* The current address, with one user more. */
fst_net_address *fst_net_file_address(fst_net_file *file);
void fst_net_address_leave(fst_net_address *address);

/* Whether the file has an address newer than `generation`. */
int fst_net_file_has_newer(fst_net_file *file, uint32_t generation);

/*
 * Records that a server has refused an address. 1: a new one will come, or has come already; 0: the address itself
 * was new, so that the refusal is final.
 */
int fst_net_file_refused(fst_net_file *file, const fst_net_address *address);

/* ---- Connections of a lane (client.c) ---- */

/* One range on its way. */
typedef struct fst_net_transfer {
  void *easy; /* made at the first use */
  fst_request *request; /* NULL: free */
  fst_net_file *file;
  fst_net_address *address;
  int is_running;   /* libcurl works on it */
  int64_t resume;   /* not running: the time of the next attempt */
  int64_t moved;    /* the time of the last byte, or of the start of the attempt; monotonic, in nanoseconds */
  uint64_t started; /* bytes of the request before this attempt */
  uint32_t failures; /* attempts since the last one that has brought many bytes */
  fst_net_expected expected;
  fst_net_head head;
} fst_net_transfer;

/* The connections of one lane: kept for the next lane when this one has ended, but for some seconds only. */
typedef struct fst_net_client {
  struct fst_net_client *next; /* in the list of idle clients */
  int64_t idle_since;
  const fst_curl *curl;
  void *multi;
  fst_plan *plan; /* of the lane */
  uint32_t depth; /* transfers of the lane */
  uint32_t seed;  /* of random pauses */
  uint32_t capacity;
  fst_net_transfer *transfers; /* `capacity` of them */
  fst_request **completed;     /* a stack, `capacity` long */
  uint32_t completed_count;
} fst_net_client;

/* Takes idle connections, or makes new ones; NULL without memory. */
fst_net_client *fst_net_client_take(const fst_curl *curl, uint32_t depth);

/* Returns connections without a running transfer. */
void fst_net_client_give_back(fst_net_client *client);

#endif
