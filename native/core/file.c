/* Opens files, reads their first bytes, and counts their cached bytes. */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/core.h"

uint32_t fst_abi_version(void) {
  return FST_ABI_VERSION;
}

uint64_t fst_address(const void *buffer) {
  return (uint64_t)(uintptr_t)buffer;
}

int fst_read_fully(int fd, void *buffer, uint64_t length, uint64_t offset, uint64_t *done) {
  *done = 0;
  while (*done < length) {
    uint64_t want = length - *done;
    if (want > 1u << 30) want = 1u << 30; /* one call reads at most 2 GiB minus a page */
    ssize_t got = fst_sys_pread(fd, (char *)buffer + *done, want, (off_t)(offset + *done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    *done += (uint64_t)got;
  }
  return 0;
}

int64_t fst_file_read(int32_t fd, void *buffer, uint64_t length, uint64_t offset) {
  uint64_t done;
  int status = fst_read_fully(fd, buffer, length, offset, &done);
  return status < 0 ? status : (int64_t)done;
}

int32_t fst_file_read_cached(int32_t fd, void *buffer, uint64_t length, uint64_t offset, uint64_t size,
                             int64_t mtime_seconds, int64_t mtime_nanoseconds) {
  struct stat status;
  const ssize_t got = fst_sys_pread_now(fd, buffer, length, (off_t)offset);
  if (got < 0 || (uint64_t)got != length) return 0;
  /* File systems that wait for a server here do not support the read above. */
  if (fst_sys_fstat(fd, &status) != 0) return 0;
  return (uint64_t)status.st_size == size && status.st_mtim.tv_sec == mtime_seconds &&
         status.st_mtim.tv_nsec == mtime_nanoseconds;
}

int32_t fst_file_open(const char *path, fst_file_info *info, void *head, uint64_t head_length) {
  int fd;
  do {
    /* Not blocking: a FIFO without a writer is refused below, and must not block here. */
    fd = fst_sys_open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) return -errno;
  struct stat status;
  int error = 0;
  if (fst_sys_fstat(fd, &status) != 0) error = errno;
  else if (S_ISDIR(status.st_mode)) error = EISDIR;
  else if (!S_ISREG(status.st_mode)) error = EINVAL;
  if (error) {
    close(fd);
    return -error;
  }
  info->fd = fd;
  info->size = (uint64_t)status.st_size;
  info->mtime_seconds = status.st_mtim.tv_sec;
  info->mtime_nanoseconds = status.st_mtim.tv_nsec;
  const uint64_t start = fst_now();
  int64_t got = fst_file_read(fd, head, head_length, 0);
  info->head_us = (fst_now() - start) / 1000;
  info->head_errno = got < 0 ? (int32_t)-got : 0;
  info->head_bytes = got < 0 ? 0 : (uint64_t)got;
  return 0;
}

int32_t fst_file_open_direct(int32_t fd) {
  /* Through /proc, not by the path: so that it is the same file, even if the path now names another. */
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int direct = fst_sys_open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
  return direct < 0 ? -errno : direct;
}

int32_t fst_file_close(int32_t fd) {
  return close(fd) == 0 ? 0 : -errno;
}

void fst_file_release(int32_t fd, int32_t fd_direct) {
  if (fd_direct >= 0) close(fd_direct);
  if (fd >= 0) close(fd);
}

int64_t fst_file_cached(int32_t fd, uint64_t offset, uint64_t length) {
  if (length == 0) return 0;
  struct fst_cachestat_range range = {offset, length};
  struct fst_cachestat result;
  if (fst_sys_cachestat(fd, &range, &result) != 0) return -errno;
  uint64_t bytes = result.cached * (uint64_t)sysconf(_SC_PAGESIZE);
  return (int64_t)(bytes < length ? bytes : length);
}
