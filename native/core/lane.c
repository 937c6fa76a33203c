/* The loop of a lane: take a segment, land it, take the next. */
#include "core/core.h"

int fst_lane_fail(fst_lane *lane, fst_error error) {
  fst_plan_fail(lane->plan, lane->index, &error);
  return -1;
}

int fst_segment_fail(fst_lane *lane, enum fst_failure kind, int code) {
  const fst_segment *segment = lane->segment;
  return fst_lane_fail(lane, (fst_error){kind, code, segment->file_offset, fst_segment_bytes(segment), 0});
}

static int land(fst_lane *lane) {
  switch ((enum fst_destination_kind)lane->plan->destination_kind) {
    case FST_DESTINATION_HOST:
      return fst_land_host(lane);
    case FST_DESTINATION_CUDA:
      return fst_land_cuda(lane);
  }
  return fst_segment_fail(lane, FST_FAILURE_DEVICE, -1);
}

static int take(fst_lane *lane) {
  if (!lane->has_ahead) return fst_plan_take(lane->plan, lane->limit, &lane->index);
  lane->has_ahead = 0;
  lane->index = lane->ahead;
  return !atomic_load(&lane->plan->cancelled);
}

int32_t fst_lane_run(fst_plan *plan, uint32_t limit, FST_KEEP_8) {
  fst_lane lane = {.plan = plan, .limit = limit};
  int status = 0;
  while (status == 0 && !fst_usrbio_yields(&lane) && take(&lane)) {
    lane.segment = &fst_plan_segments(plan)[lane.index];
    lane.file = &fst_plan_files(plan)[lane.segment->file];
    status = land(&lane);
  }
  fst_land_cuda_end(&lane);
  fst_usrbio_end(&lane);
  fst_staging_unmap(lane.staging, plan->staging_bytes);
  return atomic_load(&plan->cancelled) ? 1 : 0;
}
