/*
 * Writing of native/core/write.c: ranges of every alignment, cast or not, from several threads, and failures.
 */
#include "plan_support.h"

#include <sys/file.h>

#include "cast/cast.h"
#include "fst.h"

#define FILE_BYTES (9u << 20)
#define STAGING (64u << 10)

static char folder[64];

/* A path in the test's folder; valid for the next three calls. */
static const char *path_of(const char *name) {
  static char paths[4][128];
  static int next;
  char *path = paths[next++ % 4];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static uint32_t random_state = 1;
static uint32_t below(uint32_t limit) {
  random_state = random_state * 1664525u + 1013904223u;
  return (uint32_t)(((uint64_t)random_state * limit) >> 32);
}

static char *aligned(size_t length) {
  void *memory = NULL;
  require(posix_memalign(&memory, PAGE, length) == 0, "memory");
  return memory;
}

static void check_file(const char *name, const char *expected, size_t length) {
  char *found = malloc(length + 1);
  int fd = open(path_of(name), O_RDONLY);
  require(fd >= 0 && found, name);
  size_t got = 0;
  for (ssize_t part; (part = read(fd, found + got, length + 1 - got)) > 0;) got += (size_t)part;
  CHECK(got == length, "%s has %zu bytes, not %zu", name, got, length);
  CHECK(memcmp(found, expected, length) == 0, "%s has other bytes", name);
  close(fd);
  free(found);
}

struct range {
  int32_t fd, fd_direct;
  const char *source;
  uint64_t count, offset;
  uint32_t from, to;
  int32_t status;
};

static void *write_range(void *argument) {
  struct range *range = argument;
  char *staging = aligned(STAGING);
  range->status = fst_write_range(range->fd, range->fd_direct, range->source, range->count, range->offset,
                                  range->from, range->to, staging, STAGING);
  free(staging);
  return NULL;
}

/* A file divided into random ranges, each written from memory with another alignment, four at once. */
static void test_ranges(int direct) {
  char *expected = malloc(FILE_BYTES);
  for (uint32_t i = 0; i < FILE_BYTES; i++) expected[i] = (char)below(256);
  const char *name = direct ? "direct" : "buffered";
  int32_t fd = fst_write_create(path_of(name), 0666);
  require(fd >= 0, "create");
  CHECK(fst_write_create(path_of(name), 0666) == -EEXIST, "a file was created twice");
  CHECK(fst_write_allocate(fd, FILE_BYTES) == 0, "allocate");
  int32_t fd_direct = direct ? fst_write_open_direct(fd) : -1;
  for (uint32_t at = 0; at < FILE_BYTES;) {
    struct range ranges[4];
    pthread_t threads[4];
    char *memories[4];
    int count = 0;
    for (; count < 4 && at < FILE_BYTES; count++) {
      uint32_t length = below(4) ? below(900000) : below(5000);
      if (length > FILE_BYTES - at) length = FILE_BYTES - at;
      uint32_t skip = below(3) ? below(PAGE) : at % PAGE; /* sometimes with the alignment of the file */
      memories[count] = aligned(length + PAGE + 1);
      memcpy(memories[count] + skip % PAGE, expected + at, length);
      ranges[count] = (struct range){fd, fd_direct, memories[count] + skip % PAGE, length, at, FST_U8, FST_U8, 0};
      at += length;
    }
    for (int i = 0; i < count; i++) require(!pthread_create(&threads[i], NULL, write_range, &ranges[i]), "thread");
    for (int i = 0; i < count; i++) {
      pthread_join(threads[i], NULL);
      CHECK(ranges[i].status == 0, "range %d of %s: %d", i, name, ranges[i].status);
      free(memories[i]);
    }
  }
  CHECK(fst_write_sync(fd) == 0, "sync");
  close(fd);
  if (fd_direct >= 0) close(fd_direct);
  check_file(name, expected, FILE_BYTES);
  free(expected);
}

/* Whole numbers up to 2048, which F16 and F32 both have, from any place to any other. */
static void test_casts(int direct) {
  enum { COUNT = 300001 };
  float *singles = malloc(COUNT * sizeof *singles);
  uint16_t *halves = malloc(COUNT * sizeof *halves);
  for (int i = 0; i < COUNT; i++) singles[i] = (float)(i % 2048);
  require(fst_cast(halves, singles, COUNT, FST_F16, FST_F32) == 0, "cast");
  const uint64_t offsets[] = {0, 8, 4096, 4104, 12286, 3};
  for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++) {
    for (int widens = 0; widens < 2; widens++) {
      uint64_t length = offsets[i] + COUNT * (widens ? sizeof *singles : sizeof *halves);
      char *expected = calloc(1, length);
      memcpy(expected + offsets[i], widens ? (void *)singles : (void *)halves, length - offsets[i]);
      int32_t fd = fst_write_create(path_of("cast"), 0666);
      require(fd >= 0 && fst_write_allocate(fd, length) == 0, "create");
      int32_t fd_direct = direct ? fst_write_open_direct(fd) : -1;
      struct range range = {fd, fd_direct, widens ? (void *)halves : (void *)singles, COUNT, offsets[i],
                            widens ? FST_F16 : FST_F32, widens ? FST_F32 : FST_F16, 0};
      write_range(&range);
      CHECK(range.status == 0, "cast to offset %d: %d", (int)offsets[i], range.status);
      close(fd);
      if (fd_direct >= 0) close(fd_direct);
      check_file("cast", expected, length);
      unlink(path_of("cast"));
      free(expected);
    }
  }
  free(singles);
  free(halves);
}

