/* Copies: that they are late, right, bounded, and of the memory they should be of. */
#include <stdlib.h>
#include <time.h>

#include "self_test.h"

enum { BYTES = 300000 };

static void reading_before_synchronising_gives_wrong_bytes(void) {
  configure("FST_SIM_DELAY_US", "300");
  unsigned char *device = device_new(BYTES), *host = pinned_new(BYTES), *back = pinned_new(BYTES);
  void *stream = stream_new();
  fill_pattern(host, BYTES, 3);
  int wrong = 0;
  for (int i = 0; i < 40; i++) {
    OK(cudaMemcpyAsync(device, host, BYTES, H2D, stream));
    OK(cudaMemcpyAsync(back, device, BYTES, D2H, stream));
    wrong += racy_read(back + BYTES - 1) != host[BYTES - 1];
    OK(cudaStreamSynchronize(stream));
    CHECK(is_pattern(back, BYTES, 3));
  }
  CHECK(wrong >= 30);
  unsigned char peeked[64];
  OK(fst_sim_peek(device + 1000, peeked, sizeof peeked));
  CHECK_EQUAL(memcmp(peeked, host + 1000, sizeof peeked), 0);
  OK(cudaStreamDestroy(stream));
  OK(cudaFreeHost(host));
  OK(cudaFreeHost(back));
  OK(cudaFree(device));
}

static void changing_a_source_in_flight_is_noticed(void) {
  configure("FST_SIM_DELAY_US", "20000");
  unsigned char *device = device_new(BYTES), *host = pinned_new(BYTES), *back = pinned_new(BYTES);
  void *stream = stream_new();
  int wrong = 0;
  for (int i = 0; i < 6; i++) {
    fill_pattern(host, BYTES, 4);
    OK(cudaMemcpyAsync(device, host, BYTES, H2D, stream));
    racy_write(host + 77, (unsigned char)(host[77] + 1)); /* the next block is read into the slot too soon */
    OK(cudaMemcpyAsync(back, device, BYTES, D2H, stream));
    OK(cudaStreamSynchronize(stream));
    wrong += !is_pattern(back, BYTES, 4);
  }
  CHECK(wrong > 0);
  CHECK_EQUAL(fst_sim_violations_of("source-changed"), wrong);
  OK(cudaStreamDestroy(stream));
  OK(cudaFreeHost(host));
  OK(cudaFreeHost(back));
  OK(cudaFree(device));
  expect_violations("source-changed", (uint64_t)wrong);
}

static void pageable_memory_is_noticed(void) {
  unsigned char *device = device_new(BYTES), *host = malloc(BYTES);
  fill_pattern(host, BYTES, 5);
  OK(cudaMemcpyAsync(device, host, BYTES, H2D, NULL));
  memset(host, 0, BYTES); /* CUDA has staged it: legal */
  OK(cudaMemcpyAsync(host, device, BYTES, D2H, NULL));
  CHECK(is_pattern(host, BYTES, 5)); /* and this one has come back when the call returns */
  CHECK(reported("\"pageableAsync\":2"));
  fill_pattern(host, BYTES, 6);
  OK(cudaMemcpy(device, host, BYTES, H2D));
  memset(host, 0, BYTES);
  OK(cudaMemcpy(host, device, BYTES, D2H));
  CHECK(is_pattern(host, BYTES, 6));
  free(host);
  OK(cudaFree(device));
  expect_violations("pageable-async", 2);
}

static void rows_are_copied_by_their_pitch(void) {
  enum { ROWS = 50, WIDTH = 7, PITCH = 19 };
  unsigned char *device = device_new(ROWS * PITCH), *host = pinned_new(ROWS * PITCH), *back = pinned_new(ROWS * WIDTH);
  fill_pattern(host, ROWS * PITCH, 8);
  OK(cudaMemcpy2DAsync(device, PITCH, host, PITCH, PITCH, ROWS, H2D, NULL));
  OK(cudaMemcpy2DAsync(back, WIDTH, device + 3, PITCH, WIDTH, ROWS, D2H, NULL));
  OK(cudaStreamSynchronize(NULL));
  bool same = true;
  for (int row = 0; row < ROWS; row++) same &= memcmp(back + row * WIDTH, host + row * PITCH + 3, WIDTH) == 0;
  CHECK(same);
  CHECK(reported("\"h2d\":950,\"d2h\":350,"));
  CHECK_EQUAL(cudaMemcpy2DAsync(device, WIDTH - 1, host, PITCH, WIDTH, ROWS, H2D, NULL), 1);
  CHECK_EQUAL(cudaMemcpy2DAsync(device + 13, PITCH, host, PITCH, WIDTH, ROWS, H2D, NULL), 1); /* one byte beyond */
  OK(cudaMemcpy2DAsync(device, PITCH, host, PITCH, 0, ROWS, H2D, NULL));
  OK(cudaFreeHost(host));
  OK(cudaFreeHost(back));
  OK(cudaFree(device));
  expect_violations("out-of-bounds", 1);
}

static void overlapping_copies_are_noticed(void) {
  unsigned char *device = device_new(1000);
  OK(cudaMemcpyAsync(device, device + 100, 100, D2D, NULL));
  OK(cudaMemcpyAsync(device, device + 99, 100, D2D, NULL));
  OK(cudaMemcpy2DAsync(device, 100, device + 50, 100, 50, 9, D2D, NULL)); /* columns beside each other */
  OK(cudaMemcpy2DAsync(device, 100, device + 49, 100, 50, 9, D2D, NULL));
  OK(cudaMemcpy2DAsync(device, 100, device + 249, 100, 60, 5, D2D, NULL)); /* row 3 begins in row 2's end */
  OK(cudaMemcpy2DAsync(device, 50, device + 100, 100, 50, 9, D2D, NULL));
  OK(cudaFree(device));
  expect_violations("overlap", 4);
}

