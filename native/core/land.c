/* Divides a segment: a plain range, or strided rows in pieces that fit the staging memory. */
#include "core/core.h"

/* Smaller gaps between rows are read too, because a second call costs more. */
#define READ_THROUGH_GAP 1024u

/* One outer row whose span is larger than the staging memory: as many of its runs at a time as fit. */
static int land_row(fst_lane *lane, const fst_sink *sink, uint64_t offset, uint64_t destination) {
  const fst_segment *segment = lane->segment;
  uint64_t capacity = fst_stage_capacity(lane), at_once = 1;
  if (segment->inner_count > 1 && segment->run <= capacity) {
    at_once = (capacity - segment->run) / segment->inner_stride + 1;
  }
  for (uint64_t i = 0; i < segment->inner_count;) {
    uint64_t inner = segment->inner_count - i < at_once ? segment->inner_count - i : at_once;
    uint64_t from = offset + i * segment->inner_stride;
    int status = inner > 1 ? sink->span(lane, from, 1, inner, destination)
                           : sink->range(lane, from, segment->run, destination);
    if (status != 0) return -1;
    destination += inner * fst_segment_landing(segment, segment->run);
    i += inner;
  }
  return 0;
}

#ifdef FST_DEBUG
/* Whether a segment is valid. */
static int is_sound(const fst_plan *plan, const fst_segment *segment, const fst_plan_file *file) {
  return segment->file < plan->file_count && segment->outer_count > 0 && segment->inner_count > 0 &&
         segment->run <= file->size && segment->file_offset <= file->size - segment->run;
}
#endif

int fst_land_segment(fst_lane *lane, const fst_sink *sink) {
  const fst_segment *segment = lane->segment;
  FST_ASSERT(is_sound(lane->plan, segment, lane->file));
  uint64_t destination = segment->destination;
  if (segment->outer_count == 1 && segment->inner_count == 1) {
    return sink->range(lane, segment->file_offset, segment->run, destination);
  }
  uint64_t row = segment->inner_count > 1
                     ? (segment->inner_count - 1) * segment->inner_stride + segment->run
                     : segment->run;
  uint64_t capacity = fst_stage_capacity(lane), at_once = 1;
  if (row <= capacity && segment->outer_stride - row <= READ_THROUGH_GAP) {
    at_once = (capacity - row) / segment->outer_stride + 1;
  }
  for (uint64_t o = 0; o < segment->outer_count;) {
    uint64_t outer = segment->outer_count - o < at_once ? segment->outer_count - o : at_once;
    uint64_t from = segment->file_offset + o * segment->outer_stride;
    int status;
    if (outer > 1 || (segment->inner_count > 1 && row <= capacity)) {
      status = sink->span(lane, from, outer, segment->inner_count, destination);
    } else {
      status = land_row(lane, sink, from, destination);
    }
    if (status != 0) return -1;
    destination += outer * fst_segment_landing(segment, segment->run * segment->inner_count);
    o += outer;
  }
  return 0;
}
