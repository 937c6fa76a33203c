/*
 * Plans: taking segments, waiting for progress, cancelling, failing, touching memory ahead; and file functions.
 */
#include "plan_support.h"

#include <sys/stat.h>

#define FILE_BYTES (1u << 20)
#define BLOCK 4096u
#define BLOCKS (FILE_BYTES / BLOCK)

static noise_file file;

/* 71 minutes: a call that does not return before its timeout ends the test by the alarm that main sets. */
#define FOREVER UINT32_MAX

/* The whole file in blocks. */
static fst_plan *blocks_plan(const guarded *memory) {
  fst_plan *plan = new_plan(&file, BLOCKS, 1 << 16);
  for (uint32_t i = 0; i < BLOCKS; i++) {
    fst_plan_segments(plan)[i] = plain(i * BLOCK, BLOCK, memory->bytes + i * BLOCK);
  }
  return plan;
}

/* Blocks that are marked as landed hold the file's bytes, the others what was there before. */
static uint32_t check_blocks(fst_plan *plan, const guarded *memory) {
  uint32_t landed = 0;
  for (uint32_t i = 0; i < BLOCKS; i++) {
    if (fst_plan_done(plan)[i] != FST_DONE) continue;
    landed++;
    CHECK(memcmp(memory->bytes + i * BLOCK, file.bytes + i * BLOCK, BLOCK) == 0, "block %u is wrong", i);
  }
  CHECK(plan->landed_bytes == (uint64_t)landed * BLOCK, "landed bytes do not agree with landed blocks");
  return landed;
}

static void test_take(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  for (uint32_t limit = 0; limit <= BLOCKS + 50; limit += 37) {
    CHECK(run_lanes(plan, limit, 8) == 0, "lanes were stopped");
    uint32_t expected = limit < BLOCKS ? limit : BLOCKS;
    CHECK(plan->next == expected, "lanes took %u segments, the limit was %u", plan->next, expected);
    CHECK(check_blocks(plan, &memory) == expected, "some blocks below the limit have not landed");
  }
  CHECK(run_lanes(plan, ALL, 8) == 0, "lanes were stopped");
  CHECK(check_blocks(plan, &memory) == BLOCKS, "some blocks have not landed");
  uint32_t index;
  CHECK(fst_plan_take(plan, ALL, &index) == 0, "a segment was taken that does not exist");
  free(plan);
  guarded_free(memory);
}

typedef struct taker {
  fst_plan *plan;
  uint32_t limit;
  unsigned char *taken;
} taker;

static void *take_all(void *argument) {
  taker *self = argument;
  uint32_t index;
  while (fst_plan_take(self->plan, self->limit, &index)) {
    __atomic_fetch_add(&self->taken[index], 1, __ATOMIC_RELAXED);
  }
  return NULL;
}

/* Callers with different limits: every segment below the highest limit is taken once, and no other. */
static void test_take_races(void) {
  enum { SEGMENTS = 60000 };
  fst_plan *plan = new_plan(&file, SEGMENTS, 0);
  unsigned char *taken = calloc(SEGMENTS, 1);
  pthread_t threads[8];
  taker takers[8];
  for (int i = 0; i < 8; i++) {
    takers[i] = (taker){plan, 10000u + 5000u * (uint32_t)i, taken};
    require(pthread_create(&threads[i], NULL, take_all, &takers[i]) == 0, "pthread_create");
  }
  for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
  CHECK(plan->next == 45000, "%u segments were taken", plan->next);
  for (uint32_t i = 0; i < SEGMENTS; i++) CHECK(taken[i] == (i < 45000), "segment %u was taken %u times", i, taken[i]);
  free(taken);
  free(plan);
}

typedef struct waiter {
  fst_plan *plan;
  uint32_t result;
  int has_returned;
} waiter;

static void *wait_thread(void *argument) {
  waiter *self = argument;
  self->result = fst_plan_wait(self->plan, 0, FOREVER, 0);
  __atomic_store_n(&self->has_returned, 1, __ATOMIC_RELEASE);
  return NULL;
}

