/* Finds, opens and initializes libcurl. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "net/net.h"

#define FUNCTION(name) {#name, offsetof(fst_curl, name), 0}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(curl_global_init),
  FUNCTION(curl_version),
  FUNCTION(curl_easy_init),
  FUNCTION(curl_easy_setopt),
  FUNCTION(curl_easy_getinfo),
  FUNCTION(curl_easy_cleanup),
  FUNCTION(curl_easy_strerror),
  FUNCTION(curl_multi_init),
  FUNCTION(curl_multi_setopt),
  FUNCTION(curl_multi_add_handle),
  FUNCTION(curl_multi_remove_handle),
  FUNCTION(curl_multi_perform),
  FUNCTION(curl_multi_wait),
  {"curl_multi_poll", offsetof(fst_curl, curl_multi_poll), 1},
  FUNCTION(curl_multi_info_read),
  FUNCTION(curl_multi_cleanup),
  FUNCTION(curl_share_init),
  FUNCTION(curl_share_setopt),
  FUNCTION(curl_slist_append),
  FUNCTION(curl_slist_free_all),
  FUNCTION(curl_getdate),
};
#undef FUNCTION

static fst_curl functions;

static fst_library library = {
  .variable = "FASTSAFETENSORS_CURL_LIB",
  .names = (const char *const[]){"libcurl.so.4", "libcurl-gnutls.so.4", NULL},
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

static pthread_mutex_t initialization = PTHREAD_MUTEX_INITIALIZER;
static int is_initialized;
static void *share;
static _Atomic(const fst_curl *) ready;

static pthread_mutex_t locks[FST_CURL_LOCK_DATA_LAST];

static void lock(void *easy, int data, int access, void *user) {
  (void)easy, (void)access, (void)user;
  pthread_mutex_lock(&locks[data % FST_CURL_LOCK_DATA_LAST]);
}

static void unlock(void *easy, int data, void *user) {
  (void)easy, (void)user;
  pthread_mutex_unlock(&locks[data % FST_CURL_LOCK_DATA_LAST]);
}

static void make_share(void) {
  for (unsigned i = 0; i < FST_CURL_LOCK_DATA_LAST; i++) pthread_mutex_init(&locks[i], NULL);
  share = functions.curl_share_init();
  if (!share) return;
  functions.curl_share_setopt(share, FST_CURLSHOPT_LOCKFUNC, lock);
  functions.curl_share_setopt(share, FST_CURLSHOPT_UNLOCKFUNC, unlock);
  functions.curl_share_setopt(share, FST_CURLSHOPT_SHARE, (int)FST_CURL_LOCK_DATA_DNS);
  functions.curl_share_setopt(share, FST_CURLSHOPT_SHARE, (int)FST_CURL_LOCK_DATA_SSL_SESSION);
}

const fst_curl *fst_curl_open(char *reason, size_t size) {
  if (fst_library_open(&library, reason, size) != 0) return NULL;
  /* Once in the process, before the first handle: older versions do not lock it themselves. */
  pthread_mutex_lock(&initialization);
  if (!is_initialized) {
    const int status = functions.curl_global_init(FST_CURL_GLOBAL_DEFAULT);
    if (status != 0) snprintf(reason, size, "\"%s\" cannot be initialized: status %d", library.path, status);
    else make_share();
    is_initialized = status == 0;
    if (is_initialized) atomic_store(&ready, &functions);
  }
  pthread_mutex_unlock(&initialization);
  return fst_curl_get();
}

const fst_curl *fst_curl_get(void) {
  return atomic_load(&ready);
}

void *fst_curl_share(void) {
  return share;
}

int32_t fst_net_find(char *path, char *reason, uint64_t size) {
  *path = 0;
  const fst_curl *curl = fst_curl_open(reason, size);
  if (!curl) return -ENOENT;
  snprintf(path, size, "%s (%s)", library.path, curl->curl_version());
  return 0;
}

int32_t fst_net_error_text(int32_t code, char *text, uint64_t size) {
  const fst_curl *curl = fst_curl_get();
  if (!curl || size == 0) return 0;
  const int length = snprintf(text, size, "%s", curl->curl_easy_strerror(code));
  return length < (int)size ? length : (int32_t)size - 1;
}
