/* A lane while it runs: inside the shim only. */
#ifndef FST_LANE_H
#define FST_LANE_H

#include "dtype.h"
#include "fst.h"

typedef struct fst_lane {
  fst_plan *plan;
  uint32_t index; /* of the segment in hand */
  const fst_segment *segment;
  fst_plan_file *file;
  char *staging; /* mapped on first use, plan->staging_bytes long */
  struct fst_cuda_lane *cuda; /* of a lane to a CUDA device: land_cuda.c */
} fst_lane;

/* What `length` bytes of a segment's file become at the destination. */
static inline uint64_t fst_segment_landing(const fst_segment *segment, uint64_t length) {
  if (segment->from == segment->to) return length;
  return length / (fst_dtype_bits(segment->from) / 8) * (fst_dtype_bits(segment->to) / 8);
}

/*
 * Where bytes come from (read.c). Both give 0, or -1 after the plan has been told of the failure.
 */

/* Reads exactly `length` bytes of the segment's file to `destination`. */
int fst_read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination);

/* Reads `length` bytes, at most fst_stage_capacity, to the lane's staging memory; `*bytes` is where they begin. */
int fst_read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes);

/* How many bytes one fst_read_staged may ask for. */
uint64_t fst_stage_capacity(const fst_lane *lane);

/* How many of the bytes to stage at once: the quickest piece for how they will be read, in whole cache lines. */
uint64_t fst_stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length);

/* Fails the plan if the file is no longer the one whose header was read. */
int fst_read_verify(fst_lane *lane);

/* Where bytes go (land_host.c): puts the segment in hand where it belongs and reports it landed. */
int fst_land_host(fst_lane *lane);

#endif
