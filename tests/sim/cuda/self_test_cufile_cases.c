/* cuFile. */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "self_test.h"

enum { FILE_BYTES = MIB + 100, WINDOW = 65536 };

static char path[4096];

/* A file of FILE_BYTES in a pattern, opened again with more flags; -1 if they are not known here. */
static int file_open(int flags) {
  const char *folder = getenv("TMPDIR");
  snprintf(path, sizeof path, "%s/fst_sim_self_test_XXXXXX", folder ? folder : "/tmp");
  int fd = mkstemp(path);
  unsigned char *bytes = malloc(FILE_BYTES);
  fill_pattern(bytes, FILE_BYTES, 2);
  CHECK_EQUAL(write(fd, bytes, FILE_BYTES), FILE_BYTES);
  free(bytes);
  close(fd);
  return open(path, O_RDONLY | O_CLOEXEC | flags);
}

static void file_close(int fd) {
  close(fd);
  unlink(path);
}

static int file_register(void **handle, int fd) {
  CUfileDescr_t description = {.type = 1, .handle.fd = fd};
  return cuFileHandleRegister(handle, &description).err;
}

static bool device_has(const unsigned char *device, size_t count, size_t from) {
  unsigned char *expected = malloc(FILE_BYTES), *found = malloc(count);
  fill_pattern(expected, FILE_BYTES, 2);
  bool same = fst_sim_peek(device, found, count) == 0 && memcmp(found, expected + from, count) == 0;
  free(expected);
  free(found);
  return same;
}

static void read_with(int flags) {
  int fd = file_open(flags);
  if (fd < 0) {
    skipped("O_DIRECT is not known to the file system of TMPDIR");
    unlink(path);
    return;
  }
  void *handle = NULL;
  unsigned char *device = device_new(2 * MIB);
  configure("FASTSAFETENSORS_NVFS_PROC", "/proc/self/stat"); /* any existing file */
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(cuFileUseCount(), 1);
  OK(file_register(&handle, fd));
  for (size_t at = 0; at < MIB; at += WINDOW) OK(cuFileBufRegister(device + at, WINDOW, 0).err);
  CHECK(reported("\"cufileHandles\":1,\"cufileBuffers\":16,\"cufileDriver\":1"));
  for (size_t at = 0; at < MIB; at += WINDOW) {
    CHECK_EQUAL(cuFileRead(handle, device + at, WINDOW, (off_t)at, 0), WINDOW);
  }
  CHECK(device_has(device, MIB, 0));
  CHECK(reported("\"cufileReads\":16,\"unalignedReads\":0,\"unregisteredReads\":0,\"compatReads\":0"));
  CHECK(reported("\"cufile\":1048576}"));
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, MIB, 4096), -5017); /* beyond the window it is based on */
  CHECK_EQUAL(cuFileRead(handle, device + MIB, WINDOW, MIB, 0), 100); /* the file's end */
  CHECK(device_has(device + MIB, 100, MIB));
  CHECK_EQUAL(cuFileRead(handle, device + MIB, 300, 77, 13), 300);
  CHECK(device_has(device + MIB + 13, 300, 77));
  CHECK_EQUAL(cuFileRead(handle, device + MIB, 300, MIB + 4096, 0), 0);
  CHECK(reported("\"unalignedReads\":2,\"unregisteredReads\":3"));
  for (size_t at = 0; at < MIB; at += WINDOW) OK(cuFileBufDeregister(device + at).err);
  cuFileHandleDeregister(handle);
  OK(cuFileDriverClose_v2().err);
  OK(cudaFree(device));
  file_close(fd);
  expect_violations("outside-cufile-window", 1);
}

static void reads_buffered(void) {
  read_with(0);
}

static void reads_direct(void) {
  read_with(O_DIRECT);
}

