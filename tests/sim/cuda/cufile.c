/* libcufile: files registered, windows of device memory registered, and reads that are checked and then done. */
#define _GNU_SOURCE /* O_DIRECT */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

/* cuFile's codes. */
enum {
  NOT_OPEN = 5001,
  CUDA_ERROR = 5011,
  BAD_POINTER = 5012,
  BAD_POINTER_RANGE = 5014,
  WRONG_CONTEXT = 5015,
  TOO_MUCH_PINNED = 5016,
  OUTSIDE_WINDOW = 5017,
  NOT_DIRECT = 5020,
  INVALID = 5022,
  WINDOW_ALREADY = 5023,
  WINDOW_UNKNOWN = 5024,
  DRIVER_ALREADY_OPEN = 5026,
  FILE_UNKNOWN = 5027,
  FILE_ALREADY = 5028,
  SETUP = 5033,
};

typedef struct open_file {
  struct open_file *next;
  int fd;
  dev_t device;
  ino_t inode;
} open_file;

typedef struct window {
  struct window *next;
  uintptr_t base;
  size_t bytes;
  sim_allocation *allocation;
} window;

static open_file *files;
static window *windows;
static bool compatible = true;  /* cuFileSetParameterBool(1, ...) */
static bool peer_to_peer;       /* cuFileSetParameterBool(7, ...) */
static bool has_log_path;       /* cuFileSetParameterString(1, ...) */

#define NO_MODULE "/proc/driver/nvidia-fs/version"

static CUfileError_t result(int code) {
  return (CUfileError_t){code, code == CUDA_ERROR ? 999 : 0};
}

/* Driver */

/* Locked. Whether it is open: here, or by another library of the process. */
static bool is_open(void) {
  return sim.live.cufile_driver > 0 || sim.config.cufile_taken != SIM_CUFILE_FREE;
}

/* Locked. Whether reads reach the device without the host: by the kernel's module, or by PCI P2PDMA. */
static bool is_real(void) {
  const char *module = getenv("FASTSAFETENSORS_NVFS_PROC");
  return sim.config.gds == SIM_GDS_REAL && (peer_to_peer || access(module ? module : NO_MODULE, R_OK) == 0);
}

SIM_EXPORT CUfileError_t cuFileDriverOpen(void) {
  int code = 0;
  sim_lock();
  sim.counts.cufile_opens++;
  /* The real one writes a cufile.log to the working folder. */
  if (!has_log_path && !getenv("CUFILE_LOGFILE_PATH")) sim.counts.cufile_logs++;
  int gives_up_stdin = sim.config.cufile_stdin;
  sim_unlock();
  if (gives_up_stdin != SIM_STDIN_STAYS) close(STDIN_FILENO);
  if (gives_up_stdin == SIM_STDIN_TAKEN) open("/dev/zero", O_RDONLY);
  if (sim_injected(__func__, &code)) return result(code);
  sim_lock();
  if (sim_missing() != 0) code = CUDA_ERROR;
  else if (is_open()) code = DRIVER_ALREADY_OPEN;
  else if (sim.config.gds == SIM_GDS_ABSENT || (!is_real() && !compatible)) code = SETUP;
  else sim.live.cufile_driver++;
  sim_unlock();
  return result(code);
}

SIM_EXPORT CUfileError_t cuFileDriverClose_v2(void) {
  int code = 0;
  sim_check_loaded(__func__);
  if (sim_injected(__func__, &code)) return result(code);
  sim_lock();
  if (sim.live.cufile_driver == 0) {
    sim_violation("cufile-not-open", "%s: the driver is not open", __func__);
    code = NOT_OPEN;
  } else if (--sim.live.cufile_driver == 0) {
    if (files || windows) {
      sim_violation("cufile-close-live", "%s: %" PRIu64 " files and %" PRIu64 " buffers are still registered", __func__,
                    sim.live.cufile_handles, sim.live.cufile_buffers);
    }
    compatible = true;
    peer_to_peer = false;
  }
  sim_unlock();
  return result(code);
}

