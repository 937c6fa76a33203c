/*
 * libfastsafetensors: moves bytes from files to memory. TypeScript decides what is read and in which order.
 *
 * Every function may be called from any thread. "0 or -errno" is the status unless said otherwise; errno itself
 * would not survive the hop between threads. Nothing here keeps a pointer after it has returned.
 */
#ifndef FST_H
#define FST_H

#include <stdint.h>

#include "plan.h"

/* What the shared library shows to the outside: everything else is hidden (-fvisibility=hidden). */
#define FST_EXPORT __attribute__((visibility("default")))

/* FST_ABI_VERSION of the sources this was built from. */
FST_EXPORT uint32_t fst_abi_version(void);

/* The address of a buffer, for a caller that has no other way to learn it. */
FST_EXPORT uint64_t fst_address(const void *buffer);

/* ---- Files (core/file.c) ---- */

typedef struct fst_file_info {
  int32_t fd; /* owned by the caller: fst_file_close */
  int32_t head_errno;
  uint64_t size;
  int64_t mtime_seconds;
  int64_t mtime_nanoseconds;
  uint64_t head_bytes; /* how many bytes of `head` were filled */
} fst_file_info;
static_assert(sizeof(fst_file_info) == 40, "ffi/files.ts knows this layout");

/* Opens a regular file for reading and reads its first bytes (fewer when the file is shorter). */
FST_EXPORT int32_t fst_file_open(const char *path, fst_file_info *info, void *head, uint64_t head_length);

/* Opens the file behind `fd` again for direct reads; a descriptor, or -errno where that is refused. */
FST_EXPORT int32_t fst_file_open_direct(int32_t fd);

FST_EXPORT int32_t fst_file_close(int32_t fd);

/* Closes both descriptors of a file; -1: there is none. On a network file system this may wait for the server. */
FST_EXPORT void fst_file_release(int32_t fd, int32_t fd_direct);

/* Reads up to `length` bytes; fewer only at the end of the file. The count, or -errno. */
FST_EXPORT int64_t fst_file_read(int32_t fd, void *buffer, uint64_t length, uint64_t offset);

/* How many of the bytes are in the page cache; -ENOSYS where the system cannot tell (Linux < 6.5). */
FST_EXPORT int64_t fst_file_cached(int32_t fd, uint64_t offset, uint64_t length);

/* ---- Memory (core/memory.c, core/memory_available.c) ---- */

/*
 * Asks for huge pages for the 2 MiB-aligned inside of a range that has not been touched yet. The offset counts from the
 * buffer, or is an address where the buffer is NULL.
 */
FST_EXPORT int32_t fst_memory_advise(void *buffer, uint64_t offset, uint64_t length);

/*
 * The private, writable memory of this process that is no file's and has no name, in order of addresses: what malloc
 * and mmap gave out. Each range is [start, stop). How many there are, of which at most `capacity` are filled; -errno.
 */
FST_EXPORT int64_t fst_memory_mapped(uint64_t *ranges, uint64_t capacity);

/* Bytes that this process may still allocate: what the machine and the control group have available; -errno. */
FST_EXPORT int64_t fst_memory_available(void);

/* ---- Plans (core/plan.c, core/lane.c) ---- */

/*
 * Runs segments of the plan on the calling thread until none below `limit` is left, the plan is cancelled, or one
 * failed. The buffers behind keep0 … keep7 are not used: naming them in the call keeps their memory alive for as
 * long as this lane may write there. 0: nothing left below limit, or another lane waits for this one's ring: then the
 * caller calls again; 1: cancelled or failed.
 */
FST_EXPORT int32_t fst_lane_run(fst_plan *plan, uint32_t limit, const void *keep0, const void *keep1,
                                const void *keep2, const void *keep3, const void *keep4, const void *keep5,
                                const void *keep6, const void *keep7);

/* Touches the destinations of the segments below `limit` at most `ahead` bytes before the lanes get there. */
FST_EXPORT int32_t fst_plan_populate(fst_plan *plan, uint32_t limit, uint64_t ahead, const void *keep0,
                                     const void *keep1, const void *keep2, const void *keep3, const void *keep4,
                                     const void *keep5, const void *keep6, const void *keep7);

