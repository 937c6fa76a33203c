/*
 * Shared declarations of the library's folders, except casts: how a plan's lanes read and land, system calls, memory,
 * libraries that are opened at run time, and the environment. Internal.
 */
#ifndef FST_CORE_H
#define FST_CORE_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "cast/cast.h"
#include "fst.h"

/* ---- Debug builds (debug.c) ---- */

/*
 * Additions of a debug build (-DFST_DEBUG, `deno task build:debug`): checks of internal assumptions, and trace lines
 * on stderr. An ordinary build has none of them.
 */

#ifdef FST_DEBUG

#include <assert.h>

#define FST_ASSERT(condition) assert(condition)
#define FST_TRACE(...) fst_trace(__VA_ARGS__)

/* Writes a line to stderr: seconds since the first line, the thread, and the text. */
void fst_trace(const char *format, ...) __attribute__((format(printf, 1, 2), no_instrument_function));

#else

#define FST_ASSERT(condition) ((void)0)
#define FST_TRACE(...) ((void)0)

#endif

/* ---- The environment (environment.c) ---- */

/*
 * The environment variables that the library uses. JavaScript reads them and passes them on: another thread may
 * change the process's own environment at any moment, and getenv would then read freed memory. No function here calls
 * getenv or setenv.
 */

/* Longest value, with its NUL. */
#define FST_ENVIRONMENT_VALUE 4096

/* Copies a variable to `value` and returns it; NULL if the variable is not set, empty, or longer. */
const char *fst_environment(const char *name, char value[FST_ENVIRONMENT_VALUE]);

/* ---- Libraries that may be missing (library.c) ---- */

/* Longest path that is reported, with its NUL. */
#define FST_LIBRARY_PATH 1024

/* A function of a library: its name, and the place of its address in a struct. */
typedef struct fst_library_symbol {
  const char *name;
  size_t offset;
  int optional; /* NULL if the library lacks it */
} fst_library_symbol;

/*
 * A library: its possible places, its functions, and, after opening, its path. Each library has one static object;
 * lists end with NULL.
 */
typedef struct fst_library {
  void *(*find)(char *reason, size_t size); /* a special way to find and open it; NULL: as in fst_library_open */
  const char *variable;       /* environment variable that names the library that is used instead of all others */
  const char *const *names;   /* file names, best first */
  const char *const *wheels;  /* folders below a Python site-packages, of its wheels; NULL: not a part of CUDA */
  const fst_library_symbol *symbols;
  size_t symbol_count;
  void *functions;            /* the struct of the symbols' offsets */
  pthread_mutex_t mutex;      /* PTHREAD_MUTEX_INITIALIZER */
  void *handle;               /* of dlopen; NULL: not open */
  char path[FST_LIBRARY_PATH]; /* constant after the library is open */
} fst_library;

/*
 * Opens a library and looks up its functions, at the first call that finds it; from any thread. Order: the library
 * that the variable names, a library that the process has already opened, one found by name, one from the usual
 * folders. It is never closed, because its own threads may run in it. 0, or -1 with the reason and everything that
 * was tried in
 * `reason`; otherwise `reason` is empty.
 */
int fst_library_open(fst_library *library, char *reason, size_t size);

/*
 * The folders of libraries besides the system's, one pattern of glob(3) for each `index` from 0 on: folders of a
 * wheel below those of Python packages, or those of CUDA if `wheel` is NULL. 1; 0: no folder for `index`; -1: none
 * for
 * `index` or any larger one.
 */
int fst_library_folder(size_t index, const char *wheel, char *pattern, size_t size);

/* Appends to a reason, which is cut at `size`. */
__attribute__((format(printf, 3, 4))) void fst_library_tell(char *reason, size_t size, const char *format, ...);

/* ---- System calls on files (system.c) ---- */

/* Each is a function that a test can replace when the library is linked, to make calls fail. */

struct fst_cachestat_range {
  uint64_t offset, length;
};
struct fst_cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

int fst_sys_open(const char *path, int flags);
ssize_t fst_sys_pread(int fd, void *buffer, size_t length, off_t offset);
/* Reads what the page cache has, without waiting for storage; EAGAIN: nothing. */
ssize_t fst_sys_pread_now(int fd, void *buffer, size_t length, off_t offset);
int fst_sys_fstat(int fd, struct stat *status);
int fst_sys_cachestat(int fd, const struct fst_cachestat_range *range, struct fst_cachestat *result);
int fst_sys_create(const char *path, mode_t mode);
int fst_sys_allocate(int fd, off_t size);
ssize_t fst_sys_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int fst_sys_fsync(int fd);
int fst_sys_rename(const char *from, const char *to, unsigned flags);
int fst_sys_link(const char *from, const char *to);
size_t fst_sys_page_size(void);

/* ---- Memory (memory.c, memory_available.c, copy.c) ---- */

#define FST_HUGE_PAGE ((size_t)2 << 20)

/* Maps whole pages of memory, huge ones if possible; NULL if there is no memory. Unmap with the same length. */
void *fst_staging_map(size_t length);
void fst_staging_unmap(void *staging, size_t length);

/*
 * Bytes that the control groups of a process still allow: the smallest value of its group and all parents, of both
 * versions. INT64_MAX without a limit. `groups` is like /proc/self/cgroup, `mount` like /sys/fs/cgroup.
 */
