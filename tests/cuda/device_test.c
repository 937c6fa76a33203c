/*
 * CUDA devices on the stand-ins of tests/sim/cuda: their properties, memory, operations on tensors, DLPack, and the
 * modes of cuFile. Link with libfst_sim_cuda.so; FST_SIM_KERNELS names the host build of the kernels.
 */
#include "cuda_support.h"

#include <sys/wait.h>

#include "cast/cast.h"
#include "fst_cuda.h"
#include "../sim/cuda/cuda_abi.h"

#define FILE_BYTES (1u << 20)

static noise_file file;

/* ---- Compatibility mode, and the reported state ---- */

static enum fst_gds_mode mode_of(uint32_t wish, int32_t *status) {
  uint64_t pinned;
  fst_cuda_pinned *staging;
  require(fst_cuda_pin(0, 65536, FST_CUDA_PIN_NOW, &pinned, &staging) == 0, "fst_cuda_pin");
  fst_cuda_load_options options = {0, 1, (uintptr_t)staging, 65536, wish, 0, 0, 0};
  fst_cuda_load *load = NULL;
  fst_cuda_load_report report = {0};
  char reason[512];
  *status = fst_cuda_load_open(&options, &load, reason, sizeof reason);
  if (load) {
    fst_cuda_load_report_of(load, &report);
    fst_cuda_load_close(load);
  }
  CHECK((report.gds != FST_GDS_REAL) == (*reason != 0), "mode %u, and the reason is \"%s\"", report.gds, reason);
  CHECK(!strstr(reason, ".so"), "the reason is the path of a library: \"%s\"", reason);
  fst_cuda_unpin(staging);
  check_clean("modes of cuFile");
  return (enum fst_gds_mode)report.gds;
}

static void test_modes_of_cufile(void) {
  int32_t status;
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_REAL && status == 0, "nvidia-fs is there");
  set_sim("FST_SIM_GDS", "compat"); /* cuFile would copy, and is set to fail instead */
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_OFF && status == 0, "compatibility mode was taken");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_OFF && status == 5033, "status %d", status);
  set_variable("CUFILE_FORCE_COMPAT_MODE", "true");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_COMPAT && status == 0,
        "compatibility mode was not reported");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_OFF && status == -ENOTSUP, "status %d", status);
  set_variable("CUFILE_FORCE_COMPAT_MODE", NULL);
  set_sim("FST_SIM_GDS", "real");
  set_module("/nowhere/version");
  uint64_t opened = 0;
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_OFF && status == 0, "the driver was opened in vain");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_REAL && status == 0, "P2PDMA was not tried: status %d", status);
  opened = fst_sim_live_cufile_driver();
  CHECK(opened == 0, "the driver is still open");
  fst_sim_fail("cuFileSetParameterBool:2+:5022"); /* a version that knows PCI P2PDMA only */
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_OFF && status == -ENOTSUP, "status %d", status);
  set_module("/proc/self/stat");
  set_sim("FST_SIM_GDS", NULL);
}

/* Versions that cannot be kept from compatibility mode, and a driver that another library of the process has opened. */
static void test_doubtful_cufile(void) {
  int32_t status;
  fst_sim_fail("cuFileSetParameterBool:*:5022");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_OFF && status == 0, "cuFile is used, and may copy");
  fst_sim_fail("cuFileSetParameterBool:*:5022");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_COMPAT && status == 0, "status %d", status);
  fst_sim_fail(NULL);
  set_sim("FST_SIM_CUFILE_TAKEN", "compatible");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_OFF && status == 0, "cuFile is used, and may copy");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_COMPAT && status == 0, "status %d", status);
  set_sim("FST_SIM_CUFILE_TAKEN", "strict");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_REAL && status == 0, "5026 counts as a failure");
  CHECK(mode_of(FST_GDS_REQUIRE, &status) == FST_GDS_REAL && status == 0, "status %d", status);
  set_sim("FST_SIM_CUFILE_TAKEN", NULL);
}

