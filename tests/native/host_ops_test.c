/*
 * Slices, casts and joins in host memory, against one byte at a time; every buffer is a separate allocation of the
 * exact length, so that a sanitizer detects an access outside it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cast/cast.h"
#include "fst.h"
#include "plan_support.h"

#define EXPECT(condition) CHECK(condition, "%s", #condition)

static uint32_t state = 2463534242u;

static uint32_t random_below(uint32_t limit) {
  state ^= state << 13, state ^= state >> 17, state ^= state << 5;
  return state % limit;
}

static uint8_t *noise(size_t length) {
  uint8_t *bytes = malloc(length ? length : 1);
  for (size_t i = 0; i < length; i++) bytes[i] = (uint8_t)random_below(256);
  return bytes;
}

static void test_gather(void) {
  for (int round = 0; round < 400; round++) {
    uint64_t run = round % 3 ? 1u << random_below(6) : 1 + random_below(40), span = run, length = run;
    uint32_t count = random_below(4);
    fst_level levels[3];
    for (uint32_t i = count; i-- > 0;) {
      levels[i].stride = span + random_below(9);
      levels[i].count = 1 + random_below(5);
      span = (levels[i].count - 1) * levels[i].stride + span;
      length *= levels[i].count;
    }
    uint64_t offset = random_below(20);
    uint8_t *source = noise(offset + span), *target = noise(length), *expected = malloc(length);
    for (uint64_t at = 0; at < length; at++) {
      uint64_t from = offset + at % run, rest = at / run;
      for (uint32_t i = count; i-- > 0; rest /= levels[i].count) from += rest % levels[i].count * levels[i].stride;
      expected[at] = source[from];
    }
    EXPECT(fst_host_gather(source, offset + span, target, length, offset, run, levels, count) == 0);
    EXPECT(memcmp(target, expected, length) == 0);
    EXPECT(fst_host_gather(source, offset + span - 1, target, length, offset, run, levels, count) == -EINVAL);
    EXPECT(fst_host_gather(source, offset + span, target, length + 1, offset, run, levels, count) == -EINVAL);
    free(source), free(target), free(expected);
  }
  uint8_t byte = 1, target = 0;
  const fst_level huge[2] = {{UINT64_MAX, UINT64_MAX}, {UINT64_MAX, 2}}, none = {0, 1};
  EXPECT(fst_host_gather(&byte, 1, &target, 1, 0, 1, huge, 2) == -EINVAL);
  EXPECT(fst_host_gather(&byte, 1, &target, 1, 0, 1, &none, 1) == -EINVAL);
  EXPECT(fst_host_gather(&byte, 1, &target, 1, UINT64_MAX, 1, NULL, 0) == -EINVAL);
  EXPECT(fst_host_gather(&byte, 1, &target, 1, 0, 1, NULL, 1) == -EINVAL);
  EXPECT(fst_host_gather(NULL, 0, &target, 1, 0, 1, NULL, 0) == -EINVAL);
  EXPECT(fst_host_gather(NULL, 0, NULL, 0, 0, 0, NULL, 0) == 0);
  EXPECT(target == 0);
}

static void test_cast(void) {
  const float source[3] = {1.5f, -2.0f, 65536.0f};
  uint16_t target[3];
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target, 3, FST_F32, FST_F16) == 0);
  EXPECT(target[0] == 0x3e00 && target[1] == 0xc000 && target[2] == 0x7c00);
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target, 4, FST_F32, FST_F16) == -EINVAL);
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target - 1, 3, FST_F32, FST_F16) == -EINVAL);
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target, UINT64_MAX / 8, FST_F32, FST_F16) == -EINVAL);
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target, 1, FST_F32, FST_I16) == -ENOTSUP);
  EXPECT(fst_host_cast(source, sizeof source, target, sizeof target, 1, FST_F32, 99) == -ENOTSUP);
  EXPECT(fst_host_cast(NULL, 4, target, sizeof target, 1, FST_F32, FST_F16) == -EINVAL);
  EXPECT(fst_host_cast(NULL, 0, NULL, 0, 0, FST_F32, FST_F16) == 0);
  uint8_t bytes[6] = {1, 2, 3, 4, 5, 6}, copy[6] = {0};
  EXPECT(fst_host_cast(bytes, 6, copy, 6, 6, FST_U8, FST_U8) == 0);
  EXPECT(memcmp(bytes, copy, 6) == 0);
}

static void test_scatter(void) {
  const char source[] = "abcdef";
  char target[12];
  memset(target, '.', sizeof target);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, 1, 5, 2, 3) == -EINVAL); /* 13 bytes */
  EXPECT(fst_host_scatter(source, 5, target, sizeof target, 0, 5, 2, 3) == -EINVAL);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, 0, 1, 2, 3) == -EINVAL);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, 0, UINT64_MAX, 2, 3) == -EINVAL);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, UINT64_MAX, 5, 2, 1) == -EINVAL);
  EXPECT(fst_host_scatter(NULL, 6, target, sizeof target, 0, 5, 2, 3) == -EINVAL);
  EXPECT(memcmp(target, "............", 12) == 0);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, 0, 5, 2, 3) == 0);
  EXPECT(memcmp(target, "ab...cd...ef", 12) == 0);
  EXPECT(fst_host_scatter(source, 6, target, sizeof target, 3, 2, 0, 3) == 0);
}

int main(void) {
  test_gather();
  test_cast();
  test_scatter();
  return report("host_ops_test");
}
