/*
 * Tensors that are in host memory already: slices, casts and joins off the thread of the event loop.
 *
 * Source and target are buffers of the caller's, kept alive for the call; they must not overlap. 0, or -EINVAL if a range
 * leaves its buffer: nothing is written then.
 */
#ifndef FST_HOST_H
#define FST_HOST_H

#include <stdint.h>

#include "export.h"

/* How a run repeats: `count` times, `stride` bytes apart. */
typedef struct fst_level {
  uint64_t count;
  uint64_t stride;
} fst_level;

/*
 * Gathers a slice: the run of `run` bytes at `offset`, repeated by the levels, outermost first. The target is as long as
 * all runs together.
 */
FST_EXPORT int32_t fst_host_gather(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                   uint64_t offset, uint64_t run, const fst_level *levels, uint32_t level_count);

/* Casts `count` elements of dtype `from` (dtype.h) to dtype `to`; -ENOTSUP: there is no such cast. */
FST_EXPORT int32_t fst_host_cast(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                 uint64_t count, uint32_t from, uint32_t to);

/* Copies `rows` rows of `width` bytes, dense in the source, to `offset` and every `pitch` bytes from there on. */
FST_EXPORT int32_t fst_host_scatter(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                    uint64_t offset, uint64_t pitch, uint64_t width, uint64_t rows);

#endif
