/* Landing in host memory: straight, cast on the way, or gathered from strided rows. */
#include <string.h>

#include "cast.h"
#include "dtype.h"
#include "land.h"

static uint64_t element_bytes(uint32_t dtype) {
  return fst_dtype_bits(dtype) / 8;
}

static void put(const fst_segment *segment, char *destination, const char *bytes, uint64_t length) {
  if (segment->from == segment->to) memcpy(destination, bytes, length);
  else fst_cast(destination, bytes, length / element_bytes(segment->from), segment->to, segment->from);
}

static int land_range(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t address) {
  const fst_segment *segment = lane->segment;
  char *destination = (char *)(uintptr_t)address;
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

static int land_span(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t address) {
  const fst_segment *segment = lane->segment;
  char *destination = (char *)(uintptr_t)address;
  const char *bytes;
  if (fst_read_staged(lane, offset, fst_span_bytes(segment, outer, inner), &bytes) != 0) return -1;
  uint64_t step = fst_segment_landing(segment, segment->run);
  for (uint64_t o = 0; o < outer; o++) {
    for (uint64_t i = 0; i < inner; i++) {
      put(segment, destination, bytes + o * segment->outer_stride + i * segment->inner_stride, segment->run);
      destination += step;
    }
  }
  return 0;
}

int fst_land_host(fst_lane *lane) {
  static const fst_sink sink = {land_range, land_span};
  if (fst_land_segment(lane, &sink) != 0 || fst_read_verify(lane) != 0) return -1;
  fst_plan_landed(lane->plan, lane->index);
  return 0;
}
