/*
 * Reads through 3FS rings, on the stand-in of tests/sim/3fs: for every behaviour of the library, landed bytes are
 * correct, a failure is reported, and no resource is left. Run from the root of the repository.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "cast/cast.h"
#include "environment_support.h"
#include "plan_support.h"
#include "three_fs/three_fs.h"

#if defined(__SANITIZE_THREAD__)
#define SANITIZER "-fsanitize=thread"
#elif defined(__SANITIZE_ADDRESS__)
#define SANITIZER "-fsanitize=address,undefined"
#else
#define SANITIZER ""
#endif

#define FILE_BYTES (4u << 20)
#define RING (1u << 20)

static char folder[64];
static noise_file file;
static const fst_usrbio *library; /* stays open */

/* ---- The stand-in ---- */

static struct {
  int (*fail)(const char *spec);
  void (*reset)(void);
  uint64_t (*violations)(void);
  uint64_t (*live_total)(void);
  uint64_t (*live_fds)(void);
  uint64_t (*live_rings)(void);
  uint64_t (*live_iovs)(void);
  uint64_t (*reads)(void);
  uint64_t (*rings_made)(void);
} sim;

static void *needed(const char *name) {
  void *address = dlsym(RTLD_DEFAULT, name);
  require(address != NULL, name);
  return address;
}

static void find_stand_in(void) {
  *(void **)&sim.fail = needed("fst_sim_3fs_fail");
  *(void **)&sim.reset = needed("fst_sim_3fs_reset");
  *(void **)&sim.violations = needed("fst_sim_3fs_violations");
  *(void **)&sim.live_total = needed("fst_sim_3fs_live_total");
  *(void **)&sim.live_fds = needed("fst_sim_3fs_live_fds");
  *(void **)&sim.live_rings = needed("fst_sim_3fs_live_rings");
  *(void **)&sim.live_iovs = needed("fst_sim_3fs_live_iovs");
  *(void **)&sim.reads = needed("fst_sim_3fs_reads");
  *(void **)&sim.rings_made = needed("fst_sim_3fs_rings_made");
}

static void start(void) {
  char command[256], path[128], message[1024];
  snprintf(folder, sizeof folder, "/tmp/fst-usrbio-XXXXXX");
  require(mkdtemp(folder) != NULL, "mkdtemp");
  snprintf(command, sizeof command, "sh tests/sim/3fs/build.sh %s/build " SANITIZER, folder);
  require(system(command) == 0, "building the stand-in");
  for (const char *const *name = (const char *const[]){"mount", "mount/3fs-virt", "mount/3fs-virt/iovs", NULL}; *name;
       name++) {
    snprintf(path, sizeof path, "%s/%s", folder, *name);
    require(mkdir(path, 0777) == 0, path);
  }
  snprintf(path, sizeof path, "%s/mount", folder);
  setenv("FST_SIM_3FS_MOUNT", path, 1);
  setenv("TMPDIR", path, 1);
  char found[sizeof message];
  set_variable("HF3FS_LIB_DIR", "/nowhere");
  int status = fst_usrbio_find(&library, found, message, 40);
  CHECK(status == -ENOENT && strlen(message) == 39 && !*found, "a library at \"%s\", \"%s\"", found, message);
  snprintf(path, sizeof path, "%s/build", folder);
  set_variable("HF3FS_LIB_DIR", path);
  status = fst_usrbio_find(&library, found, message, sizeof message);
  if (status != 0) fprintf(stderr, "%s\n", message);
  require(status == 0, "finding the stand-in");
  CHECK(strstr(found, "libhf3fs_api_shared") && !*message, "the path is \"%s\", the reason \"%s\"", found, message);
  find_stand_in();
  noise_open(&file, FILE_BYTES);
}

static void end(void) {
  char command[128];
  noise_close(&file);
  snprintf(command, sizeof command, "rm -r %s", folder);
  require(system(command) == 0, command);
}

