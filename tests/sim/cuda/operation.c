/* What a stream's thread does with one operation: late, with checks, on the hidden memory. */
#include <inttypes.h>
#include <string.h>
#include <time.h>

#include "internal.h"

static uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t ns) {
  struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) continue;
}

static void delay(sim_stream *stream) {
  unsigned most = sim.config.delay_us;
  if (most == 0) return;
  stream->random ^= stream->random << 13;
  stream->random ^= stream->random >> 7;
  stream->random ^= stream->random << 17;
  sleep_until(now_ns() + stream->random % (most * 1000u + 1u));
}

void sim_link_wait(int device, sim_direction direction, size_t bytes) {
  double gbps = sim.config.copy_gbps;
  if (gbps == 0 || (direction != SIM_H2D && direction != SIM_D2H)) return;
  uint64_t now = now_ns();
  sim_lock();
  uint64_t *free_at = &sim.devices[device].link_free_ns[direction == SIM_D2H];
  uint64_t until = (*free_at > now ? *free_at : now) + (uint64_t)((double)bytes / gbps);
  *free_at = until;
  sim_unlock();
  sleep_until(until);
}

/* Every byte counts, and so does its place. Plain words, four at a time: it must not be slower than the copy. */
uint64_t sim_sum(const char *bytes, size_t pitch, size_t width, size_t height) {
  const uint64_t factor = 0x9E3779B97F4A7C15u;
  uint64_t a = 1, b = 2, c = 3, d = 4;
  for (size_t row = 0; row < height; row++, bytes += pitch) {
    size_t i = 0;
    for (; i + 32 <= width; i += 32) {
      uint64_t words[4];
      memcpy(words, bytes + i, sizeof words);
      a = (a ^ words[0]) * factor;
      b = (b ^ words[1]) * factor;
      c = (c ^ words[2]) * factor;
      d = (d ^ words[3]) * factor;
    }
    for (; i < width; i++) a = (a ^ (unsigned char)bytes[i]) * factor;
  }
  return a ^ b * 3 ^ c * 5 ^ d * 7;
}

/* Locked. */
static int check_ready(const sim_stream *stream, const sim_operation *operation) {
  for (size_t i = 0; i < operation->allocation_count; i++) {
    const sim_allocation *allocation = operation->allocations[i];
    if (!sim_is_ready(allocation, stream)) {
      sim_violation("used-before-allocated", "allocation %" PRIu64 " (%zu bytes) of cudaMallocAsync is used on another "
                    "stream before its own has come to it", allocation->id, allocation->bytes);
      return SIM_ILLEGAL_ADDRESS;
    }
  }
  return 0;
}

/* Locked. Other streams' work that still holds the memory is a mistake; waited for, so that only the report shows. */
static void run_free(sim_operation *operation) {
  sim_allocation *allocation = operation->allocations[0];
  sim_model_unpool(allocation->device, allocation->bytes);
  if (allocation->pending > 1) {
    sim_violation("freed-in-use", "cudaFreeAsync: %u operations of other streams still use allocation %" PRIu64
                  " (%zu bytes)", allocation->pending - 1, allocation->id, allocation->bytes);
    while (allocation->pending > 1) pthread_cond_wait(&sim.changed, &sim.lock);
  }
  sim_release(allocation);
}

static void run_copy(const sim_stream *stream, const sim_operation *operation) {
  size_t width = operation->width, height = operation->height;
  if (sim_model_copy(operation->direction, width * height)) return;
  sim_link_wait(stream->device, operation->direction, width * height);
  if (operation->summed && sim_sum(operation->from, operation->from_pitch, width, height) != operation->sum) {
    sim_violation("source-changed", "a copy of %zu bytes from %p to the device: the bytes changed between the call and "
                  "the copy", width * height, (const void *)operation->from);
  }
  if (width == operation->to_pitch && width == operation->from_pitch) {
    memmove(operation->to, operation->from, width * height);
    return;
  }
  for (size_t row = 0; row < height; row++) {
    memmove(operation->to + row * operation->to_pitch, operation->from + row * operation->from_pitch, width);
  }
}

static void run_kernel(sim_operation *operation) {
  if (sim_model_kernel(operation->parameters[2])) return;
  void *parameters[SIM_PARAMETERS];
  for (int i = 0; i < SIM_PARAMETERS; i++) parameters[i] = &operation->parameters[i];
  operation->kernel(parameters, operation->grid, operation->block);
}

/* Whether the operation is to fail, before its bytes are touched. */
static int check_operation(const sim_stream *stream, const sim_operation *operation) {
  static const char *const names[] = {[SIM_COPY] = "stream-copy", [SIM_FILL] = "stream-fill",
                                      [SIM_KERNEL] = "stream-kernel"};
  sim_lock();
  int code = stream->error ? stream->error : sim.devices[stream->device].lost;
  if (code == 0) code = operation->doomed;
  if (code == 0) code = check_ready(stream, operation);
  sim_unlock();
  if (code == 0) sim_injected(names[operation->work], &code);
  return code;
}

int sim_operation_run(sim_stream *stream, sim_operation *operation) {
  if (operation->work == SIM_MARK) return 0;
  if (operation->work == SIM_FREE) {
    delay(stream);
    sim_lock();
    run_free(operation);
    sim_unlock();
    return 0;
  }
  int code = check_operation(stream, operation);
  if (code != 0) return code;
  /* From here to the bytes no lock is taken: it would order them with the host's in ThreadSanitizer's eyes. */
  delay(stream);
  if (operation->work == SIM_COPY) run_copy(stream, operation);
  else if (operation->work == SIM_FILL) memset(operation->to, operation->value, operation->width);
  else run_kernel(operation);
  sim_lock();
  if (operation->work == SIM_KERNEL) sim.counts.kernels++;
  else sim.counts.copied[operation->direction] += operation->width * operation->height;
  sim_unlock();
  return 0;
}
