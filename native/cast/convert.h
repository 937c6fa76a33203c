/*
 * The arithmetic of every cast between float formats, one element at a time: C11, C++ and CUDA device code.
 *
 * A cast goes through a pivot, the bits of an F32: narrow_<to>(widen_<from>(x)). Widening is exact, except that an
 * F64 is rounded to odd (cut off, with the last bit set if anything was lost). Such a pivot is on the same side of
 * every midpoint as the value, so that narrowing it rounds once, to nearest even. One pair does not use a pivot: F64
 * to F32, see fst_f64_to_f32.
 *
 * Rules, the same in cast.c, in src/format/cast.ts and on the device:
 * - Rounding is to nearest, ties to even, subnormals included, independent of the floating-point flags: all is
 *   integer arithmetic, apart from exact conversions of small integers to float.
 * - Every NaN becomes the one quiet NaN of F32 (7fc00000), F16 (7e00), BF16 (7fc0) or F64 (7ff8000000000000):
 *   payload and sign are lost, because hardware and libraries differ here (the result of PyTorch 2.13
 *   depends on the instruction set and on the length of the tensor).
 * - Narrowing to an F8 is what PyTorch 2.13's `.to(dtype)` does, except for F64, which PyTorch rounds twice, through
 *   F32, and this code once: 1.0625 + 2^-40 is 39 in F8_E4M3 here, and 38 there.
 *   F8_E5M2      beyond 57344 infinity; NaN 7f, with its sign
 *   F8_E4M3      beyond 448 and infinity saturate to 448; NaN 7f, with its sign
 *   F8_*FNUZ     beyond the largest, infinity and NaN: 80, the only NaN; -0 becomes 0
 *   F8_E8M0      no sign; the nearest power of two, a tie upward; zero 00, that is 2^-127; infinity, NaN ff
 */
#ifndef FST_KERNELS_CONVERT_H
#define FST_KERNELS_CONVERT_H

#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define FST_FN static __device__ __forceinline__
#else
#define FST_FN static inline
#endif

#define FST_F32_SIGN 0x80000000u
#define FST_F32_INFINITY 0x7f800000u
#define FST_F32_NAN 0x7fc00000u