static void set(const char *name, const char *value) {
  setenv(name, value, 1);
  sim.reset();
}

/* ---- Mounts ---- */

static fst_usrbio_options options_of(uint32_t entries, uint64_t ring_bytes, uint32_t timeout_ms) {
  return (fst_usrbio_options){
    .entries = entries, .ring_bytes = ring_bytes, .numa = -1, .timeout_ms = timeout_ms, .rings = 1};
}

static fst_usrbio_mount *open_mount(uint32_t entries, uint64_t ring_bytes, uint32_t timeout_ms) {
  char mount_point[256], message[512];
  fst_usrbio_mount *mount = NULL;
  int length = fst_usrbio_mount_point(library, file.path, mount_point, sizeof mount_point);
  CHECK(length > 0 && strlen(mount_point) == (size_t)length, "the mount point has length %d", length);
  fst_usrbio_options options = options_of(entries, ring_bytes, timeout_ms);
  int status = fst_usrbio_open(library, mount_point, &options, &mount, message, sizeof message);
  if (status != 0) fprintf(stderr, "%s\n", message);
  require(status == 0, "fst_usrbio_open");
  CHECK(fst_usrbio_register(library, file.info.fd) == 0, "the file cannot be registered");
  return mount;
}

static void close_mount(fst_usrbio_mount *mount) {
  fst_usrbio_deregister(library, file.info.fd);
  fst_usrbio_close(mount);
  CHECK(sim.live_total() == 0, "%llu resources are left on the stand-in", (unsigned long long)sim.live_total());
  CHECK(sim.violations() == 0, "%llu violations", (unsigned long long)sim.violations());
}

static void test_opening(void) {
  char message[512], path[256];
  fst_usrbio_mount *mount = NULL;
  const fst_usrbio *same = NULL;
  const struct { fst_usrbio_options options; const char *mount_point; int status; } cases[] = {
    {options_of(0, RING, 0), folder, -EINVAL},
    {options_of(8, 0, 0), folder, -EINVAL},
    {options_of(8, 4096, 0), folder, -EINVAL},
    {{.entries = 8, .io_depth = 1, .ring_bytes = RING, .rings = 1}, folder, -EINVAL},
    {options_of(8, RING, 0), "/no/such/mount", -ENOENT},
    {{.entries = 8, .ring_bytes = RING}, folder, -EINVAL},
    {{.entries = 8, .ring_bytes = RING, .rings = UINT32_MAX}, folder, -ENOSPC},
    {{.entries = 8, .ring_bytes = (uint64_t)1 << 40, .rings = UINT32_MAX}, folder, -EINVAL},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int status = fst_usrbio_open(library, cases[i].mount_point, &cases[i].options, &mount, message, sizeof message);
    CHECK(status == cases[i].status && mount == NULL && *message, "case %zu: status %d, \"%s\"", i, status, message);
  }
  char far[400];
  memset(far, 'x', sizeof far - 1);
  far[sizeof far - 1] = 0;
  fst_usrbio_options options = options_of(8, RING, 0);
  CHECK(fst_usrbio_open(library, far, &options, &mount, message, sizeof message) == -ENAMETOOLONG, "%s", message);
  CHECK(fst_usrbio_mount_point(library, "/no/such/path", path, sizeof path) == -ENOENT, "a path that is not there");
  CHECK(fst_usrbio_mount_point(library, "/tmp", path, sizeof path) == 0, "/tmp is no mount");
  CHECK(fst_usrbio_mount_point(library, file.path, path, 4) == -ENAMETOOLONG, "a mount point of 4 bytes");
  CHECK(fst_usrbio_is_3fs(library, file.info.fd) && !fst_usrbio_is_3fs(library, 0), "what is on 3FS");
  CHECK(!fst_usrbio_is_mounted(file.info.fd), "the system reports a 3FS here");
  set_variable("HF3FS_LIB_DIR", "/nowhere");
  CHECK(fst_usrbio_find(&same, path, message, sizeof message) == 0 && same == library, "what is open stays: %s", message);
  snprintf(path, sizeof path, "%s/build", folder);
  set_variable("HF3FS_LIB_DIR", path);
  CHECK(sim.live_total() == 0, "a resource is left on the stand-in");
}

