/* Finds and opens libhf3fs_api_shared.so. */
#define _GNU_SOURCE /* RTLD_GLOBAL */
#include <dlfcn.h>
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "three_fs/three_fs.h"

/*
 * While it is loaded, the library allocates a table with 16 bytes for each descriptor of the hard limit, and ends the
 * process if that fails.
 */
#define MOST_FILES ((rlim_t)1 << 26)

#define FUNCTION(name) {"hf3fs_" #name, offsetof(fst_usrbio, name), 0}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(is_hf3fs),   FUNCTION(extract_mount_point), FUNCTION(iovcreate), FUNCTION(iovunlink),
  FUNCTION(iovdestroy), FUNCTION(iorcreate4),          FUNCTION(iordestroy), FUNCTION(reg_fd),
  FUNCTION(dereg_fd),   FUNCTION(prep_io),             FUNCTION(submit_ios), FUNCTION(wait_for_ios),
};
#undef FUNCTION

/* Tries every matching file in a folder, which is a pattern too, and appends the result to `reason`. */
static void *try_folder(const char *folder, char *reason, size_t size) {
  char pattern[4096];
  glob_t found;
  void *library = NULL;
  fst_library_tell(reason, size, "%s\"%s\"", *reason ? ", " : "looked in ", folder);
  const int length = snprintf(pattern, sizeof pattern, "%s/libhf3fs_api_shared*.so*", folder);
  if (length >= (int)sizeof pattern || glob(pattern, 0, NULL, &found) != 0) return NULL;
  for (size_t i = 0; i < found.gl_pathc && !library; i++) {
    /* Global, because libraries that come with it need its symbols. */
    library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
    if (!library) fst_library_tell(reason, size, " (%s)", dlerror());
  }
  globfree(&found);
  return library;
}

static void *try_list(char *folders, char *reason, size_t size) {
  void *library = NULL;
  char *rest = NULL;
  for (char *folder = strtok_r(folders, ":", &rest); folder && !library; folder = strtok_r(NULL, ":", &rest)) {
    library = try_folder(folder, reason, size);
  }
  return library;
}

static void *try_wheels(char *reason, size_t size) {
  void *library = NULL;
  char folder[4096];
  int more;
  for (size_t i = 0; !library && (more = fst_library_folder(i, "hf3fs_py_usrbio.libs", folder, sizeof folder)) >= 0; i++) {
    if (more) library = try_folder(folder, reason, size);
  }
  return library;
}

/* Whether the library's table would be too large. */
static int limit_is_absurd(char *reason, size_t size) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max <= MOST_FILES) return 0;
  snprintf(reason, size,
           "it would take 16 bytes for each of the %llu files that the hard limit allows to be open: lower it with "
           "\"ulimit -Hn 1048576\"",
           (unsigned long long)limit.rlim_max);
  return 1;
}

static void *find(char *reason, size_t size) {
  char value[FST_ENVIRONMENT_VALUE];
  void *library = NULL;
  if (limit_is_absurd(reason, size)) return NULL;
  if (fst_environment("HF3FS_LIB_DIR", value)) library = try_folder(value, reason, size);
  if (!library && fst_environment("LD_LIBRARY_PATH", value)) library = try_list(value, reason, size);
  if (!library) library = try_wheels(reason, size);
  if (library) *reason = 0; /* of the places before this one */
  else fst_library_tell(reason, size, " for libhf3fs_api_shared*.so*; HF3FS_LIB_DIR can name its folder");
  return library;
}

static fst_usrbio functions;

static fst_library library = {
  .find = find,
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

int32_t fst_usrbio_find(const fst_usrbio **result, char *path, char *reason, uint64_t size) {
  *path = 0;
  if (fst_library_open(&library, reason, size) != 0) return -ENOENT;
  snprintf(path, size, "%s", library.path);
  *result = &functions;
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
  /* The library ends the process for a path that does not exist. */
  struct stat status;
  if (stat(path, &status) != 0) return -errno;
  int length = library->extract_mount_point(mount, (int)size, path);
  if (length <= 0) return 0;
  return (uint64_t)length > size ? -ENAMETOOLONG : length - 1;
}

int32_t fst_usrbio_register(const fst_usrbio *library, int32_t fd) {
  int status = library->reg_fd(fd, 0);
  if (status == EINVAL) {
    /* An earlier descriptor with this number was closed without deregistration, or lost its mount. */
    library->dereg_fd(fd);
    status = library->reg_fd(fd, 0);
  }
  return status > 0 ? -status : 0;
}

void fst_usrbio_deregister(const fst_usrbio *library, int32_t fd) {
  library->dereg_fd(fd);
}
