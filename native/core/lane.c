/* The loop of a lane: take a segment, land it, take the next. */
#include <errno.h>
#include <time.h>

#include "core/core.h"

uint64_t fst_now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

int fst_lane_fail(fst_lane *lane, fst_error error) {
  fst_plan_fail(lane->plan, lane->index, &error);
  return -1;
}

int fst_segment_fail(fst_lane *lane, enum fst_failure kind, int code) {
  const fst_segment *segment = lane->segment;
  return fst_lane_fail(lane, (fst_error){kind, code, segment->file_offset, fst_segment_bytes(segment), 0});
}

static void select_segment(fst_lane *lane, uint32_t index) {
  lane->index = index;
  lane->segment = &fst_plan_segments(lane->plan)[index];
  lane->file = &fst_plan_files(lane->plan)[lane->segment->file];
}

int fst_lane_take(fst_lane *lane) {
  uint32_t index = lane->ahead;
  if (!lane->has_ahead && !fst_plan_take(lane->plan, lane->limit, &index)) return 0;
  lane->has_ahead = 0;
  select_segment(lane, index);
  return !atomic_load(&lane->plan->cancelled);
}

/* Lands the current segment by reads one after the other, and notes how fast they were. */
static int land_host(fst_lane *lane) {
  const uint64_t start = fst_now(), reads = lane->reads;
  if (fst_land_host(lane) != 0) return -1;
  fst_plan_landed(lane->plan, lane->index);
  fst_queue_note(lane, fst_now() - start, lane->reads - reads);
  return 0;
}

int fst_lane_land(fst_lane *lane) {
  switch ((enum fst_destination_kind)lane->plan->destination_kind) {
    case FST_DESTINATION_HOST:
      return land_host(lane);
    case FST_DESTINATION_CUDA:
      return fst_land_cuda(lane);
  }
  return fst_segment_fail(lane, FST_FAILURE_DEVICE, -1);
}

/* The reader that should read the current segment with many reads in flight; NULL: one read after the other. */
static const fst_deep_reader *deep_reader_of(const fst_lane *lane) {
  if (fst_deep_reader_http.wants(lane)) return &fst_deep_reader_http;
  return fst_deep_reader_uring.wants(lane) ? &fst_deep_reader_uring : NULL;
}

int32_t fst_lane_run(fst_plan *plan, uint32_t limit, FST_KEEP_8) {
  fst_lane lane = {.plan = plan, .limit = limit};
  int status = 0;
  while (status == 0 && !fst_usrbio_yields(&lane) && fst_lane_take(&lane)) {
    const fst_deep_reader *reader = deep_reader_of(&lane);
    status = reader ? fst_queue_run(&lane, reader) : fst_lane_land(&lane);
  }
  fst_land_cuda_end(&lane);
  fst_usrbio_end(&lane);
  fst_net_end(&lane);
  fst_staging_give(lane.staging);
  fst_plan_verify(plan);
  return atomic_load(&plan->cancelled) ? 1 : 0;
}
