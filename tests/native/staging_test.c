/*
 * The staging memory of the process: lanes reuse it, it grows no further than they need, and it is unmapped when none
 * has used it for a while.
 */
#include "core/core.h"
#include "plan_support.h"

#define MIB ((uint64_t)1 << 20)
#define FILE_BYTES (8u << 20)

static noise_file file;

static fst_staging_counts counts(void) {
  fst_staging_counts result;
  fst_staging_state(&result);
  return result;
}

/* Waits until all idle memory is unmapped. */
static void unmap_all(void) {
  fst_staging_age();
  while (counts().idle > 0) usleep(1000);
}

static void test_reuse(void) {
  unmap_all();
  CHECK(counts().mapped == 0, "%llu bytes are mapped at the start", (unsigned long long)counts().mapped);
  char *a = fst_staging_take(4 * MIB), *b = fst_staging_take(4 * MIB);
  CHECK(a && b && a != b && counts().mapped == 8 * MIB && counts().idle == 0, "two blocks are not mapped");
  memset(a, 1, 4 * MIB);
  memset(b, 2, 4 * MIB);
  fst_staging_give(a);
  CHECK(counts().mapped == 8 * MIB && counts().idle == 4 * MIB, "a block that is given back is not kept");
  char *c = fst_staging_take(3 * MIB), *d = fst_staging_take(MIB / 2);
  CHECK(c == a, "a block is not reused");
  CHECK(d && d != b && counts().blocks == 3, "a block in use was given twice");
  CHECK(b[0] == 2 && b[4 * MIB - 1] == 2, "a block in use was changed");
  fst_staging_give(c);
  fst_staging_give(d);
  char *small = fst_staging_take(4096);
  CHECK(small != c && small != d, "a large block is taken for few bytes");
  fst_staging_give(small);
  fst_staging_give(b);
  fst_staging_give(NULL);
  CHECK(counts().idle == counts().mapped && counts().mapped > 8 * MIB, "not all is idle");
  unmap_all();
  CHECK(counts().mapped == 0 && counts().blocks == 0, "idle memory is not unmapped");
}

/* More than 64 MiB are only mapped while they are in use. */
static void test_bound(void) {
  enum { BLOCKS = 40 };
  char *blocks[BLOCKS];
  for (uint32_t i = 0; i < BLOCKS; i++) require((blocks[i] = fst_staging_take(4 * MIB)) != NULL, "fst_staging_take");
  CHECK(counts().mapped == BLOCKS * 4 * MIB, "%llu bytes are mapped", (unsigned long long)counts().mapped);
  for (uint32_t i = 0; i < BLOCKS; i++) fst_staging_give(blocks[i]);
  CHECK(counts().mapped == 64 * MIB && counts().idle == 64 * MIB, "%llu bytes stay mapped",
        (unsigned long long)counts().mapped);
  char *large = fst_staging_take(20 * MIB); /* the idle blocks are too small: some of them go */
  CHECK(large && counts().mapped <= 64 * MIB, "%llu bytes are mapped", (unsigned long long)counts().mapped);
  fst_staging_give(large);
  unmap_all();
}

/* Memory that a lane uses is not unmapped, however long it has it. */
static void test_in_use(void) {
  char *used = fst_staging_take(MIB);
  fst_staging_give(fst_staging_take(2 * MIB)); /* starts the thread that unmaps */
  unmap_all();
  CHECK(counts().mapped == MIB, "memory in use was unmapped");
  memset(used, 3, MIB);
  fst_staging_give(used);
  unmap_all();
}

/* A plan of casts, all of which need staging memory. */
static fst_plan *cast_plan(const guarded *memory, int is_deep) {
  enum { SEGMENTS = 32, BYTES = FILE_BYTES / SEGMENTS };
  fst_plan *plan = new_plan(&file, SEGMENTS, 1 << 20);
  for (uint32_t i = 0; i < SEGMENTS; i++) {
    fst_segment *segment = &fst_plan_segments(plan)[i];
    *segment = plain(i * BYTES, BYTES, memory->bytes + 2 * i * BYTES);
    segment->from = FST_BF16;
    segment->to = FST_F32;
  }
  plan->deep_staging = 1 << 20;
  plan->deep_latency = is_deep ? 200000 : 0;
  return plan;
}

/* Loads one after the other use the same memory; 4 lanes need no more than their share each. */
static void test_lanes(int is_deep) {
  guarded memory = guarded_new(2 * FILE_BYTES, 0);
  require(fst_fault_set(is_deep ? "now:*:1000,cachestat:*:uncached" : "now:*:1000,cachestat:*:cached") == 0, "faults");
  uint64_t mapped = 0;
  for (int load = 0; load < 5; load++) {
    fst_plan *plan = cast_plan(&memory, is_deep);
    CHECK(run_lanes(plan, ALL, 4) == 0, "lanes were stopped");
    CHECK(counts().idle == counts().mapped, "a lane keeps staging memory");
    CHECK(counts().mapped <= 4 * MIB, "4 lanes have mapped %llu bytes", (unsigned long long)counts().mapped);
    CHECK(counts().mapped >= mapped, "memory was unmapped between two loads");
    mapped = counts().mapped;
    free(plan);
  }
  CHECK(mapped > 0, "no staging memory was used");
  fst_fault_set("now:*:1000");
  unmap_all();
  guarded_free(memory);
}

/* NULL, or its argument if another thread had the same memory. */
static void *take_and_give(void *argument) {
  uint32_t state = (uint32_t)(uintptr_t)argument;
  for (int i = 0; i < 2000; i++) {
    const uint64_t length = 4096 * (1 + noise_next(&state) % 200);
    char *memory = fst_staging_take(length);
    require(memory != NULL, "fst_staging_take");
    memory[0] = memory[length - 1] = (char)state;
    if (i % 100 == 0) fst_staging_age();
    if (memory[0] != (char)state || memory[length - 1] != (char)state) return argument;
    fst_staging_give(memory);
  }
  return NULL;
}

static void test_threads(void) {
  pthread_t threads[6];
  for (uintptr_t i = 0; i < 6; i++) {
    require(pthread_create(&threads[i], NULL, take_and_give, (void *)(i + 1)) == 0, "pthread_create");
  }
  for (int i = 0; i < 6; i++) {
    void *failed;
    pthread_join(threads[i], &failed);
    CHECK(!failed, "two threads had the same memory");
  }
  CHECK(counts().idle == counts().mapped && counts().mapped <= 64 * MIB, "memory is lost");
  unmap_all();
}

int main(void) {
  alarm(240);
  noise_open(&file, FILE_BYTES);
  require(fst_fault_set("now:*:1000") == 0, "faults"); /* however slow the machine is, memory does not become old */
  test_reuse();
  test_bound();
  test_in_use();
  test_lanes(0);
  test_lanes(1);
  test_threads();
  noise_close(&file);
  return report("staging_test");
}
