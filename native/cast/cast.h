/*
 * Casts between the float dtypes, at the speed of memory. The arithmetic, and what becomes of a NaN or of a
 * number too large, is written down in convert.h; every path here gives the same bits.
 */
#ifndef FST_CAST_H
#define FST_CAST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Whether fst_cast knows the pair: from and to any of F32, F16, BF16, F64 and the five F8, or both the same
 * dtype. 1 or 0.
 */
int fst_cast_supported(uint32_t to, uint32_t from);

/*
 * Casts `count` elements; the dtypes are numbers of dtype.h. Neither side needs any alignment, and the two
 * must not overlap. The same dtype on both sides is a plain copy: NaNs keep their bits.
 *
 * 0; -ENOTSUP: no such pair, or no such dtype; -EINVAL: the elements, of 4 or 6 bits, are no whole number of
 * bytes, or their bytes are more than an address can count. Nothing is written then.
 */
int fst_cast(void *destination, const void *source, size_t count, uint32_t to, uint32_t from);

/*
 * The same, written past the cache where the destination is aligned to its element: twice as fast into memory
 * that is much larger than the cache and was touched long ago. Into pages that this call is the first to
 * touch it is slower than fst_cast, because the zeroes that the kernel has just put into the cache must be
 * driven out of it.
 */
int fst_cast_stream(void *destination, const void *source, size_t count, uint32_t to, uint32_t from);

/* The instruction sets that the two choose from. */
enum fst_cast_isa { FST_CAST_PLAIN, FST_CAST_AVX2, FST_CAST_AVX512 };

/*
 * For tests and measurements: from now on uses nothing beyond `isa`. Not while a cast runs. Returns what is
 * in use, which is less than asked for where the machine lacks it.
 */
int fst_cast_limit(int isa);

#ifdef __cplusplus
}
#endif

#endif
