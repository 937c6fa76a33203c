/* Common parts of the tests of lanes, for all kinds of memory. */
#ifndef LANE_SUPPORT_H
#define LANE_SUPPORT_H

#include "cast/cast.h"
#include "plan_support.h"

/* The file of the plans; each test program has its own. */
static noise_file file;

static inline void set_faults(const char *faults) {
  CHECK(fst_fault_set(faults) == 0, "faults \"%s\" are not valid", faults);
}

static unsigned element_bytes(uint32_t dtype) {
  return fst_dtype_bits(dtype) / 8;
}

static uint64_t landing_bytes(const fst_segment *segment) {
  return fst_segment_bytes(segment) / element_bytes(segment->from) * element_bytes(segment->to);
}

/* The expected bytes at the destination of a segment. */
static char *expected_bytes(const fst_segment *segment) {
  char *dense = malloc(fst_segment_bytes(segment) + 1), *result = malloc(landing_bytes(segment) + 1), *at = dense;
  require(dense && result, "malloc");
  for (uint32_t o = 0; o < segment->outer_count; o++) {
    for (uint32_t i = 0; i < segment->inner_count; i++) {
      uint64_t from = segment->file_offset + o * segment->outer_stride + i * segment->inner_stride;
      require(from + segment->run <= file.size, "a test reads beyond its file");
      memcpy(at, file.bytes + from, segment->run);
      at += segment->run;
    }
  }
  fst_cast(result, dense, fst_segment_bytes(segment) / element_bytes(segment->from), segment->to, segment->from);
  free(dense);
  return result;
}

#endif
