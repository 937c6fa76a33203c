/*
 * A model of what a GPU, its link and its storage cost, with FST_SIM_MODEL=FILE; off otherwise. It moves no bytes: each
 * operation occupies an engine for as long as the figures below say, and the program waits for as long as it would there.
 *
 * The time of the model is the machine's own, FST_SIM_MODEL_SLOWER times slower, so that waiting takes the place of
 * hardware that this machine lacks: all threads, locks and events of the program are real. The program's own work thus
 * weighs that many times less than on the modelled machine: the model says whether the engines have work at all times.
 *
 * Reads by the host are not calls of these libraries. The model places each in front of the copy from pinned memory that
 * sends its bytes on: from the thread's last call on, or from 1 ms earlier than the copy if that call is longer ago.
 *
 * When the process ends, FILE gets one line of JSON: {"events": [[engine, thread, start, end, bytes, call], …]}, in
 * nanoseconds of the model.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

/* GB/s, which are bytes a nanosecond. */
static const double
  /* Four PCIe 5.0 drives striped, measured 53.0: gds-bench.farmgpu.net/theory. */
  READ_GBPS = 53.0,
  /* Pinned memory to an H200, pieces of 64 MiB 55.3, D2H 52.5: deepspeedai/DeepSpeed pull request 8283. */
  TO_DEVICE_GBPS = 55.3, FROM_DEVICE_GBPS = 52.5,
  /* Device to device on an H200, bytes read and written 4300: half of them are the copy's. */
  MEMORY_GBPS = 2150,
  /*
   * GH200, 1 GiB: 41.9 ms with the allocation and its release, 10.3 ms without: vortex-data/vortex pull request 7815. One
   * maps the pages that the other unmaps: half of the time for each.
   */
  ALLOCATE_GBPS = 68,
  /* cudaHostAlloc of 4 x 128 MiB takes 503 ms: kekzl/imp issue 1653. */
  HOST_ALLOC_GBPS = 1.07,
  /* cudaHostRegister, 1 to 2 GB/s: openvm-org/stark-backend pull request 384. */
  REGISTER_GBPS = 2;

/* Nanoseconds. A read of an NVMe drive; the others are medians of eunomia-bpf/bpftime issue 506. */
static const uint64_t READ_LATENCY = 100000, MOST_READ = 1000000, ALLOCATE_CALL = 13900, POOL_CALL = 5000, LAUNCH = 8300, PIN_CALL = 9500;

typedef struct event {
  int engine, thread;
  uint64_t start, end, bytes;
  const char *call;
} event;

static const char *const NAMES[SIM_ENGINES] = {"read", "to device", "from device", "compute", "driver"};

static struct {
  pthread_mutex_t lock;
  char path[4096];
  double slower;
  uint64_t origin; /* of the machine's clock, nanoseconds */
  uint64_t free_at[SIM_ENGINES];
  uint64_t pooled[SIM_DEVICES], pool_bytes[SIM_DEVICES]; /* in use; kept by the pool */
  event *events;
  size_t count, capacity;
  int threads;
} model = {.lock = PTHREAD_MUTEX_INITIALIZER};

static __thread int thread_number;  /* from 1 on; 0: none yet */
static __thread uint64_t left_at;   /* end of the thread's last call */

static uint64_t machine_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t now(void) {
  return (uint64_t)((double)(machine_ns() - model.origin) / model.slower);
}

static void wait_until(uint64_t time) {
  uint64_t ns = model.origin + (uint64_t)((double)time * model.slower) + 1; /* so that now() is not before it */
  struct timespec until = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0) continue;
}

static uint64_t take(uint64_t bytes, double gbps) {
  return (uint64_t)((double)bytes / gbps);
}

static void record(sim_engine engine, uint64_t start, uint64_t end, uint64_t bytes, const char *call) {
  if (thread_number == 0) thread_number = ++model.threads;
  model.events = sim_grown(model.events, model.count, &model.capacity, sizeof *model.events);
  model.events[model.count++] = (event){(int)engine, thread_number, start, end, bytes, call};
}

/* Occupies an engine, after the work that it has, and waits for the end. */
static void occupy(sim_engine engine, uint64_t cost, uint64_t bytes, const char *call) {
  pthread_mutex_lock(&model.lock);
  uint64_t start = now();
  if (start < model.free_at[engine]) start = model.free_at[engine];
  uint64_t end = model.free_at[engine] = start + cost;
  record(engine, start, end, bytes, call);
  pthread_mutex_unlock(&model.lock);
  wait_until(end);
}

bool sim_model_is_on(void) {
  return model.path[0] != '\0';
}

void sim_model_configure(void) {
  static bool is_configured; /* once: its time has one origin */
  if (is_configured) return;
  is_configured = true;
  sim_path_of("FST_SIM_MODEL", model.path, sizeof model.path);
  model.slower = sim_number_of("FST_SIM_MODEL_SLOWER", 64, 1, 1e6);
  model.origin = machine_ns();
}