/* ---- Lanes ---- */

static fst_plan *usrbio_plan(fst_usrbio_mount *mount, const fst_segment *segments, uint32_t count) {
  fst_plan *plan = new_plan(&file, count, 1u << 16);
  fst_plan_files(plan)->reader = FST_READER_USRBIO;
  fst_plan_files(plan)->reader_handle = (uintptr_t)mount;
  memcpy(fst_plan_segments(plan), segments, count * sizeof *segments);
  return plan;
}

enum { PLAIN = 24 };

/* Ranges of all sizes, a range that is cast, and rows. */
static void check_lanes(fst_usrbio_mount *mount, int lanes) {
  fst_segment segments[PLAIN + 2];
  guarded memory[PLAIN + 2];
  uint32_t state = 77;
  for (int i = 0; i < PLAIN; i++) {
    uint64_t length = 1 + noise_next(&state) % (i % 6 == 0 ? 3u << 20 : 70000), at = noise_next(&state) % 1000000;
    memory[i] = guarded_new(length, noise_next(&state) % PAGE);
    segments[i] = plain(at, length, memory[i].bytes);
  }
  const uint64_t halves = 1234567, rows = 300, run = 1001, stride = 4099;
  memory[PLAIN] = guarded_new(2 * (2 * halves), 64);
  segments[PLAIN] = plain(333, 2 * halves, memory[PLAIN].bytes);
  segments[PLAIN].from = FST_F16;
  segments[PLAIN].to = FST_F32;
  memory[PLAIN + 1] = guarded_new(rows * run, 3);
  segments[PLAIN + 1] = plain(99, run, memory[PLAIN + 1].bytes);
  segments[PLAIN + 1].outer_count = rows;
  segments[PLAIN + 1].outer_stride = stride;
  fst_plan *plan = usrbio_plan(mount, segments, PLAIN + 2);
  int stopped = run_lanes(plan, ALL, lanes);
  CHECK(stopped == 0 && plan->failure == 0, "failure %u, errno %d", plan->failure, plan->failed_code);
  CHECK(plan->usrbio_bytes > 0 && plan->buffered_bytes == 0 && plan->direct_bytes == 0, "read in another way");
  for (int i = 0; i < PLAIN; i++) {
    CHECK(memcmp(memory[i].bytes, file.bytes + segments[i].file_offset, memory[i].length) == 0, "range %d differs", i);
  }
  char *expected = malloc(memory[PLAIN].length);
  require(expected != NULL, "malloc");
  fst_cast(expected, file.bytes + 333, halves, FST_F32, FST_F16);
  CHECK(memcmp(memory[PLAIN].bytes, expected, memory[PLAIN].length) == 0, "the cast range differs");
  for (uint64_t row = 0; row < rows; row++) {
    CHECK(memcmp(memory[PLAIN + 1].bytes + row * run, file.bytes + 99 + row * stride, run) == 0, "row %d differs",
          (int)row);
  }
  free(expected);
  free(plan);
  for (int i = 0; i < PLAIN + 2; i++) guarded_free(memory[i]);
}

