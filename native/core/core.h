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
#include <time.h>

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
  int (*refuses)(void);       /* whether the library, whose functions are known, cannot be used here; NULL: it can */
  void *functions;            /* the struct of the symbols' offsets */
  pthread_mutex_t mutex;      /* PTHREAD_MUTEX_INITIALIZER */
  void *handle;               /* of dlopen; NULL: not open */
  char path[FST_LIBRARY_PATH]; /* constant after the library is open */
} fst_library;

/*
 * Opens a library and looks up its functions, at the first call that finds it; from any thread. Order: the library
 * that the variable names, a library that the process has already opened, one found by name, one from the usual
 * folders. One that refuses is used only if there is no other. It is never closed, because its own threads may run in it. 0, or -1 with the reason and everything that
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

/* ---- System calls (system.c) ---- */

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
int fst_sys_futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout);
int fst_sys_create(const char *path, mode_t mode);
int fst_sys_allocate(int fd, off_t size);
ssize_t fst_sys_pwrite(int fd, const void *buffer, size_t length, off_t offset);
int fst_sys_fsync(int fd);
int fst_sys_rename(const char *from, const char *to, unsigned flags);
int fst_sys_link(const char *from, const char *to);
size_t fst_sys_page_size(void);

/* io_uring_params of linux/io_uring.h. */
typedef struct fst_uring_parameters {
  uint32_t submission_count, completion_count, flags, thread_cpu, thread_idle, features, other_ring, reserved[3];
  struct {
    uint32_t head, tail, mask, count, flags, dropped, array, reserved;
    uint64_t address;
  } submissions;
  struct {
    uint32_t head, tail, mask, count, overflow, entries, flags, reserved;
    uint64_t address;
  } completions;
} fst_uring_parameters;
static_assert(sizeof(fst_uring_parameters) == 120, "the kernel's layout");

int fst_sys_uring_setup(uint32_t count, fst_uring_parameters *parameters);
int fst_sys_uring_enter(int ring, uint32_t submit, uint32_t wait, uint32_t flags, const void *argument, size_t bytes);

/* The result of a read of io_uring: bytes or -errno. */
int fst_sys_uring_result(int result);

/* Reads until `length` bytes have arrived or the file ends (file.c). 0 or -errno; `done`: the bytes before that. */
int fst_read_fully(int fd, void *buffer, uint64_t length, uint64_t offset, uint64_t *done);

/* ---- Memory (memory.c, memory_available.c, staging.c, copy.c) ---- */

#define FST_HUGE_PAGE ((size_t)2 << 20)

/* Maps whole pages of memory, huge ones if possible; NULL if there is no memory. Unmap with the same length. */
void *fst_staging_map(size_t length);
void fst_staging_unmap(void *staging, size_t length);

/*
 * Takes at least `length` bytes of the process's staging memory, in whole pages; NULL: there is no memory. Give them
 * back when nothing writes to them any more.
 */
char *fst_staging_take(uint64_t length);
void fst_staging_give(char *memory);

/*
 * Bytes that the control groups of a process still allow: the smallest value of its group and all parents, of both
 * versions. INT64_MAX without a limit. `groups` is like /proc/self/cgroup, `mount` like /sys/fs/cgroup.
 */
int64_t fst_group_available(const char *groups, const char *mount);

/* Copies cached bytes to newly cleared memory, where it is faster than memcpy. */
void fst_copy(void *to, const void *from, uint64_t bytes);

/* Copies `count` runs of `run` bytes, `stride` apart in the source, one after another. */
void fst_copy_runs(char *to, const char *from, uint64_t run, uint64_t count, uint64_t stride);

/* ---- A lane while it runs (lane.c) ---- */

typedef struct fst_lane {
  fst_plan *plan;
  uint32_t limit; /* this call runs segments below it */
  uint32_t index; /* of the current segment */
  const fst_segment *segment;
  fst_plan_file *file;
  char *staging; /* taken on first use, plan->staging_bytes long */
  struct fst_cuda_lane *cuda; /* for a lane to a CUDA device: cuda/land.c */
  struct fst_usrbio_mount *usrbio_mount; /* the mount of the lane's ring, or NULL: three_fs/lane.c */
  struct fst_usrbio_ring *usrbio_ring;
  void *net; /* the lane's connections to HTTP servers, or NULL: net/lane.c */
  uint32_t net_requests;
  uint32_t ahead;  /* the next segment, taken early */
  int has_ahead;
  int ahead_begun; /* its read has started */
  uint64_t reads; /* of ordinary files, one after the other */
} fst_lane;

/* A time that only grows, in nanoseconds. */
uint64_t fst_now(void);

/* Takes the next segment, the lane's current one from now on; 0: none is left, or the plan was cancelled or failed. */
int fst_lane_take(fst_lane *lane);

/* Lands the current segment by reads one after the other. 0, or -1 after a failure, which the plan has. */
int fst_lane_land(fst_lane *lane);

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

extern const fst_reader fst_reader_posix, fst_reader_usrbio, fst_reader_http;

