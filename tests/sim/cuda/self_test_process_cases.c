/* Cases in a separate process: the report at its end, no device, an old driver. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "self_test.h"

static void leak_things(void) {
  device_new(12345);
  pinned_new(100);
  static char own[8192];
  cudaHostRegister(own, sizeof own, 1);
  stream_new();
  event_new();
  cuFileDriverOpen();
  cudaFree(own);
  cudaFree(own);
}

int child_main(const char *argument) {
  int count = -1, version = -1;
  void *pointer = NULL;
  if (strcmp(argument, "leaks") == 0) {
    leak_things();
    return 0;
  }
  if (strcmp(argument, "violations") == 0) return cudaFree(&count) != 1 || fst_sim_violations() != 1;
  if (strcmp(argument, "no-device") == 0) {
    return cudaGetDeviceCount(&count) != 100 || count != 0 || cudaMalloc(&pointer, 1) != 100 || cuInit(0) != 100 ||
           cudaSetDevice(0) != 100 || cudaDriverGetVersion(&version) != 0 || version != 12040;
  }
  if (strcmp(argument, "old-driver") == 0) {
    return cudaGetDeviceCount(&count) != 35 || count != 0 || cudaMalloc(&pointer, 1) != 35 || cuInit(0) != 0 ||
           cudaDriverGetVersion(&version) != 0 || version != 10010;
  }
  if (strcmp(argument, "injected") == 0) return cudaMalloc(&pointer, 1) != 2;
  if (strcmp(argument, "no-context") == 0) {
    return cuDeviceGet(&count, 0) != 3 || cuInit(0) != 0 || cuDeviceGet(&count, 0) != 0 || cudaSetDevice(0) != 0 ||
           cuModuleLoadData(&pointer, "") != 201;
  }
  return 99;
}

/* Reads and removes a file. */
static void take_file(const char *path, char *text, size_t size) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t length = fd < 0 ? 0 : read(fd, text, size - 1);
  text[length < 0 ? 0 : length] = '\0';
  if (fd >= 0) close(fd);
  unlink(path);
}

static void leaks_are_reported_at_the_end(void) {
  char path[4096], text[16384];
  const char *folder = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/fst_sim_report_%d", folder ? folder : "/tmp", (int)getpid());
  const char *variables[] = {"FST_SIM_REPORT", path, "ASAN_OPTIONS", "detect_leaks=0"};
  OK(run_child("leaks", variables, 4));
  OK(run_child("violations", variables, 4));
  take_file(path, text, sizeof text);
  static const char *const wanted[] = {
      "{\"standIn\":\"fastsafetensors CUDA stand-in\",",
      "\"live\":{\"total\":6,\"allocations\":1,\"deviceBytes\":12800,\"pinned\":1,\"pinnedBytes\":100,",
      "\"registered\":1,\"registeredBytes\":8192,\"streams\":1,\"events\":1,\"modules\":0,",
      "\"cufileHandles\":0,\"cufileBuffers\":0,\"cufileDriver\":1,",
      "\"leaks\":[\"device 0: allocation 1, 12345 bytes\",\"pinned: 100 bytes\",\"registered: 8192 bytes\"]",
      "\"violations\":{\"total\":2,\"kinds\":{\"bad-free\":{\"count\":2,\"first\":[\"cudaFree: 0x",
      "\"violations\":{\"total\":1,",
  };
  for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
    if (!CHECK(strstr(text, wanted[i]) != NULL)) printf("  %s\n  not in %s\n", wanted[i], text);
  }
  int lines = 0;
  for (const char *at = text; *at; at++) lines += *at == '\n';
  CHECK_EQUAL(lines, 2);
}

static void environment_is_read_at_the_start(void) {
  OK(run_child("no-device", (const char *[]){"FST_SIM_DEVICES", "0"}, 2));
  OK(run_child("old-driver", (const char *[]){"FST_SIM_DRIVER", "old"}, 2));
  OK(run_child("injected", (const char *[]){"FST_SIM_FAIL", "cudaMalloc:1:2"}, 2));
  OK(run_child("no-context", NULL, 0));
}

static void ends_the_process(void *variables) {
  setenv(((const char **)variables)[0], ((const char **)variables)[1], 1);
  fst_sim_reset();
}

static void nonsense_in_the_environment_is_refused(void) {
  CHECK(signal_of(ends_the_process, (const char *[]){"FST_SIM_DEVICES", "two"}) != 0);
  CHECK(signal_of(ends_the_process, (const char *[]){"FST_SIM_GDS", "maybe"}) != 0);
  CHECK(signal_of(ends_the_process, (const char *[]){"FST_SIM_FAIL", "cudaMalloc"}) != 0);
  CHECK(signal_of(ends_the_process, (const char *[]){"FST_SIM_CHECKS", "0"}) == 0);
}

const test_case process_cases[] = {
    {"leaks are reported at the end", leaks_are_reported_at_the_end},
    {"the environment is read at the start", environment_is_read_at_the_start},
    {"nonsense in the environment is refused", nonsense_in_the_environment_is_refused},
    {NULL, NULL},
};
