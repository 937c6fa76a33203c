/*
 * Reads one range after another for a lane, each by several requests at once: for destinations whose lanes have two
 * slots of memory, of which one is filled while the device copies from the other.
 */
#include <errno.h>

#include "net/net.h"

/* Fewer bytes are not worth another request. */
#define LEAST_PART ((uint64_t)1 << 20)

#define MOST_REQUESTS 64u

static int begin(fst_lane *lane) {
  uint32_t most = MOST_REQUESTS;
  if (lane->net) return 0;
  const int status = fst_deep_reader_http.open(lane, &most, &lane->net);
  if (status != 0) return fst_segment_fail(lane, FST_FAILURE_SYSTEM, status);
  lane->net_requests = most;
  return 0;
}

void fst_net_end(fst_lane *lane) {
  if (lane->net) fst_deep_reader_http.close(lane->net);
  lane->net = NULL;
}

static int read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  fst_request requests[MOST_REQUESTS];
  if (begin(lane) != 0) return -1;
  uint64_t part = (length + lane->net_requests - 1) / lane->net_requests;
  if (part < LEAST_PART) part = LEAST_PART;
  uint32_t running = 0;
  for (uint64_t at = 0; at < length; at += part, running++) {
    const uint64_t bytes = length - at < part ? length - at : part;
    requests[running] = (fst_request){.segment = lane->index, .file = lane->file, .offset = offset + at,
                                      .length = bytes, .needed = bytes, .memory = destination + at};
    fst_deep_reader_http.start(lane->net, &requests[running]);
  }
  while (running > 0) {
    const fst_request *request = fst_deep_reader_http.wait(lane->net);
    const int is_stopped = atomic_load(&lane->plan->cancelled) != 0;
    if (request && request->error.kind != FST_FAILURE_NONE) fst_lane_fail(lane, request->error);
    if (is_stopped || (request && request->error.kind != FST_FAILURE_NONE)) {
      fst_net_end(lane); /* the other requests use this function's memory */
      return -1;
    }
    if (request) running--;
  }
  return 0;
}

static uint64_t stage_capacity(const fst_lane *lane) {
  return lane->plan->staging_bytes;
}

static int read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  if (!lane->staging) lane->staging = fst_staging_take(lane->plan->staging_bytes);
  if (!lane->staging) return fst_segment_fail(lane, FST_FAILURE_SYSTEM, ENOMEM);
  *bytes = lane->staging;
  return read_range(lane, offset, length, lane->staging);
}

static uint64_t stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length, uint64_t most) {
  (void)offset, (void)most; /* they do not come from the page cache */
  const uint64_t piece = stage_capacity(lane) & ~(uint64_t)63;
  return piece < length ? piece : length;
}

const fst_reader fst_reader_http = {read_range, read_staged, stage_capacity, stage_piece, NULL};
