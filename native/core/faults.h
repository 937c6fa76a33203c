/*
 * The system calls that the shim makes on files, behind names that a test build (-DFST_FAULTS) can make fail.
 * In an ordinary build they are the system calls themselves.
 */
#ifndef FST_FAULTS_H
#define FST_FAULTS_H

#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

struct fst_cachestat_range {
  uint64_t offset, length;
};
struct fst_cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

#ifdef FST_FAULTS

/*
 * fst_fault_set("CALL:NTH:EFFECT,…") makes the NTH call (1 is the next one, "*" every one) of `open`, `opendirect`,
 * `pread`, `preaddirect`, `fstat`, `cachestat`, `create`, `allocate`, `pwrite`, `fsync`, `rename` or `link` behave differently:
 *   a number   fail with that errno                short=N  read at most N bytes
 *   eof        read nothing, as at the end         delay=N  wait N microseconds, then go on
 *   cached / uncached (cachestat)                  changed (fstat): another modification time
 *   plain (rename): EINVAL where it must not replace
 * "pagesize:*:65536" gives pages another size, in bytes. An empty string takes all of them away.
 */
int fst_sys_open(const char *path, int flags);
ssize_t fst_sys_pread(int fd, void *buffer, size_t length, off_t offset, int direct);
int fst_sys_fstat(int fd, struct stat *status);
int fst_sys_cachestat(int fd, const struct fst_cachestat_range *range, struct fst_cachestat *result);
int fst_sys_create(const char *path, mode_t mode);
int fst_sys_allocate(int fd, off_t size);
ssize_t fst_sys_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int fst_sys_fsync(int fd);
int fst_sys_rename(const char *from, const char *to, unsigned flags);
int fst_sys_link(const char *from, const char *to);
size_t fst_sys_page_size(void);

#else

#include <sys/syscall.h>

#define FST_SYS_cachestat 451 /* the same number on every architecture; libc has no name for it yet */

static inline int fst_sys_open(const char *path, int flags) {
  return open(path, flags);
}
static inline ssize_t fst_sys_pread(int fd, void *buffer, size_t length, off_t offset, int direct) {
  (void)direct;
  return pread(fd, buffer, length, offset);
}
static inline int fst_sys_fstat(int fd, struct stat *status) {
  return fstat(fd, status);
}
static inline int fst_sys_cachestat(int fd, const struct fst_cachestat_range *range,
                                    struct fst_cachestat *result) {
  return (int)syscall(FST_SYS_cachestat, fd, range, result, 0);
}

static inline int fst_sys_create(const char *path, mode_t mode) {
  return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, mode);
}
static inline int fst_sys_allocate(int fd, off_t size) {
  return (int)syscall(SYS_fallocate, fd, 0, (off_t)0, size);
}
static inline ssize_t fst_sys_pwrite(int fd, const void *buffer, size_t length, off_t offset) {
  return pwrite(fd, buffer, length, offset);
}
static inline int fst_sys_fsync(int fd) {
  return fsync(fd);
}
static inline int fst_sys_rename(const char *from, const char *to, unsigned flags) {
  return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, flags);
}
static inline int fst_sys_link(const char *from, const char *to) {
  return link(from, to);
}
static inline size_t fst_sys_page_size(void) {
  return (size_t)sysconf(_SC_PAGESIZE);
}

#endif
#endif
