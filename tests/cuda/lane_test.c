/*
 * Lanes to CUDA devices, on the stand-ins of tests/sim/cuda: landed bytes are correct with every kind of transfer,
 * every failure ends the plan with its code, and no resource is left. Link with libfst_sim_cuda.so; FST_SIM_KERNELS
 * names the host build of the kernels.
 */
#include "cuda_support.h"

#include "cuda/cuda.h"
#include "lane_support.h"

#define FILE_BYTES (3u << 20)

/* ---- One load ---- */

typedef struct load_test {
  const char *name;
  int32_t device;
  uint32_t gds; /* enum fst_gds_wish */
  uint32_t staging;
  int lanes;
  const char *file_faults; /* fst_fault_set */
  const char *sim_faults;  /* fst_sim_fail */
  int reads_by_gds, gds_fails; /* expected: cuFile reads bytes; it fails, and the host reads instead */
} load_test;

typedef struct load_result {
  int32_t open_status;
  uint32_t failure;
  int32_t error;
  fst_cuda_load_report report;
  uint64_t landed, buffered, direct;
} load_result;

/* Checks the landed bytes against the file; the destinations are dense, 16 bytes apart at least. */
static void check_landed(const fst_plan *plan, const fst_segment *segments, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++) {
    if (!fst_plan_done((fst_plan *)plan)[i]) continue;
    uint64_t length = landing_bytes(&segments[i]);
    char *expected = expected_bytes(&segments[i]), *actual = malloc(length + 1);
    require(actual != NULL, "malloc");
    CHECK(fst_sim_peek((const void *)(uintptr_t)segments[i].destination, actual, length) == 0, "not device memory");
    CHECK(memcmp(actual, expected, length) == 0,
          "segment %u is wrong: offset %llu, run %llu, %u x %u, %u to %u (%s)", i,
          (unsigned long long)segments[i].file_offset, (unsigned long long)segments[i].run, segments[i].outer_count,
          segments[i].inner_count, segments[i].from, segments[i].to, name);
    free(expected);
    free(actual);
  }
}

static load_result run_load(fst_segment *segments, uint32_t count, const load_test *test) {
  load_result result = {0};
  const uint64_t pinned_bytes = 2ull * (unsigned)test->lanes * test->staging;
  uint64_t bytes = 0, pinned = 0;
  uint32_t casts = 0;
  for (uint32_t i = 0; i < count; i++) {
    bytes = (bytes + 15) & ~15ull;
    bytes += landing_bytes(&segments[i]);
    casts |= segments[i].from != segments[i].to;
  }
  fst_cuda_allocation memory = allocate(test->device, bytes);
  fst_plan *plan = new_plan(&file, count, test->staging);
  uint64_t at = 0;
  for (uint32_t i = 0; i < count; i++) {
    at = (at + 15) & ~15ull;
    segments[i].destination = memory.address + at;
    fst_plan_segments(plan)[i] = segments[i];
    at += landing_bytes(&segments[i]);
  }
  fst_cuda_pinned *staging;
  require(fst_cuda_pin(test->device, pinned_bytes, FST_CUDA_PIN_LATER, &pinned, &staging) == 0, "fst_cuda_pin");
  fst_cuda_load_options options = {test->device, 1, (uintptr_t)staging, pinned_bytes, test->gds, casts, 0, 0};
  fst_cuda_load *load = NULL;
  char reason[512];
  CHECK(fst_sim_fail(test->sim_faults) == 0, "failures \"%s\" are not understood", test->sim_faults);
  result.open_status = fst_cuda_load_open(&options, &load, reason, sizeof reason);
  if (result.open_status == 0) {
    plan->destination_kind = FST_DESTINATION_CUDA;
    plan->destination_context = (uintptr_t)load;
    set_faults(test->file_faults ? test->file_faults : "");
    run_lanes(plan, ALL, test->lanes);
    set_faults("");
    fst_cuda_load_report_of(load, &result.report);
    result.failure = plan->failure;
    result.error = plan->failed_code;
    result.landed = plan->landed_bytes;
    result.buffered = plan->buffered_bytes;
    result.direct = plan->direct_bytes;
    check_landed(plan, segments, count, test->name);
    CHECK(atomic_load(&load->lanes) == 0, "lanes are still counted (%s)", test->name);
    fst_cuda_load_close(load);
  }
  fst_sim_fail(NULL);
  fst_cuda_unpin(staging);
  fst_cuda_release(memory.block);
  free(plan);
  return result;
}

