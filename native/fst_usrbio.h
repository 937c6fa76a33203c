/*
 * 3FS: reads through USRBIO, rings of requests in memory shared with the 3FS daemon. The library is opened at run
 * time, at the caller's first request. "0 or -errno" is the status unless stated otherwise. Any thread may call.
 */
#ifndef FST_USRBIO_H
#define FST_USRBIO_H

#include "fst.h"

/* The 3FS library; never closed, because its threads keep running. */
typedef struct fst_usrbio fst_usrbio;

/* A 3FS mount with rings to read from it: fst_plan_file.reader_handle of FST_READER_USRBIO. */
typedef struct fst_usrbio_mount fst_usrbio_mount;

/*
 * Opens libhf3fs_api_shared.so: from the folder in HF3FS_LIB_DIR, from those in LD_LIBRARY_PATH, or from the pip
 * package hf3fs_py_usrbio. `path` receives its path, `reason` the reason why it is not available, with everything
 * that was tried, or is empty. Both have `size` bytes.
 */
FST_EXPORT int32_t fst_usrbio_find(const fst_usrbio **library, char *path, char *reason, uint64_t size);

/* The same functions over ordinary reads, for files on any file system. */
FST_EXPORT const fst_usrbio *fst_usrbio_posix(void);

/* Whether the file system of an open file is mounted as 3FS (1 or 0), according to the system. */
FST_EXPORT int32_t fst_usrbio_is_mounted(int32_t fd);

/* The same, according to the file system (1 or 0). */
FST_EXPORT int32_t fst_usrbio_is_3fs(const fst_usrbio *library, int32_t fd);

/* The mount point of the file system of a path: the length of the text in `mount`, 0 if it is not 3FS, or -errno. */
FST_EXPORT int32_t fst_usrbio_mount_point(const fst_usrbio *library, const char *path, char *mount, uint64_t size);

typedef struct fst_usrbio_options {
  uint32_t entries;    /* requests in one ring, from 1 on */
  int32_t io_depth;    /* 0: requests are processed at once; -n: at most n at a time; above 0: -EINVAL */
  uint64_t ring_bytes; /* memory of one ring: a multiple of two pages; less if /dev/shm has little space */
  int32_t numa;        /* the memory's node; -1: any */
  uint32_t timeout_ms; /* a read fails after this time without a completion; 0: never */
  uint32_t rings;      /* the most rings at once, from 1 on: further readers wait */
  uint32_t reserved;   /* 0 */
} fst_usrbio_options;
static_assert(sizeof(fst_usrbio_options) == 32, "ffi/usrbio.ts knows this layout");

/*
 * Prepares reads from a mount; if this process has no ring on it, makes one, to test whether the mount answers.
 * `message` receives the failed step. Callers with the same mount and options share one object. All rings on one
 * mount point together have at most the memory, ring_bytes * rings, of the largest open options; it is reserved in
 * /dev/shm when a ring is made: -ENOSPC if there is no space for one.
 */
FST_EXPORT int32_t fst_usrbio_open(const fst_usrbio *library, const char *mount_point,
                                   const fst_usrbio_options *options, fst_usrbio_mount **mount, char *message,
                                   uint64_t size);

/* Undoes one fst_usrbio_open; its caller must not be reading. The last one frees the rings. */
FST_EXPORT void fst_usrbio_close(fst_usrbio_mount *mount);

/* Makes an open file readable through the mount's rings; undo this before the descriptor is closed. */
FST_EXPORT int32_t fst_usrbio_register(const fst_usrbio *library, int32_t fd);
FST_EXPORT void fst_usrbio_deregister(const fst_usrbio *library, int32_t fd);

/* The destination of fst_usrbio_read. */
enum fst_usrbio_target { FST_USRBIO_DROP = 0, FST_USRBIO_HOST = 1, FST_USRBIO_CUDA = 2 };

typedef struct fst_usrbio_request {
  int32_t fd;
  uint32_t pipelined; /* reads into one half of the ring's memory while the other half is copied */
  uint64_t offset;
  uint64_t length; /* the whole range must be in the file */
  uint64_t chunk;  /* bytes of one request; 0: as many as fit */
  uint32_t target; /* enum fst_usrbio_target */
  int32_t device;
  uint64_t device_address;
} fst_usrbio_request;
static_assert(sizeof(fst_usrbio_request) == 48, "ffi/usrbio.ts knows this layout");

/*
 * Reads a range outside any plan; `buffer` is the destination of FST_USRBIO_HOST. `*stop` may be set meanwhile, to
 * end it early. 0, or -1 with the error, which has the kind FST_FAILURE_NONE if it was stopped.
 */
FST_EXPORT int32_t fst_usrbio_read(fst_usrbio_mount *mount, const fst_usrbio_request *request, void *buffer,
                                   const uint32_t *stop, fst_error *error);

#endif
