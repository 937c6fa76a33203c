/*
 * Ranges of files on HTTP servers: for every behaviour of a server, the bytes are correct or the failure is reported.
 */
#define _GNU_SOURCE
#include "net_server.h"
#include "environment_support.h"
#include "net/net.h"

#define FILE_BYTES (3u << 20)
#define LONG_MS 60000u /* no test waits as long */
#define ETAG "\"v1\""

static char *content;

/* ---- A lane that reads ranges ---- */

typedef struct reading {
  fst_plan *plan;
  fst_lane lane;
  fst_net_file *file;
  void *state;
  uint32_t depth;
} reading;

static reading begin_with(uint32_t depth, uint32_t retries, uint32_t timeout_ms, const char *headers, uint64_t bytes) {
  reading reading = {.depth = depth};
  fst_net_options options = {.size = FILE_BYTES, .retries = retries, .timeout_ms = timeout_ms};
  char url[64];
  snprintf(url, sizeof url, "http://127.0.0.1:%d/model?secret=1", server.port);
  require(fst_net_open(&options, url, headers, bytes, ETAG, &reading.file) == 0, "fst_net_open");
  reading.plan = aligned_alloc(64, sizeof(fst_plan) + sizeof(fst_plan_file));
  require(reading.plan != NULL, "aligned_alloc");
  memset(reading.plan, 0, sizeof(fst_plan) + sizeof(fst_plan_file));
  reading.plan->file_count = 1;
  reading.lane = (fst_lane){.plan = reading.plan, .file = fst_plan_files(reading.plan)};
  *reading.lane.file = (fst_plan_file){.fd = -1, .fd_direct = -1, .size = FILE_BYTES, .reader = FST_READER_HTTP,
                                       .reader_handle = (uintptr_t)reading.file, .depth = depth};
  uint32_t most = 1000;
  require(fst_deep_reader_http.open(&reading.lane, &most, &reading.state) == 0, "open");
  require(most == depth, "another number of requests in flight");
  return reading;
}

static reading begin(uint32_t depth, uint32_t retries, uint32_t timeout_ms) {
  return begin_with(depth, retries, timeout_ms, NULL, 0);
}

static void end(reading *reading) {
  fst_deep_reader_http.close(reading->state);
  fst_net_close(reading->file);
  free(reading->plan);
}

static fst_request request_for(const reading *reading, uint64_t offset, uint64_t length) {
  char *memory = malloc(length);
  require(memory != NULL, "malloc");
  memset(memory, 0xA5, length);
  return (fst_request){.file = reading->lane.file, .offset = offset, .length = length, .needed = length, .memory = memory};
}

static fst_request *wait_for(const reading *reading) {
  fst_request *request = NULL;
  while (!request) request = fst_deep_reader_http.wait(reading->state);
  return request;
}

static void check_bytes(const fst_request *request, const char *what) {
  CHECK(request->error.kind == FST_FAILURE_NONE, "%s: failed with kind %u, code %d", what, request->error.kind,
        request->error.code);
  CHECK(request->done == request->length && memcmp(request->memory, content + request->offset, request->length) == 0,
        "%s: other bytes from %llu on", what, (unsigned long long)request->offset);
}

/* Reads one range with faults; returns its error. */
static fst_error read_once(const char *what, const fault *faults, unsigned count, fault always, uint32_t retries,
                           uint32_t timeout_ms) {
  set_server(faults, count, always);
  reading reading = begin(2, retries, timeout_ms);
  fst_request request = request_for(&reading, 1000, 300000);
  fst_deep_reader_http.start(reading.state, &request);
  CHECK(wait_for(&reading) == &request, "%s: another request", what);
  const fst_error error = request.error;
  if (error.kind == FST_FAILURE_NONE) check_bytes(&request, what);
  for (uint64_t i = request.done; i < request.length; i++) { /* nothing is written behind the bytes that count */
    if ((unsigned char)request.memory[i] == 0xA5) continue;
    CHECK(0, "%s: byte %llu was written, %llu have arrived", what, (unsigned long long)i,
          (unsigned long long)request.done);
    break;
  }
  end(&reading);
  free(request.memory);
  return error;
}

