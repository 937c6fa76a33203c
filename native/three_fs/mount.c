/*
 * Mounts and their rings. Each ring is used by one thread at a time. All rings of this process on one mount point
 * share one memory limit, for all mounts and options: the largest that was requested. A thread waits for a ring if
 * the limit is reached.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "three_fs/three_fs.h"

/* A thread that waits for a ring checks after this time whether its load was cancelled. */
#define SLICE ((int64_t)20 * 1000000)

/* Two halves, each of whole pages. */
#define STEP ((uint64_t)8192)

/* The least memory of a ring. */
#define LEAST_RING ((uint64_t)64 << 10)

/* A thread that waits for a ring. The first to wait is the first to get one. */
typedef struct waiter {
  struct waiter *next;
} waiter;

/* A mount point. */
struct fst_usrbio_place {
  fst_usrbio_place *next;
  const fst_usrbio *library;
  char mount_point[256];
  fst_usrbio_mount *mounts;
  uint64_t budget, bytes; /* the limit of the rings' memory, and the memory of existing and new rings */
  waiter *waiters;
  _Atomic uint32_t waiting;
  unsigned holders; /* mounts, and calls that free one */
  int is_tried;     /* a thread makes the first ring, to test whether the mount answers */
};

/* Guards all state of this file; signalled when a ring becomes free, a budget changes or a turn comes. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static fst_usrbio_place *places;

static void unlock_changed(void) {
  pthread_cond_broadcast(&changed);
  pthread_mutex_unlock(&lock);
}

/* ---- Rings ---- */

static void enqueue(fst_usrbio_place *place, waiter *self) {
  waiter **end = &place->waiters;
  while (*end) end = &(*end)->next;
  *end = self;
  atomic_fetch_add(&place->waiting, 1);
}

static void dequeue(fst_usrbio_place *place, waiter *self) {
  waiter **at = &place->waiters;
  while (*at != self) at = &(*at)->next;
  *at = self->next;
  atomic_fetch_sub(&place->waiting, 1);
}

static void wait_a_slice(void) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += SLICE;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_cond_timedwait(&changed, &lock, &until);
}

/* Frees idle rings, except those of `spared`, until the rest has at most `bytes` bytes. The caller has the lock. */
static void trim(fst_usrbio_place *place, const fst_usrbio_mount *spared, uint64_t bytes) {
  for (;;) {
    fst_usrbio_mount *mount = place->mounts;
    while (mount && (mount == spared || !mount->idle)) mount = mount->next;
    if (!mount || place->bytes <= bytes) return;
    fst_usrbio_ring *ring = mount->idle;
    mount->idle = ring->next;
    const uint64_t freed = ring->bytes;
    pthread_mutex_unlock(&lock);
    fst_usrbio_ring_free(ring);
    pthread_mutex_lock(&lock);
    place->bytes -= freed;
    pthread_cond_broadcast(&changed);
  }
}

/*
 * Waits for an idle ring, or for memory for a new one: then `*ring` is NULL and its bytes are counted. The caller has
 * the lock.
 */
static int wait_for_ring(fst_usrbio_mount *mount, const _Atomic uint32_t *stop, fst_usrbio_ring **ring) {
  fst_usrbio_place *place = mount->place;
  const uint64_t bytes = mount->options.ring_bytes;
  waiter self = {NULL};
  int status = -EAGAIN;
  enqueue(place, &self);
  while (status == -EAGAIN) {
    if (stop && atomic_load(stop)) {
      status = -ECANCELED;
    } else if (place->waiters == &self && mount->idle) {
      *ring = mount->idle;
      mount->idle = (*ring)->next;
      status = 0;
    } else if (place->waiters == &self) {
      if (place->bytes + bytes > place->budget) trim(place, mount, place->budget > bytes ? place->budget - bytes : 0);
      /* A single ring always fits, so that no thread waits for ever after the limit was reduced. */
      if (!mount->idle && (place->bytes + bytes <= place->budget || place->bytes == 0)) {
        place->bytes += bytes;
        *ring = NULL;
        status = 0;
      } else if (!mount->idle) {
        wait_a_slice();
      }
    } else {
      wait_a_slice();
    }
  }
  dequeue(place, &self);
  return status;
}

