/* Modules and launches. */
#include "self_test.h"

#define KERNELS "libfst_sim_self_test_kernels.so"

static const char ptx[] =
    "//\n// Generated /* by hand\n//\n"
    ".version 6.4\n.target sm_60 // any\n.address_size 64\n\n"
    "\t// .globl\tadd_bytes\n"
    ".visible .entry add_bytes(\n"
    "\t.param .u64 .ptr .global .align 1 add_bytes_param_0,\n\t.param .u64 add_bytes_param_1,\n"
    "\t.param .u64 add_bytes_param_2,\n\t.param .u32 add_bytes_param_3\n)\n"
    "{\n\t.reg .pred %p<2>;\n\tret;\n}\n"
    ".entry hidden()\n{\n\tret;\n}\n"
    ".visible .entry changed(.param .u64 a, .param .u32 b){ ret; }\n"
    ".visible .entry clear_before(.param .u64 a){ ret; }\n"
    ".visible .entry only_on_a_gpu(.param .u64 a){ { ret; } }\n";

static void kernels_run_on_the_hidden_memory(void) {
  enum { COUNT = 1000 };
  use_kernels(KERNELS);
  unsigned char *in = device_new(COUNT), *out = device_new(COUNT), *host = pinned_new(COUNT);
  void *stream = stream_new(), *module = NULL, *function = NULL;
  OK(cuModuleLoadData(&module, ptx));
  CHECK_EQUAL(fst_sim_live_modules(), 1);
  OK(cuModuleGetFunction(&function, module, "add_bytes"));
  fill_pattern(host, COUNT, 1);
  OK(cudaMemcpyAsync(in, host, COUNT, H2D, stream));
  uint64_t count = COUNT - 1;
  uint32_t add = 3;
  void *parameters[] = {&out, &in, &count, &add};
  OK(cudaMemsetAsync(out, 0x77, COUNT, stream));
  OK(cuLaunchKernel(function, 8, 1, 1, 128, 1, 1, 0, stream, parameters, NULL));
  count = add = 0; /* parameters are taken at the call */
  OK(cuModuleUnload(module));
  OK(cudaStreamSynchronize(stream));
  unsigned char *back = pinned_new(COUNT);
  OK(cudaMemcpyAsync(back, out, COUNT, D2H, stream));
  OK(cudaStreamSynchronize(stream));
  bool right = true;
  for (int i = 0; i < COUNT - 1; i++) right &= back[i] == (unsigned char)(host[i] + 3);
  CHECK(right);
  CHECK_EQUAL(back[COUNT - 1], 0x77);
  CHECK(reported("\"kernels\":1"));
  CHECK_EQUAL(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL), 400);
  CHECK_EQUAL(cuModuleUnload(module), 400);
  OK(cudaFreeHost(back));
  OK(cudaFreeHost(host));
  OK(cudaFree(in));
  OK(cudaFree(out));
  OK(cudaStreamDestroy(stream));
  expect_violations("bad-function", 1);
  expect_violations("bad-module", 1);
}

static void overruns_of_kernels_are_noticed(void) {
  use_kernels(KERNELS);
  unsigned char *in = device_new(1000), *out = device_new(1000);
  void *module = NULL, *function = NULL;
  OK(cuModuleLoadData(&module, ptx));
  OK(cuModuleGetFunction(&function, module, "add_bytes"));
  uint64_t count = 1001;
  uint32_t add = 1;
  void *parameters[] = {&out, &in, &count, &add};
  OK(cuLaunchKernel(function, 2, 1, 1, 1024, 1, 1, 0, NULL, parameters, NULL));
  OK(cuModuleGetFunction(&function, module, "clear_before"));
  OK(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, (void *[]){&in}, NULL));
  OK(cudaFree(out));
  OK(cudaFree(in));
  OK(cuModuleUnload(module));
  expect_violations("overrun", 2);
}

static int launch_with(void *function, void *out, void *in) {
  uint64_t count = 10;
  uint32_t add = 1;
  void *parameters[] = {&out, &in, &count, &add};
  OK(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, parameters, NULL));
  return cudaStreamSynchronize(NULL);
}