/* ---- Tests ---- */

static void test_ranges(void) {
  enum { COUNT = 40 };
  set_server(NULL, 0, (fault){.kind = SERVE});
  reading reading = begin(4, 0, LONG_MS);
  fst_request requests[COUNT];
  unsigned started = 0, ended = 0;
  uint64_t bytes = 0;
  while (ended < COUNT) {
    while (started < COUNT && started - ended < reading.depth) {
      const uint64_t length = 1 + started * 4567u;
      requests[started] = request_for(&reading, started * 60000u, length);
      bytes += length;
      fst_deep_reader_http.start(reading.state, &requests[started++]);
    }
    check_bytes(wait_for(&reading), "ranges");
    ended++;
  }
  CHECK(atomic_load(&reading.plan->http_bytes) == bytes, "other count of bytes");
  CHECK(server.connections <= 4, "%u connections", server.connections);
  CHECK(atomic_load(&reading.plan->retries) == 0, "requests were repeated");
  end(&reading);
  for (unsigned i = 0; i < COUNT; i++) free(requests[i].memory);
}

/* The cache gets the same bytes at the same places; an error of it ends that, and not the load. */
static void test_cache(void) {
  set_server(NULL, 0, (fault){.kind = SERVE});
  char path[] = "/tmp/net_test_XXXXXX";
  const int fd = mkstemp(path);
  require(fd >= 0, "mkstemp");
  unlink(path);
  reading reading = begin(2, 0, LONG_MS);
  reading.lane.file->cache = 1 + (uint32_t)fd;
  const uint64_t offsets[] = {2000000, 70000};
  for (unsigned i = 0; i < 2; i++) {
    fst_request request = request_for(&reading, offsets[i], 100000);
    fst_deep_reader_http.start(reading.state, &request);
    check_bytes(wait_for(&reading), "cache");
    char *kept = malloc(100000);
    require(kept != NULL, "malloc");
    CHECK(pread(fd, kept, 100000, (off_t)offsets[i]) == 100000, "bytes are missing in the cache");
    CHECK(memcmp(kept, content + offsets[i], 100000) == 0, "other bytes in the cache");
    free(kept);
    free(request.memory);
  }
  CHECK(atomic_load(&reading.lane.file->cache_errno) == 0, "an error of the cache");
  close(fd);
  for (unsigned i = 0; i < 2; i++) {
    fst_request request = request_for(&reading, 0, 1000);
    fst_deep_reader_http.start(reading.state, &request);
    check_bytes(wait_for(&reading), "a cache that is closed");
    free(request.memory);
  }
  CHECK(atomic_load(&reading.lane.file->cache_errno) == EBADF, "error %d of a cache that is closed",
        atomic_load(&reading.lane.file->cache_errno));
  end(&reading);
}

static void test_connections_are_reused(void) {
  set_server(NULL, 0, (fault){.kind = SERVE});
  for (unsigned load = 0; load < 3; load++) {
    reading reading = begin(1, 0, LONG_MS);
    fst_request request = request_for(&reading, 0, 100);
    fst_deep_reader_http.start(reading.state, &request);
    check_bytes(wait_for(&reading), "reuse");
    end(&reading);
    free(request.memory);
  }
  CHECK(server.requests == 3 && server.connections <= 1, "%u connections for %u requests", server.connections,
        server.requests);
}

