/* Streams: threads with queues, the order between them, and waiting for them. */
#include <stdlib.h>
#include <sys/prctl.h>

#include "internal.h"

sim_operation *sim_operation_new(sim_work work) {
  sim_operation *operation = sim_zeroed(sizeof *operation);
  operation->work = work;
  return operation;
}

void sim_operation_hold(sim_operation *operation, const sim_place *place) {
  if (place->allocation) {
    place->allocation->pending++;
    operation->allocations = sim_grown(operation->allocations, operation->allocation_count,
                                       &operation->allocation_capacity, sizeof(void *));
    operation->allocations[operation->allocation_count++] = place->allocation;
  }
  if (place->pin) {
    place->pin->pending++;
    operation->pins = sim_grown(operation->pins, operation->pin_count, &operation->pin_capacity, sizeof(void *));
    operation->pins[operation->pin_count++] = place->pin;
  }
}

/* Locked. */
static void finish(sim_stream *stream, sim_operation *operation, int code) {
  if (code != 0 && stream->error == 0) {
    stream->error = code;
    stream->failed_at = operation->ticket;
    if (sim_costs_context(code) && !sim.devices[stream->device].lost) sim.devices[stream->device].lost = code;
  }
  for (size_t i = 0; i < operation->allocation_count; i++) operation->allocations[i]->pending--;
  for (size_t i = 0; i < operation->pin_count; i++) operation->pins[i]->pending--;
  stream->completed = operation->ticket;
  free(operation->allocations);
  free(operation->pins);
  free(operation->snapshot);
  free(operation);
  pthread_cond_broadcast(&sim.changed);
}

/* Locked. Waits until the stream has done its operations up to the ticket; the error it had by then. */
static int reach(const sim_stream *stream, uint64_t ticket) {
  while (stream->completed < ticket) pthread_cond_wait(&sim.changed, &sim.lock);
  return stream->error != 0 && stream->failed_at <= ticket ? stream->error : 0;
}

static void *work(void *argument) {
  sim_stream *stream = argument;
  prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* delays of few microseconds as short as they are asked */
  sim_lock();
  for (;;) {
    while (!stream->head && !stream->destroyed) pthread_cond_wait(&stream->arrived, &sim.lock);
    sim_operation *operation = stream->head;
    if (!operation) break;
    stream->head = operation->next;
    if (!stream->head) stream->tail = NULL;
    int code;
    if (operation->work == SIM_WAIT) {
      code = reach(operation->target, operation->until); /* work that waits for failed work fails as well */
    } else {
      sim_unlock();
      code = sim_operation_run(stream, operation);
      sim_lock();
    }
    finish(stream, operation, code);
  }
  stream->dead = true;
  sim_unlock();
  return NULL;
}

sim_stream *sim_stream_new(int device, bool blocking) {
  static uint64_t ids;
  sim_stream *stream = sim_zeroed(sizeof *stream);
  stream->device = device;
  stream->blocking = blocking;
  stream->random = (sim.config.seed + ++ids) * 0x9E3779B97F4A7C15u | 1;
  pthread_cond_init(&stream->arrived, NULL);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_t thread;
  if (pthread_create(&thread, &attributes, work, stream) != 0) sim_die("cannot start a stream's thread");
  pthread_attr_destroy(&attributes);
  stream->next = sim.streams;
  sim.streams = stream;
  return stream;
}

int sim_stream_find(const char *function, void *handle, bool enqueue, sim_stream **result) {
  sim_stream *stream;
  if ((uintptr_t)handle <= 1) { /* 0 and cudaStreamLegacy */
    sim_device *device = &sim.devices[sim_current];
    if (!device->default_stream) device->default_stream = sim_stream_new(sim_current, true);
    stream = device->default_stream;
  } else {
    stream = sim_handle_find(handle, SIM_STREAM);
    if (!stream) {
      sim_violation("bad-stream", "%s: %p is not a stream, or was destroyed", function, handle);
      return SIM_INVALID_HANDLE;
    }
  }
  *result = stream;
  if (!enqueue) return 0;
  if (stream->device != sim_current) {
    sim_violation("wrong-device", "%s: a stream of device %d is used while device %d is current", function,
                  stream->device, sim_current);
    return SIM_INVALID_HANDLE;
  }
  return stream->surfaced ? stream->error : 0;
}

static uint64_t append(sim_stream *stream, sim_operation *operation) {
  operation->ticket = ++stream->submitted;
  *(stream->tail ? &stream->tail->next : &stream->head) = operation;
  stream->tail = operation;
  pthread_cond_signal(&stream->arrived);
  return operation->ticket;
}

static void append_wait(sim_stream *stream, sim_stream *target) {
  if (target->completed == target->submitted) return;
  sim_operation *wait = sim_operation_new(SIM_WAIT);
  wait->target = target;
  wait->until = target->submitted;
  append(stream, wait);
}

/* The default stream waits for all blocking streams of its device, and they for it. */
uint64_t sim_stream_submit(sim_stream *stream, sim_operation *operation) {
  sim_stream *all = sim.devices[stream->device].default_stream;
  if (stream == all) {
    for (sim_stream *other = sim.streams; other; other = other->next) {
      if (other != stream && other->device == stream->device && other->blocking) append_wait(stream, other);
    }
  } else if (stream->blocking && all) {
    append_wait(stream, all);
  }
  return append(stream, operation);
}

int sim_stream_wait(sim_stream *stream, uint64_t ticket) {
  int code = reach(stream, ticket);
  if (code != 0) stream->surfaced = true;
  return code;
}

int sim_stream_state(sim_stream *stream, uint64_t ticket) {
  return stream->completed < ticket ? SIM_NOT_READY : sim_stream_wait(stream, ticket);
}

/* Streams that are made meanwhile come before those that are there, so this does not run after them. */
int sim_device_wait(int device) {
  int code = 0;
  for (sim_stream *stream = sim.streams; stream; stream = stream->next) {
    if (device >= 0 && stream->device != device) continue;
    int own = sim_stream_wait(stream, stream->submitted);
    if (code == 0 && !stream->destroyed) code = own;
  }
  return code;
}
