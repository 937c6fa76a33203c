/*
 * The AVX2 and AVX-512 kernels of cast.c, not used elsewhere: the pairs between F32, F16 and BF16, and from the
 * F8s.
 *
 * Registers hold pivots (convert.h): load_<from> makes them, with canonical NaNs; store_<to> writes them. F16C
 * converts F16 exactly, subnormals included, and rounds to nearest even because of its immediate, for all flags of
 * the thread. AVX512_BF16 is not used: it flushes subnormals.
 */
#ifndef FST_CAST_X86_H
#define FST_CAST_X86_H

#include <cpuid.h>
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,f16c")))
#define AVX512 __attribute__((target("avx2,f16c,avx512f,avx512bw,avx512vl,avx512vbmi")))

static int best_isa(void) {
  unsigned eax, ebx, ecx, edx;
  __builtin_cpu_init();
  /* Some compilers have no name for F16C: leaf 1, ECX bit 29. */
  if (!__builtin_cpu_supports("avx2") || !__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !(ecx >> 29 & 1)) {
    return FST_CAST_PLAIN;
  }
  const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                     __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi");
  return avx512 ? FST_CAST_AVX512 : FST_CAST_AVX2;
}

/* ---- AVX2: 8 pivots to a register, 16 elements to a step ---- */

AVX2 static inline __m256i canonical8(__m256i pivots) {
  const __m256i magnitude = _mm256_and_si256(pivots, _mm256_set1_epi32(0x7fffffff));
  const __m256i nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32((int)FST_F32_INFINITY));
  return _mm256_blendv_epi8(pivots, _mm256_set1_epi32((int)FST_F32_NAN), nan);
}

AVX2 static inline __m256i load8_f32(const uint8_t *source) {
  return canonical8(_mm256_loadu_si256((const __m256i *)source));
}

AVX2 static inline __m256i load8_bf16(const uint8_t *source) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)source));
  return canonical8(_mm256_slli_epi32(wide, 16));
}

AVX2 static inline __m256i load8_f16(const uint8_t *source) {
  return canonical8(_mm256_castps_si256(_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)source))));
}

/* The upper half of an F16. */
AVX2 static inline __m256i load8_f8_e5m2(const uint8_t *source) {
  const __m128i wide = _mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)source));
  return canonical8(_mm256_castps_si256(_mm256_cvtph_ps(_mm_slli_epi16(wide, 8))));
}

/* An F16 with another bias, so times 2^8, which is exact; 480 is then NaN. */
AVX2 static inline __m256i load8_f8_e4m3(const uint8_t *source) {
  const __m128i wide = _mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)source));
  const __m128i magnitude = _mm_and_si128(_mm_slli_epi16(wide, 7), _mm_set1_epi16(0x3f80));
  const __m128i half = _mm_or_si128(magnitude, _mm_and_si128(wide, _mm_set1_epi16((short)0x8000)));
  const __m256 value = _mm256_mul_ps(_mm256_cvtph_ps(half), _mm256_set1_ps(256));
  const __m256i absolute = _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(0x7fffffff));
  const __m256i nan = _mm256_cmpeq_epi32(absolute, _mm256_castps_si256(_mm256_set1_ps(480)));
  return _mm256_blendv_epi8(_mm256_castps_si256(value), _mm256_set1_epi32((int)FST_F32_NAN), nan);
}

AVX2 static inline void put32(uint8_t *destination, __m256i bytes) {
  _mm256_storeu_si256((__m256i *)destination, bytes);
}

AVX2 static inline void store16_f32(uint8_t *destination, __m256i low, __m256i high) {
  put32(destination, low);
  put32(destination + 32, high);
}

AVX2 static inline void store16_f16(uint8_t *destination, __m256i low, __m256i high) {
  const __m128i first = _mm256_cvtps_ph(_mm256_castsi256_ps(low), _MM_FROUND_TO_NEAREST_INT);
  const __m128i second = _mm256_cvtps_ph(_mm256_castsi256_ps(high), _MM_FROUND_TO_NEAREST_INT);
  put32(destination, _mm256_inserti128_si256(_mm256_castsi128_si256(first), second, 1));
}

