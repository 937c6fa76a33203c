/* What is held, what was done and what was done wrong: counters, one line of JSON, and the end of the process. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { LEAKS = 16 /* named */ };

typedef struct text {
  char *buffer;
  size_t size, length;
  const char *last_kind; /* of violations */
} text;

SIM_PRINTF(2, 3) static void add(text *into, const char *format, ...) {
  size_t room = into->length < into->size ? into->size - into->length : 0;
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(room ? into->buffer + into->length : NULL, room, format, rest);
  va_end(rest);
  if (length > 0) into->length += (size_t)length;
}

static void add_string(text *into, const char *string) {
  add(into, "\"");
  for (; *string; string++) {
    if (*string == '"' || *string == '\\') add(into, "\\%c", *string);
    else if ((unsigned char)*string < 32 || (unsigned char)*string > 126) add(into, "\\u%04x", (unsigned char)*string);
    else add(into, "%c", *string);
  }
  add(into, "\"");
}

/* Called with a NULL text for every kind and then for each of its texts that were kept. */
static void add_violation(void *argument, const char *kind, uint64_t count, const char *violation) {
  text *into = argument;
  if (!violation) {
    add(into, "%s", into->last_kind ? "]}," : "");
    add_string(into, kind);
    add(into, ":{\"count\":%" PRIu64 ",\"first\":[", count);
    into->last_kind = kind;
  } else {
    add(into, "%s", count ? "," : "");
    add_string(into, violation);
  }
}

/* Locked. */
static uint64_t total_of(const sim_live *live) {
  return live->allocations + live->pinned + live->registered + live->streams + live->events + live->modules +
         live->cufile_handles + live->cufile_buffers + live->cufile_driver;
}

static uint64_t in_flight(void) {
  uint64_t count = 0;
  for (const sim_stream *stream = sim.streams; stream; stream = stream->next) {
    count += stream->submitted - stream->completed;
  }
  return count;
}

static uint64_t device_bytes(int device) {
  uint64_t bytes = 0;
  for (int i = 0; i < SIM_DEVICES; i++) {
    if (device < 0 || i == device) bytes += sim.devices[i].used;
  }
  return bytes;
}

static void add_live(text *into) {
  const sim_live *live = &sim.live;
  add(into, "\"live\":{\"total\":%" PRIu64 ",\"allocations\":%" PRIu64 ",\"deviceBytes\":%" PRIu64, total_of(live),
      live->allocations, device_bytes(-1));
  add(into, ",\"pinned\":%" PRIu64 ",\"pinnedBytes\":%" PRIu64, live->pinned, live->pinned_bytes);
  add(into, ",\"registered\":%" PRIu64 ",\"registeredBytes\":%" PRIu64, live->registered, live->registered_bytes);
  add(into, ",\"streams\":%" PRIu64 ",\"events\":%" PRIu64 ",\"modules\":%" PRIu64, live->streams, live->events,
      live->modules);
  add(into, ",\"cufileHandles\":%" PRIu64 ",\"cufileBuffers\":%" PRIu64 ",\"cufileDriver\":%" PRIu64
      ",\"inFlight\":%" PRIu64 "}", live->cufile_handles, live->cufile_buffers, live->cufile_driver, in_flight());
}

static void add_leaks(text *into) {
  int named = 0;
  add(into, ",\"leaks\":[");
  for (int i = 0; i < SIM_DEVICES; i++) {
    for (size_t a = 0; a < sim.devices[i].count && named < LEAKS; a++) {
      const sim_allocation *allocation = sim.devices[i].allocations[a];
      if (allocation->state == SIM_FREED) continue;
      add(into, "%s\"device %d: allocation %" PRIu64 ", %zu bytes\"", named++ ? "," : "", i, allocation->id,
          allocation->bytes);
    }
  }
  for (size_t i = 0; i < sim.pin_count && named < LEAKS; i++) {
    add(into, "%s\"%s: %zu bytes\"", named++ ? "," : "", sim.pins[i]->registered ? "registered" : "pinned",
        sim.pins[i]->bytes);
  }
  add(into, "]");
}

