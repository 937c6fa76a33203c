/* One load's use of cuFile. After a failure the host reads the bytes, and reports its own errors. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda/cuda.h"

#define PAGE ((uint64_t)4096) /* the alignment of offsets, lengths and addresses with which cuFile needs no copy */

/* Shorter reads are faster by the host. */
#define MINIMUM ((uint64_t)64 << 10)

typedef struct gds_file {
  enum { UNTRIED, REGISTERED, REFUSED } state;
  int fd; /* separate: another load may have registered the plan's */
  void *handle;
} gds_file;

struct fst_gds {
  fst_cufile_driver driver;
  int required;
  pthread_mutex_t mutex; /* guards the files and the windows */
  uint32_t file_count;
  gds_file *files;
  uint64_t windows[FST_GDS_MOST_WINDOWS]; /* their addresses; 0: not registered */
  _Atomic int stopped; /* cuFile has failed: the host reads the rest */
  _Atomic int failure; /* the first one */
  _Atomic uint64_t bytes;
};

fst_gds *fst_gds_new(const fst_cufile_driver *driver, uint32_t files, int required) {
  fst_gds *gds = calloc(1, sizeof *gds);
  gds_file *list = calloc(files > 0 ? files : 1, sizeof *list);
  if (!gds || !list || pthread_mutex_init(&gds->mutex, NULL) != 0) {
    free(gds);
    free(list);
    return NULL;
  }
  gds->driver = *driver;
  gds->required = required;
  gds->file_count = files;
  gds->files = list;
  return gds;
}

void fst_gds_free(fst_gds *gds) {
  for (uint32_t i = 0; i < FST_GDS_MOST_WINDOWS; i++) {
    if (gds->windows[i]) gds->driver.cufile->cuFileBufDeregister((const void *)(uintptr_t)gds->windows[i]);
  }
  for (uint32_t i = 0; i < gds->file_count; i++) {
    if (gds->files[i].state != REGISTERED) continue;
    gds->driver.cufile->cuFileHandleDeregister(gds->files[i].handle);
    fst_file_close(gds->files[i].fd);
  }
  pthread_mutex_destroy(&gds->mutex);
  free(gds->files);
  free(gds);
}

void fst_gds_tally(fst_gds *gds, uint64_t *bytes, int *failure) {
  *bytes = atomic_load(&gds->bytes);
  *failure = atomic_load(&gds->failure);
}

/* Notes a failure. 1: the host continues; -1: cuFile was required, and the plan has failed. */
static int fail(fst_gds *gds, fst_lane *lane, int status) {
  int none = 0;
  atomic_compare_exchange_strong(&gds->failure, &none, status);
  return gds->required ? fst_segment_fail(lane, FST_FAILURE_DEVICE, status) : 1;
}

static int stop(fst_gds *gds, fst_lane *lane, int status) {
  atomic_store(&gds->stopped, 1);
  return fail(gds, lane, status);
}

/* A descriptor of the plan's file for cuFile only: with O_DIRECT, which older versions require, if possible. */
static int reopen(int fd) {
  int direct = fst_file_open_direct(fd);
  if (direct >= 0) return direct;
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  int buffered = fst_sys_open(path, O_RDONLY | O_CLOEXEC);
  return buffered < 0 ? -errno : buffered;
}

static int register_file(fst_gds *gds, fst_lane *lane, gds_file *file) {
  int fd = reopen(lane->file->fd);
  int status = fd < 0 ? fd : 0;
  if (status == 0) {
    fst_cufile_description description = {.type = 1, .handle = {.fd = fd}};
    status = gds->driver.cufile->cuFileHandleRegister(&file->handle, &description).err;
    if (status != 0) fst_file_close(fd);
  }
  file->state = status == 0 ? REGISTERED : REFUSED;
  file->fd = fd;
  return status == 0 ? 0 : fail(gds, lane, status);
}

/* Finds the handle of the current file. 0; 1 if the file system does not support cuFile; -1 if the plan failed. */
static int find_handle(fst_gds *gds, fst_lane *lane, void **handle) {
  gds_file *file = &gds->files[lane->segment->file];
  int result = 0;
  pthread_mutex_lock(&gds->mutex);
  if (file->state == UNTRIED) result = register_file(gds, lane, file);
  else if (file->state == REFUSED) result = 1;
  *handle = file->handle;
  pthread_mutex_unlock(&gds->mutex);
  return result;
}

uint64_t fst_gds_least(const fst_gds *gds) {
  return gds->required ? 0 : MINIMUM;
}

int fst_gds_wants(fst_gds *gds, fst_lane *lane, uint64_t offset, uint64_t length) {
  if (atomic_load(&gds->stopped) || lane->file->reader != FST_READER_POSIX) return 0;
  if (gds->required) return 1;
  if (length < fst_gds_least(gds)) return 0;
  int64_t cached = fst_file_cached(lane->file->fd, offset, length);
  return cached < 0 || (uint64_t)cached < length / 2;
}

int fst_gds_window(fst_gds *gds, fst_lane *lane, uint32_t number, uint64_t address, uint64_t bytes) {
  int status = 0;
  pthread_mutex_lock(&gds->mutex);
  if (!gds->windows[number]) {
    status = gds->driver.cufile->cuFileBufRegister((const void *)(uintptr_t)address, bytes, 0).err;
    if (status == 0) gds->windows[number] = address;
  }
  pthread_mutex_unlock(&gds->mutex);
  return status == 0 ? 0 : stop(gds, lane, status);
}

int fst_gds_read(fst_gds *gds, fst_lane *lane, uint64_t window, uint64_t window_bytes, uint64_t offset, uint64_t length,
                 uint64_t *skip, uint64_t *got) {
  *got = 0;
  /* File systems differ in what they do with a page that the file ends in: the host reads that. */
  const uint64_t end = lane->file->size & ~(PAGE - 1), start = offset & ~(PAGE - 1);
  if (offset >= end) return 0;
  uint64_t wanted = (offset + length < end ? offset + length : end) - start; /* from the page's start */
  if (wanted > window_bytes) wanted = window_bytes;
  void *handle;
  int status = find_handle(gds, lane, &handle);
  if (status != 0) return status < 0 ? -1 : 0;
  ssize_t read = gds->driver.cufile->cuFileRead(handle, (void *)(uintptr_t)window, (wanted + PAGE - 1) & ~(PAGE - 1),
                                                (off_t)start, 0);
  if (read < 0) {
    int error = errno; /* some versions store their own code there */
    if (read == -1) status = error >= FST_CUFILE_FIRST ? error : -error;
    else status = (int)-read;
    return stop(gds, lane, status) < 0 ? -1 : 0;
  }
  *skip = offset - start;
  if ((uint64_t)read < wanted) {
    /* A short read counts if it has at least a page. The file may end here; the host detects that. */
    if ((uint64_t)read < *skip + PAGE) return 0;
    wanted = (uint64_t)read;
  }
  *got = wanted - *skip;
  atomic_fetch_add(&gds->bytes, *got);
  return 0;
}