static inline const fst_reader *fst_reader_of(const fst_lane *lane) {
  switch ((enum fst_reader_kind)lane->file->reader) {
    case FST_READER_POSIX:
      return &fst_reader_posix;
    case FST_READER_USRBIO:
      return &fst_reader_usrbio;
    case FST_READER_HTTP:
      return &fst_reader_http;
  }
  return &fst_reader_posix;
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

/* Lands the current segment in host memory (land_host.c). */
int fst_land_host(fst_lane *lane);

/* ---- Common parts of all kinds of destination (land.c) ---- */

/*
 * A part of a segment that is read at once: `outer` x `inner` runs, which span `length` bytes of the file from
 * `offset` on. One run, or a piece of one, is a plain range.
 */
typedef struct fst_part {
  uint64_t offset, length;
  uint64_t outer, inner;
  uint64_t destination; /* an address in the memory of the destination kind */
} fst_part;

static inline int fst_part_is_range(const fst_part *part) {
  return part->outer * part->inner == 1;
}

/* The position in a segment from which its next part begins. */
typedef struct fst_parts {
  const fst_segment *segment;
  uint64_t capacity;     /* the most bytes of a span of several runs; ranges can be longer */
  uint64_t outer, inner; /* rows before the next part, and runs of its row before it */
  uint64_t destination;
} fst_parts;

fst_parts fst_parts_of(const fst_plan *plan, const fst_segment *segment, uint64_t capacity);

/* Sets the next part; returns 0 after the last. */
int fst_parts_next(fst_parts *parts, fst_part *part);

/* The functions of one kind of destination. Both return 0, or -1 after they have recorded the failure in the plan. */
typedef struct fst_sink {
  /* Lands `length` bytes of the file from `offset` on. */
  int (*range)(fst_lane *lane, uint64_t offset, uint64_t length, uint64_t destination);
  /* Lands `outer` x `inner` runs from `offset` on; their span fits the staging memory. */
  int (*span)(fst_lane *lane, uint64_t offset, uint64_t outer, uint64_t inner, uint64_t destination);
} fst_sink;

/* Passes the parts of the current segment, spans of at most `capacity` bytes, to the sink, one after another. */
int fst_land_segment(fst_lane *lane, const fst_sink *sink, uint64_t capacity);

/* Bytes of the file from the first run of a span to the end of its last. */
static inline uint64_t fst_span_bytes(const fst_segment *segment, uint64_t outer, uint64_t inner) {
  return (outer - 1) * segment->outer_stride + (inner - 1) * segment->inner_stride + segment->run;
}

/* Lands a part of a segment in host memory, from `bytes`, which are those of the file from the part's offset on. */
void fst_land_host_part(const fst_segment *segment, const fst_part *part, const char *bytes);

/* ---- Many reads in flight (queue.c, uring.c) ---- */

/*
 * Where a read takes long however few bytes it has, a lane keeps many in flight. One loop does that for every reader
 * that can: it cuts segments into parts, starts a read for each, lands them in the order in which they arrive, and
 * marks the segments.
 */

/* A read in flight. */
typedef struct fst_request {
  uint32_t segment; /* its index in the plan */
  fst_part part;
  fst_plan_file *file;
  uint64_t offset, length; /* the bytes to read: the part, or the aligned bytes around it */
  uint64_t needed;         /* this many of them must exist: the file may end behind them */
  char *memory;            /* where to: the part's destination, or staging memory */
  uint64_t done;           /* bytes that have arrived; for the reader, 0 at the start */
  fst_error error;         /* set by the reader; FST_FAILURE_NONE: `needed` bytes have arrived */
  void *own;               /* for the reader, NULL at the start */
} fst_request;

/* A reader that can have many reads in flight. Each lane has a state of its own; the lane's thread makes all calls. */
typedef struct fst_deep_reader {
  /*
   * The alignment of offsets, lengths and memory, a power of two. 1: any, so that everything that is not cast or
   * gathered is read straight to its destination.
   */
  uint64_t alignment;
  /* Whether it should read the lane's current segment. */
  int (*wants)(const fst_lane *lane);
  /*
   * Prepares for at most `*most` reads in flight, which it may lower. 0, or the errno for which this is not possible
   * here: then nothing has to be closed.
   */
  int (*open)(fst_lane *lane, uint32_t *most, void **state);
  /* Whether it should have its `most` reads in flight at once, and not only if that turns out to be faster. */
  int is_deep_at_once;
  /* The most bytes of the next read; NULL: the loop decides. */
  uint64_t (*part)(void *state);
  /* Begins a read, without waiting for it. A failure becomes the request's error when `wait` returns it. */
  void (*start)(void *state, fst_request *request);
  /*
   * Waits for a request that has ended, in any order; NULL after at most about 50 ms without one, so that the lane can
   * look whether the plan was cancelled.
   */
  fst_request *(*wait)(void *state);
  /* Ends the reads in flight. After it returns, nothing writes to the memory of any request. */
  void (*close)(void *state);
} fst_deep_reader;

extern const fst_deep_reader fst_deep_reader_uring;

/*
 * Lands the current segment and takes further ones, with many reads in flight, until none of the reader is left: the
 * next of another reader is then the lane's `ahead`. If the reader cannot be opened, the current segment is landed by
 * reads one after the other. 0, or -1 after a failure, which the plan has.
 */
int fst_queue_run(fst_lane *lane, const fst_deep_reader *reader);

/* Notes how long the reads of the current segment took, one after the other: slow ones are better made together. */
void fst_queue_note(fst_lane *lane, uint64_t nanoseconds, uint64_t reads);

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

/* Lanes from HTTP servers (net/fetch.c, net/lane.c). */

extern const fst_deep_reader fst_deep_reader_http;

/* Returns the connections of fst_reader_http, if the lane has some; its memory must not be in use. */
void fst_net_end(fst_lane *lane);

#endif
