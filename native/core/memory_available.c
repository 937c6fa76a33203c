/* The available memory: the smaller of the machine's and that of the control groups. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

#define LONGEST 4352 /* a path of PATH_MAX, and a file name */

/* The number after `key` in a file of "key number" lines, or of a single number when key is empty; -1 if none. */
static int64_t number_in(const char *path, const char *key) {
  FILE *file = fopen(path, "re");
  if (!file) return -1;
  char line[256];
  int64_t value = -1;
  size_t length = strlen(key);
  while (value < 0 && fgets(line, sizeof line, file)) {
    if (strncmp(line, key, length) != 0) continue;
    char *end = NULL;
    long long number = strtoll(line + length, &end, 10);
    if (end != line + length) value = number; /* "max" is not a number: no limit */
    else break;
  }
  fclose(file);
  return value;
}

/* The files of one version of control groups. */
typedef struct version {
  const char *limit, *used, *stat, *cache; /* `cache` can be reclaimed, as in MemAvailable */
} version;

static const version V1 = {"memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file "};
static const version V2 = {"memory.max", "memory.current", "memory.stat", "inactive_file "};

static int64_t number_of(const char *folder, const char *name, const char *key) {
  char path[LONGEST + 64];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return number_in(path, key);
}

/* The bytes that the group in a folder allows; INT64_MAX without a limit, or if the folder is not visible. */
static int64_t left_in(const char *folder, const version *version) {
  int64_t limit = number_of(folder, version->limit, ""), used = number_of(folder, version->used, "");
  if (limit < 0 || used < 0) return INT64_MAX;
  int64_t cache = number_of(folder, version->stat, version->cache);
  int64_t left = limit - used + (cache > 0 ? cache : 0);
  return left > 0 ? left : 0;
}

/*
 * The smallest value of a group and its parents up to the mount. In a container, the mount may be the group itself.
 */
static int64_t least_of(const char *mount, const char *group, const version *version) {
  char folder[LONGEST];
  const size_t root = strlen(mount);
  int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
  if (length >= (int)sizeof folder) return INT64_MAX;
  int64_t least = INT64_MAX;
  for (;;) {
    int64_t left = left_in(folder, version);
    if (left < least) least = left;
    char *slash = strrchr(folder + root, '/');
    if (!slash) return least;
    *slash = 0;
  }
}

/* Whether a comma-separated list of names has "memory". */
static int has_memory(const char *names, size_t length) {
  static const char name[] = "memory";
  for (size_t at = 0; at < length;) {
    size_t end = at;
    while (end < length && names[end] != ',') end++;
    if (end - at == sizeof name - 1 && memcmp(names + at, name, end - at) == 0) return 1;
    at = end + 1;
  }
  return 0;
}

int64_t fst_group_available(const char *groups, const char *mount) {
  FILE *file = fopen(groups, "re");
  if (!file) return INT64_MAX;
  char line[LONGEST], memory[LONGEST];
  snprintf(memory, sizeof memory, "%s/memory", mount);
  int64_t least = INT64_MAX;
  while (fgets(line, sizeof line, file)) { /* "0::/path", or "4:memory:/path" */
    line[strcspn(line, "\n")] = 0;
    const char *names = strchr(line, ':');
    const char *path = names ? strchr(names + 1, ':') : NULL;
    if (!path) continue;
    const size_t length = (size_t)(path - names - 1);
    int64_t left = INT64_MAX;
    if (length == 0) left = least_of(mount, path + 1, &V2);
    else if (has_memory(names + 1, length)) left = least_of(memory, path + 1, &V1);
    if (left < least) least = left;
  }
  fclose(file);
  return least;
}

int64_t fst_memory_available(void) {
  int64_t kibibytes = number_in("/proc/meminfo", "MemAvailable:");
  if (kibibytes < 0) return -ENOSYS;
  int64_t machine = kibibytes * 1024, group = fst_group_available("/proc/self/cgroup", "/sys/fs/cgroup");
  return group < machine ? group : machine;
}
