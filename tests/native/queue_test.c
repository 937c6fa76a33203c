/*
 * Many reads in flight, by a reader of this test that ends them in any order, in pieces, with an error at any read,
 * and at any moment of a cancellation: the landed bytes are correct, no other byte is written, nothing is written after
 * the queue has returned, and no segment is marked whose bytes are not there.
 */
#include "core/core.h"
#include "lane_support.h"

#define FILE_BYTES (6u << 20)
#define MOST 256

/* ---- The reader ---- */

static struct script {
  uint32_t seed;
  uint32_t most;      /* reads in flight that it allows */
  uint32_t fail_at;   /* the read that fails, from 1 on; 0: none */
  fst_error error;    /* its error */
  uint32_t cancel_at; /* the read at whose end the plan is cancelled */
  int refuses;        /* errno of `open` */
  uint32_t other;     /* the file that another reader reads */
} script;

static struct state {
  fst_lane *lane;
  fst_request *flying[MOST];
  uint32_t count, most_count, started, ended;
  uint64_t bytes, most_bytes; /* in flight */
  int is_open;
} state;

static int wants(const fst_lane *lane) {
  return lane->segment->file != script.other;
}

static int open_reader(fst_lane *lane, uint32_t *most, void **result) {
  if (script.refuses) return script.refuses;
  CHECK(*most > 0 && *most <= MOST, "%u reads are wanted", *most);
  if (script.most < *most) *most = script.most;
  state = (struct state){.lane = lane, .is_open = 1};
  *result = &state;
  return 0;
}

static void start(void *argument, fst_request *request) {
  CHECK(argument == &state && state.is_open, "a read starts in a closed reader");
  CHECK(request->memory && request->done == 0 && !request->own, "a read is not prepared");
  CHECK(request->needed > 0 && request->needed <= request->length, "a read of %llu bytes needs %llu",
        (unsigned long long)request->length, (unsigned long long)request->needed);
  CHECK(state.count < script.most, "%u reads in flight are allowed", script.most);
  state.flying[state.count++] = request;
  state.started++;
  state.bytes += request->length;
  if (state.bytes > state.most_bytes) state.most_bytes = state.bytes;
  if (state.count > state.most_count) state.most_count = state.count;
}

static fst_request *wait_reader(void *argument) {
  CHECK(argument == &state && state.count > 0, "a wait without a read in flight");
  if (noise_next(&script.seed) % 8 == 0) return NULL; /* nothing has ended */
  const uint32_t chosen = noise_next(&script.seed) % state.count;
  fst_request *request = state.flying[chosen];
  if (noise_next(&script.seed) % 4 == 0 && request->done == 0) { /* some of its bytes, later the others */
    request->done = request->needed / 2;
    memcpy(request->memory, file.bytes + request->offset, request->done);
    return NULL;
  }
  state.flying[chosen] = state.flying[--state.count];
  state.ended++;
  state.bytes -= request->length;
  if (state.ended == script.cancel_at) fst_plan_cancel(state.lane->plan);
  if (state.ended == script.fail_at) {
    request->error = script.error;
    return request;
  }
  memcpy(request->memory, file.bytes + request->offset, request->needed);
  request->done = request->needed;
  return request;
}

static void close_reader(void *argument) {
  CHECK(argument == &state && state.is_open, "a closed reader is closed");
  state.is_open = 0;
}

static fst_deep_reader reader = {
  .alignment = 1,
  .wants = wants,
  .open = open_reader,
  .start = start,
  .wait = wait_reader,
  .close = close_reader,
};

/* ---- Plans ---- */

typedef struct test_plan {
  fst_plan *plan;
  guarded *memory;
  uint32_t count;
} test_plan;

static test_plan plan_of(const fst_segment *segments, uint32_t count, uint32_t staging, uint64_t misalignment) {
  test_plan result = {new_plan(&file, count, 1 << 16), calloc(count, sizeof(guarded)), count};
  require(result.memory != NULL, "calloc");
  result.plan->deep_staging = staging;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t at = (segments[i].file_offset + misalignment) % PAGE;
    result.memory[i] = guarded_new(landing_bytes(&segments[i]), at);
    fst_segment *segment = &fst_plan_segments(result.plan)[i];
    *segment = segments[i];
    segment->destination = (uintptr_t)result.memory[i].bytes;
  }
  return result;
}

/* Runs a plan by one lane; returns the status of the queue. */
static int run_queue(fst_plan *plan) {
  fst_lane lane = {.plan = plan, .limit = ALL};
  if (!fst_lane_take(&lane)) return 1;
  int status = fst_queue_run(&lane, &reader);
  CHECK(!state.is_open, "the reader is still open");
  /* From here on the memory of every request is the caller's again. */
  while (status == 0 && fst_lane_take(&lane)) status = fst_lane_land(&lane);
  fst_staging_give(lane.staging);
  fst_plan_verify(plan);
  return status;
}

