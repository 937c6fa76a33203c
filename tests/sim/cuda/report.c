/* The record of resources, calls and violations: counters, one line of JSON, and the end of the process. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

enum { LEAKS = 16 /* named */ };

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

static void add_live(sim_text *into) {
  const sim_live *live = &sim.live;
  sim_add(into, "\"live\":{\"total\":%" PRIu64 ",\"allocations\":%" PRIu64 ",\"deviceBytes\":%" PRIu64, total_of(live),
          live->allocations, device_bytes(-1));
  sim_add(into, ",\"pinned\":%" PRIu64 ",\"pinnedBytes\":%" PRIu64, live->pinned, live->pinned_bytes);
  sim_add(into, ",\"registered\":%" PRIu64 ",\"registeredBytes\":%" PRIu64, live->registered, live->registered_bytes);
  sim_add(into, ",\"streams\":%" PRIu64 ",\"events\":%" PRIu64 ",\"modules\":%" PRIu64, live->streams, live->events,
          live->modules);
  sim_add(into, ",\"contexts\":%" PRIu64, live->contexts);
  sim_add(into, ",\"cufileHandles\":%" PRIu64 ",\"cufileBuffers\":%" PRIu64 ",\"cufileDriver\":%" PRIu64
          ",\"inFlight\":%" PRIu64 "}", live->cufile_handles, live->cufile_buffers, live->cufile_driver, in_flight());
}

static void add_leaks(sim_text *into) {
  int named = 0;
  sim_add(into, ",\"leaks\":[");
  for (int i = 0; i < SIM_DEVICES; i++) {
    for (size_t a = 0; a < sim.devices[i].count && named < LEAKS; a++) {
      const sim_allocation *allocation = sim.devices[i].allocations[a];
      if (allocation->state == SIM_FREED) continue;
      sim_add(into, "%s\"device %d: allocation %" PRIu64 ", %zu bytes\"", named++ ? "," : "", i, allocation->id,
              allocation->bytes);
    }
  }
  for (size_t i = 0; i < sim.pin_count && named < LEAKS; i++) {
    sim_add(into, "%s\"%s: %zu bytes\"", named++ ? "," : "", sim.pins[i]->registered ? "registered" : "pinned",
            sim.pins[i]->bytes);
  }
  sim_add(into, "]");
}

static void add_counts(sim_text *into) {
  const sim_counts *counts = &sim.counts;
  const uint64_t *copied = counts->copied;
  sim_add(into, ",\"peak\":{\"deviceBytes\":%" PRIu64 ",\"pinnedBytes\":%" PRIu64 "}", counts->peak_device_bytes,
          counts->peak_pinned_bytes);
  sim_add(into, ",\"copied\":{\"h2h\":%" PRIu64 ",\"h2d\":%" PRIu64 ",\"d2h\":%" PRIu64, copied[SIM_H2H],
          copied[SIM_H2D], copied[SIM_D2H]);
  sim_add(into, ",\"d2d\":%" PRIu64 ",\"peer\":%" PRIu64 ",\"fill\":%" PRIu64 ",\"cufile\":%" PRIu64 "}",
          copied[SIM_D2D], copied[SIM_PEER], copied[SIM_FILLED], counts->cufile_bytes);
  sim_add(into, ",\"counts\":{\"kernels\":%" PRIu64 ",\"pageableAsync\":%" PRIu64 ",\"foreignDevice\":%" PRIu64
          ",\"injected\":%" PRIu64 ",\"spins\":%" PRIu64, counts->kernels, counts->pageable_async,
          counts->foreign_device, sim_injected_count(), counts->spins);
  sim_add(into, ",\"copies\":%" PRIu64 ",\"launches\":%" PRIu64 ",\"records\":%" PRIu64 ",\"streams\":%" PRIu64
          ",\"events\":%" PRIu64 ",\"pins\":%" PRIu64 ",\"allocations\":%" PRIu64, counts->copies, counts->launches,
          counts->records, counts->streams, counts->events, counts->pins, counts->allocations);
  sim_add(into, ",\"cufileOpens\":%" PRIu64 ",\"cufileLogs\":%" PRIu64 ",\"cufileReads\":%" PRIu64
          ",\"unalignedReads\":%" PRIu64 ",\"unregisteredReads\":%" PRIu64 ",\"compatReads\":%" PRIu64
          ",\"pastEndReads\":%" PRIu64 ",\"registrations\":%" PRIu64 "}",
          counts->cufile_opens, counts->cufile_logs, counts->cufile_reads,
          counts->unaligned_reads, counts->unregistered_reads, counts->compat_reads, counts->past_end_reads,
          counts->registrations);
}

SIM_EXPORT uint64_t fst_sim_violations(void) {
  return sim_violations_of(NULL);
}

SIM_EXPORT uint64_t fst_sim_violations_of(const char *kind) {
  return sim_violations_of(kind);
}

SIM_EXPORT int fst_sim_fail(const char *spec) {
  return sim_fail(spec);
}

SIM_EXPORT int fst_sim_report(char *buffer, size_t size) {
  sim_text into = {.buffer = buffer, .size = size};
  sim_lock();
  sim_add(&into, "{\"standIn\":");
  sim_add_string(&into, sim_name());
  sim_add(&into, ",\"process\":%d,", (int)getpid());
  add_live(&into);
  add_leaks(&into);
  add_counts(&into);
  sim_unlock();
  sim_add(&into, ",");
  sim_add_violations(&into);
  sim_add(&into, "}");
  return (int)into.length;
}

/* Work that is still queued goes on meanwhile; nothing here waits for it. */
__attribute__((destructor)) static void end(void) {
  sim_write_report(sim.config.report, fst_sim_report);
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