SIM_EXPORT CUfileError_t cuFileDriverClose(void) {
  return cuFileDriverClose_v2();
}

SIM_EXPORT long cuFileUseCount(void) {
  return (long)fst_sim_live_cufile_driver();
}

SIM_EXPORT CUfileError_t cuFileDriverGetProperties(CUfileDrvProps_t *properties) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  memset(properties, 0, sizeof *properties);
  sim_lock();
  bool allows = sim.config.cufile_taken == SIM_CUFILE_FREE ? compatible : sim.config.cufile_taken == SIM_CUFILE_COMPATIBLE;
  if (!is_open()) code = NOT_OPEN;
  properties->nvfs.max_direct_io_size = 16384;
  properties->nvfs.dcontrolflags = allows ? 1u << 1 : 0;
  sim_unlock();
  return result(code);
}

SIM_EXPORT CUfileError_t cuFileGetVersion(int *version) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  *version = 1110; /* 1.11.0 */
  return result(0);
}

SIM_EXPORT CUfileError_t cuFileSetParameterBool(int parameter, bool value) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  if (parameter < 0 || parameter > 7) return result(INVALID);
  sim_lock();
  if (sim.live.cufile_driver > 0) {
    sim_violation("cufile-parameter-late", "%s: parameters are set before the driver is opened", __func__);
    code = DRIVER_ALREADY_OPEN;
  } else if (sim.config.cufile_taken != SIM_CUFILE_FREE) {
    code = DRIVER_ALREADY_OPEN;
  } else if (parameter == 1) {
    compatible = value;
  } else if (parameter == 7) {
    peer_to_peer = value;
  }
  sim_unlock();
  return result(code);
}

SIM_EXPORT CUfileError_t cuFileSetParameterString(int parameter, const char *value) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  if (parameter < 0 || parameter > 2 || !value) return result(INVALID);
  sim_lock();
  if (sim.live.cufile_driver > 0) {
    sim_violation("cufile-parameter-late", "%s: parameters are set before the driver is opened", __func__);
    code = DRIVER_ALREADY_OPEN;
  } else if (sim.config.cufile_taken != SIM_CUFILE_FREE) {
    code = DRIVER_ALREADY_OPEN;
  } else if (parameter == 1) {
    has_log_path = true;
  }
  sim_unlock();
  return result(code);
}

/* Locked. */
static int need_driver(const char *function) {
  if (is_open()) return 0;
  sim_violation("cufile-not-open", "%s: cuFileDriverOpen did not come before", function);
  return NOT_OPEN;
}

/* Files */

/* Locked. Whether the descriptor is still the one that was registered. */
static bool is_same(const open_file *file) {
  struct stat status;
  return fstat(file->fd, &status) == 0 && status.st_dev == file->device && status.st_ino == file->inode;
}

SIM_EXPORT CUfileError_t cuFileHandleRegister(void **handle, CUfileDescr_t *description) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  int fd = description->handle.fd;
  struct stat status;
  int flags = fcntl(fd, F_GETFL);
  if (description->type != 1 || flags < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
    return result(INVALID);
  }
  sim_lock();
  code = need_driver(__func__);
  if (code == 0 && sim.config.cufile_strict && !(flags & O_DIRECT)) code = NOT_DIRECT;
  for (open_file *file = files; code == 0 && file; file = file->next) {
    if (file->fd == fd) code = FILE_ALREADY;
  }
  if (code == 0) {
    open_file *file = sim_zeroed(sizeof *file);
    *file = (open_file){files, fd, status.st_dev, status.st_ino};
    files = file;
    *handle = sim_handle_new(SIM_FILE, file);
    sim.live.cufile_handles++;
  }
  sim_unlock();
  return result(code);
}