static void test_wait(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  CHECK(fst_plan_wait(plan, plan->wake, 20000, 0) == 0, "the wait reported progress without any");
  CHECK(fst_plan_wait(plan, plan->wake + 1, FOREVER, 0) == 0, "the counter changed by itself");

  /* A wait lasts until there is progress. */
  pthread_t thread;
  waiter waiting = {plan, 0, 0};
  require(pthread_create(&thread, NULL, wait_thread, &waiting) == 0, "pthread_create");
  usleep(20000);
  CHECK(!__atomic_load_n(&waiting.has_returned, __ATOMIC_ACQUIRE), "a wait ended without progress");
  CHECK(run_lanes(plan, 1, 1) == 0, "lanes were stopped");
  pthread_join(thread, NULL);
  CHECK(waiting.result != 0, "a wait returned %u", waiting.result);

  /* No progress is missed: a caller that waits after the last progress is woken by the next. */
  require(fst_fault_set("pread:*:delay=200") == 0, "faults");
  lane_call call = {plan, ALL, -1};
  require(pthread_create(&thread, NULL, lane_thread, &call) == 0, "pthread_create");
  uint32_t seen = 0, landed = 0;
  while (landed < BLOCKS) {
    landed = 0;
    for (uint32_t i = 0; i < BLOCKS; i++) landed += fst_plan_done(plan)[i];
    if (landed < BLOCKS) seen = fst_plan_wait(plan, seen, FOREVER, 500);
  }
  pthread_join(thread, NULL);
  fst_fault_set("");

  /* No later progress can come, so the wait must not gather. */
  fst_plan_wait(plan, seen - 1, FOREVER, FOREVER);

  free(plan);

  /* The wait for a cancelled or failed plan does not gather, although segments are left. */
  plan = blocks_plan(&memory);
  fst_plan_cancel(plan);
  fst_plan_wait(plan, 0, FOREVER, FOREVER);
  free(plan);
  plan = blocks_plan(&memory);
  fst_plan_fail(plan, 0, &(fst_error){FST_FAILURE_SYSTEM, EIO, 0, 1, 0});
  fst_plan_wait(plan, 0, FOREVER, FOREVER);
  free(plan);
  guarded_free(memory);
}

static void test_cancel(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  require(fst_fault_set("pread:*:delay=1000") == 0, "faults");
  pthread_t threads[4];
  lane_call calls[4];
  for (int i = 0; i < 4; i++) {
    calls[i] = (lane_call){plan, ALL, -1};
    require(pthread_create(&threads[i], NULL, lane_thread, &calls[i]) == 0, "pthread_create");
  }
  while (plan->next < 14) usleep(100); /* at most 4 of them are being read */
  fst_plan_cancel(plan);
  fst_plan_cancel(plan);
  for (int i = 0; i < 4; i++) {
    pthread_join(threads[i], NULL);
    CHECK(calls[i].status == 1, "a lane ended with status %d", calls[i].status);
  }
  fst_fault_set("");
  uint32_t landed = check_blocks(plan, &memory);
  CHECK(landed >= 10 && landed < BLOCKS, "%u blocks landed", landed);
  CHECK(landed == plan->next, "%u blocks were taken, %u landed: lanes must finish the segments that they have started", plan->next, landed);
  CHECK(plan->failure == FST_FAILURE_NONE, "a cancelled plan has failed");
  CHECK(run_lanes(plan, ALL, 2) == 2, "lanes continued a cancelled plan");
  CHECK(fst_plan_populate(plan, ALL, 1 << 20, NO_KEEP) == 1, "a cancelled plan was populated");
  fst_plan_fail(plan, 0, &(fst_error){FST_FAILURE_SYSTEM, EIO, 1, 2, 3});
  CHECK(plan->failure == FST_FAILURE_NONE, "a plan failed after it was cancelled");
  free(plan);
  guarded_free(memory);
}

