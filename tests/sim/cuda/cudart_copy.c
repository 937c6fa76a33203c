/* libcudart: copies and fills. */
#include <string.h>

#include "internal.h"

enum { TO_DEVICE = 1, FROM_DEVICE = 2, ON_DEVICE = 3, BY_ADDRESS = 4 };

typedef struct copy {
  const char *function;
  void *to;
  const void *from;
  size_t to_pitch, from_pitch, width, height;
  int kind;
  bool synchronous;   /* cudaMemcpy: pageable memory is as good as any */
  const int *devices; /* the given devices of `to` and `from`; NULL if not given */
} copy;

/* Whether some row of the one has a byte in common with some row of the other; 1 row or the same pitch. */
static bool rows_overlap(uintptr_t to, uintptr_t from, size_t pitch, size_t width, size_t height) {
  size_t apart = to > from ? to - from : from - to;
  size_t rows = apart / pitch, rest = apart % pitch;
  return (rows < height && rest < width) || (rows + 1 < height && pitch - rest < width);
}

static void check_overlap(const copy *this) {
  uintptr_t to = (uintptr_t)this->to, from = (uintptr_t)this->from;
  size_t rows = this->height - 1;
  bool overlap;
  if (rows == 0) {
    overlap = to < from + this->width && from < to + this->width;
  } else if (this->to_pitch == this->from_pitch) {
    overlap = rows_overlap(to, from, this->to_pitch, this->width, this->height);
  } else {
    overlap = to < from + rows * this->from_pitch + this->width && from < to + rows * this->to_pitch + this->width;
  }
  if (overlap) {
    sim_violation("overlap", "%s: source and target of %zu bytes overlap", this->function, this->width * this->height);
  }
}

/* Locked. Finds both ends; gives the direction in which the bytes go. */
static int find_places(const copy *this, sim_place *to, sim_place *from, sim_direction *direction) {
  size_t to_bytes = (this->height - 1) * this->to_pitch + this->width;
  size_t from_bytes = (this->height - 1) * this->from_pitch + this->width;
  bool to_device = this->kind == TO_DEVICE || this->kind == ON_DEVICE;
  bool from_device = this->kind == FROM_DEVICE || this->kind == ON_DEVICE;
  if (this->kind == BY_ADDRESS) {
    to_device = sim_is_device_address(this->to);
    from_device = sim_is_device_address(this->from);
  }
  int code = (to_device ? sim_place_device : sim_place_host)(this->function, this->to, to_bytes, to);
  if (code != 0) return code;
  code = (from_device ? sim_place_device : sim_place_host)(this->function, this->from, from_bytes, from);
  if (code != 0) return code;
  const int *said = this->devices;
  if (said && (to->allocation->device != said[0] || from->allocation->device != said[1])) {
    sim_violation("wrong-device", "%s: memory of devices %d and %d is said to be of %d and %d", this->function,
                  to->allocation->device, from->allocation->device, said[0], said[1]);
    return SIM_INVALID_VALUE;
  }
  if (to_device && from_device) {
    *direction = to->allocation->device == from->allocation->device ? SIM_D2D : SIM_PEER;
    check_overlap(this);
  } else {
    *direction = to_device ? SIM_H2D : from_device ? SIM_D2H : SIM_H2H;
  }
  return 0;
}

static void take_snapshot(sim_operation *operation) {
  char *snapshot = sim_zeroed(operation->width * operation->height);
  for (size_t row = 0; row < operation->height; row++) {
    memcpy(snapshot + row * operation->width, operation->from + row * operation->from_pitch, operation->width);
  }
  operation->from = operation->snapshot = snapshot;
  operation->from_pitch = operation->width;
}