SIM_EXPORT void cuFileHandleDeregister(void *handle) {
  sim_lock();
  open_file *file = sim_handle_close(handle, SIM_FILE);
  if (!file) {
    sim_violation("bad-cufile-handle", "%s: %p is not a handle, or was deregistered", __func__, handle);
  } else {
    if (!is_same(file)) {
      sim_violation("cufile-fd-closed", "%s: descriptor %d was closed before its handle", __func__, file->fd);
    }
    open_file **link = &files;
    while (*link != file) link = &(*link)->next;
    *link = file->next;
    free(file);
    sim.live.cufile_handles--;
  }
  sim_unlock();
}

/* Windows of device memory */

static int check_context(const char *function, const sim_allocation *allocation) {
  if (allocation->device == sim_current) return 0;
  sim_violation("wrong-device", "%s: memory of device %d is used while device %d is current", function,
                allocation->device, sim_current);
  return WRONG_CONTEXT;
}

/* Locked. */
static window **find_window(const void *base) {
  window **link = &windows;
  while (*link && (*link)->base != (uintptr_t)base) link = &(*link)->next;
  return link;
}

SIM_EXPORT CUfileError_t cuFileBufRegister(const void *base, size_t bytes, int flags) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  if (bytes == 0 || flags != 0) return result(INVALID);
  sim_place place;
  sim_lock();
  code = need_driver(__func__);
  if (code == 0 && sim_place_device(__func__, base, bytes, &place) != 0) code = BAD_POINTER;
  if (code == 0) code = check_context(__func__, place.allocation);
  if (code == 0 && *find_window(base)) code = WINDOW_ALREADY;
  if (code == 0 && (bytes > sim.config.cufile_window_bytes ||
                    sim.live.cufile_buffer_bytes + bytes > sim.config.cufile_pinned_bytes)) {
    code = TOO_MUCH_PINNED;
  }
  if (code == 0) {
    window *made = sim_zeroed(sizeof *made);
    *made = (window){windows, (uintptr_t)base, bytes, place.allocation};
    windows = made;
    place.allocation->registered++;
    sim.live.cufile_buffers++;
    sim.counts.registrations++;
    sim.live.cufile_buffer_bytes += bytes;
  }
  sim_unlock();
  return result(code);
}

SIM_EXPORT CUfileError_t cuFileBufDeregister(const void *base) {
  int code = 0;
  if (sim_injected(__func__, &code)) return result(code);
  sim_lock();
  window **link = find_window(base), *gone = *link;
  if (gone) {
    *link = gone->next;
    gone->allocation->registered--;
    sim.live.cufile_buffers--;
    sim.live.cufile_buffer_bytes -= gone->bytes;
    free(gone);
  } else {
    sim_violation("bad-cufile-buffer", "%s: %p is not registered", __func__, base);
    code = WINDOW_UNKNOWN;
  }
  sim_unlock();
  return result(code);
}

/* Reads */

static ssize_t refused(int code) {
  if (!sim.config.cufile_errno) return -code;
  errno = code;
  return -1;
}

/* What an O_DIRECT descriptor refuses, through an aligned buffer. At most 1 MiB. */
static ssize_t read_aligned(int fd, char *to, size_t bytes, off_t offset) {
  enum { MOST = 1 << 20 };
  off_t start = offset & ~(off_t)(SIM_PAGE - 1);
  size_t lead = (size_t)(offset - start), whole = lead + (bytes < MOST ? bytes : MOST);
  void *buffer;
  if (posix_memalign(&buffer, SIM_PAGE, MOST + 2 * SIM_PAGE) != 0) sim_die("no host memory for a cuFile read");
  ssize_t got = pread(fd, buffer, (whole + SIM_PAGE - 1) & ~(size_t)(SIM_PAGE - 1), start);
  if (got >= 0) {
    got = (size_t)got <= lead ? 0 : (size_t)got - lead < whole - lead ? got - (ssize_t)lead : (ssize_t)(whole - lead);
    memcpy(to, (char *)buffer + lead, (size_t)got);
  }
  free(buffer);
  return got;
}

