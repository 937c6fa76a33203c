/*
 * The limit of loading over the network: reads files of a server by ranges through libcurl, as a plain C program does:
 *
 *   network [-t threads] [-c connections] [-b bytes of a range] LIBRARY URL BYTES [URL BYTES]...    prints the seconds
 *
 * Each thread runs its share of the connections with one multi handle; all take ranges from one list, and copy them to
 * fresh memory. LIBRARY is libcurl, whose headers it does not need.
 */
#include "probe.h"

#include <dlfcn.h>
#include <stddef.h>

#define MOST_CONNECTIONS 64

struct message {
  int message;
  void *easy;
  union {
    void *whatever;
    int result;
  } data;
};

static struct {
  int (*global_init)(long flags);
  void *(*easy_init)(void);
  int (*easy_setopt)(void *easy, int option, ...);
  int (*easy_getinfo)(void *easy, int info, ...);
  void *(*multi_init)(void);
  int (*multi_add_handle)(void *multi, void *easy);
  int (*multi_remove_handle)(void *multi, void *easy);
  int (*multi_perform)(void *multi, int *running);
  int (*multi_wait)(void *multi, void *extra, unsigned count, int timeout_ms, int *ready);
  struct message *(*multi_info_read)(void *multi, int *left);
} curl;

/* A range that is still to be read. */
struct range {
  const char *url;
  uint64_t offset, length;
  char *to;
};

static struct {
  struct range *ranges;
  uint64_t count;
  _Atomic uint64_t next;
  int connections, threads;
} job;

struct transfer {
  void *easy;
  struct range *range;
  uint64_t done;
};

static void *function(void *library, const char *name) {
  void *address = dlsym(library, name);
  if (!address) die(name);
  return address;
}

static void open_library(const char *path) {
  void *library = dlopen(path, RTLD_NOW);
  if (!library) {
    fprintf(stderr, "network: error: %s\n", dlerror());
    exit(1);
  }
  *(void **)&curl.global_init = function(library, "curl_global_init");
  *(void **)&curl.easy_init = function(library, "curl_easy_init");
  *(void **)&curl.easy_setopt = function(library, "curl_easy_setopt");
  *(void **)&curl.easy_getinfo = function(library, "curl_easy_getinfo");
  *(void **)&curl.multi_init = function(library, "curl_multi_init");
  *(void **)&curl.multi_add_handle = function(library, "curl_multi_add_handle");
  *(void **)&curl.multi_remove_handle = function(library, "curl_multi_remove_handle");
  *(void **)&curl.multi_perform = function(library, "curl_multi_perform");
  *(void **)&curl.multi_wait = function(library, "curl_multi_wait");
  *(void **)&curl.multi_info_read = function(library, "curl_multi_info_read");
  if (curl.global_init(3) != 0) die("curl_global_init");
}

static size_t take(char *bytes, size_t one, size_t length, void *user) {
  struct transfer *transfer = user;
  (void)one;
  if (transfer->done + length > transfer->range->length) return 0;
  memcpy(transfer->range->to + transfer->done, bytes, length);
  transfer->done += length;
  return length;
}

/* Starts the next range; 0 if there is none. */
static int start_next(void *multi, struct transfer *transfer) {
  const uint64_t index = atomic_fetch_add(&job.next, 1);
  if (index >= job.count) return 0;
  char text[64];
  struct range *range = transfer->range = &job.ranges[index];
  transfer->done = 0;
  snprintf(text, sizeof text, "%llu-%llu", (unsigned long long)range->offset,
           (unsigned long long)(range->offset + range->length - 1));
  curl.easy_setopt(transfer->easy, 10002, range->url);
  curl.easy_setopt(transfer->easy, 10007, text);
  if (curl.multi_add_handle(multi, transfer->easy) != 0) die("curl_multi_add_handle");
  return 1;
}

static void *run(void *argument) {
  const int thread = (int)(intptr_t)argument;
  const int share = job.connections / job.threads + (thread < job.connections % job.threads);
  struct transfer transfers[MOST_CONNECTIONS] = {0};
  void *multi = curl.multi_init();
  int running = 0, left, ready;
  for (int i = 0; i < share; i++) {
    struct transfer *transfer = &transfers[i];
    transfer->easy = curl.easy_init();
    curl.easy_setopt(transfer->easy, 99, 1L);                /* NOSIGNAL */
    curl.easy_setopt(transfer->easy, 84, 2L);                /* HTTP/1.1 */
    curl.easy_setopt(transfer->easy, 98, 256L << 10);        /* BUFFERSIZE */
    curl.easy_setopt(transfer->easy, 20011, take);           /* WRITEFUNCTION */
    curl.easy_setopt(transfer->easy, 10001, (void *)transfer); /* WRITEDATA */
    curl.easy_setopt(transfer->easy, 10103, (void *)transfer); /* PRIVATE */
    running += start_next(multi, transfer);
  }
  while (running > 0) {
    curl.multi_perform(multi, &left);
    for (struct message *message; (message = curl.multi_info_read(multi, &left)) != NULL;) {
      struct transfer *transfer = NULL;
      long status = 0;
      curl.easy_getinfo(message->easy, 0x100000 + 21, (void *)&transfer);
      curl.easy_getinfo(message->easy, 0x200000 + 2, &status);
      const int result = message->data.result;
      curl.multi_remove_handle(multi, transfer->easy);
      if (result != 0 || status != 206 || transfer->done != transfer->range->length) {
        fprintf(stderr, "network: error: result %d, status %ld\n", result, status);
        exit(1);
      }
      running -= !start_next(multi, transfer);
    }
    if (running > 0) curl.multi_wait(multi, NULL, 0, 1000, &ready);
  }
  return NULL;
}

int main(int count, char **arguments) {
  uint64_t bytes = 8 << 20, total = 0;
  job.threads = 4;
  job.connections = 16;
  for (int option; (option = getopt(count, arguments, "t:c:b:")) != -1;) {
    if (option == 't') job.threads = atoi(optarg);
    else if (option == 'c') job.connections = atoi(optarg);
    else if (option == 'b') bytes = strtoull(optarg, NULL, 10);
    else return 2;
  }
  if (job.threads < 1 || job.threads > MOST_THREADS || job.connections < 1 || job.connections > MOST_CONNECTIONS ||
      bytes < 1 || optind + 2 >= count) {
    return 2;
  }
  open_library(arguments[optind++]);
  for (int i = optind; i + 1 < count; i += 2) {
    const uint64_t size = strtoull(arguments[i + 1], NULL, 10);
    total += size;
    job.count += (size + bytes - 1) / bytes;
  }
  job.ranges = calloc(job.count, sizeof *job.ranges);
  if (!job.ranges) die("calloc");
  const struct fresh fresh = make_fresh(total);
  touch_memory();
  const double start = now();
  struct range *range = job.ranges;
  char *to = fresh.memory;
  for (int i = optind; i + 1 < count; i += 2) {
    const uint64_t size = strtoull(arguments[i + 1], NULL, 10);
    for (uint64_t at = 0; at < size; at += bytes, range++) {
      const uint64_t length = size - at < bytes ? size - at : bytes;
      *range = (struct range){arguments[i], at, length, to};
      to += length;
    }
  }
  pthread_t threads[MOST_THREADS];
  for (int i = 0; i < job.threads; i++) {
    if ((errno = pthread_create(&threads[i], NULL, run, (void *)(intptr_t)i)) != 0) die("pthread_create");
  }
  for (int i = 0; i < job.threads; i++) pthread_join(threads[i], NULL);
  printf("%.6f\n", now() - start);
  return 0;
}
