/*
 * The expected results of casts, for cast_test.c and kernels_test.cpp: convert.h one element at a time, and the
 * independent numbers of the JSON files in tests/data.
 */
#ifndef FST_CAST_EXPECT_H
#define FST_CAST_EXPECT_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cast/cast.h"
#include "cast/convert.h"

#define FLOATS 9

static const uint32_t float_dtypes[FLOATS] = {
  FST_F32,     FST_F16,     FST_BF16,        FST_F64,        FST_F8_E5M2,
  FST_F8_E4M3, FST_F8_E8M0, FST_F8_E4M3FNUZ, FST_F8_E5M2FNUZ,
};
static const char *const float_names[FLOATS] = {
  "F32", "F16", "BF16", "F64", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ",
};

static inline size_t dtype_bytes(uint32_t dtype) { return fst_dtype_bits(dtype) / 8; }

/* One element by convert.h; codes are integers of the dtype's size. */
static inline uint64_t expected_code(uint32_t to, uint32_t from, uint64_t code) {
  uint32_t pivot = 0;
  if (to == from) return code;
  if (from == FST_F64 && to == FST_F32) return fst_f64_to_f32(code);
  switch (from) {
    case FST_F32: pivot = fst_widen_f32((uint32_t)code); break;
    case FST_F16: pivot = fst_widen_f16((uint16_t)code); break;
    case FST_BF16: pivot = fst_widen_bf16((uint16_t)code); break;
    case FST_F64: pivot = fst_widen_f64(code); break;
    case FST_F8_E5M2: pivot = fst_widen_f8_e5m2((uint8_t)code); break;
    case FST_F8_E4M3: pivot = fst_widen_f8_e4m3((uint8_t)code); break;
    case FST_F8_E8M0: pivot = fst_widen_f8_e8m0((uint8_t)code); break;
    case FST_F8_E4M3FNUZ: pivot = fst_widen_f8_e4m3fnuz((uint8_t)code); break;
    case FST_F8_E5M2FNUZ: pivot = fst_widen_f8_e5m2fnuz((uint8_t)code); break;
  }
  switch (to) {
    case FST_F32: return fst_narrow_f32(pivot);
    case FST_F16: return fst_narrow_f16(pivot);
    case FST_BF16: return fst_narrow_bf16(pivot);
    case FST_F64: return fst_narrow_f64(pivot);
    case FST_F8_E5M2: return fst_narrow_f8_e5m2(pivot);
    case FST_F8_E4M3: return fst_narrow_f8_e4m3(pivot);
    case FST_F8_E8M0: return fst_narrow_f8_e8m0(pivot);
    case FST_F8_E4M3FNUZ: return fst_narrow_f8_e4m3fnuz(pivot);
    case FST_F8_E5M2FNUZ: return fst_narrow_f8_e5m2fnuz(pivot);
  }
  abort();
}

static inline uint64_t code_at(const uint8_t *bytes, size_t index, size_t size) {
  uint64_t code = 0;
  memcpy(&code, bytes + index * size, size);
  return code;
}

static inline void put_code(uint8_t *bytes, size_t index, size_t size, uint64_t code) {
  memcpy(bytes + index * size, &code, size);
}

/* A whole file under `folder`, with a NUL after it; ends the program if there is none. */
static inline char *read_text(const char *folder, const char *name) {
  char path[4096];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  FILE *file = fopen(path, "rb");
  if (file == NULL) {
    fprintf(stderr, "Cannot open \"%s\": run from the root of the repository\n", path);
    exit(2);
  }
  fseek(file, 0, SEEK_END);
  size_t length = (size_t)ftell(file);
  rewind(file);
  char *text = (char *)malloc(length + 1);
  if (text == NULL || fread(text, 1, length, file) != length) abort();
  text[length] = 0;
  fclose(file);
  return text;
}

/*
 * The numbers after `"key":` in JSON text: plain decimal, or strings of hexadecimal; "nan" is the NaN of F32.
 * Searches from `text` on. Returns their count; the caller frees *numbers.
 */
static inline size_t read_numbers(const char *text, const char *key, uint64_t **numbers) {
  char quoted[64];
  snprintf(quoted, sizeof quoted, "\"%s\"", key);
  const char *at = strstr(text, quoted);
  if (at == NULL || (at = strchr(at, '[')) == NULL) {
    fprintf(stderr, "Cannot find the numbers of %s\n", quoted);
    exit(2);
  }
  size_t count = 0, capacity = 0;
  *numbers = NULL;
  for (at++; *at != ']'; at++) {
    char *end = (char *)at;
    uint64_t number = 0;
    if (strncmp(at, "\"nan\"", 5) == 0) number = FST_F32_NAN, end += 5;
    else if (*at == '"') number = strtoull(at + 1, &end, 16), end++;
    else if (*at >= '0' && *at <= '9') number = strtoull(at, &end, 10);
    else continue;
    if (count == capacity) {
      capacity = capacity ? capacity * 2 : 256;
      *numbers = (uint64_t *)realloc(*numbers, capacity * sizeof **numbers);
      if (*numbers == NULL) abort();
    }
    (*numbers)[count++] = number;
    at = end - (*end == ']');
  }
  return count;
}

/* The same pseudo-random numbers on every machine (xorshift64*). */
static inline uint64_t next_random(uint64_t *state) {
  *state ^= *state >> 12;
  *state ^= *state << 25;
  *state ^= *state >> 27;
  return *state * 0x2545f4914f6cdd1du;
}

/*
 * Codes to try for a source dtype: all of them if there are at most 65536; else every sign and exponent with
 * mantissas at the limits of narrower formats, and pseudo-random ones. The caller frees.
 */
static inline uint8_t *codes_to_try(uint32_t dtype, size_t *count) {
  const size_t size = dtype_bytes(dtype);
  const size_t room = 1u << 18;
  uint8_t *codes = (uint8_t *)malloc(room * size);
  if (codes == NULL) abort();
  if (size <= 2) {
    *count = size == 1 ? 256 : 65536;
    for (size_t i = 0; i < *count; i++) put_code(codes, i, size, i);
    return codes;
  }
  const int mantissa = size == 4 ? 23 : 52;
  const uint64_t exponents = size == 4 ? 512 : 4096; /* signs included */
  const int kept[] = {0, 2, 3, 7, 10, mantissa == 52 ? 23 : 11, mantissa - 1, mantissa};
  size_t n = 0;
  for (uint64_t exponent = 0; exponent < exponents; exponent++) {
    for (size_t k = 0; k < sizeof kept / sizeof *kept; k++) {
      const uint64_t base = exponent << mantissa, step = (uint64_t)1 << (mantissa - kept[k]);
      put_code(codes, n++, size, base + step / 2);
      put_code(codes, n++, size, base + step / 2 - 1);
      put_code(codes, n++, size, base + step / 2 + 1);
      put_code(codes, n++, size, base + step + step / 2);
    }
  }
  uint64_t state = 42;
  while (n < room) put_code(codes, n++, size, next_random(&state));
  *count = n;
  return codes;
}

#endif