/* Marked segments have the file's bytes. Returns their number. */
static uint32_t check_landed(const test_plan *test) {
  uint32_t landed = 0;
  for (uint32_t i = 0; i < test->count; i++) {
    const uint8_t done = fst_plan_done(test->plan)[i];
    CHECK(done == FST_NOT_DONE || done == FST_DONE, "segment %u is in state %u", i, done);
    if (done != FST_DONE) continue;
    landed++;
    char *expected = expected_bytes(&fst_plan_segments(test->plan)[i]);
    CHECK(memcmp(test->memory[i].bytes, expected, test->memory[i].length) == 0, "segment %u is wrong", i);
    free(expected);
  }
  return landed;
}

static void free_plan(test_plan test) {
  for (uint32_t i = 0; i < test.count; i++) guarded_free(test.memory[i]);
  free(test.memory);
  free(test.plan);
}

/* Segments of every kind; returns their number. */
static uint32_t all_kinds(fst_segment *segments) {
  uint32_t count = 0;
  static const uint64_t lengths[] = {1, 4095, 4096, 4097, 65535, 65536, 70001, 1048576, 4194304 + 77777};
  for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
    segments[count++] = plain(i % 2 ? 4096 * i : 1000 * i + 13, lengths[i], NULL);
    segments[count++] = plain(file.size - lengths[i], lengths[i], NULL);
  }
  for (uint32_t i = 0; i < 4; i++) { /* casts */
    segments[count] = plain(1001 + i, 8 * (10 + 100000 * i), NULL);
    segments[count].from = i % 2 ? FST_BF16 : FST_F64;
    segments[count++].to = FST_F32;
  }
  for (uint32_t i = 0; i < 12; i++) { /* rows, rows of runs, and long runs, some of them cast */
    fst_segment segment = plain(512 + i, i % 3 == 2 ? 200000 : 96, NULL);
    segment.outer_count = 3 + i;
    segment.inner_count = i % 3 == 1 ? 700 : 1;
    segment.inner_stride = 128;
    segment.outer_stride = (segment.inner_count - 1) * 128 + segment.run + (i % 2 ? 64 : 5000);
    segment.from = FST_BF16;
    segment.to = i >= 6 ? FST_F32 : FST_BF16;
    segments[count++] = segment;
  }
  return count;
}

static const uint32_t stagings[] = {16384, 65536, 1 << 20, 8 << 20};
#define STAGINGS (sizeof stagings / sizeof stagings[0])

static void test_bytes(void) {
  fst_segment segments[64];
  const uint32_t count = all_kinds(segments);
  for (uint32_t seed = 1; seed <= 24; seed++) {
    script = (struct script){.seed = seed, .most = seed % 3 ? MOST : 1 + seed % 5, .other = ALL};
    reader.alignment = seed % 2 ? 1 : PAGE;
    test_plan test = plan_of(segments, count, stagings[seed % STAGINGS], seed % 5 ? 0 : 8);
    CHECK(run_queue(test.plan) == 0 && test.plan->failure == 0, "failure %u", test.plan->failure);
    CHECK(check_landed(&test) == count, "some segments are not marked");
    CHECK(state.started == state.ended && state.count == 0, "%u of %u reads have ended", state.ended, state.started);
    CHECK(test.plan->deep_most == state.most_count, "%u reads were in flight, %u counted", state.most_count,
          test.plan->deep_most);
    free_plan(test);
  }
}

/* A failure at each read: the plan has that error, its segment is not marked, and everything is closed. */
static void test_failures(void) {
  fst_segment segments[64];
  const uint32_t count = all_kinds(segments);
  static const fst_error errors[] = {{FST_FAILURE_SYSTEM, EIO, 5, 6, 0}, {FST_FAILURE_TRUNCATED, 0, 7, 9, 8}};
  for (uint32_t config = 0; config < 2; config++) {
    const uint32_t staging = config ? 1 << 20 : 16384;
    reader.alignment = config ? 1 : PAGE;
    script = (struct script){.seed = 1, .most = 16, .other = ALL};
    test_plan test = plan_of(segments, count, staging, 0);
    CHECK(run_queue(test.plan) == 0, "the queue fails without an error");
    const uint32_t reads = state.started;
    free_plan(test);
    for (uint32_t at = 1; at <= reads; at += 1 + at / 4) {
      script = (struct script){.seed = at, .most = 16, .fail_at = at, .error = errors[at % 2], .other = ALL};
      test = plan_of(segments, count, staging, 0);
      CHECK(run_queue(test.plan) == -1, "the queue does not report the failure of read %u", at);
      const fst_error *error = &errors[at % 2];
      CHECK(test.plan->failure == error->kind && test.plan->failed_code == error->code &&
              test.plan->failed_offset == error->offset && test.plan->failed_expected == error->expected &&
              test.plan->failed_actual == error->actual, "the plan has another error than read %u", at);
      CHECK(fst_plan_done(test.plan)[test.plan->failed_segment] == FST_NOT_DONE, "the failed segment is marked");
      check_landed(&test);
      free_plan(test);
    }
  }
}

