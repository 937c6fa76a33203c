/* Creating, filling, syncing and renaming files: see fst_write.h. */
#define _GNU_SOURCE /* O_DIRECT, renameat2 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "cast.h"
#include "dtype.h"
#include "faults.h"
#include "fst_write.h"
#include "memory.h"

#define PAGE ((uint64_t)4096)

/* What passes through staging memory at once: for a cast, small enough to stay in the second-level cache. */
#define DIRECT_PIECE ((uint64_t)2 << 20) /* one huge page */
#define CAST_PIECE ((uint64_t)256 << 10)

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

int32_t fst_write_create(const char *path) {
  int fd = fst_sys_create(path);
  if (fd < 0) return -errno;
  /* A file system without locks has no abandoned files that could be told apart either: go on. */
  flock(fd, LOCK_EX | LOCK_NB);
  return fd;
}

int32_t fst_write_open_direct(int32_t fd) {
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int direct = fst_sys_open(path, O_WRONLY | O_CLOEXEC | O_DIRECT);
  return direct < 0 ? -errno : direct;
}

int32_t fst_write_allocate(int32_t fd, uint64_t size) {
  if (size == 0) return 0;
  while (fst_sys_allocate(fd, (off_t)size) != 0) {
    if (errno == EINTR) continue;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return -errno;
    return ftruncate(fd, (off_t)size) == 0 ? 0 : -errno;
  }
  return 0;
}

static int32_t write_all(int32_t fd, const char *source, uint64_t length, uint64_t offset) {
  for (uint64_t done = 0; done < length;) {
    uint64_t want = length - done < 1u << 30 ? length - done : 1u << 30;
    ssize_t put = fst_sys_pwrite(fd, source + done, want, (off_t)(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    if (put == 0) return -EIO;
    done += (uint64_t)put;
  }
  return 0;
}

/* Whole pages past the page cache; where the file system refuses, through it. */
static int32_t write_pages(int32_t fd, int32_t fd_direct, const char *source, uint64_t length, uint64_t offset) {
  int32_t status = fd_direct < 0 ? -EINVAL : write_all(fd_direct, source, length, offset);
  return status == -EINVAL ? write_all(fd, source, length, offset) : status;
}

/* Pages from memory that is not aligned as the file is, by way of staging memory. */
static int32_t write_staged(int32_t fd, int32_t fd_direct, const char *source, uint64_t length, uint64_t offset) {
  char *staging = fst_staging_map(DIRECT_PIECE);
  if (!staging) return -ENOMEM;
  int32_t status = 0;
  for (uint64_t done = 0; done < length && status == 0;) {
    uint64_t part = length - done < DIRECT_PIECE ? length - done : DIRECT_PIECE;
    memcpy(staging, source + done, part);
    status = write_pages(fd, fd_direct, staging, part, offset + done);
    done += part;
  }
  fst_staging_unmap(staging, DIRECT_PIECE);
  return status;
}

static int32_t write_plain(int32_t fd, int32_t fd_direct, const char *source, uint64_t length, uint64_t offset) {
  uint64_t start = (offset + PAGE - 1) & ~(PAGE - 1), stop = (offset + length) & ~(PAGE - 1);
  if (fd_direct < 0 || start >= stop) return write_all(fd, source, length, offset);
  /* The pages at both ends belong to others as well: those parts go through the page cache. */
  int32_t status = write_all(fd, source, start - offset, offset);
  if (status != 0) return status;
  const char *pages = source + (start - offset);
  status = (uintptr_t)pages % PAGE == 0 ? write_pages(fd, fd_direct, pages, stop - start, start)
                                        : write_staged(fd, fd_direct, pages, stop - start, start);
  return status != 0 ? status : write_all(fd, source + (stop - offset), offset + length - stop, stop);
}

static int32_t write_cast(int32_t fd, const char *source, uint64_t count, uint64_t offset, uint32_t from, uint32_t to) {
  uint64_t from_bytes = fst_dtype_bits(from) / 8, to_bytes = fst_dtype_bits(to) / 8;
  if (!fst_cast_supported(to, from)) return -ENOTSUP;
  char *staging = fst_staging_map(CAST_PIECE);
  if (!staging) return -ENOMEM;
  int32_t status = 0;
  for (uint64_t done = 0; done < count && status == 0;) {
    uint64_t part = CAST_PIECE / to_bytes < count - done ? CAST_PIECE / to_bytes : count - done;
    fst_cast(staging, source + done * from_bytes, part, to, from);
    status = write_all(fd, staging, part * to_bytes, offset + done * to_bytes);
    done += part;
  }
  fst_staging_unmap(staging, CAST_PIECE);
  return status;
}

int32_t fst_write_range(int32_t fd, int32_t fd_direct, const void *source, uint64_t count, uint64_t offset,
                        uint32_t from, uint32_t to) {
  if (from != to) return write_cast(fd, source, count, offset, from, to);
  return write_plain(fd, fd_direct, source, count, offset);
}

int32_t fst_write_sync(int32_t fd) {
  return fst_sys_fsync(fd) == 0 ? 0 : -errno;
}

int32_t fst_path_rename(const char *from, const char *to, int32_t replace) {
  if (replace) return fst_sys_rename(from, to, 0) == 0 ? 0 : -errno;
  if (fst_sys_rename(from, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -errno;
  /* A file system without this kind of rename: a hard link never replaces anything either. */
  if (link(from, to) != 0) return -errno;
  return unlink(from) == 0 ? 0 : -errno;
}

int32_t fst_folder_sync(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int32_t status = fst_sys_fsync(fd) == 0 ? 0 : -errno;
  close(fd);
  return status == -EINVAL ? 0 : status; /* some file systems have nothing to sync here */
}

int32_t fst_write_abandoned(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int free = flock(fd, LOCK_EX | LOCK_NB) == 0;
  close(fd);
  return free;
}
