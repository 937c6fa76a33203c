/*
 * What the folders of the shim share, apart from casts: how a plan's lanes read and land, system calls, memory, libraries that are
 * opened at run time, and the environment. Inside the shim only.
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
 * What a debug build (-DFST_DEBUG, `deno task build:debug`) adds: checks of what the shim itself takes for granted,
 * and lines on stderr that say what it does. In an ordinary build there is nothing of it.
 */

#ifdef FST_DEBUG

#include <assert.h>

#define FST_ASSERT(condition) assert(condition)
#define FST_TRACE(...) fst_trace(__VA_ARGS__)

/* Writes a line to stderr: seconds since the first one, the thread, and the text. */
void fst_trace(const char *format, ...) __attribute__((format(printf, 1, 2), no_instrument_function));

#else

#define FST_ASSERT(condition) ((void)0)
#define FST_TRACE(...) ((void)0)

#endif

/* ---- The environment (environment.c) ---- */

/*
 * The environment variables that the shim knows. JavaScript reads them and passes them on: another thread may change
 * the process's own environment at any moment, and getenv would then read freed memory. Nothing here calls getenv or
 * setenv.
 */

/* Longest value, with its NUL. */
#define FST_ENVIRONMENT_VALUE 4096

/* Copies a variable to `value`, which is returned; NULL where it is not set, empty, or longer. */
const char *fst_environment(const char *name, char value[FST_ENVIRONMENT_VALUE]);

/* ---- Libraries that may be missing (library.c) ---- */

/* Longest path that is reported, with its NUL. */
#define FST_LIBRARY_PATH 1024

/* A function of a library: its name, and where its address goes in a struct. */
typedef struct fst_library_symbol {
  const char *name;
  size_t offset;
  int optional; /* left NULL where the library lacks it */
} fst_library_symbol;

/*
 * A library: where it may be, what is wanted of it, and, once it is open, where it was. One static object each;
 * lists end with NULL.
 */
typedef struct fst_library {
  void *(*find)(char *reason, size_t size); /* finds and opens it in a way of its own; NULL: as fst_library_open says */
  const char *variable;       /* environment variable that names the library to use instead of all others */
  const char *const *names;   /* file names, best first */
  const char *const *wheels;  /* folders below a Python site-packages, where wheels put it; NULL: not a part of CUDA */
  const fst_library_symbol *symbols;
  size_t symbol_count;
  void *functions;            /* the struct that the symbols' offsets count in */
  pthread_mutex_t mutex;      /* PTHREAD_MUTEX_INITIALIZER */
  void *handle;               /* of dlopen; NULL: not open */
  char path[FST_LIBRARY_PATH]; /* does not change any more once the library is open */
} fst_library;

/*
 * Opens a library and looks up its functions, at the first call that finds it; from any thread. It is the one that the
 * variable names, else one that the process has open already, else one found by name, else one from the usual folders.
 * Never closed again: threads of its own may run in it. 0, or -1 with the reason, and everything that was tried, in
 * `reason`; empty otherwise.
 */
int fst_library_open(fst_library *library, char *reason, size_t size);

/*
 * Where libraries may be besides the system's folders, one pattern of glob(3) for each `index` from 0 on: folders of a
 * wheel below those of Python packages, or those of CUDA where `wheel` is NULL. 1; 0: `index` has none; -1: nor has any
 * larger one.
 */
int fst_library_folder(size_t index, const char *wheel, char *pattern, size_t size);

/* Adds to a reason, which is cut where it does not fit. */
__attribute__((format(printf, 3, 4))) void fst_library_tell(char *reason, size_t size, const char *format, ...);

/* ---- System calls on files (system.c) ---- */

/* Each is a function that can be put in place of another one when the shim is linked: a test makes calls fail so. */

struct fst_cachestat_range {
  uint64_t offset, length;
};
struct fst_cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

int fst_sys_open(const char *path, int flags);
ssize_t fst_sys_pread(int fd, void *buffer, size_t length, off_t offset);
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

/* Whole pages of memory, huge ones where there are some; NULL when there is none. Unmap with the same length. */
void *fst_staging_map(size_t length);
void fst_staging_unmap(void *staging, size_t length);

/*
 * Bytes that the control groups of a process still allow: the smallest of its own and all its parents', of both versions.
 * INT64_MAX without a limit. `groups` is as /proc/self/cgroup, `mount` as /sys/fs/cgroup.
 */