static void test_headers(void) {
  static const char headers[] = "Authorization: Bearer abc\0X-Own: 1";
  set_server(NULL, 0, (fault){.kind = SERVE});
  reading reading = begin_with(1, 0, LONG_MS, headers, sizeof headers);
  fst_request request = request_for(&reading, 5, 10);
  fst_deep_reader_http.start(reading.state, &request);
  check_bytes(wait_for(&reading), "headers");
  static const char *const expected[] = {"GET /model?secret=1 HTTP/1.1\r\n", "\r\nAccept-Encoding: identity\r\n",
                                         "\r\nIf-Match: " ETAG "\r\n",       "\r\nAuthorization: Bearer abc\r\n",
                                         "\r\nX-Own: 1\r\n",                 "\r\nRange: bytes=5-14\r\n"};
  for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) {
    CHECK(strstr(server.head, expected[i]), "no \"%s\" in: %s", expected[i], server.head);
  }
  end(&reading);
  free(request.memory);
  fst_net_file *file;
  fst_net_options options = {.size = 1};
  CHECK(fst_net_open(&options, "http://localhost/", "X: 1", 4, "", &file) == -EINVAL, "headers without a NUL");
}

/* Behaviours after which a request succeeds: all of its bytes are correct, after `requests` requests. */
static void test_retries(void) {
  const struct {
    const char *what;
    fault fault;
    unsigned requests;
  } cases[] = {
    {"503", {STATUS, 503, NULL}, 2},
    {"503 with Retry-After", {STATUS, 503, "Retry-After: 0\r\n"}, 2},
    {"429 with a date", {STATUS, 429, "Retry-After: Thu, 01 Jan 1970 00:00:00 GMT\r\n"}, 2},
    {"429 of the Hub", {STATUS, 429, "RateLimit: \"resolvers\";r=0;t=0\r\n"}, 2},
    {"429 of the Hub with requests left", {STATUS, 429, "RateLimit: \"resolvers\"; r=7; t=1000\r\n"}, 2},
    {"500", {STATUS, 500, NULL}, 2},
    {"425", {STATUS, 425, NULL}, 2},
    {"408", {STATUS, 408, NULL}, 2},
    {"a cut before the first byte", {CUT, 0, NULL}, 2},
    {"a cut after a byte", {CUT, 1, NULL}, 2},
    {"a cut in the middle", {CUT, 123457, NULL}, 2},
    {"a cut before the last byte", {CUT, 299999, NULL}, 2},
    {"a cut after the last byte", {CUT, 300000, NULL}, 1},
    {"a short body", {SHORT, 1000, NULL}, 2},
    {"200 with the right range", {SLICE, 0, NULL}, 1},
    {"an answer 103 first", {INFO, 0, NULL}, 1},
    {"a shorter range", {LESS, 99999, NULL}, 2},
    {"the encoding identity", {HEADER, 0, "Content-Encoding: identity\r\n"}, 1},
    {"a size that is not known", {RANGE, 0, "bytes 1000-300999/*"}, 1},
    {"a weak tag", {HEADER, 0, "ETag: W/" ETAG "\r\n"}, 1},
    {"a stall at once", {SILENT, 0, NULL}, 2},
    {"a stall after some bytes", {STALL, 70000, NULL}, 2},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    const int stalls = cases[i].fault.kind == SILENT || cases[i].fault.kind == STALL;
    /* Many attempts after a stall: the right answer can be late too, on a busy machine. */
    const fst_error error = read_once(cases[i].what, &cases[i].fault, 1, (fault){.kind = SERVE}, stalls ? 50 : 3,
                                      stalls ? 200 : LONG_MS);
    CHECK(error.kind == FST_FAILURE_NONE, "%s: failed with kind %u, code %d", cases[i].what, error.kind, error.code);
    if (!stalls) CHECK(server.requests == cases[i].requests, "%s: %u requests", cases[i].what, server.requests);
  }
}

/* A second attempt continues where the first one ended. */
static void test_resumes(void) {
  const fault faults[] = {{CUT, 100000, NULL}, {CUT, 70000, NULL}, {CUT, 0, NULL}};
  const fst_error error = read_once("resume", faults, 3, (fault){.kind = SERVE}, 2, LONG_MS);
  CHECK(error.kind == FST_FAILURE_NONE && server.requests == 4, "kind %u, %u requests", error.kind, server.requests);
  CHECK(server.firsts[1] == 101000 && server.firsts[2] == 171000 && server.firsts[3] == 171000, "other ranges");
  for (unsigned i = 0; i < 4; i++) CHECK(server.lasts[i] == 300999, "other end");
}

