/* A lane while it runs: inside the shim only. */
#ifndef FST_LANE_H
#define FST_LANE_H

#include "cast/dtype.h"
#include "fst.h"

typedef struct fst_lane {
  fst_plan *plan;
  uint32_t limit; /* segments below it are this call's */
  uint32_t index; /* of the segment in hand */
  const fst_segment *segment;
  fst_plan_file *file;
  char *staging; /* mapped on first use, plan->staging_bytes long */
  struct fst_cuda_lane *cuda; /* of a lane to a CUDA device: land_cuda.c */
  struct fst_usrbio_mount *usrbio_mount; /* whose ring the lane has, or NULL: read_usrbio.c */
  struct fst_usrbio_ring *usrbio_ring;
  uint32_t ahead;  /* a segment taken before its turn, which may be on its way already */
  int has_ahead;
  int ahead_begun; /* it is on its way */
} fst_lane;

/* What `length` bytes of a segment's file become at the destination. */
static inline uint64_t fst_segment_landing(const fst_segment *segment, uint64_t length) {
  if (segment->from == segment->to) return length;
  return length / (fst_dtype_bits(segment->from) / 8) * (fst_dtype_bits(segment->to) / 8);
}

/*
 * Where bytes come from: a reader for each kind of file (read.c, read_usrbio.c). What reads gives 0, or -1 after the
 * plan has been told of the failure.
 */
typedef struct fst_reader {
  /* Reads exactly `length` bytes of the segment's file to `destination`. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, char *destination);
  /*
   * Reads `length` bytes, at most the capacity, to the lane's staging memory or the reader's own; `*bytes` is where
   * they begin.
   */
  int (*staged)(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes);
  /* How many bytes one staged read may ask for. */
  uint64_t (*capacity)(const fst_lane *lane);
  /* How many of the bytes to stage at once: the quickest piece for how they will be read, in whole cache lines. */
  uint64_t (*piece)(const fst_lane *lane, uint64_t offset, uint64_t length);
  /* Pinned memory of the reader's own for one of a CUDA lane's two slots, or NULL after a failure; NULL: has none. */
  char *(*slot)(fst_lane *lane, unsigned slot);
} fst_reader;

extern const fst_reader fst_reader_posix, fst_reader_usrbio;

static inline const fst_reader *fst_reader_of(const fst_lane *lane) {
  return lane->file->reader == FST_READER_USRBIO ? &fst_reader_usrbio : &fst_reader_posix;
}

static inline int fst_read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  return fst_reader_of(lane)->range(lane, offset, length, destination);
}

static inline int fst_read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  return fst_reader_of(lane)->staged(lane, offset, length, bytes);
}

static inline uint64_t fst_stage_capacity(const fst_lane *lane) {
  return fst_reader_of(lane)->capacity(lane);
}

static inline uint64_t fst_stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length) {
  return fst_reader_of(lane)->piece(lane, offset, length);
}

/* Whether the lane should return between two segments, so that another one gets its ring. */
int fst_usrbio_yields(const fst_lane *lane);

/* Gives back the lane's ring, if it has one; nothing may still use its memory. */
void fst_usrbio_end(fst_lane *lane);

/* Fails the plan if the file is no longer the one whose header was read. */
int fst_read_verify(fst_lane *lane);

/* Where bytes go (land_host.c): puts the segment in hand where it belongs and reports it landed. */
int fst_land_host(fst_lane *lane);

#endif
