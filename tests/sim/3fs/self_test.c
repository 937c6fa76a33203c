/* Self test of the stand-in: that it does what 3FS does, and that it catches what it is there to catch. */
#include "self_test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

const stand_in tested = {
  .name = fst_sim_3fs_name,
  .violations = fst_sim_3fs_violations,
  .violations_of = fst_sim_3fs_violations_of,
  .live_total = fst_sim_3fs_live_total,
  .report = fst_sim_3fs_report,
  .reset = fst_sim_3fs_reset,
};

char mount_point[256], file_path[300], outside_path[300];

unsigned char byte_at(uint64_t offset) {
  return (unsigned char)((offset * 31 + (offset >> 8) * 7 + 3) % 251);
}

bool holds_file(const uint8_t *bytes, uint64_t offset, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (bytes[i] != byte_at(offset + i)) return false;
  }
  return true;
}

bool holds_poison(const uint8_t *bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (bytes[i] != POISON) return false;
  }
  return true;
}

void bench_open(bench *bench, int entries, int io_depth) {
  CHECK_EQUAL(hf3fs_iovcreate(&bench->iov, mount_point, 64 * PART, 0, -1), 0);
  CHECK_EQUAL(hf3fs_iorcreate4(&bench->ior, mount_point, entries, true, io_depth, 0, -1, 0), 0);
  bench->fd = open(file_path, O_RDONLY);
  CHECK(hf3fs_reg_fd(bench->fd, 0) <= 0);
}

void bench_close(bench *bench) {
  hf3fs_dereg_fd(bench->fd);
  close(bench->fd);
  hf3fs_iordestroy(&bench->ior);
  hf3fs_iovdestroy(&bench->iov);
}

int prepare(bench *bench, int part, uint64_t offset) {
  return hf3fs_prep_io(&bench->ior, &bench->iov, true, bench->iov.base + part * PART, bench->fd, offset, PART,
                       (void *)(intptr_t)part);
}

int wait_for(bench *bench, struct hf3fs_cqe *results, int count, int least, int milliseconds) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += (long)milliseconds * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  return hf3fs_wait_for_ios(&bench->ior, results, count, least, &until);
}

/* What a child does that run_child() started. */
static int child_main(const char *argument) {
  if (strcmp(argument, "leak") == 0) {
    struct hf3fs_iov iov;
    struct hf3fs_ior none = {.iorh = &iov};
    hf3fs_iovcreate(&iov, getenv("FST_SIM_3FS_MOUNT"), PART, 0, -1);
    hf3fs_submit_ios(&none);
  }
  return 0;
}

static void write_file(const char *path, size_t bytes) {
  static unsigned char content[FILE_BYTES];
  for (size_t i = 0; i < bytes; i++) content[i] = byte_at(i);
  FILE *file = fopen(path, "we");
  if (!file || fwrite(content, 1, bytes, file) != bytes || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

static void make_mount(void) {
  char path[320];
  snprintf(mount_point, sizeof mount_point, "/tmp/fst-sim-3fs-XXXXXX");
  if (!mkdtemp(mount_point)) {
    perror(mount_point);
    exit(1);
  }
  snprintf(path, sizeof path, "%s/3fs-virt", mount_point);
  mkdir(path, 0777);
  snprintf(path, sizeof path, "%s/3fs-virt/iovs", mount_point);
  mkdir(path, 0777);
  snprintf(file_path, sizeof file_path, "%s/file", mount_point);
  snprintf(outside_path, sizeof outside_path, "%s.outside", mount_point);
  write_file(file_path, FILE_BYTES);
  write_file(outside_path, PART);
  setenv("FST_SIM_3FS_MOUNT", mount_point, 1);
}

static void remove_mount(void) {
  char path[320];
  snprintf(path, sizeof path, "%s/3fs-virt/iovs", mount_point);
  CHECK(rmdir(path) == 0);
  snprintf(path, sizeof path, "%s/3fs-virt", mount_point);
  rmdir(path);
  unlink(file_path);
  unlink(outside_path);
  rmdir(mount_point);
}

int main(int count, char **arguments) {
  if (count > 1) return child_main(arguments[1]);
  make_mount();
  const test_case *const lists[] = {library_cases, ring_cases};
  run_cases(lists, sizeof lists / sizeof *lists);
  remove_mount();
  return finish();
}
