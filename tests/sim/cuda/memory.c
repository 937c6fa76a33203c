/* Device memory, pinned host memory, and where a pointer of the program leads. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

static const size_t RANGE_BYTES = (size_t)128 << 30; /* addresses of one device */
static const size_t LARGE = (size_t)1 << 20, LARGE_ALIGNMENT = (size_t)2 << 20, SMALL_ALIGNMENT = 512;

static size_t round_up(size_t value, size_t to) {
  return (value + to - 1) / to * to;
}

/* Device memory */

bool sim_is_device_address(const void *pointer) {
  for (int i = 0; i < SIM_DEVICES; i++) {
    uintptr_t base = sim.devices[i].base;
    if (base && (uintptr_t)pointer >= base && (uintptr_t)pointer - base < RANGE_BYTES) return true;
  }
  return false;
}

/*
 * The system call itself, because a sanitizer's mmap would prepare shadow memory for the whole range, which nobody can
 * touch anyhow.
 */
static void reserve_addresses(sim_device *device) {
  long base = syscall(SYS_mmap, NULL, RANGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0L);
  if (base == -1) sim_die("no address range for a device");
  device->base = (uintptr_t)base;
  device->next = round_up(device->base, LARGE_ALIGNMENT);
}

/*
 * Maps the bytes behind `lead` and before the page's end, all 0xDB, between two inaccessible pages. `lead`
 * keeps the bytes' alignment like that of their device address, which O_DIRECT reads look at.
 */
static bool map_backing(sim_allocation *allocation, size_t lead) {
  size_t inner = round_up(lead + allocation->bytes, SIM_PAGE);
  allocation->mapping_bytes = inner + (size_t)2 * SIM_PAGE;
  char *mapping = mmap(NULL, allocation->mapping_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) return false;
  if (mprotect(mapping + SIM_PAGE, inner, PROT_READ | PROT_WRITE) != 0) sim_die("cannot open device memory");
  if (allocation->bytes >= LARGE_ALIGNMENT) madvise(mapping + SIM_PAGE, inner, MADV_HUGEPAGE);
  allocation->mapping = mapping;
  allocation->backing = mapping + SIM_PAGE + lead;
  if (sim.config.checks) {
    memset(mapping + SIM_PAGE, SIM_POISON, inner);
  } else {
    memset(mapping + SIM_PAGE, SIM_POISON, lead);
    memset(allocation->backing + allocation->bytes, SIM_POISON, inner - lead - allocation->bytes);
  }
  return true;
}

int sim_allocate(int index, size_t bytes, sim_allocation **result) {
  static uint64_t ids;
  sim_device *device = &sim.devices[index];
  size_t charged = round_up(bytes, SMALL_ALIGNMENT);
  if (charged < bytes || sim.config.device_bytes < device->used || charged > sim.config.device_bytes - device->used) {
    return SIM_OUT_OF_MEMORY;
  }
  if (!device->base) reserve_addresses(device);
  /* Mapped and filled without the lock, so that copies go on meanwhile. */
  device->used += charged;
  sim_unlock();
  size_t lead = bytes >= LARGE ? 0 : SMALL_ALIGNMENT;
  sim_allocation *allocation = sim_zeroed(sizeof *allocation);
  allocation->bytes = bytes;
  allocation->charged = charged;
  allocation->device = index;
  if (!map_backing(allocation, lead)) sim_die("no host memory for device memory");
  sim_lock();
  uintptr_t start = round_up(device->next, bytes >= LARGE ? LARGE_ALIGNMENT : SIM_PAGE) + lead;
  if (start - device->base > RANGE_BYTES - bytes - LARGE_ALIGNMENT) sim_die("a device's addresses are used up");
  device->next = start + bytes + SIM_PAGE;
  allocation->address = start;
  allocation->id = ++ids;
  device->allocations = sim_grown(device->allocations, device->count, &device->capacity, sizeof(void *));
  device->allocations[device->count++] = allocation;
  sim.live.allocations++;
  sim.counts.allocations++;
  uint64_t used = 0;
  for (int i = 0; i < SIM_DEVICES; i++) used += sim.devices[i].used;
  if (used > sim.counts.peak_device_bytes) sim.counts.peak_device_bytes = used;
  *result = allocation;
  return 0;
}

