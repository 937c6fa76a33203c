/*
 * libcufile and its driver. Without GPUDirect Storage, cuFile silently reads with pread and copies: its
 * "compatibility mode", which is slower than the lanes' own staging. So cuFile is set to fail instead. Where it cannot
 * be set, because its version cannot, or another library of the process has opened the driver, it is used only if it
 * says that it does not allow that mode, or if it is required; such reads are not reported as GPUDirect Storage.
 */
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cuda/cuda.h"

static fst_cufile functions;

#define FUNCTION(name, optional) {#name, offsetof(fst_cufile, name), optional}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(cuFileDriverOpen, 0),       FUNCTION(cuFileDriverClose_v2, 1),   FUNCTION(cuFileDriverClose, 0),
  FUNCTION(cuFileHandleRegister, 0),   FUNCTION(cuFileHandleDeregister, 0), FUNCTION(cuFileBufRegister, 0),
  FUNCTION(cuFileBufDeregister, 0),    FUNCTION(cuFileRead, 0),             FUNCTION(cuFileSetParameterBool, 1),
  FUNCTION(cuFileSetParameterString, 1), FUNCTION(cuFileDriverGetProperties, 0),
};
#undef FUNCTION

static fst_library library = {
  .variable = "FASTSAFETENSORS_CUFILE_LIB",
  .names = (const char *const[]){"libcufile.so.0", "libcufile.so", NULL},
  .wheels = (const char *const[]){"nvidia/cu13/lib", "nvidia/cufile/lib", NULL},
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

/* Of cuFileSetParameterBool, and of cuFileSetParameterString. */
enum { ALLOW_COMPATIBILITY = 1, FORCE_COMPATIBILITY = 2, USE_PCI_P2PDMA = 7 };
enum { LOGFILE_PATH = 1 };

/* A bit of fst_cufile_properties.control_flags, and a status. */
enum { ALLOWS_COMPATIBILITY = 1 << 1, ALREADY_OPEN = 5026 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards the driver */
static enum fst_gds_mode open_mode; /* FST_GDS_OFF: not open */
static int open_forced;            /* it was opened in the mode of CUFILE_FORCE_COMPAT_MODE */
static int is_own;                 /* it was opened here, and is closed here */
static int failed; /* the status of a failed opening, which takes seconds and is repeated only if it is required */

/* ---- State ---- */

static const char *nvidia_fs(char value[FST_ENVIRONMENT_VALUE]) {
  const char *named = fst_environment("FASTSAFETENSORS_NVFS_PROC", value);
  return named ? named : "/proc/driver/nvidia-fs/version";
}

static int has_nvidia_fs(void) {
  char value[FST_ENVIRONMENT_VALUE];
  return access(nvidia_fs(value), R_OK) == 0;
}

/* cuFile's own switch, for comparisons. */
static int compatibility_is_forced(void) {
  char value[FST_ENVIRONMENT_VALUE];
  const char *forced = fst_environment("CUFILE_FORCE_COMPAT_MODE", value);
  return forced && (strcasecmp(forced, "true") == 0 || strcmp(forced, "1") == 0);
}

/* The caller has the lock. Whether an open driver is used only if it is required. */
static int is_doubtful(void) {
  return open_mode == FST_GDS_COMPAT && !open_forced;
}

int32_t fst_gds_probe(char *state, uint64_t size) {
  if (fst_library_open(&library, state, size) != 0) return 0;
  const int forced = compatibility_is_forced(), loaded = has_nvidia_fs();
  pthread_mutex_lock(&mutex);
  const int doubtful = is_doubtful();
  pthread_mutex_unlock(&mutex);
  if (forced) snprintf(state, size, "CUFILE_FORCE_COMPAT_MODE forces compatibility mode");
  else snprintf(state, size, "nvidia-fs is %s%s%s", loaded ? "loaded" : "not loaded",
                functions.cuFileSetParameterBool ? ", libcufile knows PCI P2PDMA" : "",
                doubtful ? ", libcufile may read in compatibility mode" : "");
  return loaded && !forced && !doubtful;
}

/* ---- Opening the driver ---- */

static int set_parameter(const fst_cufile *cufile, int parameter, bool value) {
  return cufile->cuFileSetParameterBool && cufile->cuFileSetParameterBool(parameter, value).err == 0;
}

/* Prevents a file cufile.log in the working folder. Older versions only support the variable. */
static void silence(const fst_cufile *cufile) {
  char value[FST_ENVIRONMENT_VALUE];
  if (!cufile->cuFileSetParameterString || fst_environment("CUFILE_LOGFILE_PATH", value)) return;
  cufile->cuFileSetParameterString(LOGFILE_PATH, "/dev/null");
}

/*
 * Some versions close descriptor 0 if the device files of nvidia-fs are missing: this restores it. F_DUPFD uses the
 * lowest free number in one step: if another thread has opened 0 meanwhile, that thread's file stays there.
 */
static int open_driver(const fst_cufile *cufile) {
  silence(cufile);
  int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  int status = cufile->cuFileDriverOpen().err;
  if (saved >= 0) {
    int lowest = fcntl(saved, F_DUPFD, STDIN_FILENO);
    if (lowest > STDIN_FILENO) close(lowest);
    close(saved);
  }
  return status;
}

/* Whether the open driver may read in compatibility mode. */
static int allows_compatibility(const fst_cufile *cufile) {
  fst_cufile_properties properties = {0};
  return cufile->cuFileDriverGetProperties(&properties).err != 0 || (properties.control_flags & ALLOWS_COMPATIBILITY);
}

/* The caller has the lock. */
static int close_driver(void) {
  int status = (functions.cuFileDriverClose_v2 ? functions.cuFileDriverClose_v2 : functions.cuFileDriverClose)().err;
  if (status == 0) is_own = 0;
  return status;
}

/* Older versions crash if their own end comes first. Runs before it, and after all reads. */
static void close_at_end(void) {
  if (!fst_cuda_end() || pthread_mutex_trylock(&mutex) != 0) return;
  if (is_own) close_driver();
  pthread_mutex_unlock(&mutex);
}

/* The caller has the lock. As fst_cufile_open, for a driver that is not open. */
static int start(const fst_cufile *cufile, enum fst_gds_wish wish, char *reason, size_t size) {
  static int has_end;
  const int required = wish == FST_GDS_REQUIRE, forced = compatibility_is_forced(), has_driver = has_nvidia_fs();
  char value[FST_ENVIRONMENT_VALUE];
  if (!has_driver && !required && !forced) {
    snprintf(reason, size, "nvidia-fs is not loaded, there is no \"%s\"", nvidia_fs(value));
    return 0;
  }
  if (!has_driver && !forced && !set_parameter(cufile, USE_PCI_P2PDMA, true)) {
    snprintf(reason, size, "nvidia-fs is not loaded, there is no \"%s\", and this libcufile knows no PCI P2PDMA",
             nvidia_fs(value));
    return -ENOTSUP;
  }
  set_parameter(cufile, ALLOW_COMPATIBILITY, forced);
  set_parameter(cufile, FORCE_COMPATIBILITY, forced);
  if (failed == 0 || required) failed = open_driver(cufile);
  is_own = failed == 0;
  if (failed == ALREADY_OPEN) failed = 0; /* by another library of the process */
  if (failed != 0) {
    snprintf(reason, size, "cuFileDriverOpen failed with status %d", failed);
    return required ? failed : 0;
  }
  if (is_own && !has_end) has_end = atexit(close_at_end) == 0;
  open_mode = forced || allows_compatibility(cufile) ? FST_GDS_COMPAT : FST_GDS_REAL;
  open_forced = forced;
  return 0;
}

int fst_cufile_open(enum fst_gds_wish wish, fst_cufile_driver *driver, char *reason, size_t size) {
  *driver = (fst_cufile_driver){&functions, FST_GDS_OFF};
  const int required = wish == FST_GDS_REQUIRE;
  if (fst_library_open(&library, reason, size) != 0) return required ? -ENOSYS : 0;
  pthread_mutex_lock(&mutex);
  int status = 0;
  if (required && (open_mode == FST_GDS_OFF ? compatibility_is_forced() : open_forced)) {
    snprintf(reason, size, "CUFILE_FORCE_COMPAT_MODE forces compatibility mode");
    status = -ENOTSUP;
  } else if (open_mode == FST_GDS_OFF) {
    status = start(&functions, wish, reason, size);
  }
  if (status == 0 && required && is_doubtful() && !has_nvidia_fs()) {
    snprintf(reason, size, "nvidia-fs is not loaded, and this libcufile cannot be kept from compatibility mode");
    status = -ENOTSUP;
  }
  if (status == 0 && open_mode == FST_GDS_COMPAT) {
    snprintf(reason, size, "cuFile may read in compatibility mode: %s",
             open_forced ? "CUFILE_FORCE_COMPAT_MODE forces it"
             : is_own    ? "this version cannot be kept from it"
                         : "another library of this process has opened it so");
  }
  driver->mode = !required && is_doubtful() ? FST_GDS_OFF : open_mode;
  pthread_mutex_unlock(&mutex);
  return status;
}

/* ---- Errors ---- */

const char *fst_cufile_error_name(int status) {
  switch (status - FST_CUFILE_FIRST) {
    case 1: return "CU_FILE_DRIVER_NOT_INITIALIZED";
    case 2: return "CU_FILE_DRIVER_INVALID_PROPS";
    case 3: return "CU_FILE_DRIVER_UNSUPPORTED_LIMIT";
    case 4: return "CU_FILE_DRIVER_VERSION_MISMATCH";
    case 5: return "CU_FILE_DRIVER_VERSION_READ_ERROR";
    case 6: return "CU_FILE_DRIVER_CLOSING";
    case 7: return "CU_FILE_PLATFORM_NOT_SUPPORTED";
    case 8: return "CU_FILE_IO_NOT_SUPPORTED";
    case 9: return "CU_FILE_DEVICE_NOT_SUPPORTED";
    case 10: return "CU_FILE_NVFS_DRIVER_ERROR";
    case 11: return "CU_FILE_CUDA_DRIVER_ERROR";
    case 12: return "CU_FILE_CUDA_POINTER_INVALID";
    case 13: return "CU_FILE_CUDA_MEMORY_TYPE_INVALID";
    case 14: return "CU_FILE_CUDA_POINTER_RANGE_ERROR";
    case 15: return "CU_FILE_CUDA_CONTEXT_MISMATCH";
    case 16: return "CU_FILE_INVALID_MAPPING_SIZE";
    case 17: return "CU_FILE_INVALID_MAPPING_RANGE";
    case 18: return "CU_FILE_INVALID_FILE_TYPE";
    case 19: return "CU_FILE_INVALID_FILE_OPEN_FLAG";
    case 20: return "CU_FILE_DIO_NOT_SET";
    case 22: return "CU_FILE_INVALID_VALUE";
    case 23: return "CU_FILE_MEMORY_ALREADY_REGISTERED";
    case 24: return "CU_FILE_MEMORY_NOT_REGISTERED";
    case 25: return "CU_FILE_PERMISSION_DENIED";
    case 26: return "CU_FILE_DRIVER_ALREADY_OPEN";
    case 27: return "CU_FILE_HANDLE_NOT_REGISTERED";
    case 28: return "CU_FILE_HANDLE_ALREADY_REGISTERED";
    case 29: return "CU_FILE_DEVICE_NOT_FOUND";
    case 30: return "CU_FILE_INTERNAL_ERROR";
    case 31: return "CU_FILE_GETNEWFD_FAILED";
    case 33: return "CU_FILE_NVFS_SETUP_ERROR";
    case 34: return "CU_FILE_IO_DISABLED";
    default: return NULL;
  }
}