/* Behaviours after which a request fails. */
static void test_failures(void) {
  const struct {
    const char *what;
    fault fault;
    uint32_t kind;
    int32_t code;
    unsigned requests;
  } cases[] = {
    {"503 for ever", {STATUS, 503, NULL}, FST_FAILURE_HTTP, 503, 3},
    {"404", {STATUS, 404, NULL}, FST_FAILURE_HTTP, 404, 1},
    {"501", {STATUS, 501, NULL}, FST_FAILURE_HTTP, 501, 1},
    {"429 with a long pause", {STATUS, 429, "Retry-After: 301\r\n"}, FST_FAILURE_HTTP, 429, 1},
    {"429 of the Hub with a long pause", {STATUS, 429, "RateLimit: \"api\";r=0;t=301\r\n"}, FST_FAILURE_HTTP, 429, 1},
    {"416", {STATUS, 416, "Content-Range: bytes */3145728\r\n"}, FST_FAILURE_HTTP, 416, 1},
    {"416 with another size", {STATUS, 416, "Content-Range: bytes */10\r\n"}, FST_FAILURE_CHANGED, 416, 1},
    {"412", {STATUS, 412, NULL}, FST_FAILURE_CHANGED, 412, 1},
    {"the whole file", {WHOLE, 0, NULL}, FST_FAILURE_HTTP, 200, 1},
    {"another tag", {HEADER, 0, "ETag: \"v2\"\r\n"}, FST_FAILURE_CHANGED, 206, 1},
    {"another size", {RANGE, 0, "bytes 1000-300999/3145729"}, FST_FAILURE_CHANGED, 206, 1},
    {"another start", {RANGE, 0, "bytes 1001-301000/3145728"}, FST_FAILURE_ANSWER, FST_NET_ANSWER_RANGE, 1},
    {"a later end", {RANGE, 0, "bytes 1000-301000/3145728"}, FST_FAILURE_ANSWER, FST_NET_ANSWER_RANGE, 1},
    {"a range that is shorter than its body", {RANGE, 0, "bytes 1000-300998/3145728"}, FST_FAILURE_ANSWER,
     FST_NET_ANSWER_LONG, 1},
    {"an end before the start", {RANGE, 0, "bytes 1000-999/3145728"}, FST_FAILURE_ANSWER, FST_NET_ANSWER_RANGE, 1},
    {"a number that is too large", {RANGE, 0, "bytes 18446744073709552616-300999/3145728"}, FST_FAILURE_ANSWER,
     FST_NET_ANSWER_RANGE, 1},
    {"no range", {RANGE, 0, ""}, FST_FAILURE_ANSWER, FST_NET_ANSWER_RANGE, 1},
    {"another unit", {RANGE, 0, "items 1000-300999/3145728"}, FST_FAILURE_ANSWER, FST_NET_ANSWER_RANGE, 1},
    {"gzip", {HEADER, 0, "Content-Encoding: gzip\r\n"}, FST_FAILURE_ANSWER, FST_NET_ANSWER_ENCODED, 1},
    {"endless headers", {ENDLESS, 0, NULL}, FST_FAILURE_ANSWER, FST_NET_ANSWER_HEAD, 1},
    {"a long body", {LONG, 0, NULL}, FST_FAILURE_ANSWER, FST_NET_ANSWER_LONG, 1},
    {"cuts for ever", {CUT, 10, NULL}, FST_FAILURE_CONNECTION, 18, 3},
    {"stalls for ever", {STALL, 10, NULL}, FST_FAILURE_CONNECTION, 28, 3},
  };
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    const uint32_t timeout_ms = cases[i].fault.kind == STALL ? 100 : LONG_MS;
    const fst_error error = read_once(cases[i].what, NULL, 0, cases[i].fault, 2, timeout_ms);
    CHECK(error.kind == cases[i].kind && error.code == cases[i].code, "%s: kind %u, code %d", cases[i].what, error.kind,
          error.code);
    CHECK(error.offset == 1000 && error.expected == 300000, "%s: other range", cases[i].what);
    if (cases[i].fault.kind != STALL || error.kind != cases[i].kind) {
      CHECK(server.requests == cases[i].requests, "%s: %u requests", cases[i].what, server.requests);
    }
  }
}

