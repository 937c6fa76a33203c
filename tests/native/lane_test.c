/*
 * Lanes: with every kind of read and segment, the landed bytes are correct and no other byte is written.
 */
#include "lane_support.h"

#define FILE_BYTES (3u << 20)

/* Every kind of read: the calls that fail, whether direct reads must succeed, and whether many are in flight. */
static const struct mode {
  const char *faults;
  int direct, is_deep;
} modes[] = {
  {"cachestat:*:cached", 0, 0},
  {"cachestat:*:uncached", 1, 0},
  {"cachestat:*:38", 0, 0},                                  /* ENOSYS: an old kernel */
  {"cachestat:*:uncached,preaddirect:*:22", 0, 0},           /* EINVAL: a file system without direct reads */
  {"cachestat:*:uncached,preaddirect:*:95", 0, 0},           /* EOPNOTSUPP */
  {"cachestat:*:uncached,preaddirect:*:short=8192", 1, 0},   /* short, at a page */
  {"cachestat:*:uncached,preaddirect:*:short=70001", 1, 0},  /* short, inside a page */
  {"cachestat:*:uncached,preaddirect:2:4,preaddirect:3:4", 1, 0},
  {"cachestat:*:cached,pread:*:short=1000,pread:3:4,pread:4:4", 0, 0},
  {"cachestat:*:uncached", 1, 1},
  {"cachestat:*:cached", 0, 1},
  {"cachestat:*:uncached,uringread:*:22,preaddirect:*:22", 0, 1}, /* pread reads where io_uring is refused */
  {"cachestat:*:uncached,uringread:3:95", 1, 1},
  {"cachestat:*:uncached,uringread:*:short=8192", 1, 1},
  {"cachestat:*:uncached,uringread:*:short=70001", 1, 1},
  {"cachestat:*:uncached,uringread:1:4,uringread:2:11,uringenter:3:4,uringenter:5:11", 1, 1}, /* EINTR, EAGAIN */
  {"cachestat:*:uncached,uringsetup:*:1", 1, 1}, /* EPERM */
};
#define MODES (sizeof modes / sizeof modes[0])

/* Runs segments, each to its own memory, and compares the bytes. */
static void check_segments(fst_segment *segments, uint32_t count, uint32_t staging, int lanes,
                           const struct mode *mode, uint64_t misalignment) {
  fst_plan *plan = new_plan(&file, count, staging);
  if (mode->is_deep) {
    plan->deep_staging = staging;
    plan->deep_latency = 20000;
  }
  guarded *memory = calloc(count, sizeof *memory);
  require(memory != NULL, "calloc");
  uint64_t bytes = 0;
  int large = 0;
  for (uint32_t i = 0; i < count; i++) {
    memory[i] = guarded_new(landing_bytes(&segments[i]), (misalignment + 64 * i) % PAGE);
    segments[i].destination = (uintptr_t)memory[i].bytes;
    fst_plan_segments(plan)[i] = segments[i];
    bytes += fst_segment_bytes(&segments[i]);
    large |= segments[i].run >= 256u << 10 && staging >= 1u << 17;
  }
  set_faults(mode->faults);
  int stopped = run_lanes(plan, ALL, lanes);
  set_faults("");
  CHECK(stopped == 0 && plan->failure == 0, "failure %u, errno %d (%s)", plan->failure, plan->failed_code,
        mode->faults);
  CHECK(plan->next == count && plan->landed_bytes == bytes, "%llu of %llu bytes landed",
        (unsigned long long)plan->landed_bytes, (unsigned long long)bytes);
  if (mode->direct && large && file.fd_direct >= 0) {
    CHECK(plan->direct_bytes > 0, "no byte was read directly (%s, %u)", mode->faults, staging);
  }
  if (!mode->direct) CHECK(plan->direct_bytes == 0, "a byte was read directly (%s)", mode->faults);
  for (uint32_t i = 0; i < count; i++) {
    const fst_segment *s = &segments[i];
    char *expected = expected_bytes(s);
    CHECK(memcmp(memory[i].bytes, expected, memory[i].length) == 0,
          "segment %u is wrong: offset %llu, %u x %llu, %u x %llu, run %llu, %u to %u, staging %u (%s)", i,
          (unsigned long long)s->file_offset, s->outer_count, (unsigned long long)s->outer_stride, s->inner_count,
          (unsigned long long)s->inner_stride, (unsigned long long)s->run, s->from, s->to, staging, mode->faults);
    CHECK(fst_plan_done(plan)[i] == 1, "segment %u is not marked as landed", i);
    free(expected);
    guarded_free(memory[i]);
  }
  free(memory);
  free(plan);
}

/* Plain ranges of all kinds of lengths and offsets, congruent to their destination modulo a page and not. */
static void test_ranges(void) {
  static const uint64_t lengths[] = {1, 4095, 4096, 65535, 65536, 65537, 262144, 300001, 1048576};
  for (size_t m = 0; m < MODES; m++) {
    for (uint64_t congruent = 0; congruent < 2; congruent++) {
      fst_segment segments[32];
      uint32_t count = 0;
      for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        uint64_t offset = congruent ? 5 * PAGE + 64 * count + 1000 : 777 * (l + 1);
        segments[count++] = plain(offset, lengths[l], NULL);
        if (l % 3 == 0) segments[count++] = plain(file.size - lengths[l], lengths[l], NULL); /* to the end */
      }
      check_segments(segments, count, 16384, 3, &modes[m], 1000);
      check_segments(segments, count, 1 << 20, 1, &modes[m], 1000);
    }
  }
}