static void add_counts(text *into) {
  const sim_counts *counts = &sim.counts;
  const uint64_t *copied = counts->copied;
  add(into, ",\"peak\":{\"deviceBytes\":%" PRIu64 ",\"pinnedBytes\":%" PRIu64 "}", counts->peak_device_bytes,
      counts->peak_pinned_bytes);
  add(into, ",\"copied\":{\"h2h\":%" PRIu64 ",\"h2d\":%" PRIu64 ",\"d2h\":%" PRIu64, copied[SIM_H2H],
      copied[SIM_H2D], copied[SIM_D2H]);
  add(into, ",\"d2d\":%" PRIu64 ",\"peer\":%" PRIu64 ",\"fill\":%" PRIu64 ",\"cufile\":%" PRIu64 "}",
      copied[SIM_D2D], copied[SIM_PEER], copied[SIM_FILLED], counts->cufile_bytes);
  add(into, ",\"counts\":{\"kernels\":%" PRIu64 ",\"pageableAsync\":%" PRIu64 ",\"foreignDevice\":%" PRIu64
      ",\"injected\":%" PRIu64, counts->kernels, counts->pageable_async, counts->foreign_device, sim_injected_count());
  add(into, ",\"cufileOpens\":%" PRIu64 ",\"cufileReads\":%" PRIu64 ",\"unalignedReads\":%" PRIu64
      ",\"unregisteredReads\":%" PRIu64 ",\"compatReads\":%" PRIu64 "}", counts->cufile_opens, counts->cufile_reads,
      counts->unaligned_reads, counts->unregistered_reads, counts->compat_reads);
}

SIM_EXPORT int fst_sim_report(char *buffer, size_t size) {
  text into = {.buffer = buffer, .size = size};
  sim_lock();
  add(&into, "{\"standIn\":");
  add_string(&into, fst_sim_name());
  add(&into, ",\"process\":%d,", (int)getpid());
  add_live(&into);
  add_leaks(&into);
  add_counts(&into);
  sim_unlock();
  add(&into, ",\"violations\":{\"total\":%" PRIu64 ",\"kinds\":{", fst_sim_violations());
  sim_violations_report(add_violation, &into);
  add(&into, "%s}}}", into.last_kind ? "]}" : "");
  return (int)into.length;
}

/* Work that is still queued goes on meanwhile; nothing here waits for it. */
__attribute__((destructor)) static void end(void) {
  if (!*sim.config.report) return;
  size_t size = (size_t)fst_sim_report(NULL, 0) + 4096; /* more, should it grow meanwhile */
  char *line = sim_zeroed(size);
  size_t length = (size_t)fst_sim_report(line, size - 1);
  line[length++] = '\n';
  int fd = open(sim.config.report, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, line, length) != (ssize_t)length || close(fd) != 0) {
    fprintf(stderr, "%s: cannot write its report to %s\n", fst_sim_name(), sim.config.report);
  }
  free(line);
}

SIM_EXPORT void fst_sim_reset(void) {
  sim_lock();
  sim_device_wait(-1);
  for (sim_stream *stream = sim.streams; stream; stream = stream->next) {
    stream->error = 0;
    stream->surfaced = false;
  }
  for (int i = 0; i < SIM_DEVICES; i++) sim.devices[i].lost = 0;
  memset(&sim.counts, 0, sizeof sim.counts);
  sim.counts.peak_device_bytes = device_bytes(-1);
  sim.counts.peak_pinned_bytes = sim.live.pinned_bytes + sim.live.registered_bytes;
  sim_configure();
  sim_violations_clear();
  sim_unlock();
}

static uint64_t read_counter(const uint64_t *counter) {
  sim_lock();
  uint64_t value = *counter;
  sim_unlock();
  return value;
}

SIM_EXPORT uint64_t fst_sim_live_allocations(void) {
  return read_counter(&sim.live.allocations);
}

SIM_EXPORT uint64_t fst_sim_live_device_bytes(int device) {
  sim_lock();
  uint64_t bytes = device_bytes(device);
  sim_unlock();
  return bytes;
}

SIM_EXPORT uint64_t fst_sim_live_pinned(void) {
  return read_counter(&sim.live.pinned);
}

SIM_EXPORT uint64_t fst_sim_live_registered(void) {
  return read_counter(&sim.live.registered);
}

SIM_EXPORT uint64_t fst_sim_live_streams(void) {
  return read_counter(&sim.live.streams);
}

SIM_EXPORT uint64_t fst_sim_live_events(void) {
  return read_counter(&sim.live.events);
}

SIM_EXPORT uint64_t fst_sim_live_modules(void) {
  return read_counter(&sim.live.modules);
}

SIM_EXPORT uint64_t fst_sim_live_cufile_handles(void) {
  return read_counter(&sim.live.cufile_handles);
}

SIM_EXPORT uint64_t fst_sim_live_cufile_buffers(void) {
  return read_counter(&sim.live.cufile_buffers);
}

SIM_EXPORT uint64_t fst_sim_live_cufile_driver(void) {
  return read_counter(&sim.live.cufile_driver);
}

SIM_EXPORT uint64_t fst_sim_live_total(void) {
  sim_lock();
  uint64_t total = total_of(&sim.live);
  sim_unlock();
  return total;
}