/* Plain ranges at odd offsets and to the end, casts, rows and columns. */
static uint32_t all_sorts(fst_segment *segments) {
  static const uint64_t lengths[] = {1, 4095, 4096, 65535, 65536, 65537, 300001, 1048576};
  uint32_t count = 0;
  for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
    segments[count++] = plain(777 * (l + 1), lengths[l], NULL);
    segments[count++] = plain(file.size - lengths[l], lengths[l], NULL);
  }
  static const struct {
    uint16_t from, to;
  } pairs[] = {{FST_BF16, FST_F32}, {FST_F32, FST_BF16}, {FST_F64, FST_F8_E4M3}, {FST_F8_E5M2, FST_F16}};
  for (size_t p = 0; p < sizeof pairs / sizeof *pairs; p++) {
    for (uint64_t elements = 1; elements < 100000; elements *= 37) {
      fst_segment segment = plain(1001 + p, elements * element_bytes(pairs[p].from), NULL);
      segment.from = pairs[p].from;
      segment.to = pairs[p].to;
      segments[count++] = segment;
    }
  }
  static const struct {
    uint64_t run;
    uint32_t outer;
    uint64_t outer_stride;
    uint32_t inner;
    uint64_t inner_stride;
  } rows[] = {
    {7, 50, 10, 1, 0},      {4096, 30, 8192, 1, 0},   {100, 20, 5000, 1, 0},      {70000, 3, 200000, 1, 0},
    {2, 40, 4000, 100, 6},  {4, 3, 900000, 9000, 90}, {2, 1, 0, 100000, 4},       {20000, 5, 300002, 2, 150000},
  };
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    for (int cast = 0; cast < 2; cast++) {
      fst_segment segment = plain(64 + r, rows[r].run, NULL);
      segment.outer_count = rows[r].outer;
      segment.outer_stride = rows[r].outer_stride;
      segment.inner_count = rows[r].inner;
      segment.inner_stride = rows[r].inner_stride;
      if (rows[r].run % 2) cast = 1;
      else segment.from = segment.to = FST_BF16;
      if (cast && rows[r].run % 2 == 0) segment.to = FST_F32;
      segments[count++] = segment;
    }
  }
  return count;
}

#define MOST_SEGMENTS 128

