/*
 * libcufile and its driver. Where GPUDirect Storage is not to be had, cuFile reads with pread and copies, and says
 * nothing: its "compatibility mode", which is slower than the lanes' own staging. So it is told to fail instead, and
 * what comes out of a cuFile that cannot be told is never called GPUDirect Storage.
 */
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC */
#include "cufile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "library.h"

static const fst_library_place PLACE = {
  .variable = "FASTSAFETENSORS_CUFILE_LIB",
  .names = (const char *const[]){"libcufile.so.0", "libcufile.so", NULL},
  .wheels = (const char *const[]){"nvidia/cu13/lib", "nvidia/cufile/lib", NULL},
};

#define FUNCTION(name, optional) {#name, offsetof(fst_cufile, name), optional}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(cuFileDriverOpen, 0),      FUNCTION(cuFileDriverClose_v2, 1),   FUNCTION(cuFileDriverClose, 0),
  FUNCTION(cuFileHandleRegister, 0),  FUNCTION(cuFileHandleDeregister, 0), FUNCTION(cuFileBufRegister, 0),
  FUNCTION(cuFileBufDeregister, 0),   FUNCTION(cuFileRead, 0),             FUNCTION(cuFileSetParameterBool, 1),
};
#undef FUNCTION

/* Of cuFileSetParameterBool. */
enum { ALLOW_COMPATIBILITY = 1, FORCE_COMPATIBILITY = 2, USE_PCI_P2PDMA = 7 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cufile functions;
static int is_bound;
static enum fst_gds_mode open_mode; /* FST_GDS_OFF: not open */
static int open_forced;            /* it is open in the mode that CUFILE_FORCE_COMPAT_MODE asks for */
static int failed; /* what opening gave: it takes seconds, and is not tried again unless it is required */

/* ---- What there is ---- */

/* Locked. The functions, or NULL with what was tried in `message`. */
static const fst_cufile *bound(char *message, size_t size) {
  if (is_bound) return &functions;
  void *library = fst_library_open(&PLACE, message, size);
  const size_t count = sizeof SYMBOLS / sizeof *SYMBOLS;
  is_bound = library && fst_library_bind(library, SYMBOLS, count, &functions, message, size) == 0;
  return is_bound ? &functions : NULL;
}

static const char *nvidia_fs(void) {
  const char *named = getenv("FASTSAFETENSORS_NVFS_PROC");
  return named && *named ? named : "/proc/driver/nvidia-fs/version";
}

static int has_nvidia_fs(void) {
  return access(nvidia_fs(), R_OK) == 0;
}

/* cuFile's own switch, for comparing. */
static int compatibility_is_forced(void) {
  const char *value = getenv("CUFILE_FORCE_COMPAT_MODE");
  return value && (strcasecmp(value, "true") == 0 || strcmp(value, "1") == 0);
}

int32_t fst_gds_probe(char *message, uint64_t size) {
  pthread_mutex_lock(&mutex);
  const fst_cufile *cufile = bound(message, size);
  if (cufile) {
    snprintf(message, size, "%s%s", has_nvidia_fs() ? "nvidia-fs is loaded" : "nvidia-fs is not loaded",
             cufile->cuFileSetParameterBool ? ", libcufile knows PCI P2PDMA" : "");
    if (compatibility_is_forced()) snprintf(message, size, "CUFILE_FORCE_COMPAT_MODE forces compatibility mode");
  }
  int usable = cufile && has_nvidia_fs() && !compatibility_is_forced();
  pthread_mutex_unlock(&mutex);
  return usable;
}

/* ---- Opening the driver ---- */

static int set_parameter(const fst_cufile *cufile, int parameter, bool value) {
  return cufile->cuFileSetParameterBool && cufile->cuFileSetParameterBool(parameter, value).err == 0;
}

/* Some versions close descriptor 0 where the device files of nvidia-fs are missing: it is put back. */
static int open_driver(const fst_cufile *cufile) {
  /* Or it leaves a cufile.log in whatever folder the program runs in. */
  setenv("CUFILE_LOGFILE_PATH", "/dev/null", 0);
  int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
  int status = cufile->cuFileDriverOpen().err;
  if (saved >= 0) {
    if (fcntl(STDIN_FILENO, F_GETFD) < 0) dup2(saved, STDIN_FILENO);
    close(saved);
  }
  return status;
}

/* Locked. As fst_cufile_open, for a driver that is not open. */
static int start(const fst_cufile *cufile, enum fst_gds_wish wish, char *message, size_t size) {
  const int required = wish == FST_GDS_REQUIRE, forced = compatibility_is_forced(), has_driver = has_nvidia_fs();
  if (!has_driver && !required && !forced) {
    snprintf(message, size, "nvidia-fs is not loaded, there is no \"%s\"", nvidia_fs());
    return 0;
  }
  if (!has_driver && !forced && !set_parameter(cufile, USE_PCI_P2PDMA, true)) {
    snprintf(message, size, "nvidia-fs is not loaded, there is no \"%s\", and this libcufile knows no PCI P2PDMA",
             nvidia_fs());
    return -ENOTSUP;
  }
  const int is_told = set_parameter(cufile, ALLOW_COMPATIBILITY, forced) &&
                      set_parameter(cufile, FORCE_COMPATIBILITY, forced);
  const int is_real = is_told && !forced;
  if (!is_real && !forced && !has_driver) {
    snprintf(message, size, "nvidia-fs is not loaded, and this libcufile cannot be kept from compatibility mode");
    return -ENOTSUP;
  }
  if (failed == 0 || required) failed = open_driver(cufile);
  if (failed != 0) {
    snprintf(message, size, "cuFileDriverOpen failed with status %d", failed);
    return required ? failed : 0;
  }
  open_mode = is_real ? FST_GDS_REAL : FST_GDS_COMPAT;
  open_forced = forced;
  return 0;
}

int fst_cufile_open(enum fst_gds_wish wish, fst_cufile_driver *driver, char *message, size_t size) {
  pthread_mutex_lock(&mutex);
  int status = 0;
  const fst_cufile *cufile = bound(message, size);
  if (!cufile) {
    status = wish == FST_GDS_REQUIRE ? -ENOSYS : 0;
  } else if (wish == FST_GDS_REQUIRE && (open_mode == FST_GDS_OFF ? compatibility_is_forced() : open_forced)) {
    snprintf(message, size, "CUFILE_FORCE_COMPAT_MODE forces compatibility mode");
    status = -ENOTSUP;
  } else if (open_mode == FST_GDS_OFF) {
    status = start(cufile, wish, message, size);
  }
  driver->cufile = cufile;
  driver->mode = open_mode;
  pthread_mutex_unlock(&mutex);
  if (status == 0 && driver->mode == FST_GDS_COMPAT) {
    snprintf(message, size, "cuFile may read in compatibility mode: %s",
             open_forced ? "CUFILE_FORCE_COMPAT_MODE forces it" : "this version cannot be kept from it");
  }
  return status;
}

#ifdef FST_FAULTS
int fst_cufile_shutdown(void) {
  int status = 0;
  pthread_mutex_lock(&mutex);
  if (open_mode != FST_GDS_OFF) {
    status = (functions.cuFileDriverClose_v2 ? functions.cuFileDriverClose_v2 : functions.cuFileDriverClose)().err;
  }
  if (status == 0) open_mode = FST_GDS_OFF;
  failed = 0;
  pthread_mutex_unlock(&mutex);
  return status;
}
#endif

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
