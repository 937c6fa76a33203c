/* Mount points, descriptors, shared memory, and what becomes of it all when the process ends. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "self_test.h"

static void tells_its_mount(void) {
  char found[256] = "";
  int inside = open(file_path, O_RDONLY), outside = open(outside_path, O_RDONLY);
  CHECK(hf3fs_is_hf3fs(inside));
  CHECK(!hf3fs_is_hf3fs(outside));
  CHECK(!hf3fs_is_hf3fs(-1));
  CHECK_EQUAL(hf3fs_extract_mount_point(found, sizeof found, file_path), strlen(mount_point) + 1);
  CHECK(strcmp(found, mount_point) == 0);
  CHECK_EQUAL(hf3fs_extract_mount_point(found, sizeof found, mount_point), strlen(mount_point) + 1);
  CHECK_EQUAL(hf3fs_extract_mount_point(found, sizeof found, outside_path), -1);
  char short_one[4] = "abc";
  CHECK(hf3fs_extract_mount_point(short_one, sizeof short_one, file_path) > (int)sizeof short_one);
  CHECK(strcmp(short_one, "abc") == 0);
  close(inside);
  close(outside);
}

static void asks_for_a_missing_path(void *unused) {
  (void)unused;
  char found[256];
  hf3fs_extract_mount_point(found, sizeof found, "/there/is/no/such/path");
}

static void ends_the_process_on_a_missing_path(void) {
  CHECK_EQUAL(signal_of(asks_for_a_missing_path, NULL), SIGABRT);
}

static void needs_its_virtual_folder(void) {
  setenv("FST_SIM_3FS_MOUNT", "/tmp", 1);
  char found[256];
  CHECK_EQUAL(hf3fs_extract_mount_point(found, sizeof found, "/tmp"), -1);
  setenv("FST_SIM_3FS_MOUNT", mount_point, 1);
  struct hf3fs_iov iov;
  CHECK_EQUAL(hf3fs_iovcreate(&iov, "/tmp", PART, 0, -1), -ENOENT);
  struct hf3fs_ior ior;
  CHECK_EQUAL(hf3fs_iorcreate4(&ior, "/tmp", 4, true, 0, 0, -1, 0), -ENOENT);
}

static void does_not_load_with_an_absurd_limit(void) {
  CHECK_EQUAL(run_child("load", (const char *[]){"FST_SIM_3FS_TABLE", "67108864"}, 2), 0);
  CHECK_EQUAL(run_child("load", (const char *[]){"FST_SIM_3FS_TABLE", "16"}, 2), -1);
}

static void registers_with_a_positive_errno(void) {
  int fd = open(file_path, O_RDONLY), outside = open(outside_path, O_RDONLY);
  CHECK(hf3fs_reg_fd(fd, 0) <= 0);
  CHECK_EQUAL(hf3fs_reg_fd(fd, 0), EINVAL);
  expect_violations("double-register", 1);
  CHECK_EQUAL(hf3fs_reg_fd(outside, 0), EBADF);
  CHECK_EQUAL(hf3fs_reg_fd(-1, 0), EBADF);
  CHECK_EQUAL(fst_sim_3fs_live_fds(), 1);
  hf3fs_dereg_fd(fd);
  CHECK_EQUAL(fst_sim_3fs_live_fds(), 0);
  hf3fs_dereg_fd(fd);
  expect_violations("bad-dereg", 1);
  hf3fs_dereg_fd(outside);
  close(fd);
  close(outside);
}

static void remembers_a_descriptor_that_was_only_closed(void) {
  int fd = open(file_path, O_RDONLY);
  CHECK(hf3fs_reg_fd(fd, 0) <= 0);
  close(fd);
  int again = open(file_path, O_RDONLY);
  CHECK_EQUAL(again, fd);
  CHECK_EQUAL(hf3fs_reg_fd(again, 0), EINVAL);
  expect_violations("double-register", 1);
  hf3fs_dereg_fd(again);
  CHECK(hf3fs_reg_fd(again, 0) <= 0);
  hf3fs_dereg_fd(again);
  close(again);
}

/* The name of the only iov in shared memory that this folder's mount knows of. */
static bool find_iov(char *link, char *target, size_t size) {
  char folder[300];
  snprintf(folder, sizeof folder, "%s/3fs-virt/iovs", mount_point);
  DIR *entries = opendir(folder);
  bool found = false;
  for (struct dirent *entry; entries && (entry = readdir(entries));) {
    if (entry->d_name[0] == '.') continue;
    found = true;
    snprintf(link, size, "%s/%s", folder, entry->d_name);
    ssize_t length = readlink(link, target, size - 1);
    target[length < 0 ? 0 : length] = '\0';
  }
  if (entries) closedir(entries);
  return found;
}

