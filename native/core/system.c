/* The system calls that tests can replace. */
#define _GNU_SOURCE /* syscall */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/core.h"

#define FST_SYS_cachestat 451 /* the same number on every architecture; libc has no name for it yet */

/* Older headers lack these two, which also are the same everywhere. */
#define FST_SYS_io_uring_setup 425
#define FST_SYS_io_uring_enter 426

#ifndef RWF_NOWAIT
#define RWF_NOWAIT 8
#endif

int fst_sys_open(const char *path, int flags) {
  return open(path, flags);
}

ssize_t fst_sys_pread(int fd, void *buffer, size_t length, off_t offset) {
  return pread(fd, buffer, length, offset);
}

ssize_t fst_sys_pread_now(int fd, void *buffer, size_t length, off_t offset) {
#ifdef SYS_preadv2
  const struct iovec range = {buffer, length};
  const uint64_t at = (uint64_t)offset; /* the call takes its halves on systems of 32 bits */
  return syscall(SYS_preadv2, fd, &range, 1, (unsigned long)at, (unsigned long)(at >> 32), RWF_NOWAIT);
#else
  (void)fd, (void)buffer, (void)length, (void)offset;
  errno = ENOSYS;
  return -1;
#endif
}

int fst_sys_fstat(int fd, struct stat *status) {
  return fstat(fd, status);
}

int fst_sys_cachestat(int fd, const struct fst_cachestat_range *range, struct fst_cachestat *result) {
  return (int)syscall(FST_SYS_cachestat, fd, range, result, 0);
}

int fst_sys_futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
  return (int)syscall(SYS_futex, word, operation, value, timeout, NULL, 0);
}

int fst_sys_create(const char *path, mode_t mode) {
  return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
}

int fst_sys_allocate(int fd, off_t size) {
  return (int)syscall(SYS_fallocate, fd, 0, (off_t)0, size);
}

ssize_t fst_sys_pwrite(int fd, const void *buffer, size_t length, off_t offset) {
  return pwrite(fd, buffer, length, offset);
}

int fst_sys_fsync(int fd) {
  return fsync(fd);
}

int fst_sys_rename(const char *from, const char *to, unsigned flags) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}

int fst_sys_link(const char *from, const char *to) {
  return link(from, to);
}

size_t fst_sys_page_size(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

int fst_sys_uring_setup(uint32_t count, fst_uring_parameters *parameters) {
  return (int)syscall(FST_SYS_io_uring_setup, count, parameters);
}

int fst_sys_uring_enter(int ring, uint32_t submit, uint32_t wait, uint32_t flags, const void *argument, size_t bytes) {
  return (int)syscall(FST_SYS_io_uring_enter, ring, submit, wait, flags, argument, bytes);
}

int fst_sys_uring_result(int result) {
  return result;
}