/* The bits of an integer below 2^24 as F32: exact, so that rounding modes and flushing have no effect. */
FST_FN uint32_t fst_small_integer(uint32_t n) {
  float value = (float)(int32_t)n;
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

/* A finite magnitude of a format with the given mantissa bits and exponent bias, as F32 bits. */
FST_FN uint32_t fst_expand(uint32_t magnitude, int mantissa, int bias) {
  if (magnitude >> mantissa) return (magnitude << (23 - mantissa)) + ((uint32_t)(127 - bias) << 23);
  if (magnitude == 0) return 0;
  return fst_small_integer(magnitude) - ((uint32_t)(bias - 1 + mantissa) << 23);
}

/*
 * The nearest code, ties to even, of an F32 magnitude up to infinity in a format with unlimited exponents: the caller
 * handles codes beyond the largest number. For formats that lose every F32 subnormal.
 */
FST_FN uint32_t fst_round(uint32_t magnitude, int mantissa, int bias) {
  const int drop = 23 - mantissa;
  const int first_normal = 128 - bias;
  const int exponent = (int)(magnitude >> 23);
  if (exponent >= first_normal) {
    const uint32_t code = magnitude - ((uint32_t)(127 - bias) << 23);
    return (code + (1u << (drop - 1)) - 1 + ((code >> drop) & 1)) >> drop;
  }
  /* 24 significant bits shifted by 25 are below one half: further shifts cannot change the answer. */
  const int wanted = drop + first_normal - exponent;
  const int shift = wanted < 25 ? wanted : 25;
  const uint32_t significand = (magnitude & 0x7fffffu) | 0x800000u;
  return (significand + (1u << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift;
}

/* ---- To the pivot: F32 bits, a NaN as 7fc00000 with its sign (F32 itself and BF16: any NaN). ---- */

FST_FN uint32_t fst_widen_f32(uint32_t x) { return x; }

FST_FN uint32_t fst_widen_bf16(uint16_t x) { return (uint32_t)x << 16; }

FST_FN uint32_t fst_widen_f16(uint16_t x) {
  const uint32_t sign = (uint32_t)(x & 0x8000u) << 16, magnitude = x & 0x7fffu;
  if (magnitude < 0x7c00u) return sign | fst_expand(magnitude, 10, 15);
  return sign | (magnitude == 0x7c00u ? FST_F32_INFINITY : FST_F32_NAN);
}

FST_FN uint32_t fst_widen_f8_e5m2(uint8_t x) { return fst_widen_f16((uint16_t)((uint32_t)x << 8)); }

FST_FN uint32_t fst_widen_f8_e4m3(uint8_t x) {
  const uint32_t sign = (uint32_t)(x & 0x80u) << 24, magnitude = x & 0x7fu;
  return sign | (magnitude == 0x7fu ? FST_F32_NAN : fst_expand(magnitude, 3, 7));
}

FST_FN uint32_t fst_widen_f8_e8m0(uint8_t x) {
  if (x == 0xffu) return FST_F32_NAN;
  return x == 0 ? 0x00400000u : (uint32_t)x << 23;
}

FST_FN uint32_t fst_widen_f8_e4m3fnuz(uint8_t x) {
  return x == 0x80u ? FST_F32_NAN : ((uint32_t)(x & 0x80u) << 24) | fst_expand(x & 0x7fu, 3, 8);
}

FST_FN uint32_t fst_widen_f8_e5m2fnuz(uint8_t x) {
  return x == 0x80u ? FST_F32_NAN : ((uint32_t)(x & 0x80u) << 24) | fst_expand(x & 0x7fu, 2, 16);
}

#define FST_F64_INFINITY 0x7ff0000000000000u
#define FST_F64_REBIAS ((uint64_t)(1023 - 127) << 52) /* between the exponents of F64 and F32 */

/*
 * An F64 magnitude below infinity in units of the last bit of an F32, cut off; *rest receives the lost part,
 * scaled so that one half is 2^63. For F32 with unlimited exponents.
 */
FST_FN uint64_t fst_f64_cut(uint64_t magnitude, uint64_t *rest) {
  const int exponent = (int)(magnitude >> 52);
  if (exponent > 1023 - 127) {
    const uint64_t code = magnitude - FST_F64_REBIAS;
    *rest = code << 35;
    return code >> 29;
  }
  const uint64_t significand = (magnitude & 0xfffffffffffffu) | 0x10000000000000u;
  const int shift = 29 + 1 + (1023 - 127) - exponent;
  if (shift > 53) { /* below half of the smallest subnormal */
    *rest = magnitude != 0;
    return 0;
  }
  *rest = significand << (64 - shift);
  return significand >> shift;
}

/* F64 rounded to odd; a larger number than every F32 becomes the largest F32, whose last bit is set. */
FST_FN uint32_t fst_widen_f64(uint64_t x) {
  const uint32_t sign = (uint32_t)(x >> 32) & FST_F32_SIGN;
  const uint64_t magnitude = x & 0x7fffffffffffffffu;
  if (magnitude > FST_F64_INFINITY) return sign | FST_F32_NAN;
  if (magnitude == FST_F64_INFINITY) return sign | FST_F32_INFINITY;
  uint64_t rest;
  const uint64_t code = fst_f64_cut(magnitude, &rest);
  if (code >= FST_F32_INFINITY) return sign | (FST_F32_INFINITY - 1);
  return sign | (uint32_t)code | (rest != 0);
}

/* ---- From the pivot. ---- */

FST_FN uint32_t fst_narrow_f32(uint32_t pivot) {
  return (pivot & ~FST_F32_SIGN) > FST_F32_INFINITY ? FST_F32_NAN : pivot;
}

FST_FN uint16_t fst_narrow_bf16(uint32_t pivot) {
  const uint32_t canonical = fst_narrow_f32(pivot);
  return (uint16_t)((canonical + 0x7fffu + ((canonical >> 16) & 1)) >> 16);
}

FST_FN uint16_t fst_narrow_f16(uint32_t pivot) {
  const uint32_t sign = (pivot & FST_F32_SIGN) >> 16, magnitude = pivot & ~FST_F32_SIGN;
  if (magnitude > FST_F32_INFINITY) return 0x7e00u;
  const uint32_t code = fst_round(magnitude, 10, 15);
  return (uint16_t)(sign | (code < 0x7c00u ? code : 0x7c00u));
}

FST_FN uint64_t fst_narrow_f64(uint32_t pivot) {
  const uint64_t sign = (uint64_t)(pivot & FST_F32_SIGN) << 32;
  const uint32_t magnitude = pivot & ~FST_F32_SIGN;
  if (magnitude > FST_F32_INFINITY) return 0x7ff8000000000000u;
  if (magnitude == FST_F32_INFINITY) return sign | FST_F64_INFINITY;
  if (magnitude >= 0x800000u) return sign | (((uint64_t)magnitude << 29) + FST_F64_REBIAS);
  if (magnitude == 0) return sign;
  return sign | (((uint64_t)fst_small_integer(magnitude) << 29) + FST_F64_REBIAS - ((uint64_t)149 << 52));
}

FST_FN uint8_t fst_narrow_f8_e5m2(uint32_t pivot) {
  const uint32_t sign = (pivot & FST_F32_SIGN) >> 24, magnitude = pivot & ~FST_F32_SIGN;
  if (magnitude > FST_F32_INFINITY) return (uint8_t)(sign | 0x7fu);
  const uint32_t code = fst_round(magnitude, 2, 15);
  return (uint8_t)(sign | (code < 0x7cu ? code : 0x7cu));
}

FST_FN uint8_t fst_narrow_f8_e4m3(uint32_t pivot) {
  const uint32_t sign = (pivot & FST_F32_SIGN) >> 24, magnitude = pivot & ~FST_F32_SIGN;
  if (magnitude > FST_F32_INFINITY) return (uint8_t)(sign | 0x7fu);
  const uint32_t code = fst_round(magnitude, 3, 7);
  return (uint8_t)(sign | (code < 0x7eu ? code : 0x7eu));
}

/* The code of a number in a FNUZ format: one zero, and 80 (-0 in other formats) for every NaN and too large value. */
FST_FN uint8_t fst_narrow_fnuz(uint32_t pivot, int mantissa, int bias) {
  const uint32_t sign = (pivot & FST_F32_SIGN) >> 24, magnitude = pivot & ~FST_F32_SIGN;
  if (magnitude >= FST_F32_INFINITY) return 0x80u;
  const uint32_t code = fst_round(magnitude, mantissa, bias);
  if (code > 0x7fu) return 0x80u;
  return (uint8_t)(code == 0 ? 0 : sign | code);
}

FST_FN uint8_t fst_narrow_f8_e4m3fnuz(uint32_t pivot) { return fst_narrow_fnuz(pivot, 3, 8); }

FST_FN uint8_t fst_narrow_f8_e5m2fnuz(uint32_t pivot) { return fst_narrow_fnuz(pivot, 2, 16); }

/* Rounds to the next power of two from the midpoint on; below 2^-126, where 2^-127 is the midpoint, from above it. */
FST_FN uint8_t fst_narrow_f8_e8m0(uint32_t pivot) {
  const uint32_t exponent = (pivot >> 23) & 0xffu, fraction = pivot & 0x7fffffu;
  if (exponent == 0xffu) return 0xffu;
  return (uint8_t)(exponent + (fraction + (exponent != 0) > 0x400000u));
}

/* ---- The one pair that does not use a pivot. ---- */

FST_FN uint32_t fst_f64_to_f32(uint64_t x) {
  const uint32_t sign = (uint32_t)(x >> 32) & FST_F32_SIGN;
  const uint64_t magnitude = x & 0x7fffffffffffffffu;
  if (magnitude > FST_F64_INFINITY) return FST_F32_NAN;
  if (magnitude == FST_F64_INFINITY) return sign | FST_F32_INFINITY;
  uint64_t rest;
  const uint64_t cut = fst_f64_cut(magnitude, &rest);
  const uint64_t half = (uint64_t)1 << 63;
  const uint64_t code = cut + (rest > half || (rest == half && (cut & 1)));
  return sign | (code < FST_F32_INFINITY ? (uint32_t)code : FST_F32_INFINITY);
}

#endif
