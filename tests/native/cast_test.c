/*
 * fst_cast against convert.h on every instruction set, and convert.h against the reference data.
 * Run from the root of the repository, or name the data folder: cast_test [tests/data].
 */
#include "added.h"
#include "cast/cast.h"

#include <errno.h>

#include "cast_expect.h"

#ifdef __x86_64__
#include <immintrin.h>
#endif

static unsigned long checks, failures;

static void expect(uint64_t actual, uint64_t expected, const char *from, const char *to, uint64_t at) {
  checks++;
  if (actual == expected) return;
  if (failures++ < 20) {
    fprintf(stderr, "%s to %s, %llx: %llx expected, %llx found\n", from, to, (unsigned long long)at,
            (unsigned long long)expected, (unsigned long long)actual);
  }
}

static void expect_status(int actual, int expected, const char *from, const char *to) {
  checks++;
  if (actual == expected) return;
  if (failures++ < 20) fprintf(stderr, "%s to %s: %d expected, %d returned\n", from, to, expected, actual);
}

/* ---- convert.h against independent results ---- */

static void check_numbers(const char *text, const char *from_key, uint32_t from, const char *to_key,
                          uint32_t to) {
  uint64_t *codes, *expected;
  const size_t count = read_numbers(text, from_key, &codes);
  if (read_numbers(text, to_key, &expected) != count) abort();
  for (size_t i = 0; i < count; i++) {
    expect(expected_code(to, from, codes[i]), expected[i], from_key, to_key, codes[i]);
  }
  free(codes);
  free(expected);
}

static void check_reference(const char *folder) {
  char *widened = read_text(folder, "reference/f8_to_f32_bits.json");
  char *narrowed = read_text(folder, "reference/f32_narrowing.json");
  char *casts = read_text(folder, "casts.json");
  const char *from_f32 = strstr(casts, "\"from_f32\""), *from_f64 = strstr(casts, "\"from_f64\"");
  if (from_f32 == NULL || from_f64 == NULL) abort();
  check_numbers(narrowed, "f32_bits", FST_F32, "f16_bits", FST_F16);
  check_numbers(narrowed, "f32_bits", FST_F32, "bf16_bits", FST_BF16);
  for (int f = 0; f < FLOATS; f++) {
    const uint32_t dtype = float_dtypes[f];
    uint64_t *codes, *expected;
    if (dtype_bytes(dtype) == 1) {
      if (read_numbers(widened, float_names[f], &expected) != 256) abort();
      for (uint64_t code = 0; code < 256; code++) {
        expect(expected_code(FST_F32, dtype, code), expected[code], float_names[f], "F32", code);
      }
      free(expected);
      size_t count = read_numbers(casts, "f32", &codes);
      if (read_numbers(from_f32, float_names[f], &expected) != count) abort();
      for (size_t i = 0; i < count; i++) {
        expect(expected_code(dtype, FST_F32, codes[i]), expected[i], "F32", float_names[f], codes[i]);
      }
      free(codes);
      free(expected);
    }
    if (dtype != FST_F64) {
      size_t count = read_numbers(casts, "f64", &codes);
      if (read_numbers(from_f64, float_names[f], &expected) != count) abort();
      for (size_t i = 0; i < count; i++) {
        expect(expected_code(dtype, FST_F64, codes[i]), expected[i], "F64", float_names[f], codes[i]);
      }
      free(codes);
      free(expected);
    }
  }
  free(widened);
  free(narrowed);
  free(casts);
}