/*
 * A failure of one lane stops all, and reports its place. A lane that has failed may wait for a processor before it
 * reports this, so the number of blocks that others take meanwhile depends on the machine. None is taken afterwards.
 */
static void test_failure(void) {
  for (int nth = 1; nth < 40; nth += 6) {
    for (int lanes = 1; lanes <= 4; lanes += 3) {
      guarded memory = guarded_new(FILE_BYTES, 0);
      fst_plan *plan = blocks_plan(&memory);
      char faults[64];
      snprintf(faults, sizeof faults, "pread:%d:5,pread:*:delay=5000", nth);
      require(fst_fault_set(faults) == 0, "faults");
      CHECK(run_lanes(plan, ALL, lanes) == lanes, "a lane did not report the failure");
      fst_fault_set("");
      CHECK(plan->failure == FST_FAILURE_SYSTEM && plan->failed_code == EIO, "failure %u, errno %d", plan->failure,
            plan->failed_code);
      uint32_t failed = plan->failed_segment;
      CHECK(plan->failed_offset == (uint64_t)failed * BLOCK && plan->failed_expected == BLOCK, "the reported place is wrong");
      CHECK(fst_plan_done(plan)[failed] == 0, "the failed block is marked as landed");
      uint32_t taken = plan->next;
      uint32_t landed = check_blocks(plan, &memory);
      CHECK(landed == taken - 1, "%u blocks were taken, %u landed", taken, landed);
      CHECK(lanes > 1 || taken == (uint32_t)nth, "a lane took %u blocks, read %d failed", taken, nth);
      CHECK(run_lanes(plan, ALL, 4) == 4 && plan->next == taken, "lanes took blocks after the failure");
      free(plan);
      guarded_free(memory);
    }
  }
}

static uint32_t failure_of(const char *faults, int lanes, fst_plan **kept) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  require(fst_fault_set(faults) == 0, "faults");
  CHECK(run_lanes(plan, ALL, lanes) == lanes, "a lane did not report the failure (%s)", faults);
  fst_fault_set("");
  check_blocks(plan, &memory);
  guarded_free(memory);
  *kept = plan;
  return plan->failure;
}

static void test_file_failures(void) {
  fst_plan *plan;
  CHECK(failure_of("pread:9:eof", 1, &plan) == FST_FAILURE_TRUNCATED, "the end of the file is not a failure");
  CHECK(plan->failed_offset == 8 * BLOCK && plan->failed_expected == BLOCK && plan->failed_actual == 0,
        "the end of the file is reported at a wrong place");
  free(plan);
  CHECK(failure_of("pread:9:short=100,pread:10:eof", 1, &plan) == FST_FAILURE_TRUNCATED, "not truncated");
  CHECK(plan->failed_actual == 100, "%llu bytes are reported as present", (unsigned long long)plan->failed_actual);
  free(plan);
  CHECK(failure_of("fstat:1:changed", 1, &plan) == FST_FAILURE_CHANGED, "a change was not noticed");
  CHECK(plan->failed_segment == 0 && plan->landed_bytes == 0, "blocks landed that were read before a change was seen");
  free(plan);
  CHECK(failure_of("fstat:*:5", 3, &plan) == FST_FAILURE_SYSTEM && plan->failed_code == EIO, "no failure");
  CHECK(plan->landed_bytes == 0, "blocks landed that could not be verified");
  free(plan);
  require(truncate(file.path, FILE_BYTES / 2) == 0, "truncate");
  CHECK(failure_of("", 2, &plan) == FST_FAILURE_TRUNCATED, "a truncated file was not noticed");
  CHECK(plan->landed_bytes == 0, "blocks of a truncated file landed");
  free(plan);
  write_noise(&file); /* with a new modification time */
  CHECK(failure_of("", 2, &plan) == FST_FAILURE_CHANGED && plan->landed_bytes == 0, "a new file was not noticed");
  free(plan);
  noise_close(&file);
  noise_open(&file, FILE_BYTES);
}