static void test_no_server(void) {
  fst_net_options options = {.size = FILE_BYTES, .retries = 1, .timeout_ms = LONG_MS};
  reading reading = begin(1, 0, LONG_MS);
  fst_net_file *file;
  require(fst_net_open(&options, "http://127.0.0.1:1/model", NULL, 0, "", &file) == 0, "fst_net_open");
  reading.lane.file->reader_handle = (uintptr_t)file;
  fst_request request = request_for(&reading, 0, 10);
  fst_deep_reader_http.start(reading.state, &request);
  wait_for(&reading);
  CHECK(request.error.kind == FST_FAILURE_CONNECTION && request.error.code == 7, "kind %u, code %d",
        request.error.kind, request.error.code);
  CHECK(atomic_load(&reading.plan->retries) == 1, "%u retries", atomic_load(&reading.plan->retries));
  char text[100];
  CHECK(fst_net_error_text(7, text, sizeof text) == (int)strlen(text) && *text, "no text");
  end(&reading);
  fst_net_close(file);
  free(request.memory);
}

/* ---- An address that expires ---- */

static void *renew(void *argument) {
  reading *reading = argument;
  static const char headers[] = "X-Token: 2";
  char url[64];
  while (!fst_net_is_stale(reading->file)) usleep(1000);
  while (atomic_load(&reading->plan->wake) == 0) usleep(1000); /* each lane that waits wakes the plan */
  snprintf(url, sizeof url, "http://127.0.0.1:%d/renewed", server.port);
  require(fst_net_renew(reading->file, url, headers, sizeof headers) == 0, "fst_net_renew");
  return NULL;
}

/* Each of these says that the address is not valid any more; after that the new one is used. */
static void test_refused_address(int status) {
  const fault refusal = {.kind = STATUS, .value = (uint64_t)status, .text = "Location: http://127.0.0.1:1/\r\n"};
  set_server(&refusal, 1, (fault){.kind = SERVE});
  reading reading = begin(1, 0, LONG_MS);
  pthread_t thread;
  require(pthread_create(&thread, NULL, renew, &reading) == 0, "pthread_create");
  fst_request request = request_for(&reading, 10, 100);
  fst_deep_reader_http.start(reading.state, &request);
  check_bytes(wait_for(&reading), "a new address");
  pthread_join(thread, NULL);
  CHECK(strstr(server.head, "GET /renewed ") && strstr(server.head, "X-Token: 2"), "other head: %s", server.head);
  end(&reading);
  free(request.memory);
}

static void test_expired_address(const char *token, uint32_t kind) {
  static const char headers[] = "X-Token: 1";
  const fault valid = {.kind = TOKEN, .text = "X-Token: 1"};
  set_server(&valid, 1, (fault){.kind = TOKEN, .text = token});
  reading reading = begin_with(4, 0, LONG_MS, headers, sizeof headers);
  pthread_t thread;
  require(pthread_create(&thread, NULL, renew, &reading) == 0, "pthread_create");
  fst_request requests[4];
  for (unsigned i = 0; i < 4; i++) {
    requests[i] = request_for(&reading, i * 100000, 100000);
    fst_deep_reader_http.start(reading.state, &requests[i]);
  }
  unsigned succeeded = 0;
  for (unsigned i = 0; i < 4; i++) {
    const fst_request *request = wait_for(&reading);
    if (request->error.kind == FST_FAILURE_NONE) succeeded++;
    else CHECK(request->error.kind == kind && request->error.code == 403, "kind %u", request->error.kind);
  }
  CHECK(succeeded == (kind == FST_FAILURE_NONE ? 4 : 1), "%u requests have succeeded", succeeded);
  pthread_join(thread, NULL);
  end(&reading);
  for (unsigned i = 0; i < 4; i++) free(requests[i].memory);
}

