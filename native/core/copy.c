/*
 * Copies of runs, and copies with wide registers. For the sizes of ring reads, memcpy uses the processor's copy instruction, which is
 * slower on virtual machines: 171 instead of 160 ms/GB from the second-level cache to newly cleared pages, which is 5
 * % of the time of a load.
 */
#include <string.h>

#include "core/core.h"

#ifdef __x86_64__
#include <immintrin.h>

__attribute__((target("avx512f"))) static uint64_t copy_avx512(char *to, const char *from, uint64_t bytes) {
  uint64_t at = 0;
  for (; at + 256 <= bytes; at += 256) {
    const __m512i a = _mm512_loadu_si512(from + at), b = _mm512_loadu_si512(from + at + 64);
    const __m512i c = _mm512_loadu_si512(from + at + 128), d = _mm512_loadu_si512(from + at + 192);
    _mm512_storeu_si512(to + at, a);
    _mm512_storeu_si512(to + at + 64, b);
    _mm512_storeu_si512(to + at + 128, c);
    _mm512_storeu_si512(to + at + 192, d);
  }
  return at;
}

__attribute__((target("avx2"))) static uint64_t copy_avx2(char *to, const char *from, uint64_t bytes) {
  uint64_t at = 0;
  for (; at + 128 <= bytes; at += 128) {
    const __m256i *source = (const __m256i *)(from + at);
    __m256i *target = (__m256i *)(to + at);
    const __m256i a = _mm256_loadu_si256(source), b = _mm256_loadu_si256(source + 1);
    const __m256i c = _mm256_loadu_si256(source + 2), d = _mm256_loadu_si256(source + 3);
    _mm256_storeu_si256(target, a);
    _mm256_storeu_si256(target + 1, b);
    _mm256_storeu_si256(target + 2, c);
    _mm256_storeu_si256(target + 3, d);
  }
  return at;
}

/* Copies all but a remainder; returns the number of copied bytes. */
static uint64_t copy_wide(char *to, const char *from, uint64_t bytes) {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f")) return copy_avx512(to, from, bytes);
  if (__builtin_cpu_supports("avx2")) return copy_avx2(to, from, bytes);
  return 0;
}
#else
static uint64_t copy_wide(char *to, const char *from, uint64_t bytes) {
  (void)to, (void)from, (void)bytes;
  return 0;
}
#endif

void fst_copy(void *to, const void *from, uint64_t bytes) {
  const uint64_t done = copy_wide(to, from, bytes);
  memcpy((char *)to + done, (const char *)from + done, bytes - done);
}

/* Copies `count` runs of a fixed length, which the compiler turns into loads and stores of that size. */
#define COPY_RUNS(length)                                                                               \
  static void copy_runs_##length(char *to, const char *from, uint64_t count, uint64_t stride) {         \
    for (uint64_t i = 0; i < count; i++) memcpy(to + i * length, from + i * stride, length);            \
  }
COPY_RUNS(1)
COPY_RUNS(2)
COPY_RUNS(4)
COPY_RUNS(8)
COPY_RUNS(16)

void fst_copy_runs(char *to, const char *from, uint64_t run, uint64_t count, uint64_t stride) {
  switch (run) {
    case 1: copy_runs_1(to, from, count, stride); return;
    case 2: copy_runs_2(to, from, count, stride); return;
    case 4: copy_runs_4(to, from, count, stride); return;
    case 8: copy_runs_8(to, from, count, stride); return;
    case 16: copy_runs_16(to, from, count, stride); return;
    default: break;
  }
  for (uint64_t i = 0; i < count; i++) memcpy(to + i * run, from + i * stride, run);
}