static void kernels_with_wrong_memory_fail(void) {
  use_kernels(KERNELS);
  void *module = NULL, *function = NULL;
  unsigned char *out = device_new(10), *pinned = pinned_new(10), pageable[10];
  OK(cudaSetDevice(1));
  unsigned char *foreign = device_new(10);
  OK(cudaSetDevice(0));
  OK(cudaFree(NULL));
  OK(cuModuleLoadData(&module, ptx));
  OK(cuModuleGetFunction(&function, module, "add_bytes"));
  OK(launch_with(function, out, pinned)); /* pinned memory can be reached from the device */
  CHECK_EQUAL(launch_with(function, out, pageable), 700);
  expect_violations("not-a-device-pointer", 1);
  start_over();
  CHECK_EQUAL(launch_with(function, out, foreign), 700);
  expect_violations("wrong-device", 1);
  start_over();
  OK(cudaFree(foreign));
  CHECK_EQUAL(launch_with(function, out, foreign), 700);
  expect_violations("use-after-free", 1);
  start_over();
  OK(fst_sim_fail("stream-kernel:1:719"));
  CHECK_EQUAL(launch_with(function, out, pinned), 719);
  start_over();
  OK(cuModuleUnload(module));
  OK(cudaFree(out));
  OK(cudaFreeHost(pinned));
}