static void test_casts(void) {
  static const struct {
    uint32_t from, to;
  } pairs[] = {{FST_BF16, FST_F32}, {FST_F32, FST_BF16}, {FST_F64, FST_F8_E4M3}, {FST_F8_E5M2, FST_F64}};
  static const uint64_t elements[] = {1, 63, 1023, 1024, 1025, 4096, 65537, 100000};
  for (size_t m = 0; m < MODES; m++) {
    for (size_t p = 0; p < sizeof pairs / sizeof pairs[0]; p++) {
      fst_segment segments[8];
      for (uint32_t e = 0; e < 8; e++) {
        segments[e] = plain(1001 + e, elements[e] * element_bytes(pairs[p].from), NULL);
        segments[e].from = (uint16_t)pairs[p].from;
        segments[e].to = (uint16_t)pairs[p].to;
      }
      check_segments(segments, 8, m % 2 ? 16384 : 1 << 19, 2, &modes[m], m % 2);
    }
  }
}

/* Rows at every limit: of the gap that is read too, of the staging memory, of a row that is larger. */
static void test_gathers(void) {
  const uint32_t staging = 16384;
  const uint64_t capacity = staging - 2 * PAGE;
  static const uint64_t gaps[] = {1, 2, 1025, 9000, 16383, 16384, 16385};
  const uint64_t runs[] = {1, 7, 100, 4096, capacity - 1, capacity, capacity + 1, 3 * capacity};
  for (size_t m = 0; m < MODES; m++) {
    fst_segment segments[256];
    uint32_t count = 0;
    for (size_t r = 0; r < sizeof runs / sizeof runs[0]; r++) {
      for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
        for (uint32_t outer = 2; outer <= 5; outer += 3) {
          fst_segment segment = plain(333 + count, runs[r], NULL);
          segment.outer_count = outer;
          segment.outer_stride = runs[r] + gaps[g];
          segments[count++] = segment;
        }
      }
    }
    check_segments(segments, count, staging, 3, &modes[m], 0);
  }
}

/* Two levels: rows of runs whose span is just below, at and above the staging memory. */
static void test_two_levels(void) {
  const uint32_t staging = 16384;
  const uint64_t capacity = staging - 2 * PAGE;
  static const uint64_t strides[] = {4, 6, 100, 4100};
  static const uint64_t gaps[] = {0, 1024, 16384, 16385};
  for (size_t m = 0; m < MODES; m++) {
    fst_segment segments[256];
    uint32_t count = 0;
    for (size_t s = 0; s < sizeof strides / sizeof strides[0]; s++) {
      uint64_t run = strides[s] == 4 ? 2 : 4;
      uint32_t fitting = (uint32_t)((capacity - run) / strides[s] + 1);
      for (uint32_t inner = fitting > 2 ? fitting - 1 : 2; inner <= fitting + 1; inner++) {
        for (size_t g = 0; g < sizeof gaps / sizeof gaps[0]; g++) {
          for (int cast = 0; cast < 2; cast++) {
            fst_segment segment = plain(64 + count, run, NULL);
            segment.inner_count = inner;
            segment.inner_stride = strides[s];
            segment.outer_count = 1 + count % 4;
            segment.outer_stride = (inner - 1) * strides[s] + run + gaps[g];
            segment.from = FST_BF16;
            segment.to = cast ? FST_F32 : FST_BF16;
            segments[count++] = segment;
          }
        }
      }
    }
    check_segments(segments, count, staging, 3, &modes[m], 0);
    check_segments(segments, count, 1 << 20, 2, &modes[m], 0);
  }
}

/* Long runs that are gathered and cast: each is a separate range. */
static void test_long_runs(void) {
  for (size_t m = 0; m < MODES; m++) {
    fst_segment segments[2];
    for (uint32_t i = 0; i < 2; i++) {
      segments[i] = plain(4096 * i + 10 * i, 300000, NULL);
      segments[i].outer_count = 4;
      segments[i].outer_stride = 500002;
      segments[i].from = FST_F16;
      segments[i].to = i ? FST_F64 : FST_F16;
    }
    check_segments(segments, 2, 1 << 17, 2, &modes[m], 0);
  }
}

/* Many lanes over many segments into one destination: the result is the whole file. */
static void test_many_lanes(void) {
  guarded memory = guarded_new(file.size, 0);
  uint32_t count = 0;
  fst_plan *plan = new_plan(&file, 2000, 1 << 16);
  uint32_t state = 99;
  for (uint64_t at = 0; at < file.size; count++) {
    uint64_t length = count < 1999 ? 1 + noise_next(&state) % 3000 : file.size - at;
    if (length > file.size - at) length = file.size - at;
    fst_plan_segments(plan)[count] = plain(at, length, memory.bytes + at);
    at += length;
  }
  fst_plan *exact = new_plan(&file, count, 1 << 16);
  memcpy(fst_plan_segments(exact), fst_plan_segments(plan), count * sizeof(fst_segment));
  CHECK(run_lanes(exact, ALL, MAX_LANES) == 0, "lanes were stopped");
  CHECK(memcmp(memory.bytes, file.bytes, file.size) == 0, "the destination is not the file");
  CHECK(exact->landed_bytes == file.size && exact->buffered_bytes == file.size, "the counters are wrong");
  free(exact);
  free(plan);
  guarded_free(memory);
}

int main(void) {
  noise_open(&file, FILE_BYTES);
  test_ranges();
  test_casts();
  test_gathers();
  test_two_levels();
  test_long_runs();
  test_many_lanes();
  noise_close(&file);
  return report("lane_test");
}