/* A change spares the segments whose file was looked at before, and no other. */
static void test_change_between(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  CHECK(run_lanes(plan, 4, 1) == 0, "a lane was stopped");
  require(fst_fault_set("fstat:1:changed") == 0, "faults");
  CHECK(run_lanes(plan, ALL, 1) == 1 && plan->failure == FST_FAILURE_CHANGED, "a change was not noticed");
  fst_fault_set("");
  CHECK(plan->failed_segment == 4 && check_blocks(plan, &memory) == 4, "%u blocks landed", check_blocks(plan, &memory));
  free(plan);
  guarded_free(memory);
}

/* A wait marks the segments that have landed, also while their lane still reads. */
static void test_wait_marks(void) {
  guarded memory = guarded_new(FILE_BYTES, 0);
  fst_plan *plan = blocks_plan(&memory);
  atomic_store(&plan->next, 3);
  for (uint32_t i = 0; i < 3; i += 2) {
    memcpy(memory.bytes + i * BLOCK, file.bytes + i * BLOCK, BLOCK);
    fst_plan_landed(plan, i);
  }
  const uint32_t seen = plan->wake; /* also if nothing has happened since the last look at the counter */
  CHECK(fst_plan_wait(plan, seen, FOREVER, 0) != seen, "a wait that marks segments does not report them");
  CHECK(check_blocks(plan, &memory) == 2 && !fst_plan_done(plan)[1], "a wait marked other segments than have landed");
  free(plan);
  guarded_free(memory);
}

/* Small segments cost one read each; files are looked at, and threads are woken, for many of them at once. */
static void test_calls(void) {
  enum { SEGMENTS = 10000, BYTES = 64 };
  guarded memory = guarded_new((uint64_t)SEGMENTS * BYTES, 0);
  fst_plan *plan = new_plan(&file, SEGMENTS, 1 << 16);
  for (uint32_t i = 0; i < SEGMENTS; i++) {
    fst_plan_segments(plan)[i] = plain(i * BYTES, BYTES, memory.bytes + (uint64_t)i * BYTES);
  }
  fst_fault_set("");
  CHECK(run_lanes(plan, ALL, 4) == 0, "lanes were stopped");
  CHECK(memcmp(memory.bytes, file.bytes, memory.length) == 0 && plan->landed_bytes == memory.length, "bytes are wrong");
  CHECK(fst_fault_calls("pread") == SEGMENTS, "%llu reads", (unsigned long long)fst_fault_calls("pread"));
  CHECK(fst_fault_calls("fstat") <= 4, "%llu looks at the file by 4 lanes", (unsigned long long)fst_fault_calls("fstat"));
  CHECK(fst_fault_calls("wake") == 0, "%llu wakes, and nobody waits", (unsigned long long)fst_fault_calls("wake"));
  CHECK(fst_fault_calls("cachestat") == 0 && fst_fault_calls("preaddirect") == 0, "a small segment cost more calls");
  free(plan);
  guarded_free(memory);
}

/* The number of resident pages of a range. */
static uint64_t resident(char *start, uint64_t length) {
  unsigned char pages[1024];
  uint64_t count = 0;
  require(length / PAGE <= sizeof pages && mincore(start, length, pages) == 0, "mincore");
  for (uint64_t i = 0; i < length / PAGE; i++) count += pages[i] & 1;
  return count;
}

/* Whether the kernel touches memory on request; qemu-user reports success without doing it. */
static int populates(void) {
  char *start = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(start != MAP_FAILED, "mmap");
  const int pretended = madvise(start, PAGE, MADV_POPULATE_WRITE) == 0 && resident(start, PAGE) == 0;
  munmap(start, PAGE);
  return !pretended;
}

static void *populate_thread(void *argument) {
  lane_call *call = argument;
  call->status = fst_plan_populate(call->plan, call->limit, 64 * BLOCK, NO_KEEP);
  return NULL;
}

static char *map_pages(uint64_t length) {
  char *start = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(start != MAP_FAILED, "mmap");
  madvise(start, length, MADV_NOHUGEPAGE);
  return start;
}

