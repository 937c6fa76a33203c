/* What landers have in common: inside the shim only. */
#ifndef FST_LAND_H
#define FST_LAND_H

#include "core/lane.h"

/* Where a lander puts what it reads. Both give 0, or -1 after the plan has been told of the failure. */
typedef struct fst_sink {
  /* `length` bytes of the file from `offset` on. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t destination);
  /* `outer` x `inner` runs from `offset` on, whose span fits the staging memory. */
  int (*span)(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t destination);
} fst_sink;

/* Gives all of the segment in hand to the sink, in pieces that it can take. */
int fst_land_segment(fst_lane *lane, const fst_sink *sink);

/* Bytes of the file from the first run of a span to the end of its last. */
static inline uint64_t fst_span_bytes(const fst_segment *segment, uint64_t outer, uint64_t inner) {
  return (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run;
}

#endif