AVX2 static inline __m256i round8_bf16(__m256i pivots) {
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(pivots, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(pivots, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  return _mm256_srli_epi32(sum, 16);
}

AVX2 static inline void store16_bf16(uint8_t *destination, __m256i low, __m256i high) {
  const __m256i packed = _mm256_packus_epi32(round8_bf16(low), round8_bf16(high)); /* within 128-bit halves */
  put32(destination, _mm256_permute4x64_epi64(packed, 0xd8));
}

#define AVX2_KERNEL(from, from_bytes, to, to_bytes)                                                          \
  AVX2 static size_t avx2_##from##_##to(uint8_t *destination, const uint8_t *source, size_t count) {         \
    size_t i = 0;                                                                                            \
    for (; i + 16 <= count; i += 16) {                                                                       \
      const __m256i low = load8_##from(source + i * from_bytes);                                             \
      const __m256i high = load8_##from(source + (i + 8) * from_bytes);                                      \
      store16_##to(destination + i * to_bytes, low, high);                                                   \
    }                                                                                                        \
    return i;                                                                                                \
  }

AVX2_KERNEL(bf16, 2, f32, 4)
AVX2_KERNEL(bf16, 2, f16, 2)
AVX2_KERNEL(f16, 2, f32, 4)
AVX2_KERNEL(f16, 2, bf16, 2)
AVX2_KERNEL(f32, 4, f16, 2)
AVX2_KERNEL(f32, 4, bf16, 2)
AVX2_KERNEL(f8_e5m2, 1, f32, 4)
AVX2_KERNEL(f8_e5m2, 1, f16, 2)
AVX2_KERNEL(f8_e5m2, 1, bf16, 2)
AVX2_KERNEL(f8_e4m3, 1, f32, 4)
AVX2_KERNEL(f8_e4m3, 1, f16, 2)
AVX2_KERNEL(f8_e4m3, 1, bf16, 2)

/* ---- AVX-512: 16 pivots to a register, 32 elements to a step ---- */

AVX512 static inline __m512i canonical16(__m512i pivots) {
  const __m512i magnitude = _mm512_and_si512(pivots, _mm512_set1_epi32(0x7fffffff));
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32((int)FST_F32_INFINITY));
  return _mm512_mask_mov_epi32(pivots, nan, _mm512_set1_epi32((int)FST_F32_NAN));
}

AVX512 static inline __m512i load16_f32(const uint8_t *source) {
  return canonical16(_mm512_loadu_si512(source));
}

AVX512 static inline __m512i load16_bf16(const uint8_t *source) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)source));
  return canonical16(_mm512_slli_epi32(wide, 16));
}

AVX512 static inline __m512i load16_f16(const uint8_t *source) {
  return canonical16(_mm512_castps_si512(_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)source))));
}