static void test_refusals(void) {
  char *page = aligned(2 * PAGE);
  memset(page, 0, 2 * PAGE);
  int32_t fd = fst_write_create(path_of("refused"), 0666);
  require(fd >= 0, "create");
  CHECK(fst_write_range(fd, -1, NULL, 1, 0, FST_U8, FST_U8, page, 2 * PAGE) == -EFAULT, "no source");
  CHECK(fst_write_range(fd, -1, page, 1, 0, FST_U8, FST_U8, NULL, 2 * PAGE) == -EFAULT, "no staging");
  CHECK(fst_write_range(fd, -1, page, 1, 0, FST_U8, FST_U8, page + 1, PAGE) == -EINVAL, "staging at an odd place");
  CHECK(fst_write_range(fd, -1, page, 1, 0, FST_U8, FST_U8, page, PAGE) == -EINVAL, "too little staging");
  CHECK(fst_write_range(fd, -1, page, 1, 0, FST_I32, FST_F32, page, 2 * PAGE) == -ENOTSUP, "a cast of integers");
  CHECK(fst_write_range(-1, -1, page, 1, 0, FST_U8, FST_U8, page, 2 * PAGE) == -EBADF, "no file");
  CHECK(fst_write_allocate(fd, 0) == 0, "no size");
  close(fd);
  free(page);
  CHECK(fst_write_create("/nowhere/x", 0666) == -ENOENT, "a folder that is not there");
  CHECK(fst_folder_sync("/nowhere") == -ENOENT, "a folder that is not there");
  CHECK(fst_folder_sync(folder) == 0, "a folder");
}

