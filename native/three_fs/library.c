/* Finding and opening libhf3fs_api_shared.so. */
#define _GNU_SOURCE /* dlinfo */
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "three_fs/three_fs.h"

/*
 * The library makes a table with an entry of 16 bytes for each descriptor that the hard limit allows, while it is
 * loaded, and ends the process where that fails.
 */
#define MOST_FILES ((rlim_t)1 << 26)

#define FUNCTION(name) {"hf3fs_" #name, offsetof(fst_usrbio, name), 0}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(is_hf3fs),   FUNCTION(extract_mount_point), FUNCTION(iovcreate), FUNCTION(iovunlink),
  FUNCTION(iovdestroy), FUNCTION(iorcreate4),          FUNCTION(iordestroy), FUNCTION(reg_fd),
  FUNCTION(dereg_fd),   FUNCTION(prep_io),             FUNCTION(submit_ios), FUNCTION(wait_for_ios),
};
#undef FUNCTION

/* Where pip puts a wheel's libraries; folders with a variable count only where it is set. */
static const struct {
  const char *variable, *rest;
} WHEELS[] = {
  {"VIRTUAL_ENV", "/lib/python3*/site-packages"},
  {"CONDA_PREFIX", "/lib/python3*/site-packages"},
  {"HOME", "/.local/lib/python3*/site-packages"},
  {NULL, "/usr/local/lib/python3*/site-packages"},
  {NULL, "/usr/local/lib/python3*/dist-packages"},
  {NULL, "/usr/lib/python3/dist-packages"},
};

typedef struct search {
  char *path;   /* where the library is */
  char *reason; /* what was tried */
  size_t size;  /* of both */
  void *library;
} search;

__attribute__((format(printf, 2, 3))) static void tell(search *search, const char *format, ...) {
  size_t length = strlen(search->reason);
  if (length + 1 >= search->size) return;
  va_list rest;
  va_start(rest, format);
  vsnprintf(search->reason + length, search->size - length, format, rest);
  va_end(rest);
}

/* Tries every file that a pattern matches, and tells what it found there. */
static void try_pattern(search *search, const char *pattern, const char *name) {
  glob_t found;
  tell(search, "%s%s", *search->reason ? ", " : "looked in ", name);
  if (glob(pattern, 0, NULL, &found) != 0) return;
  for (size_t i = 0; i < found.gl_pathc && !search->library; i++) {
    /* Global, for what comes with the library and expects its symbols to be there. */
    search->library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
    if (search->library) snprintf(search->path, search->size, "%s", found.gl_pathv[i]);
    else tell(search, " (%s)", dlerror());
  }
  globfree(&found);
}

static void try_folder(search *search, const char *folder, size_t length) {
  char pattern[4096], name[4096];
  snprintf(pattern, sizeof pattern, "%.*s/libhf3fs_api_shared*.so*", (int)length, folder);
  snprintf(name, sizeof name, "\"%.*s\"", (int)length, folder);
  try_pattern(search, pattern, name);
}

static void try_wheels(search *search) {
  for (size_t i = 0; i < sizeof WHEELS / sizeof *WHEELS && !search->library; i++) {
    char value[FST_ENVIRONMENT_VALUE];
    const char *base = WHEELS[i].variable ? fst_environment(WHEELS[i].variable, value) : "";
    if (!base || (WHEELS[i].variable && base[0] != '/')) continue;
    char pattern[4096], name[4096];
    snprintf(pattern, sizeof pattern, "%s%s/hf3fs_py_usrbio.libs/libhf3fs_api_shared*.so*", base, WHEELS[i].rest);
    snprintf(name, sizeof name, "\"%s%s/hf3fs_py_usrbio.libs\"", base, WHEELS[i].rest);
    try_pattern(search, pattern, name);
  }
}

/* Whether the table that the library makes would be too large. */
static int limit_is_absurd(char *reason, size_t size) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max <= MOST_FILES) return 0;
  snprintf(reason, size,
           "it would take 16 bytes for each of the %llu files that the hard limit allows to be open: lower it with "
           "\"ulimit -Hn 1048576\"",
           (unsigned long long)limit.rlim_max);
  return 1;
}

int32_t fst_usrbio_find(fst_usrbio **result, char *path, char *reason, uint64_t size) {
  *path = *reason = 0;
  if (limit_is_absurd(reason, size)) return -EMFILE;
  search search = {.path = path, .reason = reason, .size = size};
  char folder[FST_ENVIRONMENT_VALUE], list[FST_ENVIRONMENT_VALUE];
  const char *named = fst_environment("HF3FS_LIB_DIR", folder), *folders = fst_environment("LD_LIBRARY_PATH", list);
  if (named) try_folder(&search, named, strlen(named));
  while (!search.library && folders && *folders) {
    size_t length = strcspn(folders, ":");
    if (length > 0) try_folder(&search, folders, length);
    folders += length + (folders[length] == ':');
  }
  if (!search.library) try_wheels(&search);
  if (!search.library) {
    tell(&search, " for libhf3fs_api_shared*.so*; HF3FS_LIB_DIR can name its folder");
    return -ENOENT;
  }
  *reason = 0; /* of the places before this one */
  fst_usrbio *library = calloc(1, sizeof *library);
  if (!library) return -ENOMEM;
  const size_t count = sizeof SYMBOLS / sizeof *SYMBOLS;
  if (fst_library_bind(search.library, path, SYMBOLS, count, library, reason, size) != 0) {
    free(library);
    return -ENOSYS;
  }
  *result = library;
  return 0;
}

int32_t fst_usrbio_is_mounted(int32_t fd) {
  struct stat status;
  if (fstat(fd, &status) != 0 || major(status.st_dev) != 0) return 0; /* a file system on a disk of this machine */
  FILE *mounts = fopen("/proc/self/mountinfo", "re");
  char line[4352], device[32];
  int found = 0;
  snprintf(device, sizeof device, " %u:%u ", major(status.st_dev), minor(status.st_dev));
  while (mounts && !found && fgets(line, sizeof line, mounts)) {
    found = strstr(line, device) && strstr(line, " - fuse.hf3fs ");
  }
  if (mounts) fclose(mounts);
  return found;
}

int32_t fst_usrbio_is_3fs(const fst_usrbio *library, int32_t fd) {
  return library->is_hf3fs(fd);
}

int32_t fst_usrbio_mount_point(const fst_usrbio *library, const char *path, char *mount, uint64_t size) {
  /* The library ends the process on a path that does not exist. */
  struct stat status;
  if (stat(path, &status) != 0) return -errno;
  int length = library->extract_mount_point(mount, (int)size, path);
  if (length <= 0) return 0;
  return (uint64_t)length > size ? -ENAMETOOLONG : length - 1;
}

int32_t fst_usrbio_register(const fst_usrbio *library, int32_t fd) {
  int status = library->reg_fd(fd, 0);
  if (status == EINVAL) {
    /* Whoever had a descriptor of this number before closed it without saying so, or lost its mount. */
    library->dereg_fd(fd);
    status = library->reg_fd(fd, 0);
  }
  return status > 0 ? -status : 0;
}

void fst_usrbio_deregister(const fst_usrbio *library, int32_t fd) {
  library->dereg_fd(fd);
}