/* Populating touches memory only as far ahead as requested, does not change bytes, and stops with the plan. */
static void test_populate(void) {
  guarded memory = {.base = map_pages(FILE_BYTES), .length = FILE_BYTES};
  memory.bytes = memory.base;
  fst_plan *plan = blocks_plan(&memory);
  pthread_t thread;
  lane_call call = {plan, ALL, -1};
  require(pthread_create(&thread, NULL, populate_thread, &call) == 0, "pthread_create");
  while (resident(memory.base, FILE_BYTES) < 64) usleep(1000);
  usleep(20000);
  uint64_t pages = resident(memory.base, FILE_BYTES);
  CHECK(pages == 64, "%llu pages were touched", (unsigned long long)pages);
  CHECK(run_lanes(plan, BLOCKS / 2, 1) == 0, "lanes were stopped");
  while (resident(memory.base, FILE_BYTES) < BLOCKS / 2 + 64) usleep(1000);
  usleep(20000);
  pages = resident(memory.base, FILE_BYTES);
  CHECK(pages == BLOCKS / 2 + 64, "%llu pages were touched", (unsigned long long)pages);
  CHECK(run_lanes(plan, ALL, 2) == 0, "lanes were stopped");
  pthread_join(thread, NULL);
  CHECK(call.status == 0, "populating ended with status %d", call.status);
  CHECK(check_blocks(plan, &memory) == BLOCKS, "some blocks have not landed");
  free(plan);

  plan = blocks_plan(&memory);
  call = (lane_call){plan, ALL, -1};
  require(pthread_create(&thread, NULL, populate_thread, &call) == 0, "pthread_create");
  usleep(5000);
  fst_plan_cancel(plan);
  pthread_join(thread, NULL);
  CHECK(call.status == 1, "populating a cancelled plan ended with status %d", call.status);
  CHECK(memcmp(memory.bytes, file.bytes, FILE_BYTES) == 0, "populating changed bytes");
  free(plan);
  munmap(memory.base, FILE_BYTES);
}

/* A narrowing cast needs less memory than the file has bytes: memory after the destination is not touched. */
static void test_populate_cast(void) {
  const uint64_t wide = 64 * PAGE, narrow = wide / 4;
  char *start = map_pages(wide);
  fst_plan *plan = new_plan(&file, 1, 1 << 16);
  fst_plan_segments(plan)[0] = plain(0, wide, start);
  fst_plan_segments(plan)[0].from = FST_F32;
  fst_plan_segments(plan)[0].to = FST_F8_E5M2;
  CHECK(fst_plan_populate(plan, ALL, 1 << 30, NO_KEEP) == 0, "populating failed");
  CHECK(resident(start, wide) == narrow / PAGE, "%llu pages were touched",
        (unsigned long long)resident(start, wide));
  munmap(start, wide);
  free(plan);
}

