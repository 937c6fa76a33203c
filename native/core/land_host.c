/* Lands in host memory: directly, cast, or gathered from strided rows. */
#include <string.h>

#include "core/core.h"

/* Through the page cache, small pieces are fastest, because they stay in the second-level cache. */
#define CACHED_PIECE ((uint64_t)256 << 10)

static uint64_t element_bytes(uint32_t dtype) {
  return fst_dtype_bits(dtype) / 8;
}

static void put(const fst_segment *segment, char *destination, const char *bytes, uint64_t length) {
  if (segment->from == segment->to) memcpy(destination, bytes, length);
  else fst_cast(destination, bytes, length / element_bytes(segment->from), segment->to, segment->from);
}

/*
 * Makes the kernel clear the pages of a destination before the bytes are read. Clearing during the cast would evict
 * its input from the cache: 1.72 s instead of 1.17 s for 4 GiB of BF16 to F32.
 */
static void touch_pages(char *destination, uint64_t bytes) {
  volatile char *at = destination;
  *at = 0;
  const uint64_t next = FST_HUGE_PAGE - (uintptr_t)destination % FST_HUGE_PAGE;
  for (uint64_t page = next; page < bytes; page += FST_HUGE_PAGE) at[page] = 0;
}

static int land_range(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t address) {
  const fst_segment *segment = lane->segment;
  char *destination = (char *)(uintptr_t)address;
  if (segment->from == segment->to) return fst_read_range(lane, offset, length, destination);
  while (length > 0) {
    uint64_t part = fst_stage_piece(lane, offset, length, CACHED_PIECE);
    const uint64_t landing = fst_segment_landing(segment, part);
    const char *bytes;
    touch_pages(destination, landing);
    if (fst_read_staged(lane, offset, part, &bytes) != 0) return -1;
    put(segment, destination, bytes, part);
    destination += landing;
    offset += part;
    length -= part;
  }
  return 0;
}

void fst_land_host_part(const fst_segment *segment, const fst_part *part, const char *bytes) {
  char *destination = (char *)(uintptr_t)part->destination;
  if (fst_part_is_range(part)) {
    put(segment, destination, bytes, part->length);
    return;
  }
  /* The innermost level that repeats, and the levels around it. */
  const int is_flat = part->inner == 1;
  const uint64_t rows = is_flat ? 1 : part->outer, count = is_flat ? part->outer : part->inner;
  const uint64_t stride = is_flat ? segment->outer_stride : segment->inner_stride;
  const uint64_t step = fst_segment_landing(segment, segment->run);
  for (uint64_t row = 0; row < rows; row++, bytes += segment->outer_stride, destination += count * step) {
    if (segment->from == segment->to) fst_copy_runs(destination, bytes, segment->run, count, stride);
    else for (uint64_t i = 0; i < count; i++) put(segment, destination + i * step, bytes + i * stride, segment->run);
  }
}

static int land_span(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t address) {
  const fst_part part = {offset, fst_span_bytes(lane->segment, outer, inner), outer, inner, address};
  const char *bytes;
  touch_pages((char *)(uintptr_t)address, fst_segment_landing(lane->segment, outer * inner * lane->segment->run));
  if (fst_read_staged(lane, offset, part.length, &bytes) != 0) return -1;
  fst_land_host_part(lane->segment, &part, bytes);
  return 0;
}

int fst_land_host(fst_lane *lane) {
  static const fst_sink sink = {land_range, land_span};
  const fst_segment *segment = lane->segment;
  uint64_t capacity = fst_stage_capacity(lane);
  if (segment->outer_count > 1 || segment->inner_count > 1) {
    const uint64_t span = fst_span_bytes(segment, segment->outer_count, segment->inner_count);
    capacity = fst_stage_piece(lane, segment->file_offset, span, CACHED_PIECE);
  }
  return fst_land_segment(lane, &sink, capacity);
}
