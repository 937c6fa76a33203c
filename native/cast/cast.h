/*
 * The element types of the safetensors format, and casts between the float ones at the speed of memory.
 */
#ifndef FST_CAST_H
#define FST_CAST_H

#include <stddef.h>
#include <stdint.h>

/* ---- Element types ---- */

/* Numbered as in DTYPES of src/base/dtype.ts. */
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

/* Bits of one element; 0 for an unknown number. */
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

/* ---- Casts (cast.c) ---- */

/*
 * The arithmetic, including NaNs and numbers that are too large, is described in convert.h; every kernel gives the
 * same bits.
 */

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Whether fst_cast supports the pair: from and to any of F32, F16, BF16, F64 and the five F8, or both the same
 * dtype. 1 or 0.
 */
int fst_cast_supported(uint32_t to, uint32_t from);

/*
 * Casts `count` elements; the dtypes are enum fst_dtype. Neither side needs any alignment, and the two
 * must not overlap. The same dtype on both sides is a plain copy: NaNs keep their bits.
 *
 * 0; -ENOTSUP: the pair or the dtype is not supported; -EINVAL: the elements, of 4 or 6 bits, are not a whole number
 * of bytes, or their bytes exceed the address space. Nothing is written then.
 */
int fst_cast(void *destination, const void *source, size_t count, uint32_t to, uint32_t from);

/* The instruction sets that fst_cast can use. */
enum fst_cast_isa { FST_CAST_PLAIN, FST_CAST_AVX2, FST_CAST_AVX512 };

#ifdef __cplusplus
}
#endif

#endif