static void test_lanes(void) {
  const struct { uint32_t entries; uint64_t ring_bytes; int lanes; } shapes[] = {
    {64, 8u << 20, 1}, {64, RING, 4}, {1, RING, 3}, {2, 8192, 2}, {3, 128u << 10, 12}, {512, 4u << 20, 6},
  };
  const char *const early[] = {"0", "30", "100"}; /* percent of the reads that start before they are submitted */
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    set("FST_SIM_3FS_EARLY", early[i % 3]);
    fst_usrbio_mount *mount = open_mount(shapes[i].entries, shapes[i].ring_bytes, 10000);
    check_lanes(mount, shapes[i].lanes);
    check_lanes(mount, shapes[i].lanes); /* with the existing rings */
    CHECK(sim.rings_made() == 1, "%llu rings", (unsigned long long)sim.rings_made());
    close_mount(mount);
  }
  const char *const bearable[] = {"prep_io:3:-11,prep_io:4:-11,prep_io:9:-11", "read:*:70001", "read:2:1,read:5:1"};
  for (size_t i = 0; i < sizeof bearable / sizeof *bearable; i++) {
    set("FST_SIM_3FS_FAIL", bearable[i]);
    fst_usrbio_mount *mount = open_mount(16, RING, 10000);
    check_lanes(mount, 3);
    close_mount(mount);
  }
  set("FST_SIM_3FS_FAIL", "");
}

/* Loads the file in blocks; the plan has the result. */
static fst_plan *load(fst_usrbio_mount *mount, char *destination, int lanes) {
  enum { BLOCK = 700001 };
  fst_segment segments[FILE_BYTES / BLOCK + 1];
  uint32_t count = 0;
  for (uint64_t at = 0; at < FILE_BYTES; at += BLOCK) {
    uint64_t length = FILE_BYTES - at < BLOCK ? FILE_BYTES - at : BLOCK;
    segments[count++] = plain(at, length, destination + at);
  }
  fst_plan *plan = usrbio_plan(mount, segments, count);
  int stopped = run_lanes(plan, ALL, lanes);
  CHECK((stopped > 0) == (plan->failure != 0), "%d lanes stopped, failure %u", stopped, plan->failure);
  return plan;
}

static void test_failures(void) {
  char *destination = malloc(FILE_BYTES), spec[64];
  require(destination != NULL, "malloc");
  const struct { const char *format; uint32_t failure; int error; } kinds[] = {
    {"read:%d:-5", FST_FAILURE_SYSTEM, EIO},       {"read:%d+:0", FST_FAILURE_TRUNCATED, 0},
    {"prep_io:%d:-22", FST_FAILURE_SYSTEM, EINVAL}, {"submit_ios:%d:-5", FST_FAILURE_SYSTEM, EIO},
    {"wait_for_ios:%d:-5", FST_FAILURE_SYSTEM, EIO}, {"lost:%d:0", FST_FAILURE_SYSTEM, ETIMEDOUT},
  };
  for (size_t kind = 0; kind < sizeof kinds / sizeof *kinds; kind++) {
    for (int index = 1; index <= 5; index += 2) {
      for (int lanes = 1; lanes <= 3; lanes += 2) {
        snprintf(spec, sizeof spec, kinds[kind].format, index);
        set("FST_SIM_3FS_FAIL", "");
        fst_usrbio_mount *mount = open_mount(8, RING, kinds[kind].error == ETIMEDOUT ? 400 : 10000);
        require(sim.fail(spec) == 0, spec);
        fst_plan *plan = load(mount, destination, lanes);
        CHECK(plan->failure == kinds[kind].failure && plan->failed_code == kinds[kind].error,
              "%s: failure %u, errno %d", spec, plan->failure, plan->failed_code);
        CHECK(plan->failed_offset < FILE_BYTES && plan->failed_expected > 0, "%s: %llu bytes at %llu", spec,
              (unsigned long long)plan->failed_expected, (unsigned long long)plan->failed_offset);
        free(plan);
        sim.fail("");
        plan = load(mount, destination, lanes);
        CHECK(plan->failure == 0, "%s: the next load fails too", spec);
        CHECK(memcmp(destination, file.bytes, FILE_BYTES) == 0, "%s: the next load differs", spec);
        free(plan);
        close_mount(mount);
      }
    }
  }
  free(destination);
}

static void *cancel_later(void *plan) {
  usleep(20000);
  fst_plan_cancel(plan);
  return NULL;
}