/* ---- The end of a lane ---- */

static void test_close_in_flight(void) {
  const fault faults[] = {{STALL, 50000, NULL}, {SILENT, 0, NULL}, {STATUS, 503, "Retry-After: 1000\r\n"}};
  set_server(faults, 3, (fault){.kind = SERVE});
  reading reading = begin(4, 5, LONG_MS);
  fst_request requests[4];
  for (unsigned i = 0; i < 4; i++) {
    requests[i] = request_for(&reading, i * 100000, 100000);
    fst_deep_reader_http.start(reading.state, &requests[i]);
  }
  wait_for(&reading); /* the one without a fault */
  end(&reading);
  for (unsigned i = 0; i < 4; i++) free(requests[i].memory); /* a later write would be an error of the sanitizer */
  set_server(NULL, 0, (fault){.kind = SERVE});
  test_ranges(); /* on the same handles */
}

static void *read_in_thread(void *argument) {
  (void)argument;
  reading reading = begin(3, 0, LONG_MS);
  for (unsigned round = 0; round < 20; round++) {
    fst_request requests[3];
    for (unsigned i = 0; i < 3; i++) {
      requests[i] = request_for(&reading, (round * 3 + i) * 10000, 20000);
      fst_deep_reader_http.start(reading.state, &requests[i]);
    }
    for (unsigned i = 0; i < 3; i++) {
      const fst_request *request = wait_for(&reading);
      require(request->error.kind == FST_FAILURE_NONE, "a request in a thread");
      require(memcmp(request->memory, content + request->offset, request->length) == 0, "the bytes in a thread");
    }
    for (unsigned i = 0; i < 3; i++) free(requests[i].memory);
  }
  end(&reading);
  return NULL;
}

static void test_threads(void) {
  set_server(NULL, 0, (fault){.kind = SERVE});
  pthread_t threads[4];
  for (unsigned i = 0; i < 4; i++) {
    require(pthread_create(&threads[i], NULL, read_in_thread, NULL) == 0, "pthread_create");
  }
  for (unsigned i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

static void test_missing_library(void) {
  char path[2048], reason[2048];
  set_variable("FASTSAFETENSORS_CURL_LIB", "/nowhere/libcurl.so");
  CHECK(fst_net_find(path, reason, sizeof reason) == -ENOENT, "a missing library was found");
  CHECK(strstr(reason, "FASTSAFETENSORS_CURL_LIB names \"/nowhere/libcurl.so\""), "%s", reason);
  set_variable("FASTSAFETENSORS_CURL_LIB", NULL);
  fst_net_options options = {.size = 1};
  fst_net_file *file;
  CHECK(fst_net_open(&options, "http://localhost/", NULL, 0, "", &file) == -ENOSYS, "a file without a library");
}

int main(void) {
  char path[2048], reason[2048];
  test_missing_library();
  if (fst_net_find(path, reason, sizeof path) != 0) {
    printf("net_test: not run, there is no libcurl: %s\n", reason);
    return report("net_test");
  }
  content = malloc(FILE_BYTES);
  require(content != NULL, "malloc");
  uint32_t state = 88172645u;
  for (uint64_t i = 0; i < FILE_BYTES; i++) content[i] = (char)noise_next(&state);
  start_server(content, FILE_BYTES, ETAG);
  test_ranges();
  test_cache();
  test_connections_are_reused();
  test_headers();
  test_retries();
  test_resumes();
  test_failures();
  test_no_server();
  test_expired_address("X-Token: 2", FST_FAILURE_NONE);
  test_expired_address("X-Token: 3", FST_FAILURE_HTTP);
  for (unsigned i = 0; i < 5; i++) test_refused_address((const int[]){400, 401, 403, 302, 307}[i]);
  test_close_in_flight();
  test_threads();
  return report("net_test");
}