static void test_everything_lands(void) {
  static const load_test tests[] = {
    {"by the host", 0, FST_GDS_NEVER, 1 << 18, 3, NULL, NULL, 0, 0},
    {"by the host, little staging", 1, FST_GDS_NEVER, 16384, 4, NULL, NULL, 0, 0},
    {"one lane", 0, FST_GDS_NEVER, 1 << 20, 1, NULL, NULL, 0, 0},
    {"directly", 0, FST_GDS_NEVER, 1 << 18, 2, "cachestat:*:uncached", NULL, 0, 0},
    {"directly, short", 0, FST_GDS_NEVER, 1 << 17, 2, "cachestat:*:uncached,preaddirect:*:short=70001", NULL, 0, 0},
    {"direct refused", 0, FST_GDS_NEVER, 1 << 17, 2, "cachestat:*:uncached,preaddirect:*:22", NULL, 0, 0},
    {"GDS", 0, FST_GDS_REQUIRE, 1 << 18, 3, NULL, NULL, 1, 0},
    {"GDS, little staging", 1, FST_GDS_REQUIRE, 16384, 2, NULL, NULL, 1, 0},
    {"GDS, uncached", 0, FST_GDS_AUTO, 1 << 18, 2, "cachestat:*:uncached", NULL, 1, 0},
    {"GDS, all cached", 0, FST_GDS_AUTO, 1 << 18, 2, "cachestat:*:cached", NULL, 0, 0},
    {"GDS, O_DIRECT refused", 0, FST_GDS_REQUIRE, 1 << 18, 2, "opendirect:*:22", NULL, 1, 0},
    {"GDS, short reads", 0, FST_GDS_REQUIRE, 1 << 18, 2, NULL, "cuFileRead:*:12345", 1, 0},
    {"GDS, reads of a few bytes", 0, FST_GDS_REQUIRE, 1 << 18, 2, NULL, "cuFileRead:*:100", 0, 0},
    {"GDS fails at the tenth block", 0, FST_GDS_AUTO, 1 << 17, 2, "cachestat:*:uncached", "cuFileRead:10+:-5027", 1, 1},
    {"GDS fails by errno", 0, FST_GDS_AUTO, 1 << 17, 2, "cachestat:*:uncached", "cuFileRead:3:-1", 1, 1},
    {"no window", 0, FST_GDS_AUTO, 1 << 17, 2, "cachestat:*:uncached", "cuFileBufRegister:*:5016", 0, 1},
    {"no second window", 0, FST_GDS_AUTO, 1 << 17, 2, "cachestat:*:uncached", "cuFileBufRegister:2:5016", 0, 1},
    {"file not registered", 0, FST_GDS_AUTO, 1 << 17, 2, "cachestat:*:uncached", "cuFileHandleRegister:*:5008", 0, 1},
    {"driver does not open", 0, FST_GDS_AUTO, 1 << 17, 2, NULL, "cuFileDriverOpen:*:5033", 0, 0},
    {"no device memory for the ring", 0, FST_GDS_AUTO, 1 << 17, 2, NULL, NULL, 0, 0},
  };
  fst_segment segments[MOST_SEGMENTS];
  uint32_t count = all_sorts(segments);
  for (size_t t = 0; t < sizeof tests / sizeof *tests; t++) {
    load_result result = run_load(segments, count, &tests[t]);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += fst_segment_bytes(&segments[i]);
    CHECK(result.open_status == 0 && result.failure == 0, "status %d, failure %u, error %d (%s)", result.open_status,
          result.failure, result.error, tests[t].name);
    CHECK(result.landed == bytes, "%llu of %llu bytes landed (%s)", (unsigned long long)result.landed,
          (unsigned long long)bytes, tests[t].name);
    if (tests[t].reads_by_gds) CHECK(result.report.gds_bytes > 0, "cuFile read nothing (%s)", tests[t].name);
    if (tests[t].gds == FST_GDS_NEVER) CHECK(result.report.gds_bytes == 0, "cuFile read (%s)", tests[t].name);
    CHECK((result.report.gds_failure != 0) == tests[t].gds_fails, "failure %d of cuFile (%s)", result.report.gds_failure,
          tests[t].name);
    check_clean(tests[t].name);
  }
}