static void test_cancelling(void) {
  char *destination = malloc(FILE_BYTES);
  require(destination != NULL, "malloc");
  for (int hangs = 0; hangs < 2; hangs++) {
    set("FST_SIM_3FS_LATENCY_US", hangs ? "0" : "10000");
    fst_usrbio_mount *mount = open_mount(4, RING, 0);
    if (hangs) sim.fail("lost:3+:0");
    fst_segment segments[40];
    for (uint64_t i = 0; i < 40; i++) segments[i] = plain(i * 100000, 100000, destination + i * 100000);
    fst_plan *plan = usrbio_plan(mount, segments, 40);
    pthread_t thread;
    require(pthread_create(&thread, NULL, cancel_later, plan) == 0, "pthread_create");
    CHECK(run_lanes(plan, ALL, 2) > 0, "no lane was stopped");
    pthread_join(thread, NULL);
    CHECK(plan->failure == 0 && plan->cancelled == 1, "failure %u", plan->failure);
    free(plan);
    sim.fail("");
    close_mount(mount);
  }
  set("FST_SIM_3FS_LATENCY_US", "0");
  free(destination);
}

/* ---- The limit on rings ---- */

enum { POOL_THREADS = 8, POOL_RINGS = 2, POOL_ROUNDS = 60 };

typedef struct pool_user {
  fst_usrbio_mount *mount;
  _Atomic uint64_t *bytes; /* of all rings in use */
  uint64_t budget;
  uint32_t state;
  int failures;
} pool_user;

static void *use_pool(void *argument) {
  pool_user *user = argument;
  for (int round = 0; round < POOL_ROUNDS; round++) {
    fst_usrbio_ring *ring;
    _Atomic uint32_t stop = noise_next(&user->state) % 8 == 0;
    int status = fst_usrbio_take(user->mount, &stop, &ring);
    if (status == -ECANCELED && stop) continue;
    if (status != 0) return user->failures++, NULL;
    const uint64_t used = atomic_fetch_add(user->bytes, ring->bytes) + ring->bytes;
    user->failures += used > user->budget || sim.live_iovs() > user->budget / (RING / 4);
    memset(fst_usrbio_memory(ring), (int)round, 4096); /* no other thread uses it */
    if (noise_next(&user->state) % 4 == 0) usleep(noise_next(&user->state) % 1000);
    if (noise_next(&user->state) % 16 == 0) ring->is_broken = 1;
    atomic_fetch_sub(user->bytes, ring->bytes);
    fst_usrbio_give_back(user->mount, ring);
  }
  return NULL;
}

/* Several threads and several openings of a mount point, with equal and different options. */
static void test_pool(void) {
  char mount_point[256], message[512];
  require(fst_usrbio_mount_point(library, file.path, mount_point, sizeof mount_point) > 0, "the mount point");
  fst_usrbio_options options[] = {options_of(4, RING, 10000), options_of(8, RING / 4, 10000), options_of(4, RING, 10000)};
  fst_usrbio_mount *mounts[3];
  for (int i = 0; i < 3; i++) {
    options[i].rings = POOL_RINGS;
    require(fst_usrbio_open(library, mount_point, &options[i], &mounts[i], message, sizeof message) == 0, message);
  }
  CHECK(mounts[0] == mounts[2] && mounts[0] != mounts[1], "equal options are one mount, different options are two");
  CHECK(sim.live_rings() == 1, "%llu rings after opening", (unsigned long long)sim.live_rings());
  _Atomic uint64_t bytes = 0;
  pthread_t threads[POOL_THREADS];
  pool_user users[POOL_THREADS];
  for (int i = 0; i < POOL_THREADS; i++) {
    users[i] = (pool_user){mounts[i % 3], &bytes, POOL_RINGS * RING, 1000u + (uint32_t)i, 0};
    require(pthread_create(&threads[i], NULL, use_pool, &users[i]) == 0, "pthread_create");
  }
  for (int i = 0; i < POOL_THREADS; i++) {
    pthread_join(threads[i], NULL);
    CHECK(users[i].failures == 0, "thread %d saw %d rings too many, or was refused one", i, users[i].failures);
  }
  /* After the larger options are closed, the limit of the smaller ones applies. */
  fst_usrbio_close(mounts[0]);
  fst_usrbio_close(mounts[2]);
  fst_usrbio_ring *ring;
  require(fst_usrbio_take(mounts[1], NULL, &ring) == 0, "fst_usrbio_take");
  fst_usrbio_give_back(mounts[1], ring);
  CHECK(sim.live_iovs() <= POOL_RINGS, "%llu rings are left", (unsigned long long)sim.live_iovs());
  fst_usrbio_close(mounts[1]);
  CHECK(sim.live_total() == 0, "%llu resources are left on the stand-in", (unsigned long long)sim.live_total());
}

