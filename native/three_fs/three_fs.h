/* 3FS' library, rings and what is read through them. Inside the shim only. */
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
  int is_private; /* its memory is not shared with another process: posix.c */
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

/* Bytes on their way from a file, in parts, each a request of its own. */
typedef struct fst_usrbio_transfer {
  int fd;
  uint64_t offset, length;
  uint64_t part;     /* bytes of one request */
  char *memory;      /* in the ring's memory: `length` bytes; NULL: the parts use it in turns */
  char *destination; /* without `memory`: where the parts are copied to, or NULL to drop them */
  uint64_t started;  /* bytes for which there is, or was, a request */
  uint64_t landed;
} fst_usrbio_transfer;

/* One request. */
typedef struct fst_usrbio_io {
  fst_usrbio_transfer *transfer; /* NULL: free */
  uint64_t offset, length;       /* what is still to come of it */
  char *memory;
  int is_cut; /* a read was short: the rest has to be asked for */
} fst_usrbio_io;

struct fst_usrbio_ring {
  fst_usrbio_ring *next; /* in the mount's list of idle ones */
  const fst_usrbio *library;
  struct hf3fs_ior ior;
  struct hf3fs_iov iov;
  fst_usrbio_transfer transfers[2]; /* of a lane: the segment in hand, and the next one */
  unsigned turn;                    /* which of them is in hand */
  fst_usrbio_io *ios;               /* `entries` of them */
  uint32_t entries, in_flight, cut;
  uint64_t bytes;
  int64_t timeout; /* nanoseconds without a completion; 0: for ever */
  int64_t moved;   /* when something completed last, or waiting began: monotonic, in nanoseconds */
  int is_broken;   /* requests are still out: it cannot be used again */
  void (*unpin)(fst_usrbio_ring *ring); /* if a device has been told of its memory */
  int pinned_device;
};

static inline char *fst_usrbio_memory(const fst_usrbio_ring *ring) {
  return (char *)ring->iov.base;
}

/* What ended a transfer; kind FST_FAILURE_NONE with -1 as status: it was stopped. */
typedef struct fst_usrbio_failure {
  fst_error error;
  const fst_usrbio_transfer *transfer; /* whose failure it is, if anyone's */
} fst_usrbio_failure;

int fst_usrbio_ring_new(const fst_usrbio *library, const char *mount_point, const fst_usrbio_options *options,
                        fst_usrbio_ring **ring, const char **failed);
void fst_usrbio_ring_free(fst_usrbio_ring *ring);

/* Asks for as much of a transfer as the ring has room for. 0, or -1 after a failure. */
int fst_usrbio_start(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_failure *failure);

/* What is to be read after a transfer of which all has been asked for, while there is room for more; or NULL. */
typedef fst_usrbio_transfer *fst_usrbio_next(void *context);

/*
 * Sees a transfer through, and keeps the next one going meanwhile. 0; or -1 after a failure, or because `*stop` was
 * set: then nothing is in flight any more, or the ring is broken.
 */
int fst_usrbio_finish(fst_usrbio_ring *ring, fst_usrbio_transfer *transfer, fst_usrbio_next *next, void *context,
                      const _Atomic uint32_t *stop, fst_usrbio_failure *failure);

/* Lets what is in flight come to its end, whatever it brings; a ring in which it does not is broken. */
void fst_usrbio_drain(fst_usrbio_ring *ring);

/* Tells the thread's current CUDA device of the ring's memory, unless one has been told. 0 or a status as in fst_cuda.h. */
int fst_usrbio_pin(fst_usrbio_ring *ring);

/* ---- Mounts (mount.c) ---- */

typedef struct fst_usrbio_place fst_usrbio_place;

/* Whoever opens a mount point with the same options has the same mount. */
struct fst_usrbio_mount {
  fst_usrbio_mount *next; /* of the same place */
  fst_usrbio_place *place;
  fst_usrbio_options asked, options; /* with the ring_bytes that was asked for, and with what there is */
  unsigned users;                    /* calls of fst_usrbio_open without fst_usrbio_close */
  fst_usrbio_ring *idle;
};

/*
 * A ring for the calling thread alone, which must have none of this mount point already. Waits until there is one.
 * 0; -ECANCELED once `*stop` is set; or -errno.
 */
int fst_usrbio_take(fst_usrbio_mount *mount, const _Atomic uint32_t *stop, fst_usrbio_ring **ring);
void fst_usrbio_give_back(fst_usrbio_mount *mount, fst_usrbio_ring *ring);

/* Whether a thread waits for a ring of the mount point: whoever has one gives it back when it can. */
int fst_usrbio_is_wanted(const fst_usrbio_mount *mount);

#endif