/* Every call that can fail: the plan ends with its code, or the failure has no effect. */
static void test_every_failure(void) {
  static const struct {
    const char *failure;
    int32_t code; /* the expected code of the plan or the opening; 0: any */
    uint32_t gds;
  } cases[] = {
    {"cudaStreamCreateWithFlags:1:2", 2, FST_GDS_NEVER},
    {"cudaStreamCreateWithFlags:*:2", 2, FST_GDS_NEVER},
    {"cudaEventCreateWithFlags:2:46", 46, FST_GDS_NEVER},
    {"cudaMemcpyAsync:1:1", 1, FST_GDS_NEVER},
    {"cudaMemcpyAsync:20:700", 700, FST_GDS_NEVER},
    {"cudaEventRecord:3:400", 400, FST_GDS_NEVER},
    {"cudaEventSynchronize:2:719", 719, FST_GDS_NEVER},
    {"stream-copy:1:719", 719, FST_GDS_NEVER},
    {"stream-copy:17:700", 700, FST_GDS_NEVER},
    {"stream-kernel:2:700", 700, FST_GDS_NEVER},
    {"cuLaunchKernel:2:701", FST_CUDA_DRIVER + 701, FST_GDS_NEVER},
    {"cuModuleLoadData:*:222", FST_CUDA_DRIVER + 222, FST_GDS_NEVER},
    {"cuModuleGetFunction:2:500", FST_CUDA_DRIVER + 500, FST_GDS_NEVER},
    {"cudaMalloc:1:2", 2, FST_GDS_NEVER}, /* the block ring */
    {"cuCtxPushCurrent_v2:2:101", 101, FST_GDS_NEVER},
    {"cuFileDriverOpen:*:5033", 5033, FST_GDS_REQUIRE},
    {"cuFileHandleRegister:*:5008", 5008, FST_GDS_REQUIRE},
    {"cuFileBufRegister:2:5016", 5016, FST_GDS_REQUIRE},
    {"cuFileRead:10:-5027", 5027, FST_GDS_REQUIRE},
    {"cuFileRead:4:-1", -EIO, FST_GDS_REQUIRE},
  };
  fst_segment segments[MOST_SEGMENTS];
  uint32_t count = all_sorts(segments);
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    load_test test = {cases[c].failure, 0, cases[c].gds, 1 << 17, 3, NULL, cases[c].failure, 0, 0};
    load_result result = run_load(segments, count, &test);
    int32_t code = result.failure == FST_FAILURE_DEVICE ? result.error : 0;
    if (result.open_status != 0) code = result.open_status;
    /* A failure on a stream is reported by the next call: of the runtime, or of the driver that launches a cast. */
    if (strncmp(cases[c].failure, "stream-", 7) == 0 && code > FST_CUDA_DRIVER) code -= FST_CUDA_DRIVER;
    if (cases[c].code) CHECK(code == cases[c].code, "ended with %d (%s)", code, cases[c].failure);
    wait_for_releases();
    fst_sim_reset(); /* otherwise a device with a lost context would stay lost */
    check_clean(cases[c].failure);
    load_test again = {"after a failure", 0, cases[c].gds, 1 << 17, 3, NULL, NULL, 0, 0};
    result = run_load(segments, count, &again);
    CHECK(result.open_status == 0 && result.failure == 0, "the next load failed too (after %s)", cases[c].failure);
    check_clean("after a failure");
  }
}

static void test_file_failures(void) {
  static const struct {
    const char *faults;
    uint32_t failure;
    int32_t error;
  } cases[] = {
    {"cachestat:*:cached,pread:5:5", FST_FAILURE_SYSTEM, EIO},
    {"cachestat:*:cached,pread:9:eof", FST_FAILURE_TRUNCATED, 0},
    {"fstat:1:changed", FST_FAILURE_CHANGED, 0},
    {"cachestat:*:uncached,preaddirect:2:5", FST_FAILURE_SYSTEM, EIO},
  };
  fst_segment segments[MOST_SEGMENTS];
  uint32_t count = all_sorts(segments);
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    load_test test = {cases[c].faults, 0, FST_GDS_NEVER, 1 << 17, 3, cases[c].faults, NULL, 0, 0};
    load_result result = run_load(segments, count, &test);
    if (file.fd_direct < 0 && strstr(cases[c].faults, "direct")) continue;
    CHECK(result.failure == cases[c].failure && result.error == cases[c].error, "failure %u, error %d (%s)",
          result.failure, result.error, cases[c].faults);
    check_clean(cases[c].faults);
  }
}

/*
 * All windows of a load together fit a GPU that can show 128 MiB at once, also if 16 lanes have slots of 16 MiB; and
 * each is registered once, although lanes begin and end many times.
 */