AVX512 static inline __m512i join(__m256i low, __m256i high) {
  return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

AVX512 static inline void store32_f32(uint8_t *destination, __m512i low, __m512i high) {
  _mm512_storeu_si512(destination, low);
  _mm512_storeu_si512(destination + 64, high);
}

AVX512 static inline __m256i round16_f16(__m512i pivots) {
  return _mm512_cvtps_ph(_mm512_castsi512_ps(pivots), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

AVX512 static inline void store32_f16(uint8_t *destination, __m512i low, __m512i high) {
  _mm512_storeu_si512(destination, join(round16_f16(low), round16_f16(high)));
}

AVX512 static inline __m256i round16_bf16(__m512i pivots) {
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(pivots, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(pivots, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(sum, 16));
}

AVX512 static inline void store32_bf16(uint8_t *destination, __m512i low, __m512i high) {
  _mm512_storeu_si512(destination, join(round16_bf16(low), round16_bf16(high)));
}

#define AVX512_KERNEL(from, from_bytes, to, to_bytes)                                                        \
  AVX512 static size_t avx512_##from##_##to(uint8_t *destination, const uint8_t *source, size_t count) {     \
    size_t i = 0;                                                                                            \
    for (; i + 32 <= count; i += 32) {                                                                       \
      const __m512i low = load16_##from(source + i * from_bytes);                                            \
      const __m512i high = load16_##from(source + (i + 16) * from_bytes);                                    \
      store32_##to(destination + i * to_bytes, low, high);                                                   \
    }                                                                                                        \
    return i;                                                                                                \
  }

AVX512_KERNEL(bf16, 2, f32, 4)
AVX512_KERNEL(bf16, 2, f16, 2)
AVX512_KERNEL(f16, 2, f32, 4)
AVX512_KERNEL(f16, 2, bf16, 2)
AVX512_KERNEL(f32, 4, f16, 2)
AVX512_KERNEL(f32, 4, bf16, 2)

/* ---- AVX-512, F8: 64 codes to a step, looked up in registers ---- */

/* The upper and the lower bytes of the 256 pivots of a table, as VPERMI2B looks them up. */
typedef struct f8_planes {
  __m512i low[4], high[4];
} f8_planes;

AVX512 static inline f8_planes load_planes(const uint16_t *table) {
  f8_planes planes;
  for (int i = 0; i < 4; i++) {
    const __m512i a = _mm512_loadu_si512(table + 64 * i), b = _mm512_loadu_si512(table + 64 * i + 32);
    planes.low[i] = join(_mm512_cvtepi16_epi8(a), _mm512_cvtepi16_epi8(b));
    planes.high[i] =
        join(_mm512_cvtepi16_epi8(_mm512_srli_epi16(a, 8)), _mm512_cvtepi16_epi8(_mm512_srli_epi16(b, 8)));
  }
  return planes;
}

AVX512 static inline __m512i look_up(const __m512i *plane, __m512i codes) {
  const __m512i positive = _mm512_permutex2var_epi8(plane[0], codes, plane[1]);
  const __m512i negative = _mm512_permutex2var_epi8(plane[2], codes, plane[3]);
  return _mm512_mask_mov_epi8(positive, _mm512_movepi8_mask(codes), negative);
}

AVX512 static inline __m512i canonical32_bf16(__m512i halves) {
  const __m512i magnitude = _mm512_and_si512(halves, _mm512_set1_epi16(0x7fff));
  const __mmask32 nan = _mm512_cmpgt_epi16_mask(magnitude, _mm512_set1_epi16(0x7f80));
  return _mm512_mask_mov_epi16(halves, nan, _mm512_set1_epi16(0x7fc0));
}

/* Stores 32 BF16, unchanged or widened. */
AVX512 static inline void put_bf16(uint8_t *destination, __m512i halves) {
  _mm512_storeu_si512(destination, halves);
}

AVX512 static inline __m512i widen16(__m256i halves) {
  return _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16);
}

AVX512 static inline void put_f32(uint8_t *destination, __m512i halves) {
  store32_f32(destination, widen16(_mm512_castsi512_si256(halves)),
              widen16(_mm512_extracti64x4_epi64(halves, 1)));
}

AVX512 static inline void put_f16(uint8_t *destination, __m512i halves) {
  store32_f16(destination, widen16(_mm512_castsi512_si256(halves)),
              widen16(_mm512_extracti64x4_epi64(halves, 1)));
}

#define AVX512_F8(to, to_bytes)                                                                              \
  AVX512 static size_t avx512_f8_##to(const uint16_t *table, uint8_t *destination, const uint8_t *source,    \
                                      size_t count) {                                                        \
    const f8_planes planes = load_planes(table);                                                             \
    /* Unpacking works within 128-bit quarters: this order of the eighths keeps the elements in order. */    \
    const __m512i order = _mm512_setr_epi64(0, 4, 1, 5, 2, 6, 3, 7);                                         \
    size_t i = 0;                                                                                            \
    for (; i + 64 <= count; i += 64) {                                                                       \
      const __m512i codes = _mm512_permutexvar_epi64(order, _mm512_loadu_si512(source + i));                 \
      const __m512i low = look_up(planes.low, codes), high = look_up(planes.high, codes);                    \
      uint8_t *out = destination + i * to_bytes;                                                             \
      put_##to(out, canonical32_bf16(_mm512_unpacklo_epi8(low, high)));                                      \
      put_##to(out + 32 * to_bytes, canonical32_bf16(_mm512_unpackhi_epi8(low, high)));                      \
    }                                                                                                        \
    return i;                                                                                                \
  }

AVX512_F8(f32, 4)
AVX512_F8(f16, 2)
AVX512_F8(bf16, 2)

#define AVX512_F8_KERNEL(from, dtype, to)                                                                    \
  static size_t avx512_##from##_##to(uint8_t *destination, const uint8_t *source, size_t count) {            \
    return avx512_f8_##to(f8_pivots[dtype - F8_FIRST], destination, source, count);                          \
  }
