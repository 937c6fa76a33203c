/* The record of resources and calls: counters, one line of JSON, and the end of the process. */
#include <inttypes.h>
#include <unistd.h>

#include "internal.h"

static uint64_t iovs(void) {
  uint64_t count = 0;
  for (const sim_iov *iov = sim.iovs; iov; iov = iov->next) count++;
  return count;
}

static uint64_t rings(void) {
  uint64_t count = 0;
  for (const sim_ring *ring = sim.rings; ring; ring = ring->next) count++;
  return count;
}

static uint64_t reads(void) {
  uint64_t count = 0;
  for (const sim_ring *ring = sim.rings; ring; ring = ring->next) count += (uint64_t)ring->used;
  return count;
}

static uint64_t fds(void) {
  return sim.file_count;
}

static uint64_t total(void) {
  return iovs() + rings() + reads() + fds();
}

static uint64_t locked(uint64_t (*value)(void)) {
  pthread_mutex_lock(&sim.lock);
  uint64_t result = value();
  pthread_mutex_unlock(&sim.lock);
  return result;
}

static uint64_t counted(const uint64_t *counter) {
  pthread_mutex_lock(&sim.lock);
  uint64_t result = *counter;
  pthread_mutex_unlock(&sim.lock);
  return result;
}

#define LIVE(name) \
  SIM_EXPORT uint64_t fst_sim_3fs_live_##name(void) { return locked(name); }
LIVE(iovs)
LIVE(rings)
LIVE(reads)
LIVE(fds)
LIVE(total)

#define COUNT(name, counter) \
  SIM_EXPORT uint64_t fst_sim_3fs_##name(void) { return counted(&sim.counts.counter); }
COUNT(reads, reads)
COUNT(bytes, bytes)
COUNT(most_in_flight, most_in_flight)
COUNT(out_of_order, out_of_order)
COUNT(rings_made, rings)
COUNT(abandoned, abandoned)

SIM_EXPORT uint64_t fst_sim_3fs_violations(void) {
  return sim_violations_of(NULL);
}

SIM_EXPORT uint64_t fst_sim_3fs_violations_of(const char *kind) {
  return sim_violations_of(kind);
}

SIM_EXPORT int fst_sim_3fs_report(char *buffer, size_t size) {
  sim_text into = {.buffer = buffer, .size = size};
  pthread_mutex_lock(&sim.lock);
  const sim_counts *counts = &sim.counts;
  sim_add(&into, "{\"standIn\":\"%s\",\"process\":%d,\"live\":{\"total\":%" PRIu64, fst_sim_3fs_name(), (int)getpid(),
          total());
  sim_add(&into, ",\"iovs\":%" PRIu64 ",\"rings\":%" PRIu64 ",\"reads\":%" PRIu64 ",\"fds\":%" PRIu64 "}", iovs(), rings(),
          reads(), fds());
  sim_add(&into, ",\"counts\":{\"reads\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"mostInFlight\":%" PRIu64, counts->reads,
          counts->bytes, counts->most_in_flight);
  sim_add(&into, ",\"outOfOrder\":%" PRIu64 ",\"rings\":%" PRIu64 ",\"abandoned\":%" PRIu64 ",\"injected\":%" PRIu64 "}",
          counts->out_of_order, counts->rings, counts->abandoned, sim_injected_count());
  pthread_mutex_unlock(&sim.lock);
  sim_add(&into, ",");
  sim_add_violations(&into);
  sim_add(&into, "}");
  return (int)into.length;
}

/* Reads that are still queued go on meanwhile; nothing here waits for them. */
__attribute__((destructor)) static void end(void) {
  sim_write_report(sim.config.report, fst_sim_3fs_report);
}
