/* Pages of any size, and the limits of control groups. */
#include <sys/stat.h>

#include "core/core.h"
#include "plan_support.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static void set_page_size(uint64_t bytes) {
  char spec[64];
  snprintf(spec, sizeof spec, "pagesize:*:%llu", (unsigned long long)bytes);
  require(fst_fault_set(spec) == 0, "faults");
}

/* ---- Pages ---- */

/* Bytes of anonymous mappings. */
static uint64_t mapped(void) {
  static uint64_t ranges[2 * 16384];
  int64_t count = fst_memory_mapped(ranges, 16384);
  require(count > 0 && count <= 16384, "fst_memory_mapped");
  uint64_t bytes = 0;
  for (int64_t i = 0; i < count; i++) bytes += ranges[2 * i + 1] - ranges[2 * i];
  return bytes;
}

/* Staging memory is whole pages, and all of it is freed. */
static void test_staging(void) {
  static const uint64_t sizes[] = {4096, 16384, 65536}, lengths[] = {1, 4096, 12288, 65536, 2097152, 2101248};
  static const uint64_t expected[][6] = {
    {4096, 4096, 12288, 65536, 2097152, 2101248},
    {16384, 16384, 16384, 65536, 2097152, 2113536},
    {65536, 65536, 65536, 65536, 2097152, 2162688},
  };
  for (size_t turn = 0; turn < 6; turn++) { /* during the first three, a sanitizer maps its own memory */
    const size_t s = turn % 3;
    set_page_size(sizes[s]);
    for (size_t l = 0; l < 6; l++) {
      const uint64_t before = mapped();
      char *staging = fst_staging_map(lengths[l]);
      require(staging != NULL, "fst_staging_map");
      CHECK((uintptr_t)staging % FST_HUGE_PAGE == 0, "staging is at %p", (void *)staging);
      CHECK(turn < 3 || mapped() - before == expected[s][l], "%llu bytes for %llu, with pages of %llu",
            (unsigned long long)(mapped() - before), (unsigned long long)lengths[l], (unsigned long long)sizes[s]);
      fst_staging_unmap(staging, lengths[l]);
      CHECK(turn < 3 || mapped() == before, "%llu bytes are left", (unsigned long long)(mapped() - before));
    }
  }
  fst_fault_set("");
}

/* Memory is touched by whole pages, as the system requires. */
static void test_populate(void) {
  const uint64_t length = 1 << 20;
  char *base = mmap(NULL, 2 * length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  require(base != MAP_FAILED, "mmap");
  char *start = (char *)(((uintptr_t)base + 65535) & ~(uintptr_t)65535);
  if (madvise(start, 4096, MADV_POPULATE_WRITE) != 0) return; /* before Linux 5.14 */
  madvise(start, length, MADV_DONTNEED);
  madvise(base, 2 * length, MADV_NOHUGEPAGE);
  set_page_size(65536);
  noise_file file;
  noise_open(&file, 1 << 20);
  fst_plan *plan = new_plan(&file, 1, 1 << 16);
  fst_plan_segments(plan)[0] = plain(0, 100000, start + 3 * 65536 + 40000);
  CHECK(fst_plan_populate(plan, ALL, 1 << 30, NO_KEEP) == 0, "populating failed");
  unsigned char pages[256];
  require(mincore(start, length, pages) == 0, "mincore");
  for (size_t i = 0; i < 256; i++) { /* pages of 4 KiB here: the fourth and fifth of 64 KiB, but not the last, partial one */
    const int touched = i >= 48 && i < 80;
    if (pages[48] & 1) CHECK((pages[i] & 1) == touched, "page %zu", i); /* qemu-user touches none */
  }
  free(plan);
  noise_close(&file);
  munmap(base, 2 * length);
  fst_fault_set("");
}

/* ---- Control groups ---- */

static char folder[64];

static void put(const char *path, const char *text) {
  char whole[512];
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  for (char *slash = strchr(whole + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
    *slash = 0;
    mkdir(whole, 0700);
    *slash = '/';
  }
  FILE *file = fopen(whole, "w");
  require(file && fputs(text, file) >= 0 && fclose(file) == 0, whole);
}

static int64_t available(const char *groups) {
  char list[128], mount[128];
  put("cgroup", groups);
  snprintf(list, sizeof list, "%s/cgroup", folder);
  snprintf(mount, sizeof mount, "%s/fs", folder);
  return fst_group_available(list, mount);
}

#define EXPECT(groups, expected)                                                                         \
  do {                                                                                                   \
    int64_t actual = available(groups);                                                                  \
    CHECK(actual == (expected), "%lld of \"%s\"", (long long)actual, groups);                            \
  } while (0)

static void test_groups(void) {
  snprintf(folder, sizeof folder, "/tmp/fst-groups-XXXXXX");
  require(mkdtemp(folder) != NULL, "mkdtemp");
  EXPECT("", INT64_MAX);
  EXPECT("0::/a/b\n", INT64_MAX);
  /* Version 2: the parent has less left than the group itself. */
  put("fs/a/b/memory.max", "max\n");
  put("fs/a/b/memory.current", "100\n");
  EXPECT("0::/a/b\n", INT64_MAX);
  put("fs/a/memory.max", "1000\n");
  put("fs/a/memory.current", "700\n");
  EXPECT("0::/a/b\n", 300);
  put("fs/a/memory.stat", "anon 5\ninactive_file 50\n");
  EXPECT("0::/a/b\n", 350);
  put("fs/a/b/memory.max", "120\n");
  EXPECT("0::/a/b\n", 20);
  put("fs/memory.max", "710\n");
  put("fs/memory.current", "705\n");
  EXPECT("0::/a/b\n", 5);
  EXPECT("0::/\n", 5);
  put("fs/memory.current", "800\n");
  EXPECT("0::/a/b\n", 0);
  /* Version 1, below its own folder; in a container, the mount is the group. */
  EXPECT("9:name=systemd:/x\n4:cpu,memory:/one/two\n", INT64_MAX);
  put("fs/memory/memory.limit_in_bytes", "9223372036854771712\n");
  put("fs/memory/memory.usage_in_bytes", "1000\n");
  EXPECT("4:memory:/one/two\n", 9223372036854770712);
  put("fs/memory/memory.limit_in_bytes", "5000\n");
  put("fs/memory/memory.stat", "inactive_file 1\ntotal_inactive_file 100\n");
  EXPECT("4:memory:/one/two\n", 4100);
  put("fs/memory/one/memory.limit_in_bytes", "2000\n");
  put("fs/memory/one/memory.usage_in_bytes", "500\n");
  EXPECT("9:name=systemd:/x\n4:cpu,memory:/one/two\n3:cpuset:/\n", 1500);
  EXPECT("3:memory_other,pids:/one/two\n", INT64_MAX);
  EXPECT("4:memory:/one\n0::/a/b\n", 0); /* both: the smaller one */
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  require(system(command) == 0, command);
}

int main(void) {
  test_staging();
  test_populate();
  test_groups();
  return report("memory_test");
}
