/* Order: streams, events, the default stream, and failures that come late. */
#include <pthread.h>

#include "self_test.h"

enum { BYTES = 65536 };

static void streams_keep_their_order(void) {
  unsigned char *device = device_new(BYTES), *back = pinned_new(BYTES);
  void *stream = stream_new();
  for (int i = 0; i < 200; i++) OK(cudaMemsetAsync(device, i, BYTES, stream));
  OK(cudaMemcpyAsync(back, device, BYTES, D2H, stream));
  OK(cudaStreamSynchronize(stream));
  CHECK(is_filled(back, BYTES, 199));
  OK(cudaStreamDestroy(stream));
  OK(cudaFree(device));
  OK(cudaFreeHost(back));
}

static void events_order_streams(void) {
  configure("FST_SIM_DELAY_US", "1000");
  unsigned char *device = device_new(BYTES), *back = pinned_new(BYTES);
  void *writer = stream_new(), *reader = stream_new(), *event = event_new();
  OK(cudaEventQuery(event)); /* never recorded: done */
  OK(cudaEventSynchronize(event));
  OK(cudaStreamWaitEvent(reader, event, 0));
  int late = 0;
  for (int i = 0; i < 20; i++) {
    OK(cudaMemsetAsync(device, 100 + i, BYTES, writer));
    OK(cudaEventRecord(event, writer));
    int state = cudaEventQuery(event);
    CHECK(state == 0 || state == 600);
    late += state == 600;
    OK(cudaStreamWaitEvent(reader, event, 0));
    OK(cudaMemcpyAsync(back, device, BYTES, D2H, reader));
    OK(cudaEventRecord(event, reader));
    OK(cudaEventSynchronize(event));
    OK(cudaEventQuery(event));
    CHECK(is_filled(back, BYTES, (unsigned char)(100 + i)));
  }
  CHECK(late > 10);
  CHECK_EQUAL(cudaGetLastError(), 0); /* "not ready" is not an error */
#ifndef __SANITIZE_THREAD__ /* which sees the missing wait as what it is, a data race on the device's memory */
  int wrong = 0;
  for (int i = 0; i < 20; i++) { /* without the wait */
    OK(cudaMemsetAsync(device, i, BYTES, writer));
    OK(cudaMemcpyAsync(back, device, BYTES, D2H, reader));
    OK(cudaStreamSynchronize(reader));
    wrong += back[0] != i;
    OK(cudaStreamSynchronize(writer));
  }
  CHECK(wrong > 0);
#endif
  OK(cudaEventDestroy(event));
  OK(cudaStreamDestroy(writer));
  OK(cudaStreamDestroy(reader));
  OK(cudaFree(device));
  OK(cudaFreeHost(back));
}

static void default_stream_waits_for_blocking_streams(void) {
  configure("FST_SIM_DELAY_US", "2000");
  unsigned char *device = device_new(BYTES), *back = pinned_new(BYTES);
  void *blocking = NULL;
  OK(cudaStreamCreateWithFlags(&blocking, 0));
  for (int i = 0; i < 10; i++) {
    OK(cudaMemsetAsync(device, i, BYTES, blocking));
    OK(cudaMemsetAsync(device, 50 + i, BYTES / 2, NULL));
    OK(cudaMemcpyAsync(back, device, BYTES, D2H, blocking));
    OK(cudaStreamSynchronize(blocking));
    CHECK(is_filled(back, BYTES / 2, (unsigned char)(50 + i)));
    CHECK(is_filled(back + BYTES / 2, BYTES / 2, (unsigned char)i));
  }
  OK(cudaMemsetAsync(device, 7, BYTES, blocking));
  OK(cudaStreamSynchronize(NULL)); /* the default stream is behind the blocking one */
  OK(cudaStreamQuery(blocking));
  OK(cudaStreamDestroy(blocking));
  OK(cudaFree(device));
  OK(cudaFreeHost(back));
}