static void mistakes_are_refused(void) {
  int fd = file_open(0);
  void *handle = NULL;
  unsigned char *device = device_new(MIB), host[10];
  CHECK_EQUAL(file_register(&handle, fd), 5001);
  CHECK_EQUAL(cuFileDriverClose_v2().err, 5001);
  OK(cuFileSetParameterBool(1, true).err);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(cuFileSetParameterBool(1, true).err, 5026);
  OK(file_register(&handle, fd));
  void *second = NULL;
  CHECK_EQUAL(file_register(&second, fd), 5028);
  CHECK_EQUAL(file_register(&second, -1), 5022);
  OK(cuFileBufRegister(device, 4096, 0).err);
  CHECK_EQUAL(cuFileBufRegister(device, 8192, 0).err, 5023);
  CHECK_EQUAL(cuFileBufRegister(device + MIB - 4096, 8192, 0).err, 5012);
  CHECK_EQUAL(cuFileBufDeregister(device + 4096).err, 5024);
  CHECK_EQUAL(cuFileRead(handle, host, 10, 0, 0), -5012);
  CHECK_EQUAL(cuFileRead(handle, device + 4096, MIB, 0, 0), -5014);
  CHECK_EQUAL(cuFileRead(handle, device, 10, -1, 0), -5022);
  OK(cudaSetDevice(1));
  CHECK_EQUAL(cuFileRead(handle, device, 10, 0, 0), -5015);
  OK(cudaSetDevice(0));
  OK(cudaFree(device)); /* with a buffer registered in it */
  OK(cuFileBufDeregister(device).err);
  OK(cuFileDriverClose_v2().err); /* with a file registered */
  file_close(fd);
  cuFileHandleDeregister(handle); /* after its descriptor */
  cuFileHandleDeregister(handle);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(cuFileRead(handle, device, 10, 0, 0), -5027);
  OK(cuFileDriverClose().err);
  expect_violations("cufile-not-open", 2);
  expect_violations("cufile-parameter-late", 1);
  expect_violations("out-of-bounds", 2);
  expect_violations("bad-cufile-buffer", 1);
  expect_violations("not-a-device-pointer", 1);
  expect_violations("wrong-device", 1);
  expect_violations("free-registered", 1);
  expect_violations("cufile-close-live", 1);
  expect_violations("cufile-fd-closed", 1);
  expect_violations("bad-cufile-handle", 2);
}

static void pinning_is_limited(void) {
  configure("FST_SIM_CUFILE_PINNED_BYTES", "33554432");
  unsigned char *device = device_new(64 * MIB);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(cuFileBufRegister(device, 16 * MIB + 1, 0).err, 5016);
  OK(cuFileBufRegister(device, 16 * MIB, 0).err);
  OK(cuFileBufRegister(device + 16 * MIB, 16 * MIB, 0).err);
  CHECK_EQUAL(cuFileBufRegister(device + 32 * MIB, 4096, 0).err, 5016);
  OK(cuFileBufDeregister(device).err);
  OK(cuFileBufRegister(device + 32 * MIB, 4096, 0).err);
  OK(cuFileBufDeregister(device + 16 * MIB).err);
  OK(cuFileBufDeregister(device + 32 * MIB).err);
  OK(cuFileDriverClose_v2().err);
  OK(cudaFree(device));
}

static void modes_are_distinguished(void) {
  int fd = file_open(0);
  void *handle = NULL;
  unsigned char *device = device_new(MIB);
  configure("FST_SIM_GDS", "absent");
  CHECK_EQUAL(cuFileDriverOpen().err, 5033);
  CHECK(reported("\"cufileOpens\":1"));
  configure("FST_SIM_GDS", "compat");
  OK(cuFileSetParameterBool(1, false).err);
  CHECK_EQUAL(cuFileDriverOpen().err, 5033);
  OK(cuFileSetParameterBool(1, true).err);
  OK(cuFileDriverOpen().err);
  OK(file_register(&handle, fd));
  CHECK_EQUAL(cuFileRead(handle, device, MIB, 0, 0), MIB);
  CHECK(device_has(device, MIB, 0));
  CHECK(reported("\"compatReads\":1"));
  cuFileHandleDeregister(handle);
  configure("FST_SIM_CUFILE_STRICT", "1");
  CHECK_EQUAL(file_register(&handle, fd), 5020);
  OK(cuFileDriverClose_v2().err);
  configure("FST_SIM_DEVICES", "0");
  CHECK_EQUAL(cuFileDriverOpen().err, 5011);
  CHECK_EQUAL(cuFileDriverOpen().cu_err, 999);
  configure("FST_SIM_DEVICES", "2");
  int version = 0;
  OK(cuFileGetVersion(&version).err);
  CHECK_EQUAL(version, 1110);
  OK(cudaFree(device));
  file_close(fd);
}