static void test_windows(void) {
  enum { SEGMENTS = 32, BYTES = 90000, SLOT = 16 << 20, SLOTS = 32 };
  set_sim("FST_SIM_CHECKS", "0"); /* which touch all memory */
  set_sim("FST_SIM_CUFILE_PINNED_BYTES", "134217728");
  set_sim("FST_SIM_CUFILE_WINDOW_BYTES", "4194304"); /* 128 MiB / 32 */
  fst_cuda_allocation memory = allocate(0, SEGMENTS * BYTES);
  uint64_t pinned;
  fst_cuda_pinned *staging;
  require(fst_cuda_pin(0, (uint64_t)SLOTS * SLOT, FST_CUDA_PIN_LATER, &pinned, &staging) == 0, "fst_cuda_pin");
  fst_cuda_load_options options = {0, 1, (uintptr_t)staging, (uint64_t)SLOTS * SLOT, FST_GDS_REQUIRE, 0, 0, 0};
  fst_cuda_load *load;
  static char text[65536];
  require(fst_cuda_load_open(&options, &load, text, sizeof text) == 0, "fst_cuda_load_open");
  fst_plan *plan = new_plan(&file, SEGMENTS, SLOT);
  fst_segment segments[SEGMENTS];
  plan->destination_kind = FST_DESTINATION_CUDA;
  plan->destination_context = (uintptr_t)load;
  for (uint32_t i = 0; i < SEGMENTS; i++) {
    segments[i] = plain(i * 777, BYTES, NULL);
    segments[i].destination = memory.address + i * BYTES;
    fst_plan_segments(plan)[i] = segments[i];
  }
  for (uint32_t limit = 4; limit <= SEGMENTS; limit += 4) run_lanes(plan, limit, 2);
  check_landed(plan, segments, SEGMENTS, "windows");
  fst_cuda_load_report report;
  fst_cuda_load_report_of(load, &report);
  CHECK(report.gds_bytes > SEGMENTS * BYTES / 2 && report.gds_failure == 0, "cuFile read %llu bytes, failure %d",
        (unsigned long long)report.gds_bytes, report.gds_failure);
  fst_sim_report(text, sizeof text);
  const char *registrations = strstr(text, "\"registrations\":");
  CHECK(registrations && atoi(registrations + 16) <= 4, "two lanes registered their windows again: %s", text);
  free(plan);
  fst_cuda_load_close(load);
  fst_cuda_unpin(staging);
  fst_cuda_release(memory.block);
  check_clean("windows");
  set_sim("FST_SIM_CHECKS", NULL);
  set_sim("FST_SIM_CUFILE_PINNED_BYTES", NULL);
  set_sim("FST_SIM_CUFILE_WINDOW_BYTES", NULL);
}

static uint64_t counted(const char *name) {
  static char text[65536];
  char key[64];
  fst_sim_report(text, sizeof text);
  snprintf(key, sizeof key, "\"%s\":", name);
  const char *found = strstr(strstr(text, "\"counts\""), key);
  require(found != NULL, name);
  return strtoull(found + strlen(key), NULL, 10);
}

/* 10,000 tensors of odd lengths, one after another in the file: calls depend on their bytes, not on their number. */
static void test_small_tensors(void) {
  enum { COUNT = 10000, SLOT = 1 << 18 };
  static fst_segment segments[COUNT];
  static const struct {
    const char *name;
    uint16_t from, to;
    uint64_t unit; /* lengths are multiples of it */
    const char *faults;
  } cases[] = {
    {"small", FST_U8, FST_U8, 1, NULL},
    {"small, directly", FST_U8, FST_U8, 1, "cachestat:*:uncached"},
    {"small, cast to more", FST_BF16, FST_F32, 2, NULL},
    {"small, cast to less", FST_F32, FST_F8_E4M3, 4, "cachestat:*:uncached"},
    {"small, without padding", FST_U8, FST_U8, 16, NULL},
  };
  for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
    uint64_t at = 1003, bytes = 0;
    for (uint32_t i = 0; i < COUNT; i++) {
      const uint64_t length = cases[c].unit * (1 + i * 7 % 19);
      segments[i] = plain(at, length, NULL);
      segments[i].from = cases[c].from;
      segments[i].to = cases[c].to;
      at += length;
      bytes += length + 64;
    }
    load_test test = {cases[c].name, 0, FST_GDS_NEVER, SLOT, 2, cases[c].faults, NULL, 0, 0};
    fst_sim_reset();
    load_result result = run_load(segments, COUNT, &test);
    CHECK(result.open_status == 0 && result.failure == 0 && result.landed == at - 1003, "%llu of %llu bytes (%s)",
          (unsigned long long)result.landed, (unsigned long long)(at - 1003), test.name);
    const uint64_t pieces = bytes / (SLOT / 2) + 2;
    CHECK(counted("copies") <= pieces && counted("records") <= pieces + 2 && counted("launches") <= pieces,
          "%llu copies, %llu records, %llu launches for %llu pieces (%s)", (unsigned long long)counted("copies"),
          (unsigned long long)counted("records"), (unsigned long long)counted("launches"), (unsigned long long)pieces,
          test.name);
    check_clean(test.name);
  }
}