static void destroyed_handles_are_refused(void) {
  unsigned char *device = device_new(BYTES), *host = pinned_new(BYTES);
  void *stream = stream_new(), *event = event_new();
  OK(cudaMemcpyAsync(device, host, BYTES, H2D, stream));
  OK(cudaStreamDestroy(stream)); /* with work queued: legal, the work goes on */
  CHECK_EQUAL(cudaStreamSynchronize(stream), 400);
  CHECK_EQUAL(cudaStreamDestroy(stream), 400);
  CHECK_EQUAL(cudaMemcpyAsync(device, host, BYTES, H2D, stream), 400);
  CHECK_EQUAL(cudaEventRecord(stream, NULL), 400);
  OK(cudaEventDestroy(event));
  CHECK_EQUAL(cudaEventQuery(event), 400);
  CHECK_EQUAL(cudaEventDestroy(event), 400);
  OK(cudaDeviceSynchronize());
  CHECK(reported("\"h2d\":65536"));
  OK(cudaFree(device));
  OK(cudaFreeHost(host));
  expect_violations("bad-stream", 3);
  expect_violations("bad-event", 3);
}

static void *current_device_of_a_new_thread(void *argument) {
  int device = -1;
  OK(cudaGetDevice(&device));
  CHECK_EQUAL(device, 0);
  CHECK_EQUAL(cudaMemsetAsync(((void **)argument)[0], 0, 1, ((void **)argument)[1]), 400);
  CHECK_EQUAL(cudaGetLastError(), 400);
  OK(cudaSetDevice(1));
  OK(cudaMemsetAsync(((void **)argument)[0], 0, 1, ((void **)argument)[1]));
  return NULL;
}

static void current_device_and_last_error_are_per_thread(void) {
  OK(cudaSetDevice(1));
  void *argument[] = {device_new(10), stream_new()};
  pthread_t thread;
  pthread_create(&thread, NULL, current_device_of_a_new_thread, argument);
  pthread_join(thread, NULL);
  CHECK_EQUAL(cudaGetLastError(), 0);
  OK(cudaStreamDestroy(argument[1]));
  OK(cudaFree(argument[0]));
  expect_violations("wrong-device", 1);
}

static void calls_fail_on_request(void) {
  OK(fst_sim_fail("cudaMalloc:2:2,cudaMemcpyAsync:3+:999,cudaEventRecord:*:400"));
  void *first = NULL, *second = NULL;
  OK(cudaMalloc(&first, 100));
  CHECK_EQUAL(cudaMalloc(&second, 100), 2);
  OK(cudaMalloc(&second, 100));
  unsigned char *host = pinned_new(100);
  int codes[5];
  for (int i = 0; i < 5; i++) codes[i] = cudaMemcpyAsync(first, host, 100, H2D, NULL);
  CHECK(codes[0] == 0 && codes[1] == 0 && codes[2] == 999 && codes[3] == 999 && codes[4] == 999);
  void *event = event_new();
  for (int i = 0; i < 3; i++) CHECK_EQUAL(cudaEventRecord(event, NULL), 400);
  CHECK(reported("\"injected\":7"));
  CHECK_EQUAL(fst_sim_fail("cudaMalloc"), -1);
  CHECK_EQUAL(fst_sim_fail("cudaMalloc:0:1"), -1);
  CHECK_EQUAL(fst_sim_fail("cudaMalloc:1:x"), -1);
  CHECK_EQUAL(fst_sim_fail(":1:1"), -1);
  OK(fst_sim_fail(NULL));
  OK(cudaEventRecord(event, NULL));
  OK(cudaEventDestroy(event));
  OK(cudaFree(first));
  OK(cudaFree(second));
  OK(cudaFreeHost(host));
}