static void contexts_are_per_thread_and_device(void) {
  void *module = NULL, *function = NULL;
  OK(cudaSetDevice(1)); /* the context that was bound was that of device 0 */
  CHECK_EQUAL(cuModuleLoadData(&module, ptx), 201);
  OK(cudaFree(NULL));
  OK(cuModuleLoadData(&module, ptx));
  OK(cuModuleGetFunction(&function, module, "add_bytes"));
  OK(cudaSetDevice(0));
  OK(cudaFree(NULL));
  CHECK_EQUAL(cuModuleGetFunction(&function, module, "add_bytes"), 201);
  CHECK_EQUAL(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 400);
  CHECK_EQUAL(cuLaunchKernel(function, 0, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 1);
  CHECK_EQUAL(cuLaunchKernel(function, 1, 1, 1, 1025, 1, 1, 0, NULL, NULL, NULL), 1);
  CHECK_EQUAL(cuModuleUnload(module), 201);
  OK(cudaSetDevice(1));
  OK(cudaFree(NULL));
  OK(cuModuleUnload(module));
  expect_violations("no-context", 1);
  expect_violations("wrong-device", 3);
  expect_violations("bad-launch", 2);
}

static void ptx_is_checked(void) {
  use_kernels(KERNELS);
  void *module = NULL, *function = NULL;
  OK(cudaFree(NULL));
  CHECK_EQUAL(cuModuleLoadData(&module, "\177ELF"), 200);
  CHECK_EQUAL(cuModuleLoadData(&module, ""), 200);
  CHECK_EQUAL(cuModuleLoadData(&module, ".version 6.4\n.target sm_60\n.address_size 32\n"), 218);
  CHECK_EQUAL(cuModuleLoadData(&module, ".version 6.4\n.target sm_60\n.address_size 64\n.visible .entry a(){"), 218);
  CHECK_EQUAL(cuModuleLoadData(&module, ".version 6.4\n.target sm_60\n.address_size 64\n.visible .entry a("), 218);
  CHECK_EQUAL(cuModuleLoadData(&module, ".version 9.0\n.target sm_60\n.address_size 64\n"), 222);
  CHECK_EQUAL(cuModuleLoadData(&module, ".version 8.4\n.target sm_90a\n.address_size 64\n"), 209);
  OK(cuModuleLoadData(&module, ptx));
  CHECK_EQUAL(cuModuleGetFunction(&function, module, "hidden"), 500);
  CHECK_EQUAL(cuModuleGetFunction(&function, module, "add"), 500);
  CHECK_EQUAL(cuModuleGetFunction(&function, module, "changed"), 500); /* Q in the host build, u32 here */
  OK(cuModuleGetFunction(&function, module, "only_on_a_gpu"));
  CHECK_EQUAL(cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, NULL, NULL, NULL), 801);
  OK(cuModuleUnload(module));
  expect_violations("bad-ptx", 5);
  expect_violations("kernel-signature", 1);
  expect_violations("no-host-build", 1);
  configure("FST_SIM_VERSION", "10010");
  OK(cuModuleLoadData(&module, ptx)); /* ISA 6.4 came with 10.1 */
  OK(cuModuleUnload(module));
  configure("FST_SIM_VERSION", "10000");
  CHECK_EQUAL(cuModuleLoadData(&module, ptx), 222);
  const char *text = NULL;
  OK(cuGetErrorName(222, &text));
  CHECK(strcmp(text, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION") == 0);
  OK(cuGetErrorString(222, &text));
  CHECK(strstr(text, "stand-in") != NULL);
  CHECK_EQUAL(cuGetErrorString(12345, &text), 1);
}

static void driver_calls_fail_on_request(void) {
  void *module = NULL;
  int device = -1;
  OK(cuInit(0));
  OK(cuDeviceGet(&device, 1));
  CHECK_EQUAL(device, 1);
  CHECK_EQUAL(cuDeviceGet(&device, 2), 101);
  OK(cudaFree(NULL));
  OK(fst_sim_fail("cuInit:1:999,cuModuleLoadData:1:2"));
  CHECK_EQUAL(cuInit(0), 999);
  CHECK_EQUAL(cuModuleLoadData(&module, ptx), 2);
  OK(cuModuleLoadData(&module, ptx));
  OK(cuModuleUnload(module));
}

static void contexts_are_a_stack(void) {
  void *own = NULL, *shared = NULL, *top = NULL, *pointer = NULL;
  int device = -1;
  uint64_t before = fst_sim_live_contexts();
  OK(cuInit(0));
  OK(cudaSetDevice(0));
  OK(cudaFree(NULL));
  OK(cuCtxCreate_v2(&own, 0, 1));
  OK(cudaGetDevice(&device));
  CHECK_EQUAL(device, 1);
  OK(cudaMalloc(&pointer, 100)); /* of the program's context */
  OK(cudaFree(pointer));
  expect_violations("foreign-context", 2);
  OK(cuDevicePrimaryCtxRetain(&shared, 0));
  OK(cuCtxPushCurrent_v2(shared));
  OK(cudaGetDevice(&device));
  CHECK_EQUAL(device, 0);
  OK(cudaMalloc(&pointer, 100));
  OK(cudaFree(pointer));
  OK(cuCtxPopCurrent_v2(&top));
  CHECK(top == shared);
  OK(cuCtxGetCurrent(&top));
  CHECK(top == own);
  OK(cuCtxDestroy_v2(own));
  OK(cuDevicePrimaryCtxRelease_v2(0));
  CHECK_EQUAL(cuDevicePrimaryCtxRelease_v2(0), 201);
  expect_violations("bad-context", 1);
  CHECK(fst_sim_live_contexts() <= before + 1); /* the runtime's own, of device 0 */
}

static void the_last_release_ends_a_context(void) {
  void *shared = NULL, *pointer = NULL;
  uint64_t before = fst_sim_live_contexts();
  OK(cuInit(0));
  configure("FST_SIM_DEVICES", "16");
  OK(cuDevicePrimaryCtxRetain(&shared, 15));
  CHECK_EQUAL(fst_sim_live_contexts(), before + 1);
  OK(cuCtxPushCurrent_v2(shared));
  OK(cudaMalloc(&pointer, 100));
  OK(cuCtxPopCurrent_v2(NULL));
  OK(cuDevicePrimaryCtxRelease_v2(15));
  CHECK_EQUAL(fst_sim_live_contexts(), before);
  expect_violations("context-in-use", 1);
  OK(cuDevicePrimaryCtxRetain(&shared, 15));
  OK(cuCtxPushCurrent_v2(shared));
  OK(cudaFree(pointer));
  OK(cuCtxPopCurrent_v2(NULL));
  OK(cuDevicePrimaryCtxRelease_v2(15));
}

static void waits_that_spin_are_counted(void) {
  void *stream = stream_new(), *sleeping = NULL, *spinning = event_new();
  OK(cudaEventCreateWithFlags(&sleeping, 3));
  OK(cudaEventRecord(sleeping, stream));
  OK(cudaEventSynchronize(sleeping));
  CHECK(reported("\"spins\":0"));
  OK(cudaEventRecord(spinning, stream));
  OK(cudaEventSynchronize(spinning));
  OK(cudaStreamSynchronize(stream));
  CHECK(reported("\"spins\":2"));
  OK(cudaEventDestroy(spinning));
  OK(cudaEventDestroy(sleeping));
  OK(cudaStreamDestroy(stream));
}

const test_case driver_cases[] = {
    {"contexts are a stack", contexts_are_a_stack},
    {"the last release ends a context", the_last_release_ends_a_context},
    {"waits that spin are counted", waits_that_spin_are_counted},
    {"kernels run on the hidden memory", kernels_run_on_the_hidden_memory},
    {"overruns of kernels are noticed", overruns_of_kernels_are_noticed},
    {"kernels with wrong memory fail", kernels_with_wrong_memory_fail},
    {"contexts are per thread and device", contexts_are_per_thread_and_device},
    {"PTX is checked", ptx_is_checked},
    {"driver calls fail on request", driver_calls_fail_on_request},
    {NULL, NULL},
};
