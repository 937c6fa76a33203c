/* Landing in host memory: straight, cast on the way, or gathered from strided rows. */
#include <string.h>

#include "cast.h"
#include "dtype.h"
#include "lane.h"

/* Rows closer together than this are read with what lies between them: storage reads whole pages anyway. */
#define READ_THROUGH_GAP 4096u

static uint64_t element_bytes(uint32_t dtype) {
  return fst_dtype_bits(dtype) / 8;
}

static void put(const fst_segment *segment, char *destination, const char *bytes, uint64_t length) {
  if (segment->from == segment->to) memcpy(destination, bytes, length);
  else fst_cast(destination, bytes, length / element_bytes(segment->from), segment->to, segment->from);
}

static int land_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  const fst_segment *segment = lane->segment;
  if (segment->from == segment->to) return fst_read_range(lane, offset, length, destination);
  while (length > 0) {
    uint64_t part = fst_stage_piece(lane, offset, length);
    const char *bytes;
    if (fst_read_staged(lane, offset, part, &bytes) != 0) return -1;
    put(segment, destination, bytes, part);
    destination += fst_segment_landing(segment, part);
    offset += part;
    length -= part;
  }
  return 0;
}

/* `outer` x `inner` runs from `offset` on, whose span fits the staging memory. */
static int land_span(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, char *destination) {
  const fst_segment *segment = lane->segment;
  uint64_t span = (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run;
  const char *bytes;
  if (fst_read_staged(lane, offset, span, &bytes) != 0) return -1;
  uint64_t step = fst_segment_landing(segment, segment->run);
  for (uint64_t o = 0; o < outer; o++) {
    for (uint64_t i = 0; i < inner; i++) {
      put(segment, destination, bytes + o * segment->outer_stride + i * segment->inner_stride, segment->run);
      destination += step;
    }
  }
  return 0;
}

/* One outer row whose span is larger than the staging memory: as many of its runs at a time as fit. */
static int land_row(fst_lane *lane, uint64_t offset, char *destination) {
  const fst_segment *segment = lane->segment;
  uint64_t capacity = fst_stage_capacity(lane), at_once = 1;
  if (segment->inner_count > 1 && segment->run <= capacity) {
    at_once = (capacity - segment->run) / segment->inner_stride + 1;
  }
  for (uint64_t i = 0; i < segment->inner_count;) {
    uint64_t inner = segment->inner_count - i < at_once ? segment->inner_count - i : at_once;
    uint64_t from = offset + i * segment->inner_stride;
    int status = inner > 1 ? land_span(lane, from, 1, inner, destination)
                           : land_range(lane, from, segment->run, destination);
    if (status != 0) return -1;
    destination += inner * fst_segment_landing(segment, segment->run);
    i += inner;
  }
  return 0;
}

static int land_rows(fst_lane *lane, char *destination) {
  const fst_segment *segment = lane->segment;
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
      status = land_span(lane, from, outer, segment->inner_count, destination);
    } else {
      status = land_row(lane, from, destination);
    }
    if (status != 0) return -1;
    destination += outer * fst_segment_landing(segment, segment->run * segment->inner_count);
    o += outer;
  }
  return 0;
}

int fst_land_host(fst_lane *lane) {
  const fst_segment *segment = lane->segment;
  char *destination = (char *)(uintptr_t)segment->destination;
  int status = segment->outer_count == 1 && segment->inner_count == 1
                   ? land_range(lane, segment->file_offset, segment->run, destination)
                   : land_rows(lane, destination);
  if (status != 0 || fst_read_verify(lane) != 0) return -1;
  fst_plan_landed(lane->plan, lane->index);
  return 0;
}
