/* A mount and its rings: each is used by one thread at a time, and kept for the next. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "usrbio.h"

int fst_usrbio_take(fst_usrbio_mount *mount, fst_usrbio_ring **ring) {
  pthread_mutex_lock(&mount->mutex);
  *ring = mount->idle;
  if (*ring) mount->idle = (*ring)->next;
  pthread_mutex_unlock(&mount->mutex);
  if (*ring) return 0;
  const char *failed;
  return fst_usrbio_ring_new(mount->library, mount->mount_point, &mount->options, ring, &failed);
}

void fst_usrbio_give_back(fst_usrbio_mount *mount, fst_usrbio_ring *ring) {
  if (ring->is_broken) {
    fst_usrbio_ring_free(ring);
    return;
  }
  pthread_mutex_lock(&mount->mutex);
  ring->next = mount->idle;
  mount->idle = ring;
  pthread_mutex_unlock(&mount->mutex);
}

/* Two halves, each of whole pages. */
#define STEP ((uint64_t)8192)

/* The least that is worth a ring. */
#define LEAST_RING ((uint64_t)64 << 10)

/*
 * How much of `bytes` each ring can have. The library maps what /dev/shm has not got, and the first touch of it ends
 * the process: half of what is free is left to others, and to what the library itself puts there.
 */
static uint64_t room_for(uint64_t bytes, uint32_t rings) {
  struct statvfs status;
  if (statvfs("/dev/shm", &status) != 0) return bytes;
  const uint64_t share = (uint64_t)status.f_bavail * status.f_frsize / 2 / rings;
  return share < bytes ? share - share % STEP : bytes;
}

int32_t fst_usrbio_open(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                        fst_usrbio_mount **result, char *message, uint64_t size) {
  snprintf(message, size, "the options are not valid");
  if (options->entries == 0 || options->entries > INT32_MAX || options->io_depth > 0) return -EINVAL;
  if (options->ring_bytes == 0 || options->ring_bytes % STEP != 0 || options->rings == 0) return -EINVAL;
  uint64_t bytes = library->is_private ? options->ring_bytes : room_for(options->ring_bytes, options->rings);
  if (bytes < options->ring_bytes && bytes < LEAST_RING) {
    snprintf(message, size, "finding room in /dev/shm failed");
    return -ENOSPC;
  }
  fst_usrbio_mount *mount = calloc(1, sizeof *mount);
  if (!mount) return -ENOMEM;
  if (strlen(mount_point) >= sizeof mount->mount_point) {
    snprintf(message, size, "the mount point is longer than 255 bytes");
    free(mount);
    return -ENAMETOOLONG;
  }
  mount->library = library;
  mount->options = *options;
  mount->options.ring_bytes = bytes;
  strcpy(mount->mount_point, mount_point);
  fst_usrbio_sweep();
  const char *failed = NULL;
  int status = fst_usrbio_ring_new(library, mount_point, &mount->options, &mount->idle, &failed);
  if (status == 0) status = -pthread_mutex_init(&mount->mutex, NULL);
  if (status == 0) {
    *result = mount;
    return 0;
  }
  snprintf(message, size, "%s failed", failed ? failed : "pthread_mutex_init");
  if (mount->idle) fst_usrbio_ring_free(mount->idle);
  free(mount);
  return status;
}

void fst_usrbio_close(fst_usrbio_mount *mount) {
  while (mount->idle) {
    fst_usrbio_ring *ring = mount->idle;
    mount->idle = ring->next;
    fst_usrbio_ring_free(ring);
  }
  pthread_mutex_destroy(&mount->mutex);
  free(mount);
}