#define AVX512_F8_KERNELS(from, dtype)                                                                       \
  AVX512_F8_KERNEL(from, dtype, f32) AVX512_F8_KERNEL(from, dtype, f16) AVX512_F8_KERNEL(from, dtype, bf16)

AVX512_F8_KERNELS(f8_e5m2, FST_F8_E5M2)
AVX512_F8_KERNELS(f8_e4m3, FST_F8_E4M3)
AVX512_F8_KERNELS(f8_e8m0, FST_F8_E8M0)
AVX512_F8_KERNELS(f8_e4m3fnuz, FST_F8_E4M3FNUZ)
AVX512_F8_KERNELS(f8_e5m2fnuz, FST_F8_E5M2FNUZ)

/* ---- The pairs ---- */

#define PAIR(to, from) ((to)*FST_DTYPE_COUNT + (from))
#define PAIRS_TO_ALL(isa, from_dtype, from)                                                                  \
  case PAIR(FST_F32, from_dtype): return isa##_##from##_f32;                                                 \
  case PAIR(FST_F16, from_dtype): return isa##_##from##_f16;                                                 \
  case PAIR(FST_BF16, from_dtype): return isa##_##from##_bf16;
#define PAIRS_OF_WIDE(isa)                                                                                   \
  case PAIR(FST_F32, FST_BF16): return isa##_bf16_f32;                                                       \
  case PAIR(FST_F16, FST_BF16): return isa##_bf16_f16;                                                       \
  case PAIR(FST_F32, FST_F16): return isa##_f16_f32;                                                         \
  case PAIR(FST_BF16, FST_F16): return isa##_f16_bf16;                                                       \
  case PAIR(FST_F16, FST_F32): return isa##_f32_f16;                                                         \
  case PAIR(FST_BF16, FST_F32): return isa##_f32_bf16;

static fst_cast_kernel *x86_kernel(int isa, uint32_t to, uint32_t from) {
  if (isa == FST_CAST_AVX512) {
    switch (PAIR(to, from)) {
      PAIRS_OF_WIDE(avx512)
      PAIRS_TO_ALL(avx512, FST_F8_E5M2, f8_e5m2)
      PAIRS_TO_ALL(avx512, FST_F8_E4M3, f8_e4m3)
      PAIRS_TO_ALL(avx512, FST_F8_E8M0, f8_e8m0)
      PAIRS_TO_ALL(avx512, FST_F8_E4M3FNUZ, f8_e4m3fnuz)
      PAIRS_TO_ALL(avx512, FST_F8_E5M2FNUZ, f8_e5m2fnuz)
    }
  } else if (isa == FST_CAST_AVX2) {
    switch (PAIR(to, from)) {
      PAIRS_OF_WIDE(avx2)
      PAIRS_TO_ALL(avx2, FST_F8_E5M2, f8_e5m2)
      PAIRS_TO_ALL(avx2, FST_F8_E4M3, f8_e4m3)
    }
  }
  return NULL;
}

#endif
