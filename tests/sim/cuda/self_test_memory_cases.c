/* Device and pinned memory. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "self_test.h"

static void read_one(void *address) {
  racy_read(address);
}

static void write_one(void *address) {
  racy_write(address, 1);
}

static void host_dereference_faults(void) {
  unsigned char *device = device_new(4 * MIB);
  CHECK_EQUAL(signal_of(read_one, device), SIGSEGV);
  CHECK_EQUAL(signal_of(write_one, device + 4 * MIB - 1), SIGSEGV);
  void *stream = stream_new();
  CHECK_EQUAL(signal_of(read_one, stream), SIGSEGV);
  unsigned char *pinned = pinned_new(4096);
  CHECK_EQUAL(signal_of(write_one, pinned), 0);
  OK(cudaFreeHost(pinned));
  CHECK_EQUAL(signal_of(read_one, pinned), SIGSEGV);
  OK(cudaStreamDestroy(stream));
  OK(cudaFree(device));
}

static void memory_is_counted_and_runs_out(void) {
  configure("FST_SIM_DEVICE_BYTES", "8388608");
  size_t available = 0, total = 0;
  OK(cudaMemGetInfo(&available, &total));
  CHECK_EQUAL(total, 8 * MIB);
  CHECK_EQUAL(available, 8 * MIB);
  unsigned char *half = device_new(4 * MIB);
  OK(cudaMemGetInfo(&available, &total));
  CHECK_EQUAL(available, 4 * MIB);
  CHECK_EQUAL(fst_sim_live_device_bytes(0), 4 * MIB);
  CHECK_EQUAL(fst_sim_live_device_bytes(1), 0);
  void *more = half;
  CHECK_EQUAL(cudaMalloc(&more, 4 * MIB + 1), 2);
  CHECK(more == NULL);
  CHECK_EQUAL(cudaGetLastError(), 2);
  CHECK_EQUAL(cudaGetLastError(), 0);
  CHECK_EQUAL(cudaMalloc(&more, SIZE_MAX), 2);
  more = device_new(4 * MIB);
  CHECK_EQUAL(fst_sim_live_allocations(), 2);
  OK(cudaFree(half));
  OK(cudaFree(more));
  OK(cudaMalloc(&more, 0));
  CHECK(more == NULL);
  OK(cudaFree(NULL));
  CHECK(reported("\"peak\":{\"deviceBytes\":8388608,"));
}

static void wrong_frees_are_refused(void) {
  unsigned char *device = device_new(1000);
  int local = 0;
  CHECK_EQUAL(cudaFree(device + 1), 1);
  CHECK_EQUAL(cudaFree(&local), 1);
  CHECK_EQUAL(cudaFreeHost(device), 1);
  OK(cudaFree(device));
  CHECK_EQUAL(cudaFree(device), 1);
  CHECK_EQUAL(cudaGetLastError(), 1);
  expect_violations("bad-free", 2);
  expect_violations("bad-unpin", 1);
  expect_violations("double-free", 1);
}

static void stale_and_stray_pointers_are_refused(void) {
  unsigned char *device = device_new(1000), *host = pinned_new(2000);
  CHECK_EQUAL(cudaMemcpyAsync(device, host, 1001, H2D, NULL), 1);
  CHECK_EQUAL(cudaMemcpyAsync(host, device + 999, 2, D2H, NULL), 1);
  CHECK_EQUAL(cudaMemsetAsync(device + 500, 0, 501, NULL), 1);
  CHECK_EQUAL(cudaMemcpyAsync(host, device, 10, H2D, NULL), 1);
  CHECK_EQUAL(cudaMemcpyAsync(device, device + 500, 10, H2D, NULL), 1);
  CHECK_EQUAL(cudaMemcpyAsync(device, host, 10, 7, NULL), 21);
  OK(cudaFree(device));
  CHECK_EQUAL(cudaMemcpyAsync(device, host, 10, H2D, NULL), 1);
  CHECK_EQUAL(fst_sim_peek(device, host, 10), -1);
  OK(cudaFreeHost(host));
  expect_violations("out-of-bounds", 3);
  expect_violations("not-a-device-pointer", 1);
  expect_violations("not-a-host-pointer", 1);
  expect_violations("use-after-free", 1);
}

static void fresh_memory_is_poison_and_addresses_are_not_reused(void) {
  unsigned char *host = pinned_new(4096);
  CHECK(is_filled(host, 4096, 0xDB));
  unsigned char *seen[100];
  for (int i = 0; i < 100; i++) {
    seen[i] = device_new(4096);
    for (int other = 0; other < i; other++) CHECK(seen[i] >= seen[other] + 4096);
    memset(host, 0, 4096);
    OK(cudaMemcpy(host, seen[i], 4096, D2H));
    CHECK(is_filled(host, 4096, 0xDB));
    OK(cudaFree(seen[i]));
  }
  OK(cudaFreeHost(host));
}

static void alignment_is_exactly_the_promised_one(void) {
  unsigned char *small = device_new(100), *large = device_new(3 * MIB);
  CHECK_EQUAL((uintptr_t)small % 512, 0);
  CHECK((uintptr_t)small % 4096 != 0);
  CHECK_EQUAL((uintptr_t)large % (2 * MIB), 0);
  OK(cudaFree(small));
  OK(cudaFree(large));
}

static void registering_is_checked(void) {
  unsigned char *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK_EQUAL(cudaHostUnregister(memory), 713);
  OK(cudaHostRegister(memory, 32768, 1));
  CHECK_EQUAL(cudaHostRegister(memory + 4096, 4096, 1), 712);
  CHECK_EQUAL(fst_sim_live_registered(), 1);
  CHECK(reported("\"registeredBytes\":32768"));
  CHECK_EQUAL(cudaHostUnregister(memory + 4096), 713);
  CHECK_EQUAL(cudaFreeHost(memory), 1);
  unsigned char *device = device_new(65536);
  OK(cudaMemcpyAsync(device, memory, 32768, H2D, NULL));
  CHECK_EQUAL(cudaMemcpyAsync(device, memory + 16384, 32768, H2D, NULL), 1);
  CHECK_EQUAL(cudaHostRegister(device, 4096, 1), 1);
  OK(cudaStreamSynchronize(NULL));
  OK(cudaHostUnregister(memory));
  OK(cudaHostRegister(memory, 65536, 1));
  munmap(memory, 65536);
  OK(cudaHostUnregister(memory));
  CHECK_EQUAL(cudaHostRegister(memory, 65536, 1), 1);
  OK(cudaFree(device));
  expect_violations("bad-unpin", 3);
  expect_violations("double-register", 1);
  expect_violations("partly-pinned", 1);
  expect_violations("bad-register", 2);
  expect_violations("unmapped-while-registered", 1);
}

static void freeing_pinned_memory_in_flight_is_noticed(void) {
  configure("FST_SIM_DELAY_US", "5000");
  unsigned char *device = device_new(MIB);
  for (int i = 0; i < 4; i++) {
    unsigned char *host = pinned_new(MIB);
    for (int copy = 0; copy < 8; copy++) OK(cudaMemcpyAsync(device, host, MIB, H2D, NULL));
    OK(cudaFreeHost(host));
  }
  unsigned char *own = aligned_alloc(4096, MIB);
  memset(own, 1, MIB);
  OK(cudaHostRegister(own, MIB, 1));
  for (int copy = 0; copy < 8; copy++) OK(cudaMemcpyAsync(device, own, MIB, H2D, NULL));
  OK(cudaHostUnregister(own));
  free(own);
  OK(cudaFree(device));
  expect_violations("unpin-in-flight", 5);
}

static void free_waits_for_work_in_flight(void) {
  configure("FST_SIM_DELAY_US", "2000");
  unsigned char *device = device_new(MIB), *host = pinned_new(MIB);
  void *stream = stream_new();
  for (int i = 0; i < 10; i++) OK(cudaMemcpyAsync(device, host, MIB, H2D, stream));
  CHECK_EQUAL(cudaStreamQuery(stream), 600);
  OK(cudaFree(device));
  OK(cudaStreamQuery(stream));
  OK(cudaStreamDestroy(stream));
  OK(cudaFreeHost(host));
}

static void pool_memory_is_bound_to_its_stream(void) {
  configure("FST_SIM_DELAY_US", "20000");
  int pools = 0;
  OK(cudaDeviceGetAttribute(&pools, 115, 0));
  CHECK_EQUAL(pools, 1);
  void *own = stream_new(), *other = stream_new(), *event = event_new(), *pooled = NULL;
  unsigned char *device = device_new(MIB);
  for (int i = 0; i < 5; i++) OK(cudaMemsetAsync(device, i, MIB, own));
  OK(cudaMallocAsync(&pooled, MIB, own));
  OK(cudaEventRecord(event, own));
  OK(cudaStreamWaitEvent(other, event, 0));
  OK(cudaMemsetAsync(pooled, 0, MIB, other)); /* ordered behind the allocation */
  OK(cudaStreamSynchronize(other));
  OK(cudaFreeAsync(pooled, other));
  for (int i = 0; i < 5; i++) OK(cudaMemsetAsync(device, i, MIB, own));
  OK(cudaMallocAsync(&pooled, MIB, own));
  OK(cudaMemsetAsync(pooled, 0, MIB, other)); /* not ordered behind it */
  CHECK_EQUAL(cudaStreamSynchronize(other), 700);
  expect_violations("used-before-allocated", 1);
  configure("FST_SIM_POOLS", "0"); /* the lost device is good again */
  void *refused = NULL;
  CHECK_EQUAL(cudaMallocAsync(&refused, MIB, own), 801);
  OK(cudaDeviceGetAttribute(&pools, 115, 0));
  CHECK_EQUAL(pools, 0);
  OK(cudaFree(pooled));
  OK(cudaStreamDestroy(own));
  OK(cudaStreamDestroy(other));
  OK(cudaEventDestroy(event));
  OK(cudaFree(device));
}