static void test_files(void) {
  fst_file_info info;
  char head[64], path[200];
  CHECK(fst_file_open(file.path, &info, head, sizeof head) == 0 && info.size == FILE_BYTES, "it does not open");
  CHECK(info.head_bytes == sizeof head && memcmp(head, file.bytes, sizeof head) == 0, "the head is wrong");
  CHECK(fst_file_read(info.fd, head, sizeof head, FILE_BYTES - 10) == 10, "more than the file has");
  CHECK(fst_file_read(info.fd, head, sizeof head, FILE_BYTES) == 0, "something after the end");
  CHECK(fst_file_close(info.fd) == 0 && fst_file_close(info.fd) == -EBADF, "closing is wrong");
  CHECK(fst_file_read(-1, head, sizeof head, 0) == -EBADF, "a read from nothing");
  CHECK(fst_file_open_direct(-1) < 0, "nothing can be opened directly");
  CHECK(fst_file_cached(file.info.fd, 0, 0) == 0, "nothing is cached in part");
  CHECK(fst_file_open("/nonexistent/x", &info, head, 1) == -ENOENT, "a missing file opens");
  CHECK(fst_file_open("/tmp", &info, head, 1) == -EISDIR, "a folder opens");
  CHECK(fst_file_open("/dev/zero", &info, head, 1) == -EINVAL, "a device opens");
  snprintf(path, sizeof path, "%s.fifo", file.path);
  require(mkfifo(path, 0600) == 0, "mkfifo");
  CHECK(fst_file_open(path, &info, head, 1) == -EINVAL, "a pipe opens"); /* if this blocks, the alarm ends the test */
  unlink(path);

  require(fst_fault_set("open:1:4,open:2:4,pread:1:5") == 0, "faults");
  CHECK(fst_file_open(file.path, &info, head, sizeof head) == 0, "an interruption is a failure");
  CHECK(info.head_errno == EIO && info.head_bytes == 0, "a failure of the first read is not reported");
  fst_file_close(info.fd);
  require(fst_fault_set("fstat:1:5") == 0, "faults");
  CHECK(fst_file_open(file.path, &info, head, sizeof head) == -EIO, "a failure is not reported");
  fst_fault_set("");
  CHECK(fst_fault_set("pread:1") == -EINVAL && fst_fault_set("pread:1:nonsense") == -EINVAL, "nonsense is accepted");
  CHECK(fst_memory_available() > 1 << 20, "there is no memory");
  CHECK(fst_abi_version() == FST_ABI_VERSION && fst_address(head) == (uintptr_t)head, "wrong results");
  CHECK(fst_memory_advise(head, 0, sizeof head) == 0, "advice on a little memory fails");
}

/* The number of bytes of a range that are in the reported ranges; checks the order of these. */
static size_t mapped_within(uintptr_t start, uintptr_t stop) {
  static uint64_t ranges[2 * 16384];
  int64_t count = fst_memory_mapped(ranges, 16384);
  require(count > 0 && count <= 16384, "fst_memory_mapped");
  CHECK(fst_memory_mapped(NULL, 0) >= 1, "the count is wrong without capacity");
  size_t within = 0;
  for (int64_t i = 0; i < count; i++) {
    CHECK(ranges[2 * i] < ranges[2 * i + 1] && (i == 0 || ranges[2 * i - 1] <= ranges[2 * i]), "ranges are not in order");
    uint64_t from = ranges[2 * i] > start ? ranges[2 * i] : start;
    uint64_t to = ranges[2 * i + 1] < stop ? ranges[2 * i + 1] : stop;
    if (to > from) within += to - from;
  }
  return within;
}

static void test_mapped(void) {
  size_t length = (size_t)8 << 20, page = 4096;
  char *memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(memory != MAP_FAILED, "mmap");
  uintptr_t start = (uintptr_t)memory, stop = start + length;
  CHECK(mapped_within(start, stop) == length, "mapped memory is not reported");
  require(mprotect(memory + page, page, PROT_READ) == 0, "mprotect");
  CHECK(mapped_within(start, stop) == length - page, "memory that cannot be written to is reported");
  CHECK(fst_memory_advise(NULL, start + page, length - page) == 0, "advice by address fails");
  munmap(memory, length);
  CHECK(mapped_within(start, stop) == 0, "unmapped memory is reported");
  int shared = open(file.path, O_RDWR);
  char *view = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE, shared, 0);
  require(shared >= 0 && view != MAP_FAILED, "mmap of a file");
  CHECK(mapped_within((uintptr_t)view, (uintptr_t)view + page) == 0, "a file is reported");
  munmap(view, page);
  close(shared);
}

int main(void) {
  alarm(600);
  noise_open(&file, FILE_BYTES);
  test_take();
  test_take_races();
  test_wait();
  test_cancel();
  test_failure();
  test_file_failures();
  test_change_between();
  test_wait_marks();
  test_calls();
  if (populates()) {
    test_populate();
    test_populate_cast();
  } else {
    puts("plan_test: populating is not tested, because the kernel does not touch memory on request (qemu-user)");
  }
  test_files();
  test_mapped();
  noise_close(&file);
  return report("plan_test");
}
