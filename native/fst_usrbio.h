/*
 * 3FS in the shim: reads through USRBIO, rings of requests in memory shared with 3FS' daemon. The library is opened at
 * run time, by the caller's first wish. "0 or -errno" is the status unless said otherwise. Any thread may call.
 */
#ifndef FST_USRBIO_H
#define FST_USRBIO_H

#include "fst.h"

/* 3FS' library; never closed, its threads run on. */
typedef struct fst_usrbio fst_usrbio;

/* A 3FS mount with rings to read from it: fst_plan_file.reader_handle of FST_READER_USRBIO. */
typedef struct fst_usrbio_mount fst_usrbio_mount;

/*
 * Opens libhf3fs_api_shared.so: from the folder in HF3FS_LIB_DIR, from those in LD_LIBRARY_PATH, from where pip puts
 * hf3fs_py_usrbio. `path` gets where it is, `reason` why it is not available: everything that was tried, or empty. Both
 * have `size` bytes.
 */
FST_EXPORT int32_t fst_usrbio_find(const fst_usrbio **library, char *path, char *reason, uint64_t size);

/* The same functions over ordinary reads, for files on any file system. */
FST_EXPORT const fst_usrbio *fst_usrbio_posix(void);

/* Whether the file system of an open file is mounted as 3FS (1 or 0), as far as the system knows. */
FST_EXPORT int32_t fst_usrbio_is_mounted(int32_t fd);

/* The same by asking the file system (1 or 0). */
FST_EXPORT int32_t fst_usrbio_is_3fs(const fst_usrbio *library, int32_t fd);

/* Where the file system of a path is mounted: the length of the text in `mount`, 0 if that is no 3FS, or -errno. */
FST_EXPORT int32_t fst_usrbio_mount_point(const fst_usrbio *library, const char *path, char *mount, uint64_t size);

typedef struct fst_usrbio_options {
  uint32_t entries;    /* requests in one ring, from 1 on */
  int32_t io_depth;    /* 0: requests are worked off at once; below: at most so many at a time. Above: -EINVAL */
  uint64_t ring_bytes; /* memory of one ring: a multiple of two pages; less where /dev/shm has little space */
  int32_t numa;        /* the memory's node; -1: wherever */
  uint32_t timeout_ms; /* how long nothing may complete before a read is given up; 0: for ever */
  uint32_t rings;      /* how many there may be at once, from 1 on: further readers wait */
  uint32_t reserved;   /* 0 */
} fst_usrbio_options;
static_assert(sizeof(fst_usrbio_options) == 32, "ffi/usrbio.ts knows this layout");

/*
 * Prepares to read from a mount; where this process has no ring on it, makes one, which shows whether the mount
 * answers. `message` gets what failed. Whoever opens a mount with the same options gets the same one. All rings on one
 * mount point together have at most the memory, ring_bytes * rings, of the largest options that it is open with; it is
 * reserved in /dev/shm when a ring is made: -ENOSPC where there is no space for any.
 */
FST_EXPORT int32_t fst_usrbio_open(const fst_usrbio *library, const char *mount_point,
                                   const fst_usrbio_options *options, fst_usrbio_mount **mount, char *message,
                                   uint64_t size);

/* Undoes one fst_usrbio_open, after which its caller must not be reading. The last one frees the rings. */
FST_EXPORT void fst_usrbio_close(fst_usrbio_mount *mount);

/* Makes an open file readable through the mount's rings; to be undone before the descriptor is closed. */
FST_EXPORT int32_t fst_usrbio_register(const fst_usrbio *library, int32_t fd);
FST_EXPORT void fst_usrbio_deregister(const fst_usrbio *library, int32_t fd);

/* Where fst_usrbio_read brings bytes. */
enum fst_usrbio_target { FST_USRBIO_DROP = 0, FST_USRBIO_HOST = 1, FST_USRBIO_CUDA = 2 };

typedef struct fst_usrbio_request {
  int32_t fd;
  uint32_t pipelined; /* reads into one half of the ring's memory while the other half is copied */
  uint64_t offset;
  uint64_t length; /* all of it must be in the file */
  uint64_t chunk;  /* bytes of one request; 0: as many as fit */
  uint32_t target; /* enum fst_usrbio_target */
  int32_t device;
  uint64_t device_address;
} fst_usrbio_request;
static_assert(sizeof(fst_usrbio_request) == 48, "ffi/usrbio.ts knows this layout");

/*
 * Reads a range by itself, outside any plan; `buffer` is where FST_USRBIO_HOST has it. `*stop` may be set meanwhile, to
 * end it early. 0, or -1 with the error, which is of kind FST_FAILURE_NONE if it was stopped.
 */
FST_EXPORT int32_t fst_usrbio_read(fst_usrbio_mount *mount, const fst_usrbio_request *request, void *buffer,
                                   const uint32_t *stop, fst_error *error);

#endif