void sim_model_leave(void) {
  if (sim_model_is_on()) left_at = now();
}

void sim_model_read(uint64_t bytes) {
  if (!sim_model_is_on()) return;
  pthread_mutex_lock(&model.lock);
  const uint64_t time = now(), earliest = time > MOST_READ ? time - MOST_READ : 0;
  uint64_t issued = left_at > earliest ? left_at : earliest, end = issued + READ_LATENCY;
  if (end < model.free_at[SIM_ENGINE_READ]) end = model.free_at[SIM_ENGINE_READ];
  end += take(bytes, READ_GBPS);
  model.free_at[SIM_ENGINE_READ] = end;
  record(SIM_ENGINE_READ, issued, end, bytes, "read");
  pthread_mutex_unlock(&model.lock);
  wait_until(end);
}

bool sim_model_copy(sim_direction direction, uint64_t bytes) {
  if (!sim_model_is_on()) return false;
  if (direction == SIM_H2D) occupy(SIM_ENGINE_TO_DEVICE, take(bytes, TO_DEVICE_GBPS), bytes, "copy");
  else if (direction == SIM_D2H) occupy(SIM_ENGINE_FROM_DEVICE, take(bytes, FROM_DEVICE_GBPS), bytes, "copy");
  else occupy(SIM_ENGINE_COMPUTE, take(bytes, MEMORY_GBPS), bytes, "move");
  return true;
}

/* The third parameter of a cast counts its elements; from BF16 to F32 each moves 6 bytes, at the memory's rate. */
bool sim_model_kernel(uint64_t elements) {
  if (!sim_model_is_on()) return false;
  occupy(SIM_ENGINE_COMPUTE, LAUNCH + take(elements * 6, 2 * MEMORY_GBPS), elements, "kernel");
  return true;
}

bool sim_model_gds(uint64_t bytes) {
  if (!sim_model_is_on()) return false;
  left_at = now();
  sim_model_read(bytes);
  occupy(SIM_ENGINE_TO_DEVICE, 0, bytes, "cuFileRead"); /* the drives write to the device themselves */
  return true;
}

void sim_model_allocate(uint64_t bytes) {
  if (sim_model_is_on()) occupy(SIM_ENGINE_DRIVER, ALLOCATE_CALL + take(bytes, ALLOCATE_GBPS), bytes, "cudaMalloc");
}

void sim_model_free(uint64_t bytes) {
  if (sim_model_is_on()) occupy(SIM_ENGINE_DRIVER, take(bytes, ALLOCATE_GBPS), bytes, "cudaFree");
}

/* A pool keeps what it has: only its growth maps memory. The package makes its pools keep all (or they shrink). */
void sim_model_pool(int device, uint64_t bytes) {
  if (!sim_model_is_on()) return;
  pthread_mutex_lock(&model.lock);
  model.pooled[device] += bytes;
  uint64_t grown = model.pooled[device] > model.pool_bytes[device] ? model.pooled[device] - model.pool_bytes[device] : 0;
  model.pool_bytes[device] += grown;
  pthread_mutex_unlock(&model.lock);
  occupy(SIM_ENGINE_DRIVER, POOL_CALL + take(grown, ALLOCATE_GBPS), grown, "cudaMallocAsync");
}

void sim_model_unpool(int device, uint64_t bytes) {
  if (!sim_model_is_on()) return;
  pthread_mutex_lock(&model.lock);
  model.pooled[device] -= bytes;
  pthread_mutex_unlock(&model.lock);
}

void sim_model_pin(uint64_t bytes, bool is_registered) {
  if (!sim_model_is_on()) return;
  uint64_t cost = PIN_CALL + take(bytes, is_registered ? REGISTER_GBPS : HOST_ALLOC_GBPS);
  occupy(SIM_ENGINE_DRIVER, cost, bytes, is_registered ? "cudaHostRegister" : "cudaHostAlloc");
}

SIM_EXPORT uint64_t fst_sim_model_now(void) {
  return now();
}

__attribute__((destructor)) static void end(void) {
  if (!sim_model_is_on()) return;
  FILE *file = fopen(model.path, "w");
  if (!file) sim_die("cannot write FST_SIM_MODEL");
  pthread_mutex_lock(&model.lock);
  fprintf(file, "{\"events\":[");
  for (size_t i = 0; i < model.count; i++) {
    const event *one = &model.events[i];
    fprintf(file, "%s[\"%s\",%d,%" PRIu64 ",%" PRIu64 ",%" PRIu64 ",\"%s\"]", i ? ",\n" : "", NAMES[one->engine],
            one->thread, one->start, one->end, one->bytes, one->call);
  }
  pthread_mutex_unlock(&model.lock);
  fprintf(file, "],\"readGbps\":%g,\"copyGbps\":%g}\n", READ_GBPS, TO_DEVICE_GBPS);
  fclose(file);
}