static void pool_mistakes_are_named(void) {
  configure("FST_SIM_DELAY_US", "20000");
  void *own = stream_new(), *other = stream_new(), *pooled = NULL;
  OK(cudaMallocAsync(&pooled, MIB, own));
  OK(cudaStreamSynchronize(own));
  for (int i = 0; i < 5; i++) OK(cudaMemsetAsync(pooled, i, MIB, other));
  OK(cudaFreeAsync(pooled, own));
  OK(cudaDeviceSynchronize());
  CHECK_EQUAL(fst_sim_live_allocations(), 0);
  CHECK_EQUAL(cudaMemsetAsync(pooled, 0, 1, own), 1);
  CHECK_EQUAL(cudaFree(pooled), 1);
  OK(cudaStreamDestroy(own));
  OK(cudaStreamDestroy(other));
  expect_violations("freed-in-use", 1);
  expect_violations("use-after-free", 1);
  expect_violations("double-free", 1);
}

static void pointers_say_what_they_are(void) {
  unsigned char guard[sizeof(cudaPointerAttributes)];
  cudaPointerAttributes *attributes = (void *)guard;
  OK(cudaSetDevice(1));
  unsigned char *device = device_new(100), *host = pinned_new(100);
  memset(guard, 0x55, sizeof guard);
  OK(cudaPointerGetAttributes(attributes, device + 50));
  CHECK_EQUAL(attributes->type, 2);
  CHECK_EQUAL(attributes->device, 1);
  CHECK_EQUAL(guard[24], 0x55);
  OK(cudaPointerGetAttributes(attributes, host));
  CHECK_EQUAL(attributes->type, 1);
  OK(cudaPointerGetAttributes(attributes, guard));
  CHECK_EQUAL(attributes->type, 0);
  configure("FST_SIM_VERSION", "13000");
  OK(cudaPointerGetAttributes(attributes, guard));
  CHECK_EQUAL(guard[87], 0);
  OK(cudaFree(device));
  OK(cudaFreeHost(host));
}

const test_case memory_cases[] = {
    {"a host dereference faults", host_dereference_faults},
    {"device memory is counted and runs out", memory_is_counted_and_runs_out},
    {"wrong frees are refused", wrong_frees_are_refused},
    {"stale and stray pointers are refused", stale_and_stray_pointers_are_refused},
    {"fresh memory is poison and addresses are not reused", fresh_memory_is_poison_and_addresses_are_not_reused},
    {"alignment is exactly the promised one", alignment_is_exactly_the_promised_one},
    {"registering is checked", registering_is_checked},
    {"freeing pinned memory in flight is noticed", freeing_pinned_memory_in_flight_is_noticed},
    {"cudaFree waits for work in flight", free_waits_for_work_in_flight},
    {"pool memory is bound to its stream", pool_memory_is_bound_to_its_stream},
    {"mistakes with pool memory are named", pool_mistakes_are_named},
    {"pointers say what they are", pointers_say_what_they_are},
    {NULL, NULL},
};