typedef struct late_lanes {
  fst_plan *plan;
  int lanes;
} late_lanes;

static void *run_late(void *argument) {
  const late_lanes *late = argument;
  run_lanes(late->plan, ALL, late->lanes);
  return NULL;
}

/* Lanes read before there is memory on the device; with `fails`, there never is. */
static void test_late_memory(int fails) {
  enum { SEGMENTS = 6, BYTES = 100000 };
  fst_cuda_allocation memory[2] = {{.bytes = 3 * BYTES}, {.bytes = 3 * BYTES}};
  fst_segment segments[SEGMENTS];
  fst_plan *plan = new_plan(&file, SEGMENTS, 65536);
  uint64_t pinned, free_bytes;
  fst_cuda_pinned *staging;
  require(fst_cuda_pin(0, 4 * 65536, FST_CUDA_PIN_LATER, &pinned, &staging) == 0, "fst_cuda_pin");
  fst_cuda_load_options options = {0, 1, (uintptr_t)staging, 4 * 65536, FST_GDS_NEVER, 0, 2, 0};
  fst_cuda_load *load;
  char reason[64];
  require(fst_cuda_load_open(&options, &load, reason, sizeof reason) == 0, "fst_cuda_load_open");
  plan->destination_kind = FST_DESTINATION_CUDA;
  plan->destination_context = (uintptr_t)load;
  for (uint32_t i = 0; i < SEGMENTS; i++) {
    segments[i] = plain(i * BYTES, BYTES, NULL);
    segments[i].allocation = i / 3;
    segments[i].destination = i % 3 * BYTES;
    fst_plan_segments(plan)[i] = segments[i];
  }
  late_lanes late = {plan, 2};
  pthread_t thread;
  require(pthread_create(&thread, NULL, run_late, &late) == 0, "pthread_create");
  while (atomic_load(&plan->buffered_bytes) == 0) usleep(100);
  CHECK(fst_sim_live_allocations() == 0, "there is memory already");
  if (fails) {
    fst_sim_fail("cudaMalloc:2:2");
    CHECK(fst_cuda_allocate(0, memory, 2, load, &free_bytes) == 2, "the second allocation did not fail");
    fst_sim_fail(NULL);
    CHECK(memory[0].block && !memory[1].block, "what lanes may use was released");
    fst_plan_cancel(plan);
  } else {
    CHECK(fst_cuda_allocate(0, memory, 2, load, &free_bytes) == 0, "allocating");
  }
  pthread_join(thread, NULL);
  for (uint32_t i = 0; i < SEGMENTS; i++) segments[i].destination += memory[i / 3].address;
  check_landed(plan, segments, SEGMENTS, "late memory");
  CHECK(fails || fst_plan_done(plan)[SEGMENTS - 1] != 0, "the last segment has not landed");
  free(plan);
  fst_cuda_load_close(load);
  fst_cuda_unpin(staging);
  for (int i = 0; i < 2; i++) {
    if (memory[i].block) fst_cuda_release(memory[i].block);
  }
  check_clean("late memory");
}