/* Locked. */
static int enqueue_copy(const copy *this, sim_stream *stream) {
  sim_place to, from;
  sim_direction direction;
  int code = find_places(this, &to, &from, &direction);
  if (code != 0) return code;
  sim_operation *operation = sim_operation_new(SIM_COPY);
  operation->direction = direction;
  operation->to = to.bytes;
  operation->from = from.bytes;
  operation->to_pitch = this->to_pitch;
  operation->from_pitch = this->from_pitch;
  operation->width = this->width;
  operation->height = this->height;
  if ((to.allocation && to.allocation->device != stream->device) ||
      (from.allocation && from.allocation->device != stream->device)) {
    sim.counts.foreign_device++;
  }
  bool pageable = (!to.allocation && !to.pin) || (!from.allocation && !from.pin);
  if (pageable && !this->synchronous) {
    sim.counts.pageable_async++;
    sim_violation("pageable-async", "%s: %zu bytes %s pageable memory at %p are not copied asynchronously",
                  this->function, this->width * this->height, from.allocation ? "to" : "from",
                  from.allocation ? this->to : this->from);
  }
  sim.counts.copies++;
  bool was_idle = to.pin && to.pin->pending == 0;
  sim_operation_hold(operation, &to);
  sim_operation_hold(operation, &from);
  if (sim.config.checks && direction == SIM_D2H && was_idle) {
    for (size_t row = 0; row < this->height; row++) memset(to.bytes + row * this->to_pitch, SIM_POISON, this->width);
  }
  /* What follows reads the source without the lock; the operation holds it. */
  sim_unlock();
  if (!from.allocation && !from.pin) take_snapshot(operation);
  if (sim.config.checks && direction == SIM_H2D && from.pin) {
    operation->summed = true;
    operation->sum = sim_sum(operation->from, this->from_pitch, this->width, this->height);
  }
  sim_lock();
  uint64_t ticket = sim_stream_submit(stream, operation);
  bool waits = this->synchronous || (!to.allocation && !to.pin); /* bytes are there when the call returns */
  return waits ? sim_stream_wait(stream, ticket) : 0;
}

static int copy_rows(copy this, void *handle) {
  int code = sim_runtime_enter(this.function);
  if (code == 0 && (this.kind < TO_DEVICE || this.kind > BY_ADDRESS)) code = SIM_INVALID_DIRECTION;
  if (code == 0 && this.height > 1 && (this.to_pitch < this.width || this.from_pitch < this.width)) {
    code = SIM_INVALID_VALUE;
  }
  if (code != 0) return sim_runtime_result(code);
  if (this.kind == TO_DEVICE) sim_model_read(this.width * this.height);
  sim_stream *stream;
  sim_lock();
  code = sim_stream_find(this.function, handle, true, &stream);
  if (code == 0 && this.width > 0 && this.height > 0) code = enqueue_copy(&this, stream);
  sim_unlock();
  return sim_runtime_result(code);
}

SIM_EXPORT int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
  return copy_rows((copy){__func__, to, from, bytes, bytes, bytes, 1, kind, true, NULL}, NULL);
}

SIM_EXPORT int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
  return copy_rows((copy){__func__, to, from, bytes, bytes, bytes, 1, kind, false, NULL}, stream);
}

SIM_EXPORT int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width,
                                 size_t height, int kind, void *stream) {
  return copy_rows((copy){__func__, to, from, to_pitch, from_pitch, width, height, kind, false, NULL}, stream);
}

SIM_EXPORT int cudaMemcpyPeerAsync(void *to, int to_device, const void *from, int from_device, size_t bytes,
                                   void *stream) {
  const int devices[] = {to_device, from_device};
  return copy_rows((copy){__func__, to, from, bytes, bytes, bytes, 1, ON_DEVICE, false, devices}, stream);
}

SIM_EXPORT int cudaMemsetAsync(void *to, int value, size_t bytes, void *handle) {
  int code = sim_runtime_enter(__func__);
  if (code != 0) return sim_runtime_result(code);
  sim_stream *stream;
  sim_place place;
  sim_lock();
  code = sim_stream_find(__func__, handle, true, &stream);
  if (code == 0 && bytes > 0) code = sim_place_device(__func__, to, bytes, &place);
  if (code == 0 && bytes > 0) {
    sim_operation *operation = sim_operation_new(SIM_FILL);
    operation->direction = SIM_FILLED;
    operation->to = place.bytes;
    operation->value = value;
    operation->width = bytes;
    operation->height = 1;
    sim_operation_hold(operation, &place);
    sim_stream_submit(stream, operation);
  }
  sim_unlock();
  return sim_runtime_result(code);
}
