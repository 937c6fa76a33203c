/*
 * The element types of the safetensors format, numbered as in DTYPES of src/base/dtype.ts.
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
  switch (dtype) {
    case FST_F4: return 4;
    case FST_F6_E2M3:
    case FST_F6_E3M2: return 6;
    case FST_BOOL:
    case FST_U8:
    case FST_I8:
    case FST_F8_E5M2:
    case FST_F8_E4M3:
    case FST_F8_E8M0:
    case FST_F8_E4M3FNUZ:
    case FST_F8_E5M2FNUZ: return 8;
    case FST_I16:
    case FST_U16:
    case FST_F16:
    case FST_BF16: return 16;
    case FST_I32:
    case FST_U32:
    case FST_F32: return 32;
    case FST_C64:
    case FST_F64:
    case FST_I64:
    case FST_U64: return 64;
    default: return 0;
  }
}

#endif
