/* Slices, casts and joins of tensors in host memory. */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "core/core.h"

/* Dimensions of a slice that repeat: the most dimensions of a tensor in a header. */
#define MAX_LEVELS 4096u

/* The end of the last run, or 0 if a number overflows; sets `*length` to the bytes of all runs. */
static uint64_t reach_of(uint64_t offset, uint64_t run, const fst_level *levels, uint32_t level_count,
                         uint64_t *length) {
  uint64_t end, span;
  *length = run;
  if (__builtin_add_overflow(offset, run, &end)) return 0;
  for (uint32_t i = 0; i < level_count; i++) {
    if (levels[i].count == 0) return 0;
    if (__builtin_mul_overflow(levels[i].count - 1, levels[i].stride, &span)) return 0;
    if (__builtin_add_overflow(end, span, &end)) return 0;
    if (__builtin_mul_overflow(*length, levels[i].count, length)) return 0;
  }
  return end;
}

/* Gathers the runs of the levels from `level` on; returns the place of the next byte. */
static char *gather(char *to, const char *from, uint64_t run, const fst_level *level, const fst_level *stop) {
  if (level == stop) {
    memcpy(to, from, run);
    return to + run;
  }
  if (level + 1 == stop) {
    fst_copy_runs(to, from, run, level->count, level->stride);
    return to + run * level->count;
  }
  for (uint64_t i = 0; i < level->count; i++) to = gather(to, from + i * level->stride, run, level + 1, stop);
  return to;
}

int32_t fst_host_gather(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                        uint64_t offset, uint64_t run, const fst_level *levels, uint32_t level_count) {
  if (target_length == 0) return 0;
  if (!source || !target || level_count > MAX_LEVELS || (level_count > 0 && !levels)) return -EINVAL;
  uint64_t length, reach = reach_of(offset, run, levels, level_count, &length);
  if (reach == 0 || reach > source_length || length != target_length) return -EINVAL;
  gather(target, (const char *)source + offset, run, levels, levels + level_count);
  return 0;
}

int32_t fst_host_cast(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                      uint64_t count, uint32_t from, uint32_t to) {
  if (!fst_cast_supported(to, from)) return -ENOTSUP;
  uint64_t from_bits, to_bits;
  if (__builtin_mul_overflow(count, (uint64_t)fst_dtype_bits(from), &from_bits)) return -EINVAL;
  if (__builtin_mul_overflow(count, (uint64_t)fst_dtype_bits(to), &to_bits)) return -EINVAL;
  if (from_bits / 8 > source_length || to_bits / 8 > target_length) return -EINVAL;
  if (count == 0) return 0;
  if (!source || !target) return -EINVAL;
  return fst_cast(target, source, (size_t)count, to, from);
}

int32_t fst_host_scatter(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                         uint64_t offset, uint64_t pitch, uint64_t width, uint64_t rows) {
  if (rows == 0 || width == 0) return 0;
  if (!source || !target || (rows > 1 && pitch < width)) return -EINVAL;
  const fst_level level = {rows, pitch};
  uint64_t length, reach = reach_of(offset, width, &level, 1, &length);
  if (reach == 0 || reach > target_length || length > source_length) return -EINVAL;
  for (uint64_t row = 0; row < rows; row++) {
    memcpy((char *)target + offset + row * pitch, (const char *)source + row * width, width);
  }
  return 0;
}
