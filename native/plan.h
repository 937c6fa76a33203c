/*
 * The memory of a plan: one block, owned by the caller (a JavaScript ArrayBuffer), that lists the segments of the
 * files and their destinations, and in which the lanes count their progress.
 *
 *   fst_plan | file_count x fst_plan_file | segment_count x fst_segment | segment_count x done byte
 *
 * The caller writes everything before the first lane starts; from then on it only reads the counters and the
 * done bytes, which it may set from FST_DONE to FST_REPORTED. ffi/plan_memory.ts writes this layout: change the two together, and FST_ABI_VERSION with them.
 */
#ifndef FST_PLAN_H
#define FST_PLAN_H

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define FST_ABI_VERSION 2u

/* The kinds of failures of a read. */
enum fst_failure {
  FST_FAILURE_NONE = 0,
  FST_FAILURE_SYSTEM = 1,    /* the system refused: `code` is its errno */
  FST_FAILURE_TRUNCATED = 2, /* the file ended before the range did */
  FST_FAILURE_CHANGED = 3,   /* size or modification time has changed since the header was read */
  FST_FAILURE_DEVICE = 4,    /* a device library refused: `code` is a status as in fst_cuda.h */
  FST_FAILURE_HTTP = 5,      /* a server answered with the status `code` */
  FST_FAILURE_CONNECTION = 6, /* a server could not be reached: `code` is libcurl's (fst_net_error_text) */
  FST_FAILURE_ANSWER = 7,    /* the answer of a server is not valid: `code` is an enum fst_net_answer */
};

/* The failure of a read. */
typedef struct fst_error {
  uint32_t kind; /* enum fst_failure */
  int32_t code;
  uint64_t offset; /* of the range in the file */
  uint64_t expected, actual; /* bytes */
} fst_error;
static_assert(sizeof(fst_error) == 32, "ffi/usrbio.ts knows this layout");

typedef struct fst_plan {
  uint32_t segment_count;
  uint32_t file_count;
  uint32_t staging_bytes;    /* staging memory of one lane */
  uint32_t destination_kind; /* enum fst_destination_kind */
  uint64_t destination_context;
  _Atomic uint32_t next;      /* first segment that no lane has taken */
  _Atomic uint32_t cancelled; /* set by fst_plan_cancel */
  _Atomic uint32_t failure;   /* enum fst_failure; the first failure wins */
  _Atomic uint32_t wake;      /* changes with every event; a futex */
  uint32_t failed_segment;    /* these five, of an fst_error, are written once, before `failure` */
  int32_t failed_code;
  uint64_t failed_offset;
  uint64_t failed_expected;
  uint64_t failed_actual;
  _Atomic uint64_t landed_bytes;   /* file bytes of segments that are done */
  _Atomic uint64_t buffered_bytes; /* file bytes read through the page cache */
  _Atomic uint64_t direct_bytes;   /* file bytes read past it */
  _Atomic uint32_t direct_refused; /* direct reads that were replaced by buffered ones */
  _Atomic uint32_t waiters;      /* callers that sleep until `wake` changes */
  _Atomic uint64_t usrbio_bytes; /* file bytes read through 3FS' rings */
  uint32_t deep_staging;         /* staging memory of one lane with many reads in flight; 0: no such lane */
  _Atomic uint32_t deep_depth;   /* reads that a lane has in flight, as found until now; 0: not found yet */
  _Atomic uint32_t deep_latency; /* microseconds that a read takes; 0: lanes read one after the other */
  _Atomic uint32_t deep_most;    /* the most reads that one lane has had in flight */
  _Atomic int32_t deep_refused;  /* errno for which the system does not allow many reads in flight */
  uint32_t reserved;
  union {
    pthread_mutex_t verifying; /* held by the caller that looks at the files; zeros are an unlocked mutex */
    uint64_t size[7];
  };
  _Atomic uint64_t http_bytes; /* file bytes that came from HTTP servers */
  _Atomic uint32_t retries;    /* requests to them that were repeated */
  _Atomic uint32_t retry_kind; /* the reason of the last one, as in an fst_error */
  _Atomic int32_t retry_code;
  uint32_t more_reserved[11];
} fst_plan;
static_assert(sizeof(fst_plan) == 256, "ffi/plan_memory.ts knows this layout");
static_assert(sizeof(pthread_mutex_t) <= 56, "a mutex fits in 56 bytes");

