/* Divides a segment into parts: plain ranges, and spans of strided rows that fit the staging memory. */
#include "core/core.h"

/*
 * The longest gap after a row of `bytes` that is read too, because a second call costs more: always a few cache lines, and
 * with longer rows what costs as much as a call. src/load/plan.ts has the same figures.
 */
static uint64_t read_through_gap(uint64_t bytes) {
  const uint64_t least = 1024, most = 16384, share = 16;
  return bytes <= least / share ? least : bytes < most / share ? bytes * share : most;
}

#ifdef FST_DEBUG
/* Whether a segment is valid. */
static int is_sound(const fst_plan *plan, const fst_segment *segment) {
  const fst_plan_file *file = &fst_plan_files((fst_plan *)(uintptr_t)plan)[segment->file];
  return segment->file < plan->file_count && segment->outer_count > 0 && segment->inner_count > 0 &&
         segment->run <= file->size && segment->file_offset <= file->size - segment->run;
}
#endif

fst_parts fst_parts_of(const fst_plan *plan, const fst_segment *segment, uint64_t capacity) {
  (void)plan;
  FST_ASSERT(is_sound(plan, segment));
  return (fst_parts){.segment = segment, .capacity = capacity, .destination = segment->destination};
}

/* The number of items of `bytes`, `stride` apart, whose span fits the capacity; at least 1. */
static uint64_t fitting(const fst_parts *parts, uint64_t bytes, uint64_t stride, uint64_t left) {
  const uint64_t count = bytes <= parts->capacity ? (parts->capacity - bytes) / stride + 1 : 1;
  return count < left ? count : left;
}

int fst_parts_next(fst_parts *parts, fst_part *part) {
  const fst_segment *segment = parts->segment;
  if (parts->outer == segment->outer_count) return 0;
  const uint64_t row = (segment->inner_count - 1) * segment->inner_stride + segment->run;
  uint64_t outer = 1, inner = segment->inner_count;
  if (segment->outer_count > 1 && row <= parts->capacity && segment->outer_stride - row <= read_through_gap(row)) {
    outer = fitting(parts, row, segment->outer_stride, segment->outer_count - parts->outer);
  }
  if (outer == 1 && inner > 1) { /* a long row: as many of its runs at a time as fit */
    inner = fitting(parts, segment->run, segment->inner_stride, segment->inner_count - parts->inner);
  }
  *part = (fst_part){
    .offset = segment->file_offset + parts->outer * segment->outer_stride + parts->inner * segment->inner_stride,
    .outer = outer,
    .inner = inner,
    .length = (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run,
    .destination = parts->destination,
  };
  parts->destination += outer * inner * fst_segment_landing(segment, segment->run);
  parts->inner += inner;
  if (parts->inner == segment->inner_count) {
    parts->inner = 0;
    parts->outer += outer;
  }
  return 1;
}

int fst_land_segment(fst_lane *lane, const fst_sink *sink, uint64_t capacity) {
  fst_parts parts = fst_parts_of(lane->plan, lane->segment, capacity);
  fst_part part;
  while (fst_parts_next(&parts, &part)) {
    const int status = fst_part_is_range(&part) ? sink->range(lane, part.offset, part.length, part.destination)
                                                : sink->span(lane, part.offset, part.outer, part.inner, part.destination);
    if (status != 0) return -1;
  }
  return 0;
}