static unsigned control_flags(void) {
  CUfileDrvProps_t properties;
  OK(cuFileDriverGetProperties(&properties).err);
  return properties.nvfs.dcontrolflags;
}

static void the_driver_says_what_it_allows(void) {
  CUfileDrvProps_t properties;
  CHECK_EQUAL(cuFileDriverGetProperties(&properties).err, 5001);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(control_flags(), 2);
  OK(cuFileDriverClose_v2().err);
  OK(cuFileSetParameterBool(1, false).err);
  CHECK_EQUAL(cuFileDriverOpen().err, 5033); /* there is no module of the kernel */
  OK(cuFileSetParameterBool(7, true).err);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(control_flags(), 0);
  CHECK_EQUAL(cuFileDriverOpen().err, 5026);
  OK(cuFileDriverClose_v2().err);
  configure("FST_SIM_CUFILE_TAKEN", "compatible");
  CHECK_EQUAL(cuFileSetParameterBool(1, false).err, 5026);
  CHECK_EQUAL(cuFileDriverOpen().err, 5026);
  CHECK_EQUAL(control_flags(), 2);
  configure("FST_SIM_CUFILE_TAKEN", "strict");
  CHECK_EQUAL(cuFileDriverOpen().err, 5026);
  CHECK_EQUAL(control_flags(), 0);
}

static void failures_are_injected(void) {
  int fd = file_open(0);
  void *handle = NULL;
  unsigned char *device = device_new(MIB);
  OK(fst_sim_fail("cuFileDriverOpen:1:5033,cuFileHandleRegister:1:5008,cuFileBufRegister:2:5016,"
                  "cuFileRead:2:-5016,cuFileRead:3:1000,cuFileRead:4:-1,cuFileRead:5:0"));
  CHECK_EQUAL(cuFileDriverOpen().err, 5033);
  OK(cuFileDriverOpen().err);
  CHECK_EQUAL(file_register(&handle, fd), 5008);
  OK(file_register(&handle, fd));
  OK(cuFileBufRegister(device, WINDOW, 0).err);
  CHECK_EQUAL(cuFileBufRegister(device + WINDOW, WINDOW, 0).err, 5016);
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), WINDOW);
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), -5016);
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), 1000);
  errno = 0;
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), -1);
  CHECK_EQUAL(errno, EIO);
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), 0);
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), WINDOW);
  configure("FST_SIM_CUFILE_ERRNO", "1");
  OK(fst_sim_fail("cuFileRead:1:-5016"));
  CHECK_EQUAL(cuFileRead(handle, device, WINDOW, 0, 0), -1);
  CHECK_EQUAL(errno, 5016);
  OK(cuFileBufDeregister(device).err);
  cuFileHandleDeregister(handle);
  OK(cuFileDriverClose_v2().err);
  OK(cudaFree(device));
  file_close(fd);
}

const test_case cufile_cases[] = {
    {"cuFile reads through a buffered descriptor", reads_buffered},
    {"cuFile reads through a direct descriptor", reads_direct},
    {"mistakes with cuFile are refused", mistakes_are_refused},
    {"cuFile's pinned memory is limited", pinning_is_limited},
    {"cuFile's modes are distinguished", modes_are_distinguished},
    {"cuFile's driver says what it allows", the_driver_says_what_it_allows},
    {"cuFile's failures are injected", failures_are_injected},
    {NULL, NULL},
};
