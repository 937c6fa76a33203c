/*
 * What the page cache holds of files, and changing that.
 *
 *   page_cache state FILE...   prints "cached total", in bytes; cached is -1 where the system cannot tell
 *   page_cache drop FILE...    first writes back and drops what is cached, needing no rights but to read them
 *   page_cache warm FILE...    first reads them
 *
 * Where dropping leaves something behind, root drops the whole cache.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif

struct range {
  uint64_t offset, length;
};

struct counts {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

static int open_file(const char *path) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) fprintf(stderr, "page_cache: %s: %s\n", path, strerror(errno));
  return fd;
}

/* Bytes of the file in the cache, at most its size; -1 if the system cannot tell. */
static int64_t cached_bytes(int fd, int64_t size) {
  struct range all = {0, 0}; /* a length of 0 is to the end */
  struct counts counts;
  if (syscall(SYS_cachestat, fd, &all, &counts, 0) != 0) return -1;
  int64_t bytes = (int64_t)counts.cached * sysconf(_SC_PAGESIZE);
  return bytes < size ? bytes : size;
}

static int change(const char *action, int fd) {
  if (strcmp(action, "drop") == 0) {
    if (fdatasync(fd) != 0) return -1;
    return posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) == 0 ? 0 : -1;
  }
  if (strcmp(action, "warm") == 0) {
    static char buffer[1 << 20];
    for (off_t at = 0;;) {
      ssize_t got = pread(fd, buffer, sizeof buffer, at);
      if (got <= 0) return got == 0 ? 0 : -1;
      at += got;
    }
  }
  return strcmp(action, "state") == 0 ? 0 : -1;
}

static void drop_everything(void) {
  int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (write(fd, "1", 1) != 1) fprintf(stderr, "page_cache: drop_caches: %s\n", strerror(errno));
  close(fd);
}

/* Adds up what is cached and the sizes; -1 if a file cannot be read or changed. */
static int visit(const char *action, char **paths, int64_t *cached, int64_t *total) {
  *cached = *total = 0;
  for (; *paths; paths++) {
    int fd = open_file(*paths);
    struct stat status;
    if (fd < 0) return -1;
    if (fstat(fd, &status) != 0 || change(action, fd) != 0) {
      fprintf(stderr, "page_cache: cannot %s %s\n", action, *paths);
      close(fd);
      return -1;
    }
    int64_t bytes = cached_bytes(fd, status.st_size);
    close(fd);
    if (*cached >= 0) *cached = bytes < 0 ? -1 : *cached + bytes;
    *total += status.st_size;
  }
  return 0;
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: page_cache state|drop|warm FILE...\n");
    return 2;
  }
  int64_t cached, total;
  if (visit(argv[1], argv + 2, &cached, &total) != 0) return 1;
  if (strcmp(argv[1], "drop") == 0 && cached != 0) {
    drop_everything();
    if (visit("state", argv + 2, &cached, &total) != 0) return 1;
  }
  printf("%lld %lld\n", (long long)cached, (long long)total);
  return 0;
}