int64_t fst_group_available(const char *groups, const char *mount);

/* Copies what is in a cache to memory that has just been cleared: there it is quicker than memcpy. */
void fst_copy(void *to, const void *from, uint64_t bytes);

/* ---- A lane while it runs (lane.c) ---- */

typedef struct fst_lane {
  fst_plan *plan;
  uint32_t limit; /* segments below it are this call's */
  uint32_t index; /* of the segment in hand */
  const fst_segment *segment;
  fst_plan_file *file;
  char *staging; /* mapped on first use, plan->staging_bytes long */
  struct fst_cuda_lane *cuda; /* of a lane to a CUDA device: cuda/land.c */
  struct fst_usrbio_mount *usrbio_mount; /* whose ring the lane has, or NULL: three_fs/lane.c */
  struct fst_usrbio_ring *usrbio_ring;
  uint32_t ahead;  /* a segment taken before its turn, which may be on its way already */
  int has_ahead;
  int ahead_begun; /* it is on its way */
} fst_lane;

/* What `length` bytes of a segment's file become at the destination. */
static inline uint64_t fst_segment_landing(const fst_segment *segment, uint64_t length) {
  if (segment->from == segment->to) return length;
  return length / (fst_dtype_bits(segment->from) / 8) * (fst_dtype_bits(segment->to) / 8);
}

/*
 * Where bytes come from: a reader for each kind of file (read.c, three_fs/lane.c). What reads gives 0, or -1 after the
 * plan has been told of the failure.
 */
typedef struct fst_reader {
  /* Reads exactly `length` bytes of the segment's file to `destination`. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, char *destination);
  /*
   * Reads `length` bytes, at most the capacity, to the lane's staging memory or the reader's own; `*bytes` is where
   * they begin.
   */
  int (*staged)(fst_lane *lane, uint64_t offset, uint64_t length, const char **bytes);
  /* How many bytes one staged read may ask for. */
  uint64_t (*capacity)(const fst_lane *lane);
  /* How many of the bytes to stage at once: the quickest piece for how they will be read, in whole cache lines. */
  uint64_t (*piece)(const fst_lane *lane, uint64_t offset, uint64_t length);
  /* Pinned memory of the reader's own for one of a CUDA lane's two slots, or NULL after a failure; NULL: has none. */
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

static inline uint64_t fst_stage_piece(const fst_lane *lane, uint64_t offset, uint64_t length) {
  return fst_reader_of(lane)->piece(lane, offset, length);
}

/* Fails the plan for the segment in hand; -1. */
int fst_lane_fail(fst_lane *lane, fst_error error);

/* The same where it is not known which bytes of the segment failed. */
int fst_segment_fail(fst_lane *lane, enum fst_failure kind, int code);

/* Fails the plan if the file is no longer the one whose header was read. */
int fst_read_verify(fst_lane *lane);

/* Where bytes go (land_host.c): puts the segment in hand where it belongs and reports it landed. */
int fst_land_host(fst_lane *lane);

/* ---- What landers have in common (land.c) ---- */

/* Where a lander puts what it reads. Both give 0, or -1 after the plan has been told of the failure. */
typedef struct fst_sink {
  /* `length` bytes of the file from `offset` on. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t destination);
  /* `outer` x `inner` runs from `offset` on, whose span fits the staging memory. */
  int (*span)(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t destination);
} fst_sink;

/* Gives all of the segment in hand to the sink, in pieces that it can take. */
int fst_land_segment(fst_lane *lane, const fst_sink *sink);

/* Bytes of the file from the first run of a span to the end of its last. */
static inline uint64_t fst_span_bytes(const fst_segment *segment, uint64_t outer, uint64_t inner) {
  return (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run;
}

/* ---- What other folders do for a lane ---- */

/* Lanes to CUDA devices (cuda/land.c). */

/* Reads the segment in hand and has the device copy it. It is reported landed once the device has done so. */
int fst_land_cuda(fst_lane *lane);

/* Waits for what the device still has to do for this lane, reports it, and gives back what the lane used. */
void fst_land_cuda_end(fst_lane *lane);

/* Lanes from 3FS (three_fs/lane.c). */

/* Whether the lane should return between two segments, so that another one gets its ring. */
int fst_usrbio_yields(const fst_lane *lane);

/* Gives back the lane's ring, if it has one; nothing may still use its memory. */
void fst_usrbio_end(fst_lane *lane);

#endif