static void test_renames(void) {
  int32_t a = fst_write_create(path_of("a"), 0666), b = fst_write_create(path_of("b"), 0666);
  require(a >= 0 && b >= 0 && write(a, "a", 1) == 1 && write(b, "b", 1) == 1, "files");
  close(a);
  close(b);
  CHECK(fst_path_rename(path_of("a"), path_of("b"), 0) == -EEXIST, "replaced without being asked to");
  check_file("b", "b", 1);
  CHECK(fst_path_rename(path_of("a"), path_of("b"), 1) == 0, "replace");
  check_file("b", "a", 1);
  /* The second case uses a hard link, the others have none: EPERM, ENOSYS, EOPNOTSUPP, EMLINK. */
  const char *refused[] = {"", "rename:1:22", "rename:*:plain,link:*:1", "rename:*:plain,link:*:38",
                           "rename:*:plain,link:*:95", "rename:*:plain,link:*:31"};
  for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
    require(fst_fault_set(refused[i]) == 0, "faults");
    CHECK(fst_path_rename(path_of("b"), path_of("c"), 0) == 0, "rename");
    CHECK(access(path_of("b"), F_OK) != 0, "the old name is still there");
    require(fst_fault_set(refused[i]) == 0, "faults");
    a = fst_write_create(path_of("a"), 0666);
    CHECK(fst_path_rename(path_of("a"), path_of("c"), 0) == -EEXIST, "replaced without being asked to");
    close(a);
    unlink(path_of("a"));
    check_file("c", "a", 1);
    require(rename(path_of("c"), path_of("b")) == 0, "rename");
  }
  require(fst_fault_set("rename:1:22,link:1:5") == 0, "faults");
  CHECK(fst_path_rename(path_of("b"), path_of("c"), 0) == -EIO, "a link that fails");
  require(fst_fault_set("") == 0, "faults");
  CHECK(fst_path_rename(path_of("none"), path_of("c"), 1) == -ENOENT, "nothing to rename");
}

static void test_locks(void) {
  int32_t fd = fst_write_create(path_of("locked"), 0666);
  int other = open(path_of("locked"), O_RDWR);
  require(fd >= 0 && other >= 0, "files");
  CHECK(flock(other, LOCK_EX | LOCK_NB) != 0, "the file is not locked");
  close(fd);
  CHECK(flock(other, LOCK_EX | LOCK_NB) == 0, "the file is still locked");
  close(other);
}

static void test_faults(void) {
  const char *specs[] = {"pwrite:*:short=1000", "pwrite:*:short=4096", "pwrite:1:4,pwrite:3:4", "pwrite:2:22"};
  for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
    require(fst_fault_set(specs[i]) == 0, "faults");
    char *source = aligned(STAGING * 3), *expected = malloc(STAGING * 3);
    for (uint32_t at = 0; at < STAGING * 3; at++) source[at] = expected[at] = (char)below(256);
    int32_t fd = fst_write_create(path_of("faults"), 0666);
    require(fd >= 0 && fst_write_allocate(fd, STAGING * 3) == 0, "create");
    struct range range = {fd, fst_write_open_direct(fd), source, STAGING * 3, 0, FST_U8, FST_U8, 0};
    write_range(&range);
    CHECK(range.status == (range.fd_direct < 0 && i == 3 ? -EINVAL : 0), "%s: %d", specs[i], range.status);
    if (range.status == 0) check_file("faults", expected, STAGING * 3);
    require(fst_fault_set("pwrite:1:28") == 0, "faults");
    write_range(&range);
    CHECK(range.status == -ENOSPC, "no space: %d", range.status);
    require(fst_fault_set("") == 0, "faults");
    close(fd);
    if (range.fd_direct >= 0) close(range.fd_direct);
    unlink(path_of("faults"));
    free(source);
    free(expected);
  }
}

int main(void) {
  const char *root = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/fst-write-XXXXXX", root && strlen(root) < 32 ? root : "/tmp");
  require(mkdtemp(folder) != NULL, "a folder");
  for (int direct = 0; direct < 2; direct++) {
    test_ranges(direct);
    test_casts(direct);
  }
  test_refusals();
  test_renames();
  test_locks();
  test_faults();
  const char *left[] = {"direct", "buffered", "refused", "b", "locked"};
  for (size_t i = 0; i < sizeof left / sizeof *left; i++) unlink(path_of(left[i]));
  CHECK(rmdir(folder) == 0, "something is left behind");
  return report("write_test");
}