static bool all_poison(const char *from, const char *to) {
  for (; from < to; from++) {
    if ((unsigned char)*from != SIM_POISON) return false;
  }
  return true;
}

void sim_release(sim_allocation *allocation) {
  allocation->state = SIM_FREED;
  sim.devices[allocation->device].used -= allocation->charged;
  sim.live.allocations--;
  sim_unlock();
  char *first = (char *)allocation->mapping + SIM_PAGE;
  char *last = (char *)allocation->mapping + allocation->mapping_bytes - SIM_PAGE;
  if (!all_poison(first, allocation->backing) || !all_poison(allocation->backing + allocation->bytes, last)) {
    sim_violation("overrun", "bytes around allocation %" PRIu64 " (%zu bytes) were written", allocation->id,
                  allocation->bytes);
  }
  munmap(allocation->mapping, allocation->mapping_bytes);
  sim_lock();
}

/* The allocation at or before the address: on its device, addresses only ever rise. */
static sim_allocation *allocation_near(const void *pointer) {
  for (int i = 0; i < SIM_DEVICES; i++) {
    sim_device *device = &sim.devices[i];
    uintptr_t address = (uintptr_t)pointer;
    if (!device->base || address < device->base || address - device->base >= RANGE_BYTES) continue;
    size_t low = 0, high = device->count;
    while (low < high) {
      size_t middle = (low + high) / 2;
      if (device->allocations[middle]->address <= address) low = middle + 1;
      else high = middle;
    }
    return low > 0 ? device->allocations[low - 1] : NULL;
  }
  return NULL;
}

int sim_find_for_free(const char *function, const void *pointer, sim_allocation **result) {
  sim_allocation *allocation = allocation_near(pointer);
  if (!allocation || allocation->address != (uintptr_t)pointer) {
    sim_violation("bad-free", "%s: %p is not the start of an allocation", function, pointer);
    return SIM_INVALID_VALUE;
  }
  if (allocation->state != SIM_LIVE) {
    sim_violation("double-free", "%s: allocation %" PRIu64 " (%zu bytes) is freed already", function, allocation->id,
                  allocation->bytes);
    return SIM_INVALID_VALUE;
  }
  *result = allocation;
  return 0;
}

int sim_place_device(const char *function, const void *pointer, size_t bytes, sim_place *place) {
  if (!sim_is_device_address(pointer)) {
    sim_violation("not-a-device-pointer", "%s: %p is host memory where device memory is asked", function, pointer);
    return SIM_INVALID_VALUE;
  }
  sim_allocation *allocation = allocation_near(pointer);
  size_t offset = allocation ? (uintptr_t)pointer - allocation->address : 0;
  if (!allocation || offset > allocation->bytes) {
    sim_violation("out-of-bounds", "%s: %p is in no allocation", function, pointer);
    return SIM_INVALID_VALUE;
  }
  if (allocation->state != SIM_LIVE) {
    sim_violation("use-after-free", "%s: allocation %" PRIu64 " (%zu bytes) is freed", function, allocation->id,
                  allocation->bytes);
    return SIM_INVALID_VALUE;
  }
  if (bytes > allocation->bytes - offset) {
    sim_violation("out-of-bounds", "%s: %zu bytes from byte %zu of allocation %" PRIu64 ", which has %zu bytes",
                  function, bytes, offset, allocation->id, allocation->bytes);
    return SIM_INVALID_VALUE;
  }
  *place = (sim_place){.bytes = allocation->backing + offset, .allocation = allocation};
  return 0;
}

bool sim_is_ready(const sim_allocation *allocation, const sim_stream *stream) {
  const sim_stream *ready = allocation->ready_stream;
  return !ready || ready == stream || ready->completed >= allocation->ready_ticket;
}

SIM_EXPORT int fst_sim_peek(const void *device, void *host, size_t bytes) {
  sim_lock();
  sim_allocation *allocation = allocation_near(device);
  size_t offset = allocation ? (uintptr_t)device - allocation->address : 0;
  bool held = allocation && allocation->state == SIM_LIVE && offset <= allocation->bytes &&
              bytes <= allocation->bytes - offset;
  if (held) memcpy(host, allocation->backing + offset, bytes);
  sim_unlock();
  return held ? 0 : -1;
}