/*
 * Waits until plan->wake differs from `seen` (at most `timeout_us`), then `gather_us` more so that one return
 * tells of many segments, but not once all are taken. Returns the current value.
 */
FST_EXPORT uint32_t fst_plan_wait(fst_plan *plan, uint32_t seen, uint32_t timeout_us, uint32_t gather_us);

/* Lets no lane take another segment. Lanes return as soon as the segment in their hands is done. */
FST_EXPORT void fst_plan_cancel(fst_plan *plan);

/* ---- The environment (core/environment.c) ---- */

/*
 * Replaces all variables by "NAME=value" strings, each with its NUL, `bytes` bytes altogether; copied. Any thread may
 * call. 0, or -ENOMEM, which changes nothing.
 */
FST_EXPORT int32_t fst_environment_set(const char *variables, uint64_t bytes);

/* ---- Tensors in host memory (core/host_ops.c) ---- */

/*
 * Slices, casts and joins off the thread of the event loop.
 *
 * Source and target are buffers of the caller's, kept alive for the call; they must not overlap. 0, or -EINVAL if a
 * range leaves its buffer: nothing is written then.
 */

/* How a run repeats: `count` times, `stride` bytes apart. */
typedef struct fst_level {
  uint64_t count;
  uint64_t stride;
} fst_level;

/*
 * Gathers a slice: the run of `run` bytes at `offset`, repeated by the levels, outermost first. The target is as long as
 * all runs together.
 */
FST_EXPORT int32_t fst_host_gather(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                   uint64_t offset, uint64_t run, const fst_level *levels, uint32_t level_count);

/* Casts `count` elements of dtype `from` (enum fst_dtype) to dtype `to`; -ENOTSUP: there is no such cast. */
FST_EXPORT int32_t fst_host_cast(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                 uint64_t count, uint32_t from, uint32_t to);

/* Copies `rows` rows of `width` bytes, dense in the source, to `offset` and every `pitch` bytes from there on. */
FST_EXPORT int32_t fst_host_scatter(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                    uint64_t offset, uint64_t pitch, uint64_t width, uint64_t rows);

/* ---- Writing (core/write.c) ---- */

/*
 * Writing files so that nobody ever sees half of one: a temporary sibling, written in parallel, synced, renamed.
 */

/*
 * Creates a file that must not exist yet, with a mode as open(2) takes it, locked (flock) for as long as the descriptor
 * is open: a temporary file that nobody has locked was left behind by a process that is gone. The descriptor, or -errno.
 */
FST_EXPORT int32_t fst_write_create(const char *path, uint32_t mode);

/* A second descriptor of the file for writes past the page cache; -errno where the file system refuses. */
FST_EXPORT int32_t fst_write_open_direct(int32_t fd);

/* Gives the file its size, with the space reserved where the file system can do that; -ENOSPC if there is none. */
FST_EXPORT int32_t fst_write_allocate(int32_t fd, uint64_t size);

/*
 * Writes `count` elements at `offset`, cast from dtype `from` to dtype `to` on the way (equal: as they are; `count`
 * is then bytes). `fd_direct` is a second, O_DIRECT descriptor of the file for its whole pages, or -1.
 *
 * `staging` is for what cannot go straight from `source`: page-aligned, whole pages long, and nobody else's meanwhile.
 */
FST_EXPORT int32_t fst_write_range(int32_t fd, int32_t fd_direct, const void *source, uint64_t count, uint64_t offset,
                                   uint32_t from, uint32_t to, void *staging, uint64_t staging_length);

/* Waits until the file is on storage. */
FST_EXPORT int32_t fst_write_sync(int32_t fd);

/*
 * Renames; without `replace`, -EEXIST if the new path exists, even if it has just come into being. A file system that
 * knows neither this kind of rename nor hard links is asked first: there the caller must exclude others.
 */
FST_EXPORT int32_t fst_path_rename(const char *from, const char *to, int32_t replace);

/* Waits until the names in a folder are on storage. */
FST_EXPORT int32_t fst_folder_sync(const char *path);

#endif