/* What lies between two tensors is only written if it is padding within one allocation. */
static void test_neighbours(void) {
  fst_segment segments[6];
  fst_cuda_allocation memory = allocate(0, 4096);
  static unsigned char before[4096], after[4096];
  memset(before, 0x5A, sizeof before);
  require(fst_cuda_write(0, memory.address, before, sizeof before, 0) == 0, "fst_cuda_write");
  /* Offsets in memory; the numbers of allocations; all follow each other in the file. */
  static const uint64_t offsets[] = {0, 112, 224, 288, 1000, 1100}, allocations[] = {0, 0, 1, 1, 1, 1};
  fst_plan *plan = new_plan(&file, 6, 65536);
  uint64_t pinned;
  fst_cuda_pinned *staging;
  require(fst_cuda_pin(0, 2 * 65536, FST_CUDA_PIN_LATER, &pinned, &staging) == 0, "fst_cuda_pin");
  fst_cuda_load_options options = {0, 1, (uintptr_t)staging, 2 * 65536, FST_GDS_NEVER, 0, 0, 0};
  fst_cuda_load *load;
  char reason[64];
  require(fst_cuda_load_open(&options, &load, reason, sizeof reason) == 0, "fst_cuda_load_open");
  plan->destination_kind = FST_DESTINATION_CUDA;
  plan->destination_context = (uintptr_t)load;
  for (uint32_t i = 0; i < 6; i++) {
    segments[i] = plain(i * 60, 60, NULL);
    segments[i].destination = memory.address + offsets[i];
    segments[i].allocation = allocations[i];
    fst_plan_segments(plan)[i] = segments[i];
  }
  run_lanes(plan, ALL, 1);
  check_landed(plan, segments, 6, "neighbours");
  require(fst_sim_peek((void *)(uintptr_t)memory.address, after, sizeof after) == 0, "fst_sim_peek");
  /* Between allocations, and where more than padding lies between. */
  for (uint64_t i = 112 + 60; i < 224; i++) CHECK(after[i] == 0x5A, "byte %llu is written", (unsigned long long)i);
  for (uint64_t i = 288 + 60; i < 1000; i++) CHECK(after[i] == 0x5A, "byte %llu is written", (unsigned long long)i);
  free(plan);
  fst_cuda_load_close(load);
  fst_cuda_unpin(staging);
  fst_cuda_release(memory.block);
  check_clean("neighbours");
}

static void *cancel_soon(void *plan) {
  usleep(3000);
  fst_plan_cancel(plan);
  return NULL;
}

static void test_cancel_with_copies_in_flight(void) {
  set_sim("FST_SIM_DELAY_US", "2000");
  for (int turn = 0; turn < 5; turn++) {
    fst_segment segments[64];
    for (uint32_t i = 0; i < 64; i++) segments[i] = plain(i * 1000, 40000, NULL);
    fst_cuda_allocation memory = allocate(0, 64 * 40000);
    uint64_t pinned;
    fst_cuda_pinned *staging;
    require(fst_cuda_pin(0, 4 * 65536, FST_CUDA_PIN_LATER, &pinned, &staging) == 0, "fst_cuda_pin");
    fst_cuda_load_options options = {0, 1, (uintptr_t)staging, 4 * 65536, FST_GDS_NEVER, 0, 0, 0};
    fst_cuda_load *load;
    char reason[64];
    require(fst_cuda_load_open(&options, &load, reason, sizeof reason) == 0, "fst_cuda_load_open");
    fst_plan *plan = new_plan(&file, 64, 65536);
    plan->destination_kind = FST_DESTINATION_CUDA;
    plan->destination_context = (uintptr_t)load;
    for (uint32_t i = 0; i < 64; i++) {
      segments[i].destination = memory.address + i * 40000;
      fst_plan_segments(plan)[i] = segments[i];
    }
    pthread_t thread;
    require(pthread_create(&thread, NULL, cancel_soon, plan) == 0, "pthread_create");
    run_lanes(plan, ALL, 2);
    pthread_join(thread, NULL);
    CHECK(plan->next < 64 || turn > 0, "the plan was through before it was cancelled");
    check_landed(plan, segments, 64, "cancelled");
    free(plan);
    fst_cuda_load_close(load);
    fst_cuda_unpin(staging);
    fst_cuda_release(memory.block);
  }
  set_sim("FST_SIM_DELAY_US", NULL);
  check_clean("cancelled");
}

int main(void) {
  use_stand_ins();
  noise_open(&file, FILE_BYTES);
  test_everything_lands();
  test_every_failure();
  test_file_failures();
  test_windows();
  test_small_tensors();
  test_neighbours();
  test_late_memory(0);
  test_late_memory(1);
  test_cancel_with_copies_in_flight();
  noise_close(&file);
  return report("cuda/lane_test");
}