static void *stop_later(void *stop) {
  usleep(30000);
  atomic_store((_Atomic uint32_t *)stop, 1);
  return NULL;
}

/* A wait for a ring can be stopped. */
static void test_stopped_wait(void) {
  fst_usrbio_mount *mount = open_mount(4, RING, 0);
  fst_usrbio_ring *ring, *none;
  require(fst_usrbio_take(mount, NULL, &ring) == 0, "fst_usrbio_take");
  CHECK(!fst_usrbio_is_wanted(mount), "a thread waits");
  _Atomic uint32_t stop = 0;
  pthread_t thread;
  require(pthread_create(&thread, NULL, stop_later, &stop) == 0, "pthread_create");
  CHECK(fst_usrbio_take(mount, &stop, &none) == -ECANCELED, "a wait is not stopped");
  pthread_join(thread, NULL);
  fst_usrbio_request request = {.fd = file.info.fd, .length = 1, .target = FST_USRBIO_DROP};
  fst_error error;
  uint32_t stopped = 1;
  CHECK(fst_usrbio_read(mount, &request, NULL, &stopped, &error) == -1 && error.kind == FST_FAILURE_NONE,
        "a read that is stopped before it has a ring fails with %u", error.kind);
  fst_usrbio_give_back(mount, ring);
  close_mount(mount);
}

static void *run_to_end(void *argument) {
  fst_plan *plan = argument;
  while (atomic_load(&plan->next) < plan->segment_count && fst_lane_run(plan, ALL, NO_KEEP) == 0) continue;
  return NULL;
}

/* Loads that share one ring all end, because no lane keeps it while others wait. */
static void test_loads_share_a_ring(void) {
  enum { LOADS = 3, LANES = 2, SEGMENTS = 20, BLOCK = 100000 };
  fst_usrbio_mount *mount = open_mount(4, RING, 10000);
  fst_plan *plans[LOADS];
  pthread_t threads[LOADS * LANES];
  char *destination = malloc((size_t)LOADS * SEGMENTS * BLOCK);
  require(destination != NULL, "malloc");
  for (int load = 0; load < LOADS; load++) {
    fst_segment segments[SEGMENTS];
    for (uint64_t i = 0; i < SEGMENTS; i++) {
      segments[i] = plain(i * BLOCK, BLOCK, destination + ((uint64_t)load * SEGMENTS + i) * BLOCK);
    }
    plans[load] = usrbio_plan(mount, segments, SEGMENTS);
  }
  for (int i = 0; i < LOADS * LANES; i++) {
    require(pthread_create(&threads[i], NULL, run_to_end, plans[i % LOADS]) == 0, "pthread_create");
  }
  for (int i = 0; i < LOADS * LANES; i++) pthread_join(threads[i], NULL);
  for (int load = 0; load < LOADS; load++) {
    CHECK(plans[load]->landed_bytes == SEGMENTS * BLOCK, "load %d: %llu bytes have landed, failure %u", load,
          (unsigned long long)plans[load]->landed_bytes, plans[load]->failure);
    CHECK(memcmp(destination + (size_t)load * SEGMENTS * BLOCK, file.bytes, SEGMENTS * BLOCK) == 0, "load %d differs",
          load);
    free(plans[load]);
  }
  CHECK(sim.live_rings() == 1, "%llu rings", (unsigned long long)sim.live_rings());
  close_mount(mount);
  free(destination);
}