typedef struct fst_plan_file {
  int32_t fd;        /* buffered descriptor */
  int32_t fd_direct; /* O_DIRECT descriptor of the same file, or -1 */
  uint64_t size;     /* when the header was read */
  int64_t mtime_seconds;
  int64_t mtime_nanoseconds;
  _Atomic uint32_t direct_off; /* set by a lane whose direct read was refused */
  uint32_t reader;             /* enum fst_reader_kind */
  uint64_t reader_handle;      /* FST_READER_USRBIO: an fst_usrbio_mount; FST_READER_HTTP: an fst_net_file */
  uint32_t depth;              /* FST_READER_HTTP: the most requests of one lane in flight; 0: the reader's default */
  uint32_t cache;              /* FST_READER_HTTP: 1 + the descriptor of a file that gets its bytes too; 0: none */
  _Atomic int32_t cache_errno; /* the error that has ended this; 0: none */
  uint32_t is_partial;         /* 1: a file of a cache, to which processes write: its time and size can change */
} fst_plan_file;
static_assert(sizeof(fst_plan_file) == 64, "ffi/plan_memory.ts knows this layout");

/*
 * `outer_count` x `inner_count` runs of `run` bytes, `outer_stride` and `inner_stride` apart in the file, dense at
 * the destination. A plain range has both counts 1. The bytes between inner runs are read and dropped.
 */
typedef struct fst_segment {
  uint64_t file_offset;
  uint64_t run;
  uint64_t destination; /* an address in the memory of the destination kind */
  uint32_t file;
  uint16_t from; /* enum fst_dtype; equal to `to`: no cast */
  uint16_t to;
  uint32_t outer_count;
  uint32_t inner_count;
  uint64_t outer_stride;
  uint64_t inner_stride;
  uint64_t allocation; /* segments with one number lie in one piece of memory, and so do the bytes between them */
} fst_segment;
static_assert(sizeof(fst_segment) == 64, "ffi/plan_memory.ts knows this layout");

enum fst_reader_kind { FST_READER_POSIX = 0, FST_READER_USRBIO = 1, FST_READER_HTTP = 2 };
enum fst_destination_kind { FST_DESTINATION_HOST = 0, FST_DESTINATION_CUDA = 1 };

static inline fst_plan_file *fst_plan_files(fst_plan *plan) {
  return (fst_plan_file *)(plan + 1);
}

static inline fst_segment *fst_plan_segments(fst_plan *plan) {
  return (fst_segment *)(fst_plan_files(plan) + plan->file_count);
}

static inline _Atomic uint8_t *fst_plan_done(fst_plan *plan) {
  return (_Atomic uint8_t *)(fst_plan_segments(plan) + plan->segment_count);
}

/* The file bytes of a segment. */
static inline uint64_t fst_segment_bytes(const fst_segment *segment) {
  return segment->run * segment->outer_count * segment->inner_count;
}

/* Takes the next segment below `limit`; returns 0 if there is none, or the plan is cancelled or has failed. */
int fst_plan_take(fst_plan *plan, uint32_t limit, uint32_t *index);

/*
 * The states of a segment, in its done byte. JavaScript replaces FST_DONE by 2 when it has reported the segment; it
 * ignores the others.
 */
enum fst_done {
  FST_NOT_DONE = 0,
  FST_DONE = 1,    /* at its destination, and its file had not changed after the bytes were read */
  FST_REPORTED = 2,
  FST_LANDED = 3,  /* at its destination */
  FST_CHECKED = 4, /* the same, and its file is being looked at */
};

/* Takes the segment `index` too, if it is the next one below the limit; 0: it is not. */
int fst_plan_take_next(fst_plan *plan, uint32_t limit, uint32_t index);

/* Sets a segment to FST_LANDED, after every byte of it has been written. */
void fst_plan_landed(fst_plan *plan, uint32_t index);

/*
 * Looks at the files of all segments that have landed: they are done if their files have not changed since the headers
 * were read, else the plan fails.
 */
void fst_plan_verify(fst_plan *plan);

/* Wakes the callers of fst_plan_wait. */
void fst_plan_wake(fst_plan *plan);

/*
 * Writes bytes of a file of a server to its cache, if it has one, before the segment that they belong to has landed. An
 * error ends this for the file, and not the load.
 */
void fst_plan_keep(fst_plan_file *file, const char *bytes, uint64_t offset, uint64_t length);

/* Records the first failure and stops the other lanes. */
void fst_plan_fail(fst_plan *plan, uint32_t index, const fst_error *error);

#endif