static void names_its_memory(void) {
  char link[600], target[600];
  struct hf3fs_iov iov;
  CHECK(!find_iov(link, target, sizeof link));
  CHECK_EQUAL(hf3fs_iovcreate(&iov, mount_point, 3 * PART, 0, -1), 0);
  CHECK_EQUAL(iov.size, 3 * PART);
  CHECK(strcmp(iov.mount_point, mount_point) == 0);
  CHECK(find_iov(link, target, sizeof link));
  CHECK(strncmp(target, "/dev/shm/hf3fs-iov-", 19) == 0);
  CHECK_EQUAL(access(target, F_OK), 0);
  CHECK_EQUAL(fst_sim_3fs_live_iovs(), 1);
  hf3fs_iovunlink(&iov);
  CHECK(access(target, F_OK) != 0);
  iov.base[3 * PART - 1] = 1; /* it is still there */
  hf3fs_iovdestroy(&iov);
  CHECK(access(target, F_OK) != 0);
  CHECK(!find_iov(link, target, sizeof link));
  hf3fs_iovdestroy(&iov); /* does nothing any more */
  char far[400];
  memset(far, 'x', sizeof far - 1);
  far[sizeof far - 1] = '\0';
  CHECK_EQUAL(hf3fs_iovcreate(&iov, far, PART, 0, -1), -EINVAL);
  CHECK_EQUAL(hf3fs_iovcreate(&iov, mount_point, 0, 0, -1), -EINVAL);
}

static void is_killed_with_an_iov(void *unused) {
  (void)unused;
  struct hf3fs_iov iov;
  hf3fs_iovcreate(&iov, mount_point, PART, 0, -1);
  kill(getpid(), SIGKILL);
}

static void leaves_its_memory_behind_when_killed(void) {
  char link[600], target[600];
  CHECK_EQUAL(signal_of(is_killed_with_an_iov, NULL), SIGKILL);
  if (!CHECK(find_iov(link, target, sizeof link))) return;
  CHECK_EQUAL(access(target, F_OK), 0);
  unlink(target);
  unlink(link);
}

static void fails_on_request(void) {
  struct hf3fs_iov iov;
  struct hf3fs_ior ior;
  int fd = open(file_path, O_RDONLY);
  CHECK_EQUAL(fst_sim_3fs_fail("iovcreate:1:-12,iorcreate4:*:-5,reg_fd:2:23,is_hf3fs:1:0"), 0);
  CHECK(!hf3fs_is_hf3fs(fd));
  CHECK(hf3fs_is_hf3fs(fd));
  CHECK_EQUAL(hf3fs_iovcreate(&iov, mount_point, PART, 0, -1), -ENOMEM);
  CHECK_EQUAL(hf3fs_iovcreate(&iov, mount_point, PART, 0, -1), 0);
  CHECK_EQUAL(hf3fs_iorcreate4(&ior, mount_point, 4, true, 0, 0, -1, 0), -EIO);
  CHECK_EQUAL(hf3fs_iorcreate4(&ior, mount_point, 4, true, 0, 0, -1, 0), -EIO);
  CHECK(hf3fs_reg_fd(fd, 0) <= 0);
  CHECK_EQUAL(hf3fs_reg_fd(fd, 0), ENFILE);
  hf3fs_dereg_fd(fd);
  hf3fs_iovdestroy(&iov);
  CHECK_EQUAL(fst_sim_3fs_fail("iovcreate"), -1);
  CHECK_EQUAL(fst_sim_3fs_fail("iovcreate:0:1"), -1);
  CHECK_EQUAL(fst_sim_3fs_fail(NULL), 0);
  CHECK_EQUAL(hf3fs_iorcreate4(&ior, mount_point, 4, true, 0, 0, -1, 0), 0);
  CHECK_EQUAL(hf3fs_iorcreate4(&ior, mount_point, 0, true, 0, 0, -1, 0), -EINVAL);
  close(fd);
  hf3fs_iordestroy(&ior);
}

static void reports_when_the_process_ends(void) {
  char path[300], line[4096];
  snprintf(path, sizeof path, "%s.report", mount_point);
  CHECK_EQUAL(run_child("leak", (const char *[]){"FST_SIM_3FS_REPORT", path}, 2), 0);
  FILE *report = fopen(path, "re");
  bool read = report && fgets(line, sizeof line, report);
  if (report) fclose(report);
  CHECK(read && strstr(line, "\"live\":{\"total\":1,\"iovs\":1,\"rings\":0,\"reads\":0,\"fds\":0}"));
  CHECK(read && strstr(line, "\"violations\":{\"total\":1,\"kinds\":{\"bad-ring\":{\"count\":1,"));
  unlink(path);
  char link[600], target[600];
  if (find_iov(link, target, sizeof link)) {
    unlink(target);
    unlink(link);
  }
}

const test_case library_cases[] = {
  {"tells its mount", tells_its_mount},
  {"ends the process on a missing path", ends_the_process_on_a_missing_path},
  {"needs its virtual folder", needs_its_virtual_folder},
  {"does not load with an absurd limit", does_not_load_with_an_absurd_limit},
  {"registers with a positive errno", registers_with_a_positive_errno},
  {"remembers a descriptor that was only closed", remembers_a_descriptor_that_was_only_closed},
  {"names its memory", names_its_memory},
  {"leaves its memory behind when killed", leaves_its_memory_behind_when_killed},
  {"fails on request", fails_on_request},
  {"reports when the process ends", reports_when_the_process_ends},
  {NULL, NULL},
};
