/* Pinned host memory: allocated here, or the program's own and registered. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "internal.h"

enum { RETIRED = 64 };

static size_t round_to_page(size_t bytes) {
  return (bytes + SIM_PAGE - 1) & ~(size_t)(SIM_PAGE - 1);
}

int sim_host_map(size_t bytes, void **base) {
  if (bytes > PTRDIFF_MAX) return SIM_OUT_OF_MEMORY;
  void *memory = mmap(NULL, round_to_page(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return SIM_OUT_OF_MEMORY;
  if (bytes >= (size_t)2 << 20) madvise(memory, round_to_page(bytes), MADV_HUGEPAGE);
  if (sim.config.checks) memset(memory, SIM_POISON, bytes);
  *base = memory;
  return 0;
}

void sim_host_retire(void *base, size_t bytes) {
  static struct {
    void *base;
    size_t bytes;
  } retired[RETIRED];
  static size_t next;
  static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  bytes = round_to_page(bytes);
  if (mmap(base, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != base) {
    sim_die("cannot take pinned memory back");
  }
  pthread_mutex_lock(&lock);
  void *oldest = retired[next].base;
  size_t oldest_bytes = retired[next].bytes;
  retired[next].base = base;
  retired[next].bytes = bytes;
  next = (next + 1) % RETIRED;
  pthread_mutex_unlock(&lock);
  if (oldest) munmap(oldest, oldest_bytes);
}

static bool is_mapped(void *base, size_t bytes) {
  uintptr_t start = (uintptr_t)base & ~(uintptr_t)(SIM_PAGE - 1);
  return msync((void *)start, round_to_page((uintptr_t)base + bytes - start), MS_ASYNC) == 0 || errno != ENOMEM;
}

/* The pinned memory that has a byte in common with the range. */
static sim_pin *pin_overlapping(const void *base, size_t bytes) {
  uintptr_t start = (uintptr_t)base;
  for (size_t i = 0; i < sim.pin_count; i++) {
    uintptr_t pin = (uintptr_t)sim.pins[i]->base;
    if (start < pin + sim.pins[i]->bytes && pin < start + bytes) return sim.pins[i];
  }
  return NULL;
}

int sim_pin_memory(const char *function, void *base, size_t bytes, bool registered) {
  if (registered && (bytes == 0 || sim_is_device_address(base) || !is_mapped(base, bytes))) {
    sim_violation("bad-register", "%s: %zu bytes at %p are not host memory", function, bytes, base);
    return SIM_INVALID_VALUE;
  }
  if (pin_overlapping(base, bytes)) {
    sim_violation("double-register", "%s: some of %zu bytes at %p is pinned already", function, bytes, base);
    return SIM_ALREADY_REGISTERED;
  }
  sim_pin *pin = sim_zeroed(sizeof *pin);
  *pin = (sim_pin){.base = base, .bytes = bytes, .registered = registered};
  sim.pins = sim_grown(sim.pins, sim.pin_count, &sim.pin_capacity, sizeof(void *));
  sim.pins[sim.pin_count++] = pin;
  sim.counts.pins++;
  *(registered ? &sim.live.registered : &sim.live.pinned) += 1;
  *(registered ? &sim.live.registered_bytes : &sim.live.pinned_bytes) += bytes;
  uint64_t all = sim.live.registered_bytes + sim.live.pinned_bytes;
  if (all > sim.counts.peak_pinned_bytes) sim.counts.peak_pinned_bytes = all;
  return 0;
}

int sim_unpin_memory(const char *function, void *base, bool registered, size_t *bytes) {
  sim_pin *pin = pin_overlapping(base, 1);
  if (!pin || pin->base != base || pin->registered != registered || pin->closing) {
    sim_violation("bad-unpin", "%s: %p is not the start of such memory", function, base);
    return registered ? SIM_NOT_REGISTERED : SIM_INVALID_VALUE;
  }
  if (registered && !is_mapped(pin->base, pin->bytes)) {
    sim_violation("unmapped-while-registered", "%s: %zu bytes at %p are gone", function, pin->bytes, base);
  }
  pin->closing = true;
  if (pin->pending > 0) {
    sim_violation("unpin-in-flight", "%s: %u operations still use %zu bytes at %p", function, pin->pending, pin->bytes,
                  base);
    while (pin->pending > 0) pthread_cond_wait(&sim.changed, &sim.lock);
  }
  size_t index = 0;
  while (sim.pins[index] != pin) index++;
  sim.pins[index] = sim.pins[--sim.pin_count];
  *(registered ? &sim.live.registered : &sim.live.pinned) -= 1;
  *(registered ? &sim.live.registered_bytes : &sim.live.pinned_bytes) -= pin->bytes;
  *bytes = pin->bytes;
  free(pin);
  return 0;
}

int sim_place_host(const char *function, const void *pointer, size_t bytes, sim_place *place) {
  if (sim_is_device_address(pointer)) {
    sim_violation("not-a-host-pointer", "%s: %p is device memory where host memory is asked", function, pointer);
    return SIM_INVALID_VALUE;
  }
  sim_pin *pin = pin_overlapping(pointer, bytes);
  if (pin && pin->closing) {
    sim_violation("use-after-free", "%s: %p is being unpinned", function, pointer);
    return SIM_INVALID_VALUE;
  }
  if (pin) {
    size_t offset = (uintptr_t)pointer - (uintptr_t)pin->base;
    if ((uintptr_t)pointer < (uintptr_t)pin->base || bytes > pin->bytes - offset) {
      sim_violation("partly-pinned", "%s: of %zu bytes at %p only some are pinned", function, bytes, pointer);
      return SIM_INVALID_VALUE;
    }
  }
  *place = (sim_place){.bytes = (char *)pointer, .pin = pin};
  return 0;
}
