/* The 3FS library, rings, and reads through them. Internal. */
#ifndef FST_THREE_FS_H
#define FST_THREE_FS_H

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "core/core.h"
#include "fst_usrbio.h"

/* ---- The library (library.c); layouts of x86-64 ---- */

struct hf3fs_iov {
  uint8_t *base;
  void *iovh;
  char id[16];
  char mount_point[256];
  size_t size;
  size_t block_size;
  int numa;
};
static_assert(sizeof(struct hf3fs_iov) == 312, "3FS' library has this layout");

struct hf3fs_ior {
  struct hf3fs_iov iov;
  void *iorh;
  char mount_point[256];
  bool for_read;
  int io_depth;
  int priority;
  int timeout;
  uint64_t flags;
};
static_assert(sizeof(struct hf3fs_ior) == 600, "3FS' library has this layout");

struct hf3fs_cqe {
  int32_t index;
  int32_t reserved;
  int64_t result; /* bytes, or -errno */
  const void *userdata;
};
static_assert(sizeof(struct hf3fs_cqe) == 24, "3FS' library has this layout");

struct fst_usrbio {
  int is_private; /* its memory is not shared with the daemon: posix.c */
  bool (*is_hf3fs)(int fd);
  int (*extract_mount_point)(char *mount_point, int size, const char *path);
  int (*iovcreate)(struct hf3fs_iov *iov, const char *mount_point, size_t size, size_t block_size, int numa);
  void (*iovunlink)(struct hf3fs_iov *iov);
  void (*iovdestroy)(struct hf3fs_iov *iov);
  int (*iorcreate4)(struct hf3fs_ior *ior, const char *mount_point, int entries, bool for_read, int io_depth,
                    int timeout, int numa, uint64_t flags);
  void (*iordestroy)(struct hf3fs_ior *ior);
  int (*reg_fd)(int fd, uint64_t flags); /* a positive value is the errno */
  void (*dereg_fd)(int fd);
  int (*prep_io)(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read, void *pointer, int fd,
                 size_t offset, uint64_t length, const void *userdata);
  int (*submit_ios)(const struct hf3fs_ior *ior);
  int (*wait_for_ios)(const struct hf3fs_ior *ior, struct hf3fs_cqe *results, int count, int least,
                      const struct timespec *until);
};

/* ---- Rings (ring.c) ---- */

typedef struct fst_usrbio_ring fst_usrbio_ring;

/* A read of a range of a file, in parts, each with its own request. */
typedef struct fst_usrbio_transfer {
  int fd;
  uint64_t offset, length;
  uint64_t part;     /* bytes of one request */
  char *memory;      /* in the ring's memory: `length` bytes; NULL: each part uses the memory of its request */
  char *destination; /* without `memory`: the destination of the parts, or NULL to drop them */
  uint64_t started;  /* bytes with a request, finished or not */
  uint64_t landed;
} fst_usrbio_transfer;

/* One request. */
typedef struct fst_usrbio_io {
  fst_usrbio_transfer *transfer; /* NULL: free */
  uint64_t offset, length;       /* the rest of it */
  char *memory;
  int is_cut; /* a read was short: the rest must be requested */
} fst_usrbio_io;

struct fst_usrbio_ring {
  fst_usrbio_ring *next; /* in the mount's list of idle rings */
  const fst_usrbio *library;
  struct hf3fs_ior ior;
  struct hf3fs_iov iov;
  fst_usrbio_transfer transfers[2]; /* for a lane: the current segment, and the next one */
  unsigned turn;                    /* the index of the current one */
  fst_usrbio_io *ios;               /* `entries` of them */
  uint32_t entries, in_flight, cut;
  uint64_t bytes;
  int64_t timeout; /* nanoseconds without a completion; 0: for ever */
  int64_t moved;   /* the time of the last completion, or of the start of the wait: monotonic, in nanoseconds */
  int is_broken;   /* requests are still in flight: it cannot be used again */
  void (*unpin)(fst_usrbio_ring *ring); /* if its memory is registered with a device */
  int pinned_device;
};

static inline char *fst_usrbio_memory(const fst_usrbio_ring *ring) {
  return (char *)ring->iov.base;
}

/* The failure of a transfer; kind FST_FAILURE_NONE with -1 as status: it was stopped. */
typedef struct fst_usrbio_failure {
  fst_error error;
  const fst_usrbio_transfer *transfer; /* the failed transfer, or NULL */
} fst_usrbio_failure;

int fst_usrbio_ring_new(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                        fst_usrbio_ring **ring, const char **failed);
void fst_usrbio_ring_free(fst_usrbio_ring *ring);

/* Adds requests for a transfer as far as the ring has space. 0, or -1 after a failure. */
int fst_usrbio_start(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_failure *failure);

/* Returns the next transfer, when all of the current one is requested and the ring has space; or NULL. */
typedef fst_usrbio_transfer *fst_usrbio_next(void *context);

/*
 * Completes a transfer, and starts the next one meanwhile. 0; or -1 after a failure, or because `*stop` was set: then
 * no request is in flight any more, or the ring is broken.
 */
int fst_usrbio_finish(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_next *next, void *context,
                      const _Atomic uint32_t *stop, fst_usrbio_failure *failure);

/* Waits for the requests in flight, and ignores their results; if they do not complete, the ring is broken. */
void fst_usrbio_drain(fst_usrbio_ring *ring);

/*
 * Registers the ring's memory with the thread's current CUDA device, unless it is registered. 0 or a status as in
 * fst_cuda.h.
 */
int fst_usrbio_pin(fst_usrbio_ring *ring);

/* ---- Mounts (mount.c) ---- */

typedef struct fst_usrbio_place fst_usrbio_place;

/* A mount point with options. Callers with the same mount point and options share one. */
struct fst_usrbio_mount {
  fst_usrbio_mount *next; /* of the same place */
  fst_usrbio_place *place;
  fst_usrbio_options asked, options; /* with the requested ring_bytes, and with the actual */
  unsigned users;                    /* calls of fst_usrbio_open without fst_usrbio_close */
  fst_usrbio_ring *idle;
};

/*
 * Takes a ring for the calling thread, which must not have one of this mount point already. Waits until a ring is
 * free. 0; -ECANCELED after `*stop` was set; or -errno.
 */
int fst_usrbio_take(fst_usrbio_mount *mount, const _Atomic uint32_t *stop, fst_usrbio_ring **ring);
void fst_usrbio_give_back(fst_usrbio_mount *mount, fst_usrbio_ring *ring);

/* Whether a thread waits for a ring of the mount point: a thread with a ring then returns it when it can. */
int fst_usrbio_is_wanted(const fst_usrbio_mount *mount);

#endif
