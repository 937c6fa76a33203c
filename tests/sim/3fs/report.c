/* What is held and what was done: counters, one line of JSON, and the end of the process. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

typedef struct text {
  char *buffer;
  size_t size, length;
  bool followed;
} text;

SIM_PRINTF(2, 3) static void add(text *into, const char *format, ...) {
  size_t room = into->length < into->size ? into->size - into->length : 0;
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(room ? into->buffer + into->length : NULL, room, format, rest);
  va_end(rest);
  if (length > 0) into->length += (size_t)length;
}

static void add_violation(void *argument, const char *kind, uint64_t count, const char *first) {
  text *into = argument;
  add(into, "%s\"%s\":{\"count\":%" PRIu64 ",\"first\":\"%s\"}", into->followed ? "," : "", kind, count, first);
  into->followed = true;
}

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

SIM_EXPORT int fst_sim_3fs_report(char *buffer, size_t size) {
  text into = {.buffer = buffer, .size = size};
  pthread_mutex_lock(&sim.lock);
  const sim_counts *counts = &sim.counts;
  add(&into, "{\"standIn\":\"%s\",\"process\":%d,\"live\":{\"total\":%" PRIu64, fst_sim_3fs_name(), (int)getpid(),
      total());
  add(&into, ",\"iovs\":%" PRIu64 ",\"rings\":%" PRIu64 ",\"reads\":%" PRIu64 ",\"fds\":%" PRIu64 "}", iovs(), rings(),
      reads(), fds());
  add(&into, ",\"counts\":{\"reads\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"mostInFlight\":%" PRIu64, counts->reads,
      counts->bytes, counts->most_in_flight);
  add(&into, ",\"outOfOrder\":%" PRIu64 ",\"rings\":%" PRIu64 ",\"abandoned\":%" PRIu64 ",\"injected\":%" PRIu64 "}",
      counts->out_of_order, counts->rings, counts->abandoned, sim_injected_count());
  pthread_mutex_unlock(&sim.lock);
  add(&into, ",\"violations\":{\"total\":%" PRIu64 ",\"kinds\":{", fst_sim_3fs_violations());
  sim_violations_report(add_violation, &into);
  add(&into, "}}}");
  return (int)into.length;
}

/* Reads that are still queued go on meanwhile; nothing here waits for them. */
__attribute__((destructor)) static void end(void) {
  if (!*sim.config.report) return;
  static char line[16384];
  size_t length = (size_t)fst_sim_3fs_report(line, sizeof line - 1);
  if (length > sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  int fd = open(sim.config.report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0) return;
  if (write(fd, line, length) != (ssize_t)length) fprintf(stderr, "%s: the report was cut\n", fst_sim_3fs_name());
  close(fd);
}