int64_t fst_group_available(const char *groups, const char *mount);

/* Copies cached bytes to newly cleared memory, where it is faster than memcpy. */
void fst_copy(void *to, const void *from, uint64_t bytes);

/* ---- A lane while it runs (lane.c) ---- */

typedef struct fst_lane {
  fst_plan *plan;
  uint32_t limit; /* this call runs segments below it */
  uint32_t index; /* of the current segment */
  const fst_segment *segment;
  fst_plan_file *file;
  char *staging; /* mapped on first use, plan->staging_bytes long */
  struct fst_cuda_lane *cuda; /* for a lane to a CUDA device: cuda/land.c */
  struct fst_usrbio_mount *usrbio_mount; /* the mount of the lane's ring, or NULL: three_fs/lane.c */
  struct fst_usrbio_ring *usrbio_ring;
  uint32_t ahead;  /* the next segment, taken early */
  int has_ahead;
  int ahead_begun; /* its read has started */
} fst_lane;

/* The number of bytes at the destination for `length` bytes of a segment's file. */
static inline uint64_t fst_segment_landing(const fst_segment *segment, uint64_t length) {
  if (segment->from == segment->to) return length;
  return length / (fst_dtype_bits(segment->from) / 8) * (fst_dtype_bits(segment->to) / 8);
}

/*
 * The source of bytes: a reader for each kind of file (read.c, three_fs/lane.c). Its functions that read return 0, or
 * -1 after they have recorded the failure in the plan.
 */
typedef struct fst_reader {
  /* Reads exactly `length` bytes of the segment's file to `destination`. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, char *destination);
  /*
   * Reads `length` bytes, at most the capacity, to the lane's staging memory or the reader's own; sets `*bytes` to
   * their start.
   */
  int (*staged)(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes);
  /* The most bytes of one staged read. */
  uint64_t (*capacity)(const fst_lane *lane);
  /*
   * The number of bytes to stage at once, in whole cache lines; at most `most` if the page cache has them, where the
   * destination determines the fastest length.
   */
  uint64_t (*piece)(const fst_lane *lane, uint64_t offset, uint64_t length, uint64_t most);
  /*
   * The reader's own pinned memory for one of a CUDA lane's two slots, or NULL after a failure; NULL: no such memory.
   */
  char *(*slot)(fst_lane *lane, unsigned slot);
} fst_reader;

extern const fst_reader fst_reader_posix, fst_reader_usrbio;

static inline const fst_reader *fst_reader_of(const fst_lane *lane) {
  return lane->file->reader == FST_READER_USRBIO ? &fst_reader_usrbio : &fst_reader_posix;
}

static inline int fst_read_range(fst_lane *lane, uint64_t offset, uint64_t length, char *destination) {
  return fst_reader_of(lane)->range(lane, offset, length, destination);
}

static inline int fst_read_staged(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes) {
  return fst_reader_of(lane)->staged(lane, offset, length, bytes);
}

static inline uint64_t fst_stage_capacity(const fst_lane *lane) {
  return fst_reader_of(lane)->capacity(lane);
}

static inline uint64_t fst_stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length, uint64_t most) {
  return fst_reader_of(lane)->piece(lane, offset, length, most);
}

/* Fails the plan because of the current segment; returns -1. */
int fst_lane_fail(fst_lane *lane, fst_error error);

/* The same if it is not known which bytes of the segment failed. */
int fst_segment_fail(fst_lane *lane, enum fst_failure kind, int code);

/* Fails the plan if the file has changed since its header was read. */
int fst_read_verify(fst_lane *lane);

/* Lands the current segment in host memory (land_host.c), and marks it as landed. */
int fst_land_host(fst_lane *lane);

/* ---- Common parts of all kinds of destination (land.c) ---- */

/* The functions of one kind of destination. Both return 0, or -1 after they have recorded the failure in the plan. */
typedef struct fst_sink {
  /* Lands `length` bytes of the file from `offset` on. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t destination);
  /* Lands `outer` x `inner` runs from `offset` on; their span fits the staging memory. */
  int (*span)(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t destination);
} fst_sink;

/* Passes the whole current segment to the sink, in pieces that it supports. */
int fst_land_segment(fst_lane *lane, const fst_sink *sink);

/* Bytes of the file from the first run of a span to the end of its last. */
static inline uint64_t fst_span_bytes(const fst_segment *segment, uint64_t outer, uint64_t inner) {
  return (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run;
}

/* ---- Functions of other folders for a lane ---- */

/* Lanes to CUDA devices (cuda/land.c). */

/* Reads the current segment and starts the copy to the device. It is marked as landed after the copy. */
int fst_land_cuda(fst_lane *lane);

/* Waits for the device's remaining work of this lane, marks its segments, and frees the lane's resources. */
void fst_land_cuda_end(fst_lane *lane);

/* Lanes from 3FS (three_fs/lane.c). */

/* Whether the lane should return between two segments, so that another lane can use its ring. */
int fst_usrbio_yields(const fst_lane *lane);

/* Returns the lane's ring, if it has one; its memory must not be in use. */
void fst_usrbio_end(fst_lane *lane);

#endif
