/*
 * What the library leaves behind on the threads and devices that it uses, and how it ends: on the stand-ins of
 * tests/sim/cuda. Link with libfst_sim_cuda.so.
 */
#include "cuda_support.h"

#include <sys/wait.h>

#include "../sim/cuda/cuda_abi.h"

#define BYTES 4096u

static void *current(void) {
  void *context = NULL;
  require(cuCtxGetCurrent(&context) == 0, "cuCtxGetCurrent");
  return context;
}

/* Calls everything that uses device 1. */
static void use_device_1(void) {
  static char bytes[BYTES];
  fst_cuda_device_info info;
  CHECK(fst_cuda_device(1, &info) == 0 && info.total_bytes > 0, "the device's properties");
  fst_cuda_allocation memory = allocate(1, BYTES);
  uint64_t address;
  fst_cuda_pinned *pinned;
  CHECK(fst_cuda_pin(1, 65536, FST_CUDA_PIN_NOW, &address, &pinned) == 0, "pinning");
  CHECK(fst_cuda_write(1, memory.address, bytes, BYTES, 0) == 0, "writing");
  CHECK(fst_cuda_read(1, bytes, memory.address, BYTES, 0) == 0, "reading");
  CHECK(fst_cuda_write(1, memory.address, (void *)(uintptr_t)address, BYTES, 1) == 0, "writing pinned memory");
  CHECK(fst_cuda_read(1, (void *)(uintptr_t)address, memory.address, BYTES, 1) == 0, "reading to pinned memory");
  CHECK(fst_cuda_copy(1, memory.address, 1, memory.address + BYTES / 2, 16) == 0, "copying");
  fst_cuda_load_options options = {1, 1, (uintptr_t)pinned, 65536, FST_GDS_AUTO, 1, 0, 0};
  fst_cuda_load *load = NULL;
  char reason[512];
  CHECK(fst_cuda_load_open(&options, &load, reason, sizeof reason) == 0, "opening a load");
  if (load) fst_cuda_load_close(load);
  CHECK(fst_cuda_copy(1, memory.address, 0, 1, BYTES) != 0, "a copy that fails");
  fst_sim_fail("cudaMemcpyAsync:1:1");
  CHECK(fst_cuda_copy(1, memory.address, 1, memory.address + BYTES / 2, 16) == 1, "a copy that fails");
  fst_sim_fail(NULL);
  fst_cuda_unpin(pinned);
  fst_cuda_release(memory.block);
  wait_for_releases();
  fst_sim_reset();
}

/* A thread of the program has nothing current, a device of its own, or a context of its own. */
static void test_current(void) {
  require(cuInit(0) == 0, "cuInit");
  CHECK(current() == NULL, "the test has a context");
  use_device_1();
  CHECK(current() == NULL, "a context stays current on a thread that had none");
  int device = -1;
  require(cudaSetDevice(0) == 0 && cudaFree(NULL) == 0, "cudaSetDevice");
  void *before = current(), *own = NULL;
  use_device_1();
  CHECK(current() == before && cudaGetDevice(&device) == 0 && device == 0, "device %d is current, 0 was", device);
  require(cuCtxCreate_v2(&own, 0, 0) == 0, "cuCtxCreate");
  use_device_1();
  CHECK(current() == own, "the context of the program is not current any more");
  require(cuCtxDestroy_v2(own) == 0, "cuCtxDestroy");
  check_clean("current devices");
}

/* Looking at devices leaves no context: each takes some hundred megabytes of its device. */
static void test_properties(void) {
  set_sim("FST_SIM_DEVICES", "8");
  const uint64_t before = fst_sim_live_contexts();
  fst_cuda_info info;
  char path[512], reason[512];
  CHECK(fst_cuda_find(&info, path, reason, sizeof reason) == 0 && info.devices == 8, "%d devices", info.devices);
  for (int32_t device = 0; device < info.devices; device++) {
    fst_cuda_device_info found;
    CHECK(fst_cuda_device(device, &found) == 0 && found.free_bytes > 0, "device %d", device);
  }
  CHECK(fst_sim_live_contexts() == before, "%llu contexts are left",
        (unsigned long long)(fst_sim_live_contexts() - before));
  set_sim("FST_SIM_DEVICES", NULL);
  check_clean("properties");
}

static void test_waits(void) {
  static char text[65536];
  use_device_1();
  fst_cuda_allocation memory = allocate(0, BYTES);
  CHECK(fst_cuda_copy(0, memory.address, 0, memory.address + BYTES / 2, 16) == 0, "copying");
  CHECK(fst_cuda_write(0, memory.address, text, BYTES, 0) == 0, "writing");
  fst_sim_report(text, sizeof text);
  CHECK(strstr(text, "\"spins\":0"), "a wait uses a whole core: %s", text);
  fst_cuda_release(memory.block);
  check_clean("waits");
}

static _Atomic int has_copied;

static void *copy_until_the_end(void *argument) {
  const fst_cuda_allocation *memory = argument;
  while (fst_cuda_copy(0, memory->address, 0, memory->address + BYTES / 2, 16) == 0) atomic_store(&has_copied, 1);
  return NULL;
}

/* The process ends while a thread uses a device: the stand-in aborts it if a call comes after the libraries' end. */
static void test_exit(void) {
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) {
    set_sim("FST_SIM_UNLOAD_US", "50000");
    fst_cuda_allocation memory = allocate(0, BYTES);
    pthread_t thread;
    require(pthread_create(&thread, NULL, copy_until_the_end, &memory) == 0, "pthread_create");
    pthread_detach(thread);
    while (!atomic_load(&has_copied)) usleep(100);
    exit(7);
  }
  int status = 0;
  require(waitpid(child, &status, 0) == child, "waitpid");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the process ended with status %#x", status);
}

int main(void) {
  use_stand_ins();
  test_exit();
  test_current();
  test_properties();
  test_waits();
  return report("cuda/context_test");
}