static void test_cancel(void) {
  fst_segment segments[64];
  const uint32_t count = all_kinds(segments);
  for (uint32_t at = 1; at < 90; at += 8) {
    script = (struct script){.seed = at, .most = 32, .cancel_at = at, .other = ALL};
    reader.alignment = at % 2 ? PAGE : 1;
    test_plan test = plan_of(segments, count, stagings[at % STAGINGS], 0);
    CHECK(run_queue(test.plan) == -1, "the queue was not cancelled");
    CHECK(state.ended == at, "%u reads ended after the cancellation", state.ended - at);
    CHECK(check_landed(&test) < count, "all segments have landed");
    free_plan(test);
  }
}

/* A reader that cannot be opened: ordinary files are read one read after the other; others fail. */
static void test_refused(void) {
  fst_segment segments[64];
  const uint32_t count = all_kinds(segments);
  script = (struct script){.refuses = EPERM, .other = ALL};
  test_plan test = plan_of(segments, count, 1 << 20, 0);
  CHECK(run_queue(test.plan) == 0 && check_landed(&test) == count, "some segments have not landed");
  CHECK(test.plan->deep_refused == EPERM, "the plan does not have the reason");
  free_plan(test);
  test = plan_of(segments, count, 1 << 20, 0);
  fst_plan_files(test.plan)->reader = 99;
  CHECK(run_queue(test.plan) == -1 && test.plan->failed_code == EPERM, "a reader without a replacement did not fail");
  free_plan(test);
}

/* Segments of a file that the reader does not want are read between the others. */
static void test_two_readers(void) {
  fst_segment segments[64];
  const uint32_t count = all_kinds(segments);
  fst_plan *plan = aligned_alloc(64, sizeof(fst_plan) + 2 * sizeof(fst_plan_file) + 64 * (sizeof(fst_segment) + 1));
  test_plan test = plan_of(segments, count, 1 << 20, 0);
  require(plan != NULL, "aligned_alloc");
  *plan = *test.plan;
  plan->file_count = 2;
  for (int i = 0; i < 2; i++) fst_plan_files(plan)[i] = *fst_plan_files(test.plan);
  for (uint32_t i = 0; i < count; i++) {
    fst_plan_segments(plan)[i] = fst_plan_segments(test.plan)[i];
    fst_plan_segments(plan)[i].file = i / 3 % 2;
    fst_plan_done(plan)[i] = FST_NOT_DONE;
  }
  free(test.plan);
  test.plan = plan;
  reader.alignment = PAGE;
  script = (struct script){.seed = 3, .most = 8, .other = 1};
  CHECK(run_queue(plan) == 0 && check_landed(&test) == count, "some segments have not landed");
  free_plan(test);
}

/* The bytes in flight stay within their bounds. */
static void test_bounds(void) {
  fst_segment segments[64];
  for (uint32_t i = 0; i < 64; i++) segments[i] = plain(4096 * i, 1 << 20, NULL);
  script = (struct script){.seed = 1, .most = MOST, .other = ALL};
  reader.alignment = PAGE;
  test_plan test = plan_of(segments, 64, 1 << 18, 0);
  test.plan->deep_depth = 200;
  CHECK(run_queue(test.plan) == 0 && check_landed(&test) == 64, "some segments have not landed");
  CHECK(state.most_bytes == 4 << 20, "%llu bytes were in flight, 4 MiB are allowed",
        (unsigned long long)state.most_bytes);
  free_plan(test);

  test = plan_of(segments, 64, 1 << 20, 8); /* everything through staging memory: reads of half of it */
  test.plan->deep_depth = 200;
  CHECK(run_queue(test.plan) == 0 && check_landed(&test) == 64, "some segments have not landed");
  CHECK(state.most_count > 1 && state.most_bytes <= 1 << 20, "%llu bytes of staging memory were in use",
        (unsigned long long)state.most_bytes);
  free_plan(test);
}

int main(void) {
  noise_open(&file, FILE_BYTES);
  test_bytes();
  test_failures();
  test_cancel();
  test_refused();
  test_two_readers();
  test_bounds();
  noise_close(&file);
  return report("queue_test");
}
