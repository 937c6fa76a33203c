/*
 * Copies with every width that this processor supports, against memcpy: copy.c is compiled a second time, for its
 * static functions.
 */
#define fst_copy copy_under_test
#define fst_copy_runs copy_runs_under_test
#include "core/copy.c"
#undef fst_copy
#undef fst_copy_runs

#include "plan_support.h"

#define LONGEST 1100u

/* Copies a whole number of steps; returns the number of copied bytes. */
typedef uint64_t copy_fn(char *to, const char *from, uint64_t bytes);

static const uint64_t lengths[] = {0, 1, 63, 64, 127, 128, 129, 255, 256, 257, 511, 512, 513, 1023, LONGEST};

static void check_copy(const char *name, copy_fn *copy, uint64_t step) {
  char from[LONGEST + 64];
  uint32_t state = 1234567u;
  for (size_t i = 0; i < sizeof from; i++) from[i] = (char)noise_next(&state);
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    for (uint64_t shift = 0; shift < 64; shift += 21) {
      guarded to = guarded_new(lengths[i], shift);
      const uint64_t done = copy(to.bytes, from + shift / 2, lengths[i]), expected = lengths[i] / step * step;
      CHECK(done == expected, "%s: %llu bytes of %llu", name, (unsigned long long)done, (unsigned long long)lengths[i]);
      CHECK(memcmp(to.bytes, from + shift / 2, done) == 0, "%s: other bytes", name);
      for (uint64_t at = done; at < lengths[i]; at++) CHECK(to.bytes[at] == MARK, "%s: wrote byte %d", name, (int)at);
      guarded_free(to);
    }
  }
}

static uint64_t copy_all(char *to, const char *from, uint64_t bytes) {
  copy_under_test(to, from, bytes);
  return bytes;
}

int main(void) {
  check_copy("fst_copy", copy_all, 1);
#ifdef __x86_64__
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) check_copy("AVX-512", copy_avx512, 256);
  if (__builtin_cpu_supports("avx2")) check_copy("AVX2", copy_avx2, 128);
#endif
  return report("copy_test");
}