static double power_of_two(int exponent) {
  const uint64_t bits = (uint64_t)(1023 + exponent) << 52;
  double value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The 16-bit floats to F32 and F64, by the meaning of their bits. */
static void check_halves(uint32_t dtype, const char *name, int mantissa, int bias) {
  for (uint32_t code = 0; code < 65536; code++) {
    const uint32_t exponent = (code & 0x7fff) >> mantissa, fraction = code & ((1u << mantissa) - 1);
    const int special = exponent == 0x7fffu >> mantissa;
    uint64_t expected64 = fraction ? 0x7ff8000000000000u : 0x7ff0000000000000u | (uint64_t)(code >> 15) << 63;
    uint32_t expected32 = fraction ? 0x7fc00000u : 0x7f800000u | (code >> 15) << 31;
    if (!special) {
      const int scale = (exponent ? (int)exponent : 1) - bias;
      const double whole = (exponent ? 1 << mantissa : 0) + (double)fraction;
      const double value = (code >> 15 ? -1 : 1) * whole * power_of_two(scale - mantissa);
      const float single = (float)value;
      memcpy(&expected64, &value, sizeof value);
      memcpy(&expected32, &single, sizeof single);
    }
    expect(expected_code(FST_F64, dtype, code), expected64, name, "F64", code);
    expect(expected_code(FST_F32, dtype, code), expected32, name, "F32", code);
  }
}

/* ---- fst_cast against convert.h ---- */

/*
 * Casts at the given distances from aligned memory, and checks every element and the bytes around them. The source
 * ends at the end of its memory, so that a sanitizer detects a read beyond it.
 */
static void check_cast(int to, int from, const uint8_t *codes, const uint8_t *expected, size_t count,
                       size_t source_shift, size_t destination_shift) {
  const size_t in_size = dtype_bytes(float_dtypes[from]), out_size = dtype_bytes(float_dtypes[to]);
  const size_t in_room = source_shift + count * in_size;
  const size_t out_bytes = count * out_size, out_room = out_bytes + 256;
  uint8_t *source = malloc(in_room > 0 ? in_room : 1), *memory = malloc(out_room);
  if (source == NULL || memory == NULL) abort();
  memcpy(source + source_shift, codes, count * in_size);
  memset(memory, 0xa5, out_room);
  uint8_t *line = (uint8_t *)(((uintptr_t)memory + 64 + 63) / 64 * 64) + destination_shift;
  expect_status(fst_cast(line, source + source_shift, count, float_dtypes[to], float_dtypes[from]), 0,
                float_names[from], float_names[to]);
  if (memcmp(line, expected, out_bytes) == 0) {
    checks += count;
  } else {
    for (size_t i = 0; i < count; i++) {
      expect(code_at(line, i, out_size), code_at(expected, i, out_size), float_names[from], float_names[to],
             code_at(codes, i, in_size));
    }
  }
  for (size_t i = 1; i <= 64; i++) {
    expect(line[-(ptrdiff_t)i], 0xa5, "before", float_names[to], i);
    expect(line[out_bytes + i - 1], 0xa5, "after", float_names[to], i);
  }
  free(source);
  free(memory);
}

static void check_pair(int to, int from) {
  const size_t in_size = dtype_bytes(float_dtypes[from]), out_size = dtype_bytes(float_dtypes[to]);
  size_t count;
  uint8_t *codes = codes_to_try(float_dtypes[from], &count);
  uint8_t *expected = malloc(count * out_size);
  if (expected == NULL) abort();
  for (size_t i = 0; i < count; i++) {
    const uint64_t code = code_at(codes, i, in_size);
    put_code(expected, i, out_size, expected_code(float_dtypes[to], float_dtypes[from], code));
  }
  for (int isa = FST_CAST_PLAIN; isa <= FST_CAST_AVX512; isa++) {
    if (fst_cast_limit(isa) != isa) continue;
    check_cast(to, from, codes, expected, count, 0, 0);
    check_cast(to, from, codes + in_size, expected + out_size, count - 1, 1, out_size);
    uint64_t state = 1;
    for (size_t length = 0; length <= 192; length += length < 36 ? 1 : 13) {
      for (size_t shift = 0; shift < 64; shift += shift < 9 ? 1 : 11) {
        const size_t start = next_random(&state) % (count - length);
        check_cast(to, from, codes + start * in_size, expected + start * out_size, length, shift % 9,
                   (shift + length) % 64);
      }
    }
  }
  free(codes);
  free(expected);
}

#ifdef __x86_64__
/* The flags of the thread must have no effect: rounding upward, and subnormals flushed and read as zero. */
static void check_flags(void) {
  const unsigned flags = _mm_getcsr();
  for (int from = 0; from < FLOATS; from++) {
    const size_t in_size = dtype_bytes(float_dtypes[from]);
    size_t count;
    uint8_t *codes = codes_to_try(float_dtypes[from], &count);
    for (int to = 0; to < FLOATS; to++) {
      const size_t out_size = dtype_bytes(float_dtypes[to]);
      uint8_t *usual = malloc(count * out_size), *unusual = malloc(count * out_size);
      if (usual == NULL || unusual == NULL) abort();
      for (int isa = FST_CAST_PLAIN; isa <= FST_CAST_AVX512; isa++) {
        if (fst_cast_limit(isa) != isa) continue;
        fst_cast(usual, codes, count, float_dtypes[to], float_dtypes[from]);
        _mm_setcsr(flags | 0x8000u | 0x4000u | 0x0040u);
        fst_cast(unusual, codes, count, float_dtypes[to], float_dtypes[from]);
        _mm_setcsr(flags);
        for (size_t i = 0; i < count; i++) {
          expect(code_at(unusual, i, out_size), code_at(usual, i, out_size), float_names[from], "flags",
                 code_at(codes, i, in_size));
        }
      }
      free(usual);
      free(unusual);
    }
    free(codes);
  }
}
#endif

static void check_refusals(void) {
  uint8_t bytes[16] = {1, 2, 3}, copy[16] = {0};
  for (uint32_t to = 0; to < FST_DTYPE_COUNT + 2; to++) {
    for (uint32_t from = 0; from < FST_DTYPE_COUNT + 2; from++) {
      int floats = 0;
      for (int f = 0; f < FLOATS; f++) floats += (float_dtypes[f] == to) + (float_dtypes[f] == from);
      const int known = to < FST_DTYPE_COUNT && from < FST_DTYPE_COUNT && (to == from || floats == 2);
      expect_status(fst_cast_supported(to, from), known, "supported from", "to");
      expect_status(fst_cast(copy, bytes, 0, to, from), known ? 0 : -ENOTSUP, "nothing from", "to");
    }
  }
  expect_status(fst_cast(copy, bytes, 1, FST_F32, FST_I32), -ENOTSUP, "I32", "F32");
  expect(copy[0], 0, "I32", "F32", 0);
  expect_status(fst_cast(copy, bytes, 3, FST_F4, FST_F4), -EINVAL, "three F4", "F4");
  expect_status(fst_cast(copy, bytes, SIZE_MAX / 4, FST_F64, FST_F32), -EINVAL, "too many F32", "F64");
  expect_status(fst_cast(copy, bytes, 4, FST_F6_E2M3, FST_F6_E2M3), 0, "F6", "F6");
  expect_status(memcmp(copy, bytes, 3), 0, "F6 bytes", "F6");
}

int main(int argc, char **argv) {
  const char *folder = argc > 1 ? argv[1] : "tests/data";
  check_reference(folder);
  check_halves(FST_F16, "F16", 10, 15);
  check_halves(FST_BF16, "BF16", 7, 127);
  for (int from = 0; from < FLOATS; from++) {
    for (int to = 0; to < FLOATS; to++) check_pair(to, from);
  }
#ifdef __x86_64__
  check_flags();
#endif
  check_refusals();
  printf("cast_test: %lu checks up to instruction set %d, %lu failed\n", checks,
         fst_cast_limit(FST_CAST_AVX512), failures);
  return failures != 0;
}