static void fills_and_copies_on_the_device(void) {
  unsigned char *first = device_new(BYTES), *second = device_new(BYTES), *back = pinned_new(BYTES);
  void *stream = stream_new();
  OK(cudaMemsetAsync(first, 0x41, BYTES, stream));
  OK(cudaMemcpyAsync(second + 5, first, BYTES - 5, D2D, stream));
  OK(cudaMemsetAsync(second, 0x42, 5, stream));
  OK(cudaMemcpyAsync(back, second, BYTES, 4, stream));
  OK(cudaStreamSynchronize(stream));
  CHECK(is_filled(back, 5, 0x42));
  CHECK(is_filled(back + 5, BYTES - 5, 0x41));
  OK(cudaStreamDestroy(stream));
  OK(cudaFree(first));
  OK(cudaFree(second));
  OK(cudaFreeHost(back));
}

static void devices_are_distinguished(void) {
  int count = 0, can = 0, current = -1;
  OK(cudaGetDeviceCount(&count));
  CHECK_EQUAL(count, 2);
  CHECK_EQUAL(cudaSetDevice(2), 101);
  CHECK_EQUAL(cudaSetDevice(-1), 101);
  unsigned char *first = device_new(BYTES), *host = pinned_new(BYTES);
  void *stream = stream_new(), *event = event_new();
  OK(cudaSetDevice(1));
  OK(cudaGetDevice(&current));
  CHECK_EQUAL(current, 1);
  unsigned char *second = device_new(BYTES);
  CHECK_EQUAL(fst_sim_live_device_bytes(0), fst_sim_live_device_bytes(1));
  void *own = stream_new();
  CHECK_EQUAL(cudaMemcpyAsync(first, host, BYTES, H2D, stream), 400); /* enqueued while device 1 is current */
  CHECK_EQUAL(cudaEventRecord(event, own), 400);
  OK(cudaStreamSynchronize(stream));
  OK(cudaStreamQuery(stream));
  fill_pattern(host, BYTES, 9);
  OK(cudaMemcpyAsync(first, host, BYTES, H2D, own)); /* memory of the other device: legal, and counted */
  OK(cudaDeviceCanAccessPeer(&can, 0, 1));
  CHECK_EQUAL(can, 1);
  OK(cudaMemcpyPeerAsync(second, 1, first, 0, BYTES, own));
  CHECK_EQUAL(cudaMemcpyPeerAsync(second, 0, first, 1, BYTES, own), 1);
  OK(cudaStreamSynchronize(own));
  memset(host, 0, BYTES);
  OK(cudaMemcpyAsync(host, second, BYTES, D2H, own));
  OK(cudaStreamSynchronize(own));
  CHECK(is_pattern(host, BYTES, 9));
  CHECK(reported("\"foreignDevice\":2"));
  CHECK(reported("\"peer\":300000"));
  char bus[2][16];
  OK(cudaDeviceGetPCIBusId(bus[0], 16, 0));
  OK(cudaDeviceGetPCIBusId(bus[1], 16, 1));
  CHECK(strcmp(bus[0], "0000:01:00.0") == 0 && strcmp(bus[1], "0000:02:00.0") == 0);
  OK(cudaStreamDestroy(own));
  OK(cudaStreamDestroy(stream));
  OK(cudaEventDestroy(event));
  OK(cudaFree(first));
  OK(cudaFree(second));
  OK(cudaFreeHost(host));
  expect_violations("wrong-device", 3);
}

static void bandwidth_is_shared_by_the_streams(void) {
  configure("FST_SIM_DELAY_US", "0");
  configure("FST_SIM_COPY_GBPS", "0.1"); /* 100 bytes in a microsecond */
  unsigned char *device = device_new(2 * MIB), *host = pinned_new(2 * MIB);
  void *streams[] = {stream_new(), stream_new()};
  struct timespec start, stop;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < 2; i++) OK(cudaMemcpyAsync(device + i * MIB, host + i * MIB, MIB, H2D, streams[i]));
  for (int i = 0; i < 2; i++) OK(cudaStreamSynchronize(streams[i]));
  clock_gettime(CLOCK_MONOTONIC, &stop);
  double seconds = (double)(stop.tv_sec - start.tv_sec) + (double)(stop.tv_nsec - start.tv_nsec) / 1e9;
  CHECK(seconds >= 2 * MIB / 0.1e9);
  for (int i = 0; i < 2; i++) OK(cudaStreamDestroy(streams[i]));
  OK(cudaFree(device));
  OK(cudaFreeHost(host));
}

const test_case stream_cases[] = {
    {"reading before synchronising gives wrong bytes", reading_before_synchronising_gives_wrong_bytes},
    {"changing a source in flight is noticed", changing_a_source_in_flight_is_noticed},
    {"copies of pageable memory are noticed", pageable_memory_is_noticed},
    {"rows are copied by their pitch", rows_are_copied_by_their_pitch},
    {"overlapping copies are noticed", overlapping_copies_are_noticed},
    {"fills and copies on the device", fills_and_copies_on_the_device},
    {"devices are distinguished", devices_are_distinguished},
    {"bandwidth is shared by the streams", bandwidth_is_shared_by_the_streams},
    {NULL, NULL},
};