/* A child process opens cuFile's driver and ends: the stand-in aborts it if the driver is closed too late. */
static void test_end_of_cufile(void) {
  char path[] = "/tmp/fst-report-XXXXXX", text[65536] = "";
  const int report = mkstemp(path);
  require(report >= 0, "mkstemp");
  const pid_t child = fork();
  require(child >= 0, "fork");
  if (child == 0) {
    uint64_t pinned;
    fst_cuda_pinned *staging;
    set_sim("FST_SIM_REPORT", path);
    require(fst_cuda_pin(0, 65536, FST_CUDA_PIN_NOW, &pinned, &staging) == 0, "fst_cuda_pin");
    fst_cuda_load_options options = {0, 1, (uintptr_t)staging, 65536, FST_GDS_AUTO, 0, 0, 0};
    fst_cuda_load *load = NULL;
    char reason[512];
    const int status = fst_cuda_load_open(&options, &load, reason, sizeof reason);
    exit(status == 0 && fst_sim_live_cufile_driver() == 1 ? 7 : 1);
  }
  int status = 0;
  require(waitpid(child, &status, 0) == child, "waitpid");
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7, "the process ended with status %#x", status);
  CHECK(read(report, text, sizeof text - 1) > 0 && strstr(text, "\"cufileDriver\":0"), "the driver is open: %s", text);
  unlink(path);
  close(report);
}

/* ---- Effects of opening the driver on the process ---- */

/* Whether descriptor 0 is the file `path`. */
static int is_stdin(const char *path) {
  char actual[128] = "";
  return readlink("/proc/self/fd/0", actual, sizeof actual - 1) > 0 && strcmp(actual, path) == 0;
}

static void test_descriptor_0(void) {
  int32_t status;
  const int saved = dup(STDIN_FILENO), own = open("/dev/null", O_RDONLY | O_CLOEXEC);
  require(own > 0 && dup2(own, STDIN_FILENO) == 0, "dup2");
  set_sim("FST_SIM_CUFILE_STDIN", "closed");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_REAL && status == 0, "status %d", status);
  CHECK(is_stdin("/dev/null"), "descriptor 0 was closed and is not put back");
  set_sim("FST_SIM_CUFILE_STDIN", "taken");
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_REAL && status == 0, "status %d", status);
  CHECK(is_stdin("/dev/zero"), "another thread's file was closed");
  set_sim("FST_SIM_CUFILE_STDIN", NULL);
  const int next = dup(own);
  CHECK(next == own + 1 || next == own + 2, "descriptors below %d are left open", next);
  close(next);
  if (saved >= 0) dup2(saved, STDIN_FILENO);
  else close(STDIN_FILENO);
  close(saved);
  close(own);
}

/* The library writes no log, and the process's environment does not change. */
static void test_log_of_cufile(void) {
  char text[65536];
  int32_t status;
  CHECK(mode_of(FST_GDS_AUTO, &status) == FST_GDS_REAL && status == 0, "status %d", status);
  fst_sim_report(text, sizeof text);
  CHECK(strstr(text, "\"cufileLogs\":0,"), "a log was left in the working folder: %s", text);
  CHECK(getenv("CUFILE_LOGFILE_PATH") == NULL, "the environment was changed");
}

static void test_no_device(void) {
  fst_cuda_info info;
  char path[512], reason[512];
  CHECK(fst_cuda_find(&info, path, reason, sizeof reason) == 0 && info.devices == 2 && info.driver_version == 12040,
        "%d devices", info.devices);
  CHECK(strstr(path, "libfst_sim_cuda.so") && !*reason, "the library is \"%s\", the reason \"%s\"", path, reason);
  set_sim("FST_SIM_DEVICES", "0");
  CHECK(fst_cuda_find(&info, path, reason, sizeof reason) == 0 && info.devices == 0 && info.count_status == 100,
        "status %d", info.count_status);
  set_sim("FST_SIM_DEVICES", NULL);
  set_sim("FST_SIM_DRIVER", "old");
  CHECK(fst_cuda_find(&info, path, reason, sizeof reason) == 0 && info.count_status == 35, "status %d",
        info.count_status);
  set_sim("FST_SIM_DRIVER", NULL);
  fst_cuda_device_info device;
  CHECK(fst_cuda_device(1, &device) == 0 && device.capability_major == 8, "device 1 cannot be looked at");
  CHECK(strcmp(device.pci_bus, "0000:02:00.0") == 0, "device 1 is at \"%s\"", device.pci_bus);
  CHECK(fst_cuda_device(2, &device) == 101, "there is no device 2");
}