/* As many bytes as there are up to the end of the file, or -1. */
static ssize_t read_all(int fd, char *to, size_t bytes, off_t offset) {
  size_t done = 0;
  while (done < bytes) {
    ssize_t got = pread(fd, to + done, bytes - done, offset + (off_t)done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EINVAL) got = read_aligned(fd, to + done, bytes - done, offset + (off_t)done);
    if (got < 0) return -1;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (ssize_t)done;
}

/* Locked. Checks everything; gives the place that the bytes go to, or the code. */
static int check_read(const char *function, const open_file *file, void *base, size_t bytes, off_t file_offset,
                      off_t buffer_offset, sim_place *place) {
  int code = need_driver(function);
  if (code != 0) return code;
  if (!file) {
    sim_violation("bad-cufile-handle", "%s: the handle is unknown, or was deregistered", function);
    return FILE_UNKNOWN;
  }
  if (file_offset < 0 || buffer_offset < 0) return INVALID;
  sim_place whole;
  if (sim_place_device(function, base, 0, &whole) != 0) return BAD_POINTER;
  if (sim_place_device(function, (char *)base + buffer_offset, bytes, place) != 0) return BAD_POINTER_RANGE;
  if ((code = check_context(function, place->allocation)) != 0) return code;
  if (!sim_is_ready(place->allocation, NULL)) {
    sim_violation("used-before-allocated", "%s: allocation %" PRIu64 " of cudaMallocAsync is not there yet", function,
                  place->allocation->id);
    return BAD_POINTER;
  }
  const window *registered = *find_window(base);
  if (registered && ((size_t)buffer_offset > registered->bytes || bytes > registered->bytes - (size_t)buffer_offset)) {
    sim_violation("outside-cufile-window", "%s: %zu bytes at byte %jd of a registered window of %zu bytes", function,
                  bytes, (intmax_t)buffer_offset, registered->bytes);
    return OUTSIDE_WINDOW;
  }
  sim.counts.cufile_reads++;
  if (!registered) sim.counts.unregistered_reads++;
  if (!is_real()) sim.counts.compat_reads++;
  if (((uintptr_t)base + (uintptr_t)buffer_offset) % SIM_PAGE || (size_t)file_offset % SIM_PAGE || bytes % SIM_PAGE) {
    sim.counts.unaligned_reads++;
  }
  return 0;
}

SIM_EXPORT ssize_t cuFileRead(void *handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset) {
  int injected;
  sim_check_loaded(__func__);
  if (sim_injected(__func__, &injected)) {
    if (injected == -1) errno = EIO;
    if (injected < 0) return injected <= -5000 ? refused(-injected) : injected;
    if ((size_t)injected < bytes) bytes = (size_t)injected;
  }
  sim_place place;
  sim_lock();
  const open_file *file = sim_handle_find(handle, SIM_FILE);
  int code = check_read(__func__, file, base, bytes, file_offset, buffer_offset, &place);
  if (code != 0) {
    sim_unlock();
    return refused(code);
  }
  int fd = file->fd;
  struct stat status;
  if (fstat(fd, &status) == 0 && (uint64_t)file_offset + bytes > (uint64_t)status.st_size) sim.counts.past_end_reads++;
  if (!is_same(file)) {
    sim_violation("cufile-fd-closed", "%s: descriptor %d was closed before its handle", __func__, fd);
    sim_unlock();
    errno = EBADF;
    return -1;
  }
  place.allocation->pending++;
  sim_unlock();
  ssize_t got;
  if (sim_model_gds(bytes)) {
    off_t left = status.st_size > file_offset ? status.st_size - file_offset : 0;
    got = (uint64_t)left < bytes ? left : (ssize_t)bytes;
  } else {
    sim_link_wait(place.allocation->device, SIM_H2D, bytes);
    got = read_all(fd, place.bytes, bytes, file_offset);
  }
  int error = errno;
  sim_lock();
  place.allocation->pending--;
  if (got > 0) sim.counts.cufile_bytes += (uint64_t)got;
  pthread_cond_broadcast(&sim.changed);
  sim_unlock();
  errno = error;
  return got;
}
