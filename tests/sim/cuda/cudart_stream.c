/* libcudart: streams and events. */
#include <stdlib.h>

#include "internal.h"

/* Streams */

SIM_EXPORT int cudaStreamCreateWithFlags(void **handle, unsigned flags) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && flags > 1) code = SIM_INVALID_VALUE;
  if (code != 0) return sim_runtime_result(code);
  sim_lock();
  sim_stream *stream = sim_stream_new(sim_current, flags == 0);
  *handle = sim_handle_new(SIM_STREAM, stream);
  sim.live.streams++;
  sim.counts.streams++;
  sim_unlock();
  return 0;
}

/* Work that is still queued goes on. */
SIM_EXPORT int cudaStreamDestroy(void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0 && !sim_lost(code)) return sim_runtime_result(code);
  sim_lock();
  sim_stream *stream = sim_handle_close(handle, SIM_STREAM);
  if (stream) {
    stream->destroyed = true;
    pthread_cond_signal(&stream->arrived);
    sim.live.streams--;
  } else {
    sim_violation("bad-stream", "%s: %p is not a stream, or was destroyed", __func__, handle);
    if (code == 0) code = SIM_INVALID_HANDLE;
  }
  sim_unlock();
  return sim_runtime_result(code);
}

/* A mark behind all that the stream has; on the default stream, behind the blocking streams' work too. */
static uint64_t last_ticket(sim_stream *stream) {
  if (stream != sim.devices[stream->device].default_stream) return stream->submitted;
  return sim_stream_submit(stream, sim_operation_new(SIM_MARK));
}

SIM_EXPORT int cudaStreamSynchronize(void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  sim_stream *stream;
  sim_lock();
  code = sim_stream_find(__func__, handle, false, &stream);
  sim.counts.spins++;
  if (code == 0) code = sim_stream_wait(stream, last_ticket(stream));
  sim_unlock();
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaStreamQuery(void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  sim_stream *stream;
  sim_lock();
  code = sim_stream_find(__func__, handle, false, &stream);
  if (code == 0) code = sim_stream_state(stream, stream->submitted);
  sim_unlock();
  return sim_runtime_result(code);
}

/* Events */

/* Locked. */
static int find_event(const char *function, void *handle, sim_event **event) {
  *event = sim_handle_find(handle, SIM_EVENT);
  if (*event) return 0;
  sim_violation("bad-event", "%s: %p is not an event, or was destroyed", function, handle);
  return SIM_INVALID_HANDLE;
}

SIM_EXPORT int cudaEventCreateWithFlags(void **handle, unsigned flags) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && flags > 7) code = SIM_INVALID_VALUE;
  if (code != 0) return sim_runtime_result(code);
  sim_event *event = sim_zeroed(sizeof *event);
  event->device = sim_current;
  event->spins = !(flags & 1);
  sim_lock();
  *handle = sim_handle_new(SIM_EVENT, event);
  sim.live.events++;
  sim.counts.events++;
  sim_unlock();
  return 0;
}

SIM_EXPORT int cudaEventDestroy(void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0 && !sim_lost(code)) return sim_runtime_result(code);
  sim_event *event;
  sim_lock();
  int found = find_event(__func__, handle, &event);
  if (found == 0) {
    free(sim_handle_close(handle, SIM_EVENT));
    sim.live.events--;
  }
  sim_unlock();
  return sim_runtime_result(code ? code : found);
}

SIM_EXPORT int cudaEventRecord(void *handle, void *stream_handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  sim_event *event;
  sim_stream *stream;
  sim_lock();
  code = find_event(__func__, handle, &event);
  if (code == 0) code = sim_stream_find(__func__, stream_handle, true, &stream);
  if (code == 0 && event->device != stream->device) {
    sim_violation("wrong-device", "%s: an event of device %d is recorded on a stream of device %d", __func__,
                  event->device, stream->device);
    code = SIM_INVALID_HANDLE;
  }
  if (code == 0) {
    sim.counts.records++;
    event->stream = stream;
    event->ticket = sim_stream_submit(stream, sim_operation_new(SIM_MARK));
  }
  sim_unlock();
  return sim_runtime_result(code);
}

/* Calls `reach` for the work before the last record of an event; none was recorded: done. */
static int reach_event(const char *function, void *handle, int (*reach)(sim_stream *stream, uint64_t ticket)) {
  int code = sim_runtime_enter(function);
  if (code != 0) return sim_runtime_result(code);
  sim_event *event;
  sim_lock();
  code = find_event(function, handle, &event);
  if (code == 0 && event->spins && reach == sim_stream_wait) sim.counts.spins++;
  if (code == 0 && event->stream) code = reach(event->stream, event->ticket);
  sim_unlock();
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaEventQuery(void *handle) {
  return reach_event(__func__, handle, sim_stream_state);
}

SIM_EXPORT int cudaEventSynchronize(void *handle) {
  return reach_event(__func__, handle, sim_stream_wait);
}

SIM_EXPORT int cudaStreamWaitEvent(void *stream_handle, void *handle, unsigned flags) {
  int code = sim_runtime_enter(__func__);
  if (code == 0 && flags > 1) code = SIM_INVALID_VALUE;
  if (code != 0) return sim_runtime_result(code);
  sim_event *event;
  sim_stream *stream;
  sim_lock();
  code = find_event(__func__, handle, &event);
  if (code == 0) code = sim_stream_find(__func__, stream_handle, true, &stream);
  if (code == 0 && event->stream && event->stream != stream) {
    sim_operation *wait = sim_operation_new(SIM_WAIT);
    wait->target = event->stream;
    wait->until = event->ticket;
    sim_stream_submit(stream, wait);
  }
  sim_unlock();
  return sim_runtime_result(code);
}
