/*
 * Reads by io_uring: their failures, a cancellation while they wait for bytes, and systems that refuse io_uring. That
 * the bytes are correct is tested in lane_test.c.
 */
#include "core/core.h"
#include "plan_support.h"

#define FILE_BYTES (4u << 20)
#define BLOCK (64u << 10)
#define BLOCKS (FILE_BYTES / BLOCK)

static noise_file file;

static void set_faults(const char *faults) {
  require(fst_fault_set(faults) == 0, faults);
}

/* Whether the system allows io_uring: containers often do not. */
static int is_allowed(void) {
  fst_uring_parameters parameters = {0};
  const int ring = fst_sys_uring_setup(4, &parameters);
  if (ring >= 0) close(ring);
  return ring >= 0;
}

/* The whole file in blocks, which are read with many reads in flight. */
static fst_plan *deep_plan(const guarded *memory) {
  fst_plan *plan = new_plan(&file, BLOCKS, 1 << 17);
  for (uint32_t i = 0; i < BLOCKS; i++) {
    fst_plan_segments(plan)[i] = plain(i * BLOCK, BLOCK, memory->bytes + i * BLOCK);
  }
  plan->deep_staging = 8 << 20;
  plan->deep_latency = 200000;
  return plan;
}

static uint32_t landed(fst_plan *plan, const guarded *memory) {
  uint32_t count = 0;
  for (uint32_t i = 0; i < BLOCKS; i++) {
    if (fst_plan_done(plan)[i] != FST_DONE) continue;
    count++;
    CHECK(memcmp(memory->bytes + i * BLOCK, file.bytes + i * BLOCK, BLOCK) == 0, "block %u is wrong", i);
  }
  return count;
}

/* Runs a plan with faults; the failure that the plan has. */
static fst_error failure_of(const char *faults, int lanes) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = deep_plan(&memory);
  set_faults(faults);
  CHECK(run_lanes(plan, ALL, lanes) > 0, "no lane reports the failure (%s)", faults);
  set_faults("");
  CHECK(landed(plan, &memory) < BLOCKS && plan->next > 1, "all blocks landed, or one after the other (%s)", faults);
  const fst_error error = {plan->failure, plan->failed_code, plan->failed_offset, plan->failed_expected,
                           plan->failed_actual};
  free(plan);
  guarded_free(memory);
  return error;
}

static void test_failures(void) {
  for (int lanes = 1; lanes <= 3; lanes++) {
    fst_error error = failure_of("cachestat:*:uncached,uringread:5:5", lanes);
    CHECK(error.kind == FST_FAILURE_SYSTEM && error.code == EIO && error.expected == BLOCK, "no system error");
    error = failure_of("cachestat:*:uncached,uringread:5:eof", lanes);
    CHECK(error.kind == FST_FAILURE_TRUNCATED && error.expected == BLOCK && error.actual == 0, "not truncated");
    error = failure_of("cachestat:*:uncached,uringread:9:5,uringread:*:short=4096", lanes);
    CHECK(error.kind == FST_FAILURE_SYSTEM && error.code == EIO, "no system error after a short read");
    error = failure_of("cachestat:*:uncached,uringenter:1:12", lanes);
    CHECK(error.kind == FST_FAILURE_SYSTEM && error.code == ENOMEM, "reads that cannot start did not fail");
    error = failure_of("cachestat:*:uncached,fstat:1:changed", lanes);
    CHECK(error.kind == FST_FAILURE_CHANGED, "a change was not noticed");
  }
}

/* The plan has the reason if io_uring is refused, and everything lands by reads one after the other. */
static void test_refused(void) {
  static const int errors[] = {EPERM, ENOSYS, ENOMEM};
  for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
    char faults[64];
    snprintf(faults, sizeof faults, "cachestat:*:uncached,uringsetup:*:%d", errors[i]);
    guarded memory = guarded_new(FILE_BYTES, 0);
    fst_plan *plan = deep_plan(&memory);
    set_faults(faults);
    CHECK(run_lanes(plan, ALL, 3) == 0 && landed(plan, &memory) == BLOCKS, "some blocks have not landed");
    CHECK(plan->deep_refused == errors[i] && plan->deep_most == 0, "the plan does not have the reason");
    CHECK(fst_fault_calls("uringsetup") <= 3, "a lane asks again");
    set_faults("");
    free(plan);
    guarded_free(memory);
  }
}