static int take(fst_usrbio_mount *mount, const _Atomic uint32_t *stop, fst_usrbio_ring **ring, const char **failed) {
  fst_usrbio_place *place = mount->place;
  for (;;) {
    pthread_mutex_lock(&lock);
    int status = wait_for_ring(mount, stop, ring);
    unlock_changed(); /* wakes the next thread */
    if (status != 0 || *ring) return status;
    status = fst_usrbio_ring_new(place->library, place->mount_point, &mount->options, ring, failed);
    if (status == 0) return 0;
    pthread_mutex_lock(&lock);
    place->bytes -= mount->options.ring_bytes;
    /* If /dev/shm is full, use the existing rings. */
    const int others = status == -ENOSPC && place->bytes > 0;
    if (others && place->budget > place->bytes) place->budget = place->bytes;
    unlock_changed();
    if (!others) return status;
  }
}

int fst_usrbio_take(fst_usrbio_mount *mount, const _Atomic uint32_t *stop, fst_usrbio_ring **ring) {
  const char *failed;
  *ring = NULL;
  return take(mount, stop, ring, &failed);
}

void fst_usrbio_give_back(fst_usrbio_mount *mount, fst_usrbio_ring *ring) {
  fst_usrbio_place *place = mount->place;
  pthread_mutex_lock(&lock);
  const int is_kept = !ring->is_broken && place->bytes <= place->budget;
  if (is_kept) {
    ring->next = mount->idle;
    mount->idle = ring;
  } else {
    const uint64_t freed = ring->bytes;
    pthread_mutex_unlock(&lock);
    fst_usrbio_ring_free(ring);
    pthread_mutex_lock(&lock);
    place->bytes -= freed;
  }
  unlock_changed();
}

int fst_usrbio_is_wanted(const fst_usrbio_mount *mount) {
  return atomic_load(&mount->place->waiting) > 0;
}

/* ---- Mounts ---- */

/*
 * The part of `bytes` for each ring: half of the free space of /dev/shm is left to other programs. The memory of an
 * existing ring is safe without this limit, because it is reserved (ring.c).
 */
static uint64_t share_of(const fst_usrbio_place *place, uint64_t bytes, uint32_t rings) {
  struct statvfs status;
  if (place->library->is_private || statvfs("/dev/shm", &status) != 0) return bytes;
  const uint64_t share = ((uint64_t)status.f_bavail * status.f_frsize + place->bytes) / 2 / rings;
  return share < bytes ? share - share % STEP : bytes;
}

/*
 * Returns the place of a mount point, with one more user; private memory is not shared. NULL without memory. The
 * caller has the lock.
 */
static fst_usrbio_place *place_of(const fst_usrbio *library, const char *mount_point) {
  for (fst_usrbio_place *place = places; place && !library->is_private; place = place->next) {
    if (place->library != library || strcmp(place->mount_point, mount_point) != 0) continue;
    place->holders++;
    return place;
  }
  fst_usrbio_place *place = calloc(1, sizeof *place);
  if (!place) return NULL;
  place->holders = 1;
  place->library = library;
  strcpy(place->mount_point, mount_point);
  place->next = places;
  places = place;
  return place;
}

static void set_budget(fst_usrbio_place *place) {
  place->budget = 0;
  for (const fst_usrbio_mount *mount = place->mounts; mount; mount = mount->next) {
    const uint64_t wanted = mount->options.ring_bytes * mount->options.rings;
    if (wanted > place->budget) place->budget = wanted;
  }
}

/* Removes a user of a place. The caller has the lock. */
static void leave(fst_usrbio_place *place) {
  fst_usrbio_place **at = &places;
  if (--place->holders > 0) return;
  while (*at != place) at = &(*at)->next;
  *at = place->next;
  free(place);
}