static void expect_name(int status, const char *expected) {
  char name[64], text[64];
  fst_cuda_error(status, name, text, sizeof name);
  CHECK(strcmp(name, expected) == 0, "%d is called \"%s\"", status, name);
}

/* The names of cuFile's errors, which has no function for them, are those of its header. */
static void test_error_names(void) {
  static const char *const cufile[] = {
    "", "DRIVER_NOT_INITIALIZED", "DRIVER_INVALID_PROPS", "DRIVER_UNSUPPORTED_LIMIT", "DRIVER_VERSION_MISMATCH",
    "DRIVER_VERSION_READ_ERROR", "DRIVER_CLOSING", "PLATFORM_NOT_SUPPORTED", "IO_NOT_SUPPORTED",
    "DEVICE_NOT_SUPPORTED", "NVFS_DRIVER_ERROR", "CUDA_DRIVER_ERROR", "CUDA_POINTER_INVALID",
    "CUDA_MEMORY_TYPE_INVALID", "CUDA_POINTER_RANGE_ERROR", "CUDA_CONTEXT_MISMATCH", "INVALID_MAPPING_SIZE",
    "INVALID_MAPPING_RANGE", "INVALID_FILE_TYPE", "INVALID_FILE_OPEN_FLAG", "DIO_NOT_SET", "", "INVALID_VALUE",
    "MEMORY_ALREADY_REGISTERED", "MEMORY_NOT_REGISTERED", "PERMISSION_DENIED", "DRIVER_ALREADY_OPEN",
    "HANDLE_NOT_REGISTERED", "HANDLE_ALREADY_REGISTERED", "DEVICE_NOT_FOUND", "INTERNAL_ERROR", "GETNEWFD_FAILED",
    "", "NVFS_SETUP_ERROR", "IO_DISABLED", "",
  };
  for (size_t i = 0; i < sizeof cufile / sizeof *cufile; i++) {
    char name[64];
    snprintf(name, sizeof name, "%s%s", *cufile[i] ? "CU_FILE_" : "", cufile[i]);
    expect_name(5000 + (int)i, name);
  }
  expect_name(2, "cudaErrorMemoryAllocation");
  expect_name(FST_CUDA_DRIVER + 222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION");
  expect_name(-ENOSYS, "");
  char message[256] = "as it was";
  fst_cuda_missing(message, sizeof message);
  CHECK(*message == 0, "missing: \"%s\"", message);
}

/* ---- Memory, tensors, DLPack ---- */

static void test_memory(void) {
  fst_cuda_allocation list[3] = {{.bytes = 1000}, {.bytes = 0}, {.bytes = 5000000}};
  uint64_t free_bytes = 0;
  CHECK(fst_cuda_allocate(1, list, 3, NULL, &free_bytes) == 0, "it does not fit");
  CHECK(list[1].address == 0 && list[1].block == NULL && list[2].address % 16 == 0, "addresses are wrong");
  CHECK(fst_sim_live_allocations() == 2, "%llu allocations", (unsigned long long)fst_sim_live_allocations());
  fst_cuda_release(list[0].block);
  fst_cuda_release(list[2].block);
  fst_cuda_allocation large[2] = {{.bytes = 1 << 20}, {.bytes = 1ull << 31}};
  CHECK(fst_cuda_allocate(0, large, 2, NULL, &free_bytes) == 2 && free_bytes > 0, "more than there is was given");
  wait_for_releases();
  CHECK(fst_sim_live_allocations() == 0, "part of what does not fit was kept");
  fst_sim_fail("cudaMalloc:2:2");
  large[1].bytes = 1 << 20;
  CHECK(fst_cuda_allocate(0, large, 2, NULL, &free_bytes) == 2, "a failure was passed over");
  fst_sim_fail(NULL);
  check_clean("memory");
}

static void test_tensors(void) {
  const uint64_t bytes = 400000;
  fst_cuda_allocation source = allocate(0, bytes), target = allocate(0, 2 * bytes), other = allocate(1, bytes);
  char *actual = malloc(2 * bytes), *expected = malloc(2 * bytes);
  require(actual && expected, "malloc");
  CHECK(fst_cuda_write(0, source.address, file.bytes, bytes, 0) == 0, "write");
  CHECK(fst_cuda_copy(1, other.address, 0, source.address, bytes) == 0, "copy to another device");
  CHECK(fst_cuda_read(1, actual, other.address, bytes, 0) == 0 && memcmp(actual, file.bytes, bytes) == 0, "read");
  CHECK(fst_cuda_cast(0, target.address, source.address, bytes / 2, FST_F32, FST_BF16) == 0, "cast");
  fst_cast(expected, file.bytes, bytes / 2, FST_F32, FST_BF16);
  CHECK(fst_cuda_read(0, actual, target.address, 2 * bytes, 0) == 0 && memcmp(actual, expected, 2 * bytes) == 0, "cast");
  CHECK(fst_cuda_cast(0, target.address, source.address, 1, FST_I32, FST_F32) == -ENOTSUP, "cast to an integer");
  const fst_cuda_level levels[] = {{3, 100000}, {4, 20000}, {5, 3001}};
  CHECK(fst_cuda_gather(0, target.address, source.address + 11, 17, levels, 3) == 0, "gather");
  char *at = expected;
  for (uint64_t i = 0; i < 3 * 4 * 5; i++, at += 17) {
    memcpy(at, file.bytes + 11 + i / 20 * 100000 + i / 5 % 4 * 20000 + i % 5 * 3001, 17);
  }
  CHECK(fst_cuda_read(0, actual, target.address, 1020, 0) == 0 && memcmp(actual, expected, 1020) == 0, "gather");
  CHECK(fst_cuda_gather(0, target.address, source.address + 1, 1000, NULL, 0) == 0, "gather of one run");
  CHECK(fst_cuda_read(0, actual, target.address, 1000, 0) == 0 && memcmp(actual, file.bytes + 1, 1000) == 0, "one run");
  CHECK(fst_cuda_scatter(0, target.address + 7, 300, source.address, 100, 50) == 0, "scatter");
  CHECK(fst_cuda_read(0, actual, target.address, 15000, 0) == 0, "read");
  for (uint64_t row = 0; row < 50; row++) {
    CHECK(memcmp(actual + 7 + row * 300, file.bytes + row * 100, 100) == 0, "row %llu", (unsigned long long)row);
  }
  fst_sim_fail("stream-kernel:1:700");
  CHECK(fst_cuda_cast(0, target.address, source.address, 1000, FST_F32, FST_BF16) == 700,
        "a failure was ignored");
  wait_for_releases();
  fst_sim_reset();
  fst_cuda_release(source.block);
  fst_cuda_release(target.block);
  fst_cuda_release(other.block);
  free(actual);
  free(expected);
  check_clean("tensors");
}

/* The structs of a consumer: DLManagedTensor, and the versioned one. */
typedef struct consumer_tensor {
  void *data;
  int32_t device_type, device, rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides;
  uint64_t byte_offset;
} consumer_tensor;
typedef struct managed {
  consumer_tensor tensor;
  void *context;
  void (*deleter)(struct managed *);
} managed;
typedef struct versioned {
  uint32_t major, minor;
  void *context;
  void (*deleter)(struct versioned *);
  uint64_t flags;
  consumer_tensor tensor;
} versioned;

static void *consume(void *given) {
  versioned *tensor = given;
  tensor->deleter(tensor);
  return NULL;
}

static void test_dlpack(void) {
  fst_cuda_allocation memory = allocate(1, 4096);
  const int64_t shape[] = {2, 0, 5};
  fst_dlpack_source source = {memory.address + 16, 2, 1, 3, 2, 32, 1, memory.block};
  fst_dlpack_lease *lease;
  managed *given = fst_dlpack_new(&source, shape, 0, &lease);
  CHECK(given && !lease, "device memory needs no lease");
  const consumer_tensor *tensor = &given->tensor;
  CHECK((uint64_t)(uintptr_t)tensor->data == memory.address + 16 && tensor->byte_offset == 0, "address");
  CHECK(tensor->device_type == 2 && tensor->device == 1, "device");
  CHECK(tensor->rank == 3 && tensor->code == 2 && tensor->bits == 32 && tensor->lanes == 1, "type");
  CHECK(memcmp(tensor->shape, shape, sizeof shape) == 0, "shape");
  CHECK(tensor->strides[0] == 5 && tensor->strides[1] == 5 && tensor->strides[2] == 1, "strides");
  fst_cuda_release(memory.block);
  wait_for_releases();
  CHECK(fst_sim_live_allocations() == 1, "the tensor does not hold its memory");
  given->deleter(given);
  wait_for_releases();
  CHECK(fst_sim_live_allocations() == 0, "the deleter does not free the memory");
  source = (fst_dlpack_source){(uintptr_t)file.bytes, 1, 0, 0, 1, 8, 1, NULL};
  versioned *scalar = fst_dlpack_new(&source, shape, 1, &lease);
  CHECK(scalar && lease && scalar->major == 1 && scalar->flags == 0 && scalar->tensor.rank == 0, "versioned");
  CHECK(!fst_dlpack_is_over(lease), "nobody has called the deleter");
  pthread_t thread;
  require(pthread_create(&thread, NULL, consume, scalar) == 0, "pthread_create");
  pthread_join(thread, NULL);
  CHECK(fst_dlpack_is_over(lease), "the deleter has run");
  check_clean("DLPack");
}

static uint64_t pending(void) {
  fst_cuda_releases releases;
  fst_cuda_releases_now(&releases);
  return releases.queued - releases.done;
}

/* Starts a copy on a device that waits for up to two seconds before it runs. */
static void *keep_busy(void *memory) {
  const fst_cuda_allocation *pair = memory;
  return (void *)(intptr_t)fst_cuda_copy(0, pair[1].address, 0, pair[0].address, 4096);
}

static int is_busy(void) {
  static char text[65536];
  fst_sim_report(text, sizeof text);
  return strstr(text, "\"inFlight\":0}") == NULL;
}

/* Only the thread that frees waits for a device: a release and the deleter of a DLPack tensor do not. */
static void test_releases(void) {
  fst_cuda_allocation pair[2] = {allocate(0, 4096), allocate(0, 4096)}, other = allocate(0, 4096);
  fst_cuda_allocation given_memory = allocate(0, 4096);
  fst_dlpack_source source = {given_memory.address, 2, 0, 0, 2, 32, 1, given_memory.block};
  fst_dlpack_lease *lease;
  managed *given = fst_dlpack_new(&source, NULL, 0, &lease);
  uint64_t address;
  fst_cuda_pinned *staging;
  require(given && fst_cuda_pin(0, 65536, FST_CUDA_PIN_NOW, &address, &staging) == 0, "fst_cuda_pin");
  fst_cuda_release(given_memory.block);
  CHECK(pending() == 0, "the deleter has not run");
  set_sim("FST_SIM_DELAY_US", "2000000");
  pthread_t thread;
  void *copied;
  require(pthread_create(&thread, NULL, keep_busy, pair) == 0, "pthread_create");
  while (!is_busy()) usleep(100);
  fst_cuda_release(other.block);
  given->deleter(given);
  fst_cuda_unpin(staging);
  CHECK(pending() == 3 && fst_sim_live_allocations() == 4 && fst_sim_live_registered() == 1,
        "a release has waited for the device: %llu are pending", (unsigned long long)pending());
  pthread_join(thread, &copied);
  CHECK(copied == NULL, "the copy ended with %d", (int)(intptr_t)copied);
  wait_for_releases();
  CHECK(pending() == 0 && fst_sim_live_allocations() == 2 && fst_sim_live_registered() == 0, "not all was freed");
  fst_cuda_releases before, after;
  fst_cuda_releases_now(&before);
  fst_sim_fail("cudaFree:1:999");
  fst_cuda_release(pair[0].block);
  wait_for_releases();
  fst_cuda_releases_now(&after);
  CHECK(after.failed == before.failed + 1 && after.status == 999, "%u failed, status %d", after.failed, after.status);
  fst_sim_fail(NULL);
  fst_cuda_release(pair[1].block);
  wait_for_releases();
  CHECK(fst_sim_live_allocations() == 1, "the one whose cudaFree failed is left");
  cudaFree((void *)(uintptr_t)pair[0].address);
  set_sim("FST_SIM_DELAY_US", NULL);
  check_clean("releases");
}

int main(void) {
  use_stand_ins();
  test_end_of_cufile();
  noise_open(&file, FILE_BYTES);
  test_no_device();
  test_error_names();
  test_memory();
  test_tensors();
  test_dlpack();
  test_releases();
  test_modes_of_cufile();
  test_doubtful_cufile();
  test_descriptor_0();
  test_log_of_cufile();
  noise_close(&file);
  return report("cuda/device_test");
}