/* Many reads are in flight from the start if the latency is known, and cached bytes are not read in this way. */
static void test_depth(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = deep_plan(&memory);
  set_faults("cachestat:*:uncached");
  CHECK(run_lanes(plan, ALL, 1) == 0 && landed(plan, &memory) == BLOCKS, "some blocks have not landed");
  CHECK(plan->deep_most >= 50, "%u reads were in flight", plan->deep_most);
  CHECK(fst_fault_calls("preaddirect") == 0 && fst_fault_calls("uringread") == BLOCKS, "%llu reads by io_uring",
        (unsigned long long)fst_fault_calls("uringread"));
  free(plan);
  plan = deep_plan(&memory);
  set_faults("cachestat:*:cached");
  CHECK(run_lanes(plan, ALL, 1) == 0 && landed(plan, &memory) == BLOCKS, "some blocks have not landed");
  CHECK(plan->deep_most == 0 && fst_fault_calls("uringsetup") == 0, "cached bytes were read by io_uring");
  free(plan);
  plan = deep_plan(&memory);
  plan->deep_latency = 0;
  set_faults("cachestat:*:uncached");
  CHECK(run_lanes(plan, 1, 1) == 0 && fst_fault_calls("uringsetup") == 0, "fast storage was read by io_uring");
  plan->deep_latency = plan->deep_depth = 0;
  set_faults("cachestat:*:uncached,preaddirect:1:delay=20000");
  CHECK(run_lanes(plan, ALL, 1) == 0 && landed(plan, &memory) == BLOCKS, "some blocks have not landed");
  CHECK(plan->deep_latency >= 20000 && plan->deep_most > 1, "slow storage was not read by io_uring");
  set_faults("");
  free(plan);
  guarded_free(memory);
}

/* Storage that bandwidth limits is read by one read after the other again. A clock that stands makes no read fast. */
static void test_return(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = deep_plan(&memory);
  plan->deep_depth = 4;
  set_faults("cachestat:*:uncached,now:*:1000");
  CHECK(run_lanes(plan, ALL, 1) == 0 && landed(plan, &memory) == BLOCKS, "some blocks have not landed");
  CHECK(plan->deep_most == 4 && plan->deep_latency == 0, "the lane keeps many reads in flight");
  CHECK(fst_fault_calls("uringread") < BLOCKS && fst_fault_calls("preaddirect") > 0, "every block was read by io_uring");
  set_faults("");
  free(plan);
  guarded_free(memory);
}

/*
 * Reads from a pipe instead of the file wait until bytes are written to it: a lane that is cancelled meanwhile returns,
 * and no byte that comes later is written to the memory.
 */
static void test_cancel(void) {
  int ends[2];
  require(pipe(ends) == 0, "pipe");
  guarded memory = guarded_new(FILE_BYTES, 0);
  memset(memory.bytes, MARK, FILE_BYTES);
  fst_plan *plan = deep_plan(&memory);
  fst_plan_files(plan)->fd_direct = ends[0];
  set_faults("cachestat:*:uncached");
  pthread_t thread;
  lane_call call = {plan, ALL, -1};
  require(pthread_create(&thread, NULL, lane_thread, &call) == 0, "pthread_create");
  while (plan->deep_most < 50) usleep(100);
  fst_plan_cancel(plan);
  pthread_join(thread, NULL);
  set_faults("");
  CHECK(call.status == 1 && landed(plan, &memory) == 0, "the lane was not cancelled");
  require(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0, "fcntl");
  while (write(ends[1], file.bytes, BLOCK) > 0) continue;
  int intact = 1;
  for (uint64_t i = 0; i < FILE_BYTES; i++) intact &= memory.bytes[i] == MARK;
  CHECK(intact, "bytes were written after the lane had returned");
  close(ends[0]);
  close(ends[1]);
  free(plan);
  guarded_free(memory);
}

int main(void) {
  alarm(240);
  noise_open(&file, FILE_BYTES);
  test_refused();
  if (is_allowed() && file.fd_direct >= 0) {
    test_failures();
    test_depth();
    test_return();
    test_cancel();
  } else {
    printf("io_uring or direct reads are not allowed here: only their absence is tested\n");
  }
  noise_close(&file);
  return report("uring_test");
}