/* Uses the existing mount with the same options, or makes one. The caller has the lock. */
static int join(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                fst_usrbio_mount **result, const char **failed) {
  fst_usrbio_place *place = place_of(library, mount_point);
  if (!place) return -ENOMEM;
  for (fst_usrbio_mount *mount = place->mounts; mount; mount = mount->next) {
    if (memcmp(&mount->asked, options, sizeof *options) != 0) continue;
    leave(place); /* the mount is already its user */
    mount->users++;
    *result = mount;
    return 0;
  }
  const uint64_t bytes = share_of(place, options->ring_bytes, options->rings);
  fst_usrbio_mount *mount = calloc(1, sizeof *mount);
  int status = mount ? 0 : -ENOMEM;
  if (status == 0 && bytes < options->ring_bytes && bytes < LEAST_RING) {
    *failed = "finding space in /dev/shm";
    status = -ENOSPC;
  }
  if (status != 0) {
    free(mount);
    leave(place);
    return status;
  }
  *mount = (fst_usrbio_mount){.next = place->mounts, .place = place, .asked = *options, .options = *options, .users = 1};
  mount->options.ring_bytes = bytes;
  place->mounts = mount;
  set_budget(place);
  *result = mount;
  return 0;
}

/* Makes the first ring of a mount point, which shows whether the mount answers. */
static int try_out(fst_usrbio_mount *mount, const char **failed) {
  fst_usrbio_place *place = mount->place;
  fst_usrbio_ring *ring = NULL;
  pthread_mutex_lock(&lock);
  while (place->is_tried) pthread_cond_wait(&changed, &lock);
  const int answers = place->bytes > 0;
  place->is_tried = !answers;
  pthread_mutex_unlock(&lock);
  if (answers) return 0;
  int status = take(mount, NULL, &ring, failed);
  if (status == 0) fst_usrbio_give_back(mount, ring);
  pthread_mutex_lock(&lock);
  place->is_tried = 0;
  unlock_changed();
  return status;
}

int32_t fst_usrbio_open(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                        fst_usrbio_mount **result, char *message, uint64_t size) {
  snprintf(message, size, "the options are not valid");
  if (options->entries == 0 || options->entries > INT32_MAX || options->io_depth > 0) return -EINVAL;
  if (options->ring_bytes == 0 || options->ring_bytes % STEP != 0 || options->rings == 0) return -EINVAL;
  if (options->ring_bytes > UINT64_MAX / options->rings) return -EINVAL;
  if (strlen(mount_point) >= sizeof ((fst_usrbio_place *)0)->mount_point) {
    snprintf(message, size, "the mount point is longer than 255 bytes");
    return -ENAMETOOLONG;
  }
  const char *failed = "allocating";
  fst_usrbio_mount *mount = NULL;
  pthread_mutex_lock(&lock);
  int status = join(library, mount_point, options, &mount, &failed);
  pthread_mutex_unlock(&lock);
  if (status == 0) status = try_out(mount, &failed);
  if (status == 0) {
    *result = mount;
    return 0;
  }
  snprintf(message, size, "%s failed", failed);
  if (mount) fst_usrbio_close(mount);
  return status;
}

void fst_usrbio_close(fst_usrbio_mount *mount) {
  fst_usrbio_place *place = mount->place;
  uint64_t freed = 0;
  pthread_mutex_lock(&lock);
  const int is_last = --mount->users == 0;
  if (is_last) { /* it cannot be found any more */
    fst_usrbio_mount **at = &place->mounts;
    while (*at != mount) at = &(*at)->next;
    *at = mount->next;
    set_budget(place);
  }
  pthread_mutex_unlock(&lock);
  if (!is_last) return;
  while (mount->idle) {
    fst_usrbio_ring *ring = mount->idle;
    mount->idle = ring->next;
    freed += ring->bytes;
    fst_usrbio_ring_free(ring);
  }
  free(mount);
  pthread_mutex_lock(&lock);
  place->bytes -= freed;
  leave(place);
  unlock_changed();
}
