/*
 * The element types of the safetensors format, numbered as in DTYPES of src/format/dtype.ts.
 */
#ifndef FST_DTYPE_H
#define FST_DTYPE_H

#include <stdint.h>

enum fst_dtype {
  FST_BOOL,
  FST_F4,
  FST_F6_E2M3,
  FST_F6_E3M2,
  FST_U8,
  FST_I8,
  FST_F8_E5M2,
  FST_F8_E4M3,
  FST_F8_E8M0,
  FST_F8_E4M3FNUZ,
  FST_F8_E5M2FNUZ,
  FST_I16,
  FST_U16,
  FST_F16,
  FST_BF16,
  FST_I32,
  FST_U32,
  FST_F32,
  FST_C64,
  FST_F64,
  FST_I64,
  FST_U64,
  FST_DTYPE_COUNT
};

/* Bits of one element; 0 for a number that is no dtype. */
static inline unsigned fst_dtype_bits(uint32_t dtype) {
  static const uint8_t bits[FST_DTYPE_COUNT] = {
    [FST_BOOL] = 8,     [FST_F4] = 4,           [FST_F6_E2M3] = 6,      [FST_F6_E3M2] = 6, [FST_U8] = 8,
    [FST_I8] = 8,       [FST_F8_E5M2] = 8,      [FST_F8_E4M3] = 8,      [FST_F8_E8M0] = 8,
    [FST_F8_E4M3FNUZ] = 8, [FST_F8_E5M2FNUZ] = 8, [FST_I16] = 16,       [FST_U16] = 16,    [FST_F16] = 16,
    [FST_BF16] = 16,    [FST_I32] = 32,         [FST_U32] = 32,         [FST_F32] = 32,    [FST_C64] = 64,
    [FST_F64] = 64,     [FST_I64] = 64,         [FST_U64] = 64,
  };
  return dtype < FST_DTYPE_COUNT ? bits[dtype] : 0;
}

#endif
