/* System calls that fail or behave differently for tests (added.h), by the linker's option --wrap. */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "added.h"
#include "core/core.h"

enum effect {
  EFFECT_NONE,
  EFFECT_ERRNO,
  EFFECT_SHORT,
  EFFECT_EOF,
  EFFECT_DELAY,
  EFFECT_CACHED,
  EFFECT_UNCACHED,
  EFFECT_CHANGED,
  EFFECT_PLAIN,
};

struct fault {
  char call[16];
  long nth; /* counts down to the affected call; -1: every call */
  enum effect effect;
  long value;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[16];
static int fault_count;

/* Calls since the faults were set. */
static struct {
  char call[16];
  uint64_t count;
} calls[24];

static int parse_effect(const char *text, struct fault *fault) {
  fault->value = 0;
  if (strncmp(text, "short=", 6) == 0) {
    fault->effect = EFFECT_SHORT;
    fault->value = atol(text + 6);
  } else if (strncmp(text, "delay=", 6) == 0) {
    fault->effect = EFFECT_DELAY;
    fault->value = atol(text + 6);
  } else if (strcmp(text, "eof") == 0) {
    fault->effect = EFFECT_EOF;
  } else if (strcmp(text, "cached") == 0) {
    fault->effect = EFFECT_CACHED;
  } else if (strcmp(text, "uncached") == 0) {
    fault->effect = EFFECT_UNCACHED;
  } else if (strcmp(text, "changed") == 0) {
    fault->effect = EFFECT_CHANGED;
  } else if (strcmp(text, "plain") == 0) {
    fault->effect = EFFECT_PLAIN;
  } else {
    fault->effect = EFFECT_ERRNO;
    fault->value = atol(text);
    if (fault->value <= 0) return -EINVAL;
  }
  return 0;
}

int32_t fst_fault_set(const char *spec) {
  char copy[512];
  if (strlen(spec) >= sizeof copy) return -E2BIG;
  strcpy(copy, spec);
  int status = 0;
  pthread_mutex_lock(&mutex);
  fault_count = 0;
  memset(calls, 0, sizeof calls);
  char *rest = NULL;
  for (char *item = strtok_r(copy, ",", &rest); item && status == 0; item = strtok_r(NULL, ",", &rest)) {
    struct fault *fault = &faults[fault_count];
    char *nth = strchr(item, ':');
    char *effect = nth ? strchr(nth + 1, ':') : NULL;
    if (!effect || nth - item >= (long)sizeof fault->call || fault_count == 16) {
      status = -EINVAL;
      break;
    }
    *nth++ = 0;
    *effect++ = 0;
    strcpy(fault->call, item);
    fault->nth = strcmp(nth, "*") == 0 ? -1 : atol(nth);
    status = parse_effect(effect, fault);
    if (status == 0) fault_count++;
  }
  pthread_mutex_unlock(&mutex);
  return status;
}

/* The caller has the lock. */
static uint64_t *calls_of(const char *call) {
  size_t i = 0;
  while (calls[i].call[0] && strcmp(calls[i].call, call) != 0) i++;
  strcpy(calls[i].call, call);
  return &calls[i].count;
}

uint64_t fst_fault_calls(const char *call) {
  pthread_mutex_lock(&mutex);
  const uint64_t count = *calls_of(call);
  pthread_mutex_unlock(&mutex);
  return count;
}

/* Delays happen here; any other effect is returned to the caller. */
static enum effect strike(const char *call, long *value) {
  enum effect effect = EFFECT_NONE;
  long delay = 0;
  pthread_mutex_lock(&mutex);
  ++*calls_of(call);
  for (int i = 0; i < fault_count; i++) {
    if (strcmp(faults[i].call, call) != 0) continue;
    int hit = faults[i].nth == -1;
    if (faults[i].nth > 0) hit = --faults[i].nth == 0;
    if (!hit) continue;
    if (faults[i].effect == EFFECT_DELAY) {
      delay = faults[i].value;
    } else if (effect == EFFECT_NONE) {
      effect = faults[i].effect;
      *value = faults[i].value;
    }
  }
  pthread_mutex_unlock(&mutex);
  if (delay > 0) usleep((useconds_t)delay);
  return effect;
}

/* Whether a call fails, with errno set; for calls without other effects. */
static int fails(const char *call) {
  long value = 0;
  if (strike(call, &value) != EFFECT_ERRNO) return 0;
  errno = (int)value;
  return 1;
}

/* The function that replaces another one, and the original. */
#define REPLACE(result, name, ...)        \
  result __real_##name(__VA_ARGS__);      \
  result __wrap_##name(__VA_ARGS__);      \
  result __wrap_##name(__VA_ARGS__)

REPLACE(int, fst_sys_open, const char *path, int flags) {
  return fails(flags & O_DIRECT ? "opendirect" : "open") ? -1 : __real_fst_sys_open(path, flags);
}

REPLACE(ssize_t, fst_sys_pread, int fd, void *buffer, size_t length, off_t offset) {
  const int direct = (fcntl(fd, F_GETFL) & O_DIRECT) != 0;
  long value = 0;
  enum effect effect = strike(direct ? "preaddirect" : "pread", &value);
  if (effect == EFFECT_EOF) return 0;
  if (effect == EFFECT_ERRNO) {
    errno = (int)value;
    return -1;
  }
  if (effect != EFFECT_SHORT || (size_t)value >= length) return __real_fst_sys_pread(fd, buffer, length, offset);
  /* A direct read requests whole pages, also if it returns fewer bytes. */
  length = direct ? ((size_t)value + 4095) & ~(size_t)4095 : (size_t)value;
  ssize_t got = __real_fst_sys_pread(fd, buffer, length, offset);
  return got < value ? got : value;
}

/* With faults set, only "cached" lets it read: the others are of calls that it would replace. */
REPLACE(ssize_t, fst_sys_pread_now, int fd, void *buffer, size_t length, off_t offset) {
  long value = 0;
  const enum effect effect = strike("preadnow", &value);
  pthread_mutex_lock(&mutex);
  const int has_faults = fault_count > 0;
  pthread_mutex_unlock(&mutex);
  if (!has_faults || effect == EFFECT_CACHED) return __real_fst_sys_pread_now(fd, buffer, length, offset);
  errno = EAGAIN;
  return -1;
}

REPLACE(int, fst_sys_fstat, int fd, struct stat *status) {
  long value = 0;
  enum effect effect = strike("fstat", &value);
  if (effect == EFFECT_ERRNO) {
    errno = (int)value;
    return -1;
  }
  int result = __real_fst_sys_fstat(fd, status);
  if (effect == EFFECT_CHANGED) status->st_mtim.tv_sec++;
  return result;
}

REPLACE(int, fst_sys_cachestat, int fd, const struct fst_cachestat_range *range, struct fst_cachestat *result) {
  long value = 0;
  enum effect effect = strike("cachestat", &value);
  if (effect == EFFECT_ERRNO) {
    errno = (int)value;
    return -1;
  }
  int status = __real_fst_sys_cachestat(fd, range, result);
  if (effect == EFFECT_CACHED || effect == EFFECT_UNCACHED) {
    memset(result, 0, sizeof *result);
    if (effect == EFFECT_CACHED) result->cached = range->length / 4096 + 1;
    return 0;
  }
  return status;
}

REPLACE(int, fst_sys_futex, uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
  return fails(timeout ? "sleep" : "wake") ? -1 : __real_fst_sys_futex(word, operation, value, timeout);
}

REPLACE(int, fst_sys_create, const char *path, mode_t mode) {
  return fails("create") ? -1 : __real_fst_sys_create(path, mode);
}

REPLACE(int, fst_sys_allocate, int fd, off_t size) {
  return fails("allocate") ? -1 : __real_fst_sys_allocate(fd, size);
}

REPLACE(ssize_t, fst_sys_pwrite, int fd, const void *buffer, size_t length, off_t offset) {
  long value = 0;
  enum effect effect = strike("pwrite", &value);
  if (effect == EFFECT_ERRNO) {
    errno = (int)value;
    return -1;
  }
  if (effect == EFFECT_SHORT && (size_t)value < length) length = (size_t)value;
  return __real_fst_sys_pwrite(fd, buffer, length, offset);
}

REPLACE(int, fst_sys_fsync, int fd) {
  return fails("fsync") ? -1 : __real_fst_sys_fsync(fd);
}

REPLACE(int, fst_sys_rename, const char *from, const char *to, unsigned flags) {
  long value = 0;
  enum effect effect = strike("rename", &value);
  if (effect == EFFECT_ERRNO || (effect == EFFECT_PLAIN && flags != 0)) {
    errno = effect == EFFECT_ERRNO ? (int)value : EINVAL;
    return -1;
  }
  return __real_fst_sys_rename(from, to, flags);
}

REPLACE(int, fst_sys_link, const char *from, const char *to) {
  return fails("link") ? -1 : __real_fst_sys_link(from, to);
}

REPLACE(uint64_t, fst_now, void) {
  long value = 0;
  return strike("now", &value) == EFFECT_ERRNO ? (uint64_t)value * 1000000000 : __real_fst_now();
}

REPLACE(size_t, fst_sys_page_size, void) {
  long value = 0;
  return strike("pagesize", &value) == EFFECT_ERRNO ? (size_t)value : __real_fst_sys_page_size();
}

REPLACE(int, fst_sys_uring_setup, uint32_t count, fst_uring_parameters *parameters) {
  return fails("uringsetup") ? -1 : __real_fst_sys_uring_setup(count, parameters);
}

REPLACE(int, fst_sys_uring_enter, int ring, uint32_t submit, uint32_t wait, uint32_t flags, const void *argument,
        size_t bytes) {
  return fails("uringenter") ? -1 : __real_fst_sys_uring_enter(ring, submit, wait, flags, argument, bytes);
}

REPLACE(int, fst_sys_uring_result, int result) {
  long value = 0;
  const enum effect effect = strike("uringread", &value);
  if (effect == EFFECT_EOF) return 0;
  if (effect == EFFECT_ERRNO) return -(int)value;
  return effect == EFFECT_SHORT && value < result ? (int)value : result;
}
