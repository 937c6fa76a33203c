/* Files of servers: their addresses, which can change, and what is the same for all requests. */
#define _GNU_SOURCE /* strdup */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "net/net.h"

/* The variables that name certificates and proxies, the first ones first: those that other tools use. */
static const char *const CA_FILE_VARIABLES[] = {"SSL_CERT_FILE",      "CURL_CA_BUNDLE", "AWS_CA_BUNDLE",
                                                "REQUESTS_CA_BUNDLE", "DENO_CERT",      NULL};
static const char *const CA_PATH_VARIABLES[] = {"SSL_CERT_DIR", NULL};
static const char *const HTTPS_PROXY_VARIABLES[] = {"https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", NULL};
static const char *const HTTP_PROXY_VARIABLES[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", NULL};
static const char *const NO_PROXY_VARIABLES[] = {"no_proxy", "NO_PROXY", NULL};

/* The value of the first of some variables that is set, as memory of its own; NULL: none. */
static char *value_of(const char *const *names) {
  char value[FST_ENVIRONMENT_VALUE];
  for (; *names; names++) {
    if (fst_environment(*names, value)) return strdup(value);
  }
  return NULL;
}

/* The proxy of a URL, as memory of its own; an empty string: none. libcurl would read the environment itself. */
static char *proxy_of(const char *url) {
  char *proxy = value_of(strncasecmp(url, "https:", 6) == 0 ? HTTPS_PROXY_VARIABLES : HTTP_PROXY_VARIABLES);
  return proxy ? proxy : strdup("");
}

/* Adds a header; 0, or -1 without memory. */
static int add_header(const fst_curl *curl, struct curl_slist **headers, const char *text) {
  struct curl_slist *longer = curl->curl_slist_append(*headers, text);
  if (longer) *headers = longer;
  return longer ? 0 : -1;
}

static void free_address(fst_net_address *address) {
  if (address->headers) fst_curl_get()->curl_slist_free_all(address->headers);
  free((char *)(uintptr_t)address->proxy);
  free(address->url);
  free(address);
}

/* Makes an address with one user, the file; NULL without memory. */
static fst_net_address *new_address(const char *url, const char *headers, uint64_t header_bytes, const char *etag) {
  const fst_curl *curl = fst_curl_get();
  fst_net_address *address = calloc(1, sizeof *address);
  if (!address) return NULL;
  atomic_store(&address->users, 1);
  address->url = strdup(url);
  address->proxy = proxy_of(url);
  int status = address->url && address->proxy ? 0 : -1;
  /* A server must not encode the body. libcurl sends no such header by itself, and a cache may then choose. */
  if (status == 0) status = add_header(curl, &address->headers, "Accept-Encoding: identity");
  if (status == 0 && etag) {
    char match[1024];
    const int length = snprintf(match, sizeof match, "If-Match: %s", etag);
    if (length < (int)sizeof match) status = add_header(curl, &address->headers, match);
  }
  for (uint64_t at = 0; at < header_bytes && status == 0; at += strlen(headers + at) + 1) {
    status = add_header(curl, &address->headers, headers + at);
  }
  if (status == 0) return address;
  free_address(address);
  return NULL;
}

int32_t fst_net_open(const fst_net_options *options, const char *url, const char *headers, uint64_t header_bytes,
                     const char *etag, fst_net_file **result) {
  *result = NULL;
  if (!fst_curl_get()) return -ENOSYS;
  if (header_bytes > 0 && headers[header_bytes - 1] != 0) return -EINVAL;
  fst_net_file *file = calloc(1, sizeof *file);
  if (!file) return -ENOMEM;
  pthread_mutex_init(&file->mutex, NULL);
  file->size = options->size;
  file->retries = options->retries;
  file->timeout_ms = options->timeout_ms;
  if (*etag) file->etag = strdup(etag);
  file->ca_file = value_of(CA_FILE_VARIABLES);
  file->ca_path = value_of(CA_PATH_VARIABLES);
  file->no_proxy = value_of(NO_PROXY_VARIABLES);
  if (!file->no_proxy) file->no_proxy = strdup("");
  file->address = new_address(url, headers, header_bytes, file->etag);
  if (!file->address || !file->no_proxy || (*etag && !file->etag)) {
    fst_net_close(file);
    return -ENOMEM;
  }
  file->address->generation = 1;
  /* Another request has opened the file with it. */
  atomic_store(&file->address->has_worked, 1);
  *result = file;
  return 0;
}

void fst_net_close(fst_net_file *file) {
  if (file->address) fst_net_address_leave(file->address);
  free(file->etag);
  free(file->ca_file);
  free(file->ca_path);
  free(file->no_proxy);
  pthread_mutex_destroy(&file->mutex);
  free(file);
}

fst_net_address *fst_net_file_address(fst_net_file *file) {
  pthread_mutex_lock(&file->mutex);
  fst_net_address *address = file->address;
  atomic_fetch_add(&address->users, 1);
  pthread_mutex_unlock(&file->mutex);
  return address;
}

void fst_net_address_leave(fst_net_address *address) {
  if (atomic_fetch_sub(&address->users, 1) == 1) free_address(address);
}

int fst_net_file_has_newer(fst_net_file *file, uint32_t generation) {
  pthread_mutex_lock(&file->mutex);
  const int has_newer = file->address->generation > generation;
  pthread_mutex_unlock(&file->mutex);
  return has_newer;
}

int fst_net_file_refused(fst_net_file *file, const fst_net_address *address) {
  pthread_mutex_lock(&file->mutex);
  const int is_current = file->address == address, has_worked = atomic_load(&address->has_worked) != 0;
  if (is_current && has_worked) file->stale = address->generation;
  pthread_mutex_unlock(&file->mutex);
  return has_worked || !is_current;
}

int32_t fst_net_is_stale(fst_net_file *file) {
  pthread_mutex_lock(&file->mutex);
  const int is_stale = file->stale == file->address->generation;
  pthread_mutex_unlock(&file->mutex);
  return is_stale;
}

int32_t fst_net_renew(fst_net_file *file, const char *url, const char *headers, uint64_t header_bytes) {
  if (header_bytes > 0 && headers[header_bytes - 1] != 0) return -EINVAL;
  fst_net_address *address = new_address(url, headers, header_bytes, file->etag);
  if (!address) return -ENOMEM;
  pthread_mutex_lock(&file->mutex);
  fst_net_address *old = file->address;
  address->generation = old->generation + 1;
  file->address = address;
  pthread_mutex_unlock(&file->mutex);
  fst_net_address_leave(old);
  return 0;
}
