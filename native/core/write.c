/* Creates, fills, syncs and renames files: see fst.h. */
#define _GNU_SOURCE /* O_DIRECT, renameat2, statx */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/core.h"

#define PAGE ((uint64_t)4096)

/* Bytes of one cast before a write through the page cache: small enough to stay in the second-level cache. */
#define CAST_PIECE ((uint64_t)256 << 10)

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

/* The descriptors and memory of a write. */
struct target {
  int fd, fd_direct;
  char *staging;
  uint64_t staging_length;
};

int32_t fst_write_create(const char *path, uint32_t mode) {
  int fd = fst_sys_create(path, (mode_t)mode);
  if (fd < 0) return -errno;
  /* Without locks in the file system, abandoned files cannot be detected: continue. */
  flock(fd, LOCK_EX | LOCK_NB);
  return fd;
}

int32_t fst_write_open(const char *path, int32_t writes) {
  const int fd = fst_sys_open(path, (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  return fd < 0 ? -errno : fd;
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

static int32_t write_all(int fd, const char *source, uint64_t length, uint64_t offset) {
  for (uint64_t done = 0; done < length;) {
    ssize_t put = fst_sys_pwrite(fd, source + done, length - done, (off_t)(offset + done));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return -errno;
    if (put == 0) return -EIO;
    done += (uint64_t)put;
  }
  return 0;
}

void fst_plan_keep(fst_plan_file *file, const char *bytes, uint64_t offset, uint64_t length) {
  if (file->cache == 0 || atomic_load(&file->cache_errno) != 0) return;
  const int32_t status = write_all((int)file->cache - 1, bytes, length, offset);
  if (status != 0) atomic_store(&file->cache_errno, -status);
}

/* Writes whole pages from memory with the alignment of direct writes; through the page cache if those are refused. */
static int32_t write_pages(const struct target *to, const char *source, uint64_t length, uint64_t offset) {
  int32_t status = write_all(to->fd_direct, source, length, offset);
  return status == -EINVAL ? write_all(to->fd, source, length, offset) : status;
}

/* The alignment of memory that direct writes need: since Linux 6.1 a device can report less than a page. */
static uint64_t memory_alignment(int fd_direct) {
#ifdef STATX_DIOALIGN
  struct statx status;
  if (statx(fd_direct, "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 && (status.stx_mask & STATX_DIOALIGN) &&
      status.stx_dio_mem_align > 0 && status.stx_dio_mem_align < PAGE) {
    return status.stx_dio_mem_align;
  }
#else
  (void)fd_direct;
#endif
  return PAGE;
}

/* Writes bytes without a cast: whole pages directly, parts of pages through the page cache. */
static int32_t write_plain(const struct target *to, const char *source, uint64_t length, uint64_t offset) {
  uint64_t start = (offset + PAGE - 1) & ~(PAGE - 1), stop = (offset + length) & ~(PAGE - 1);
  if (to->fd_direct < 0 || start >= stop) return write_all(to->fd, source, length, offset);
  int32_t status = write_all(to->fd, source, start - offset, offset);
  const char *pages = source + (start - offset);
  if ((uintptr_t)pages % memory_alignment(to->fd_direct) == 0) {
    if (status == 0) status = write_pages(to, pages, stop - start, start);
  } else {
    for (uint64_t done = 0; done < stop - start && status == 0; done += to->staging_length) {
      uint64_t part = stop - start - done < to->staging_length ? stop - start - done : to->staging_length;
      memcpy(to->staging, pages + done, part);
      status = write_pages(to, to->staging, part, start + done);
    }
  }
  return status != 0 ? status : write_all(to->fd, source + (stop - offset), offset + length - stop, stop);
}

static int32_t write_cast(const struct target *target, const char *source, uint64_t count, uint64_t offset,
                          uint32_t from, uint32_t to) {
  uint64_t from_bytes = fst_dtype_bits(from) / 8, to_bytes = fst_dtype_bits(to) / 8;
  if (!fst_cast_supported(to, from)) return -ENOTSUP;
  uint64_t room = target->staging_length;
  if (target->fd_direct < 0 && room > CAST_PIECE) room = CAST_PIECE;
  int32_t status = 0;
  for (uint64_t done = 0; done < count && status == 0;) {
    /*
     * At the same offset in a page as in the file, and up to the end of a page, so that the next piece begins a page.
     */
    uint64_t at = offset + done * to_bytes, skip = at % PAGE;
    uint64_t part = (room - skip) / to_bytes < count - done ? (room - skip) / to_bytes : count - done;
    fst_cast(target->staging + skip, source + done * from_bytes, part, to, from);
    status = write_plain(target, target->staging + skip, part * to_bytes, at);
    done += part;
  }
  return status;
}

int32_t fst_write_range(int32_t fd, int32_t fd_direct, const void *source, uint64_t count, uint64_t offset,
                        uint32_t from, uint32_t to, void *staging, uint64_t staging_length) {
  if (!source || !staging) return -EFAULT;
  if ((uintptr_t)staging % PAGE != 0 || staging_length % PAGE != 0 || staging_length < 2 * PAGE) return -EINVAL;
  struct target target = {fd, fd_direct, staging, staging_length};
  if (from == to) return write_plain(&target, source, count, offset);
  return write_cast(&target, source, count, offset, from, to);
}

int32_t fst_write_sync(int32_t fd) {
  return fst_sys_fsync(fd) == 0 ? 0 : -errno;
}

/* Whether the file system does not support a call; EPERM and EMLINK are errors of link(2). */
static int is_missing(int error) {
  return error == EINVAL || error == ENOSYS || error == EOPNOTSUPP || error == EPERM || error == EMLINK;
}

int32_t fst_path_rename(const char *from, const char *to, int32_t replace) {
  if (fst_sys_rename(from, to, replace ? 0 : RENAME_NOREPLACE) == 0) return 0;
  if (replace || (errno != EINVAL && errno != ENOSYS && errno != EOPNOTSUPP)) return -errno;
  /* The file system lacks this kind of rename: use a hard link, which does not replace files either. */
  if (fst_sys_link(from, to) == 0) {
    unlink(from); /* the file has its new name: if the old one stays, it is only not removed */
    return 0;
  }
  if (!is_missing(errno)) return -errno;
  struct stat status;
  if (lstat(to, &status) == 0) return -EEXIST;
  if (errno != ENOENT) return -errno;
  return fst_sys_rename(from, to, 0) == 0 ? 0 : -errno;
}

int32_t fst_folder_sync(const char *path) {
  int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int32_t status = fst_sys_fsync(fd) == 0 ? 0 : -errno;
  close(fd);
  return status == -EINVAL ? 0 : status; /* some file systems cannot sync folders */
}
