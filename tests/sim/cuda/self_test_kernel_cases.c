/* The project's own kernels: its PTX, and the host build of the same source. */
#include "cast/cast.h"
#include "cuda/kernels/cast_ptx.h"
#include "self_test.h"

enum { BYTES = 5000 };

/*
 * Runs a kernel from one device buffer of BYTES to another, and gives what is in that; false where there was no C++
 * compiler for the host build.
 */
static bool run_kernel(const char *name, const unsigned char *bytes, size_t to, size_t from, void **rest,
                       int rest_count, unsigned char *result) {
  if (!use_kernels("libfst_sim_kernels.so")) {
    skipped("libfst_sim_kernels.so is not built");
    return false;
  }
  void *module = NULL, *function = NULL;
  OK(cudaFree(NULL));
  OK(cuModuleLoadData(&module, fst_cast_ptx));
  OK(cuModuleGetFunction(&function, module, name));
  unsigned char *in = device_new(BYTES), *out = device_new(BYTES), *pinned = pinned_new(BYTES);
  unsigned char *source = in + from, *destination = out + to;
  void *parameters[8] = {&destination, &source};
  for (int i = 0; i < rest_count; i++) parameters[2 + i] = rest[i];
  memcpy(pinned, bytes, BYTES);
  OK(cudaMemcpyAsync(in, pinned, BYTES, H2D, NULL));
  OK(cuLaunchKernel(function, 3, 1, 1, 256, 1, 1, 0, NULL, parameters, NULL));
  OK(cudaStreamSynchronize(NULL));
  OK(cudaMemcpyAsync(pinned, out, BYTES, D2H, NULL));
  OK(cudaStreamSynchronize(NULL));
  memcpy(result, pinned, BYTES);
  OK(cudaFree(in));
  OK(cudaFree(out));
  OK(cudaFreeHost(pinned));
  OK(cuModuleUnload(module));
  return true;
}

static void casts_give_known_numbers(void) {
  const float in[] = {1.0f, -2.5f, 65504.0f, 1e-8f, 3.0f};
  const uint16_t halves[] = {0x3C00, 0xC100, 0x7BFF, 0x0000, 0x4200};
  unsigned char bytes[BYTES] = {0}, result[BYTES];
  memcpy(bytes + 4, in, sizeof in);
  uint64_t count = 5;
  uint32_t to = FST_F16, from = FST_F32;
  if (!run_kernel("fst_cast_elements", bytes, 6, 4, (void *[]){&count, &to, &from}, 3, result)) return;
  CHECK_EQUAL(memcmp(result + 6, halves, sizeof halves), 0);
  CHECK(is_filled(result, 6, 0xDB) && is_filled(result + 16, BYTES - 16, 0xDB));
}

static void unaligned_copies_are_exact(void) {
  unsigned char bytes[BYTES], result[BYTES];
  fill_pattern(bytes, BYTES, 3);
  uint64_t count = 4321;
  if (!run_kernel("fst_copy_unaligned", bytes, 5, 130, (void *[]){&count}, 1, result)) return;
  CHECK_EQUAL(memcmp(result + 5, bytes + 130, count), 0);
  CHECK(is_filled(result, 5, 0xDB) && is_filled(result + 5 + count, BYTES - 5 - count, 0xDB));
}

static void strided_copies_are_exact(void) {
  unsigned char bytes[BYTES], result[BYTES];
  fill_pattern(bytes, BYTES, 4);
  uint64_t run = 6, outer = 5, outer_stride = 700, inner = 4, inner_stride = 34;
  void *rest[] = {&run, &outer, &outer_stride, &inner, &inner_stride};
  if (!run_kernel("fst_copy_strided", bytes, 0, 8, rest, 5, result)) return;
  bool same = true;
  for (size_t o = 0; o < outer; o++) {
    for (size_t i = 0; i < inner; i++) {
      same &= memcmp(result + (o * inner + i) * run, bytes + 8 + o * outer_stride + i * inner_stride, run) == 0;
    }
  }
  CHECK(same);
  CHECK(is_filled(result + outer * inner * run, BYTES - outer * inner * run, 0xDB));
}

const test_case kernel_cases[] = {
    {"the project's casts give known numbers", casts_give_known_numbers},
    {"the project's unaligned copies are exact", unaligned_copies_are_exact},
    {"the project's strided copies are exact", strided_copies_are_exact},
    {NULL, NULL},
};
