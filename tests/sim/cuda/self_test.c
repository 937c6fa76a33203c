/* Self test of the stand-ins: that they do what CUDA does, and that they catch what they are there to catch. */
#include "self_test.h"

#include <stdio.h>
#include <unistd.h>

/* On device 0, and without an error of the case before. */
static void begin(void) {
  cudaSetDevice(0);
  cudaGetLastError();
}

const stand_in tested = {
  .name = fst_sim_name,
  .violations = fst_sim_violations,
  .violations_of = fst_sim_violations_of,
  .live_total = fst_sim_live_total,
  .report = fst_sim_report,
  .reset = fst_sim_reset,
  .begin = begin,
};

bool use_kernels(const char *file) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
  while (length > 0 && path[length - 1] != '/') length--;
  snprintf(path + (length > 0 ? length : 0), 64, "%s", file);
  if (access(path, R_OK) != 0) return false;
  configure("FST_SIM_KERNELS", path);
  return true;
}

__attribute__((noinline, no_sanitize("thread", "address"))) unsigned char racy_read(
    const volatile unsigned char *address) {
  return *address;
}

__attribute__((noinline, no_sanitize("thread", "address"))) void racy_write(volatile unsigned char *address,
                                                                           unsigned char value) {
  *address = value;
}

static void *needed(int code, void *made) {
  if (code == 0 && made) return made;
  cannot_go_on(cudaGetErrorString(code));
}

unsigned char *device_new(size_t bytes) {
  void *made = NULL;
  int code = cudaMalloc(&made, bytes);
  return needed(code, made);
}

unsigned char *pinned_new(size_t bytes) {
  void *made = NULL;
  int code = cudaHostAlloc(&made, bytes, 1);
  return needed(code, made);
}

void *stream_new(void) {
  void *made = NULL;
  int code = cudaStreamCreateWithFlags(&made, 1);
  return needed(code, made);
}

void *event_new(void) {
  void *made = NULL;
  int code = cudaEventCreateWithFlags(&made, 2);
  return needed(code, made);
}

static unsigned char pattern(size_t index, unsigned seed) {
  return (unsigned char)((index * 31u + (index >> 8) * 7u + seed * 101u) % 251u);
}

void fill_pattern(unsigned char *bytes, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; i++) bytes[i] = pattern(i, seed);
}

bool is_pattern(const unsigned char *bytes, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != pattern(i, seed)) return false;
  }
  return true;
}

bool is_filled(const unsigned char *bytes, size_t count, unsigned char value) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != value) return false;
  }
  return true;
}

int main(int count, char **arguments) {
  if (count > 1) return child_main(arguments[1]);
  const test_case *const lists[] = {memory_cases, stream_cases, order_cases, driver_cases,
                                    kernel_cases, cufile_cases, process_cases};
  run_cases(lists, sizeof lists / sizeof *lists);
  return finish();
}