static void failed_work_shows_at_the_next_wait(void) {
  OK(fst_sim_fail("stream-copy:2:999"));
  unsigned char *device = device_new(BYTES), *host = pinned_new(BYTES);
  void *stream = stream_new(), *other = stream_new(), *before = event_new(), *after = event_new();
  OK(cudaMemcpyAsync(device, host, BYTES, H2D, stream));
  OK(cudaEventRecord(before, stream));
  OK(cudaMemcpyAsync(device, host, BYTES, H2D, stream));
  OK(cudaEventRecord(after, stream));
  OK(cudaStreamWaitEvent(other, after, 0));
  OK(cudaMemsetAsync(device, 0, BYTES, other));
  OK(cudaEventSynchronize(before));
  CHECK_EQUAL(cudaEventSynchronize(after), 999);
  CHECK_EQUAL(cudaEventQuery(after), 999);
  CHECK_EQUAL(cudaStreamSynchronize(stream), 999);
  CHECK_EQUAL(cudaStreamQuery(stream), 999); /* and stays */
  CHECK_EQUAL(cudaMemcpyAsync(device, host, BYTES, H2D, stream), 999);
  CHECK_EQUAL(cudaStreamSynchronize(other), 999); /* it waited for work that failed */
  CHECK(reported("\"h2d\":65536"));
  void *next = stream_new(); /* the device is still good */
  OK(cudaMemcpyAsync(device, host, BYTES, H2D, next));
  OK(cudaStreamSynchronize(next));
  void *all[] = {stream, other, next};
  for (int i = 0; i < 3; i++) OK(cudaStreamDestroy(all[i]));
  OK(cudaEventDestroy(before));
  OK(cudaEventDestroy(after));
  OK(cudaFree(device));
  OK(cudaFreeHost(host));
}

static void lost_devices_stay_lost(void) {
  OK(fst_sim_fail("stream-fill:1:700"));
  unsigned char *device = device_new(BYTES), *host = pinned_new(BYTES);
  void *stream = stream_new(), *event = event_new(), *more = NULL;
  OK(cudaMemsetAsync(device, 0, BYTES, stream));
  CHECK_EQUAL(cudaStreamSynchronize(stream), 700);
  CHECK_EQUAL(cudaMalloc(&more, 100), 700);
  CHECK_EQUAL(cudaMemcpyAsync(device, host, BYTES, H2D, NULL), 700);
  CHECK_EQUAL(cudaEventRecord(event, stream), 700);
  OK(cudaSetDevice(1)); /* the other device does not know */
  OK(cudaMalloc(&more, 100));
  OK(cudaFree(more));
  OK(cudaSetDevice(0));
  CHECK_EQUAL(cudaEventDestroy(event), 700); /* says so, and releases all the same */
  CHECK_EQUAL(cudaStreamDestroy(stream), 700);
  CHECK_EQUAL(cudaFree(device), 700);
  CHECK_EQUAL(cudaFreeHost(host), 700);
  CHECK_EQUAL(fst_sim_live_total(), 0);
  start_over();
  OK(cudaMalloc(&more, 100));
  OK(cudaFree(more));
}

static void queries_work(void) {
  int version = 0, value = 0;
  OK(cudaRuntimeGetVersion(&version));
  CHECK_EQUAL(version, 12040);
  OK(cudaDriverGetVersion(&version));
  CHECK_EQUAL(version, 12040);
  OK(cudaDeviceGetAttribute(&value, 75, 1));
  CHECK_EQUAL(value, 8);
  OK(cudaDeviceGetAttribute(&value, 76, 1));
  CHECK_EQUAL(value, 0);
  CHECK_EQUAL(cudaDeviceGetAttribute(&value, 9999, 0), 1);
  CHECK_EQUAL(cudaDeviceGetAttribute(&value, 75, 2), 101);
  CHECK_EQUAL(cudaPeekAtLastError(), 101);
  CHECK(strcmp(cudaGetErrorName(2), "cudaErrorMemoryAllocation") == 0);
  CHECK(strstr(cudaGetErrorString(2), "stand-in") != NULL);
  CHECK(strcmp(cudaGetErrorName(12345), "unrecognized error code") == 0);
}

const test_case order_cases[] = {
    {"streams keep their order", streams_keep_their_order},
    {"events order streams", events_order_streams},
    {"the default stream waits for blocking streams", default_stream_waits_for_blocking_streams},
    {"destroyed handles are refused", destroyed_handles_are_refused},
    {"current device and last error are per thread", current_device_and_last_error_are_per_thread},
    {"calls fail on request", calls_fail_on_request},
    {"failed work shows at the next wait", failed_work_shows_at_the_next_wait},
    {"lost devices stay lost", lost_devices_stay_lost},
    {"versions, attributes and error names", queries_work},
    {NULL, NULL},
};