/* ---- Ranges outside any plan ---- */

static void check_range(fst_usrbio_mount *mount, uint64_t offset, uint64_t length, uint64_t chunk, int pipelined) {
  guarded memory = guarded_new(length, 7);
  fst_usrbio_request request = {.fd = file.info.fd, .pipelined = (uint32_t)pipelined, .offset = offset,
                                .length = length, .chunk = chunk, .target = FST_USRBIO_HOST};
  fst_error error;
  uint32_t stop = 0;
  int status = fst_usrbio_read(mount, &request, memory.bytes, &stop, &error);
  CHECK(status == 0, "failure %u, errno %d", error.kind, error.code);
  CHECK(memcmp(memory.bytes, file.bytes + offset, length) == 0, "%llu bytes at %llu in chunks of %llu differ",
        (unsigned long long)length, (unsigned long long)offset, (unsigned long long)chunk);
  guarded_free(memory);
}

static void test_ranges(void) {
  fst_usrbio_options options = options_of(8, RING, 0);
  fst_usrbio_mount *private = NULL;
  char message[512];
  require(fst_usrbio_open(fst_usrbio_posix(), "/", &options, &private, message, sizeof message) == 0, message);
  for (uint32_t entries = 1; entries <= 64; entries *= 8) {
    fst_usrbio_mount *mount = open_mount(entries, RING, 10000);
    for (int pipelined = 0; pipelined < 2; pipelined++) {
      const uint64_t chunks[] = {0, 5000, 65536, 300001, RING, 1u << 30};
      for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
        check_range(mount, 0, FILE_BYTES, chunks[i], pipelined);
        check_range(mount, 4097, 1, chunks[i], pipelined);
        check_range(mount, 1234567, 2000003, chunks[i], pipelined);
        check_range(private, 1234567, 2000003, chunks[i], pipelined);
      }
    }
    close_mount(mount);
  }
  fst_usrbio_close(private);
}

static void test_range_failures(void) {
  const char *const specs[] = {"read:3:-5", "prep_io:6:-22", "submit_ios:2:-5", "wait_for_ios:4:-5", "read:4+:0"};
  char *buffer = malloc(FILE_BYTES);
  require(buffer != NULL, "malloc");
  for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
    for (uint32_t pipelined = 0; pipelined < 2; pipelined++) {
      set("FST_SIM_3FS_FAIL", "");
      fst_usrbio_mount *mount = open_mount(8, RING, 10000);
      fst_usrbio_request request = {.fd = file.info.fd, .pipelined = pipelined, .length = FILE_BYTES, .chunk = 100000,
                                    .target = FST_USRBIO_HOST};
      fst_error error;
      uint32_t stop = 0;
      sim.fail(specs[i]);
      CHECK(fst_usrbio_read(mount, &request, buffer, &stop, &error) == -1, "%s is not a failure", specs[i]);
      CHECK(error.kind == FST_FAILURE_SYSTEM || error.kind == FST_FAILURE_TRUNCATED, "failure %u",
            error.kind);
      sim.fail("");
      stop = 1;
      CHECK(fst_usrbio_read(mount, &request, buffer, &stop, &error) == -1 && error.kind == FST_FAILURE_NONE,
            "a read that is stopped fails with %u", error.kind);
      check_range(mount, 0, FILE_BYTES, 100000, (int)pipelined);
      close_mount(mount);
    }
  }
  free(buffer);
}

int main(void) {
  start();
  test_opening();
  test_lanes();
  test_failures();
  test_cancelling();
  test_pool();
  test_stopped_wait();
  test_loads_share_a_ring();
  test_ranges();
  test_range_failures();
  CHECK(sim.live_total() == 0, "a resource is left on the stand-in");
  end();
  return report("usrbio_test");
}
