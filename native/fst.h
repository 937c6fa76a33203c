/*
 * libfastsafetensors: moves bytes from files to memory. TypeScript decides which bytes to read and in which order.
 *
 * Every function may be called from any thread. "0 or -errno" is the status unless stated otherwise; errno itself
 * would be lost between threads. No function stores a pointer after it has returned.
 */
#ifndef FST_H
#define FST_H

#include <stdint.h>

#include "plan.h"

/* Exported functions of the shared library: all others are hidden (-fvisibility=hidden). */
#define FST_EXPORT __attribute__((visibility("default")))

/* FST_ABI_VERSION of the sources this was built from. */
FST_EXPORT uint32_t fst_abi_version(void);

/* The address of a buffer, for a caller that cannot get it otherwise. */
FST_EXPORT uint64_t fst_address(const void *buffer);

/* ---- Files (core/file.c) ---- */

typedef struct fst_file_info {
  int32_t fd; /* owned by the caller: fst_file_close */
  int32_t head_errno;
  uint64_t size;
  int64_t mtime_seconds;
  int64_t mtime_nanoseconds;
  uint64_t head_bytes; /* the number of bytes in `head` */
  uint64_t head_us;    /* how long it took to read them, in microseconds */
} fst_file_info;
static_assert(sizeof(fst_file_info) == 48, "ffi/files.ts knows this layout");

/* Opens a regular file for reading and reads its first bytes (fewer if the file is shorter). */
FST_EXPORT int32_t fst_file_open(const char *path, fst_file_info *info, void *head, uint64_t head_length);

/* Opens the file of `fd` again for direct reads; a descriptor, or -errno if that is refused. */
FST_EXPORT int32_t fst_file_open_direct(int32_t fd);

FST_EXPORT int32_t fst_file_close(int32_t fd);

/* Closes both descriptors of a file; -1: no descriptor. On a network file system this may wait for the server. */
FST_EXPORT void fst_file_release(int32_t fd, int32_t fd_direct);

/* Reads up to `length` bytes; fewer only at the end of the file. The count, or -errno. */
FST_EXPORT int64_t fst_file_read(int32_t fd, void *buffer, uint64_t length, uint64_t offset);

/*
 * Reads `length` bytes if the page cache has them all, without waiting for storage. 1; 0 if it has not, if the system or
 * the file system cannot, or if the file differs from `size` and its modification time: fst_lane_run then reads them,
 * and has the errors.
 */
FST_EXPORT int32_t fst_file_read_cached(int32_t fd, void *buffer, uint64_t length, uint64_t offset, uint64_t size,
                                        int64_t mtime_seconds, int64_t mtime_nanoseconds);

/* The number of bytes in the page cache; -ENOSYS if the system lacks this function (Linux < 6.5). */
FST_EXPORT int64_t fst_file_cached(int32_t fd, uint64_t offset, uint64_t length);

/* ---- Memory (core/memory.c, core/memory_available.c) ---- */

/*
 * Requests huge pages for the 2 MiB-aligned part of an untouched range. The offset counts from the buffer, or is an
 * address if the buffer is NULL.
 */
FST_EXPORT int32_t fst_memory_advise(void *buffer, uint64_t offset, uint64_t length);

/*
 * The private, writable, anonymous and unnamed memory of this process, in order of addresses: the memory of malloc
 * and mmap. Each range is [start, stop). The number of ranges, of which at most `capacity` are filled; or -errno.
 */
FST_EXPORT int64_t fst_memory_mapped(uint64_t *ranges, uint64_t capacity);

/* Bytes that this process may still allocate: the smaller of the machine's and the control group's; -errno. */
FST_EXPORT int64_t fst_memory_available(void);

/* ---- Plans (core/plan.c, core/lane.c) ---- */

/* Buffers that a function does not use: as parameters of the call they stay alive until it returns. */
#define FST_KEEP(n) __attribute__((unused)) const void *keep##n
#define FST_KEEP_8 \
  FST_KEEP(0), FST_KEEP(1), FST_KEEP(2), FST_KEEP(3), FST_KEEP(4), FST_KEEP(5), FST_KEEP(6), FST_KEEP(7)

/*
 * Runs segments of the plan on the calling thread until none below `limit` is left, the plan is cancelled, or one
 * failed. The buffers are those to which this lane may write. 0: none left below limit, or another lane waits for this one's ring: then the caller calls again;
 * 1: cancelled or failed.
 */
FST_EXPORT int32_t fst_lane_run(fst_plan *plan, uint32_t limit, FST_KEEP_8);

/* Touches the destinations of the segments below `limit` at most `ahead` bytes ahead of the lanes. */
FST_EXPORT int32_t fst_plan_populate(fst_plan *plan, uint32_t limit, uint64_t ahead, FST_KEEP_8);

/*
 * Waits until plan->wake differs from `seen` (at most `timeout_us`), then `gather_us` more, so that one return
 * reports many segments; not after the last segment is taken. Returns the current value.
 */
FST_EXPORT uint32_t fst_plan_wait(fst_plan *plan, uint32_t seen, uint32_t timeout_us, uint32_t gather_us);

/* Stops lanes from taking further segments. Each lane returns after its reads in flight. */
FST_EXPORT void fst_plan_cancel(fst_plan *plan);

/* ---- The environment (core/environment.c) ---- */

/*
 * Replaces all variables by "NAME=value" strings, each with its NUL, `bytes` bytes altogether; they are copied. Any
 * thread may call. 0, or -ENOMEM without a change.
 */
FST_EXPORT int32_t fst_environment_set(const char *variables, uint64_t bytes);

/* ---- Tensors in host memory (core/host_ops.c) ---- */

/*
 * Slices, casts and joins outside the thread of the event loop.
 *
 * The caller owns source and target, and keeps them alive for the call; they must not overlap. 0, or -EINVAL if a
 * range is outside its buffer; nothing is written then.
 */

/* Repetitions of a run: `count` times, `stride` bytes apart. */
typedef struct fst_level {
  uint64_t count;
  uint64_t stride;
} fst_level;

/*
 * Gathers a slice: the run of `run` bytes at `offset`, repeated by the levels, outermost first. The target has the
 * length of all runs together.
 */
FST_EXPORT int32_t fst_host_gather(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                   uint64_t offset, uint64_t run, const fst_level *levels, uint32_t level_count);

/* Casts `count` elements of dtype `from` (enum fst_dtype) to dtype `to`; -ENOTSUP: the cast is not supported. */
FST_EXPORT int32_t fst_host_cast(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                 uint64_t count, uint32_t from, uint32_t to);

/* Copies `rows` rows of `width` bytes, dense in the source, to `offset` and every `pitch` bytes from there on. */
FST_EXPORT int32_t fst_host_scatter(const void *source, uint64_t source_length, void *target, uint64_t target_length,
                                    uint64_t offset, uint64_t pitch, uint64_t width, uint64_t rows);

/* ---- Writing (core/write.c) ---- */

/*
 * Writes files so that no reader sees an incomplete one: a temporary file, written in parallel, synced, renamed.
 */

/*
 * Creates a file that must not exist, with a mode as for open(2), locked (flock) for as long as the descriptor is
 * open: an unlocked temporary file is from a process that has ended. The descriptor, or -errno.
 */
FST_EXPORT int32_t fst_write_create(const char *path, uint32_t mode);

/* Opens an existing file for reads, and for writes if `writes` is not 0. The descriptor, or -errno. */
FST_EXPORT int32_t fst_write_open(const char *path, int32_t writes);

/* A second descriptor of the file for writes past the page cache; -errno if the file system refuses. */
FST_EXPORT int32_t fst_write_open_direct(int32_t fd);

/* Sets the file's size, and reserves the space if the file system supports it; -ENOSPC if there is not enough. */
FST_EXPORT int32_t fst_write_allocate(int32_t fd, uint64_t size);

/*
 * Writes `count` elements at `offset`, cast from dtype `from` to dtype `to` (equal: no cast; `count` is then bytes).
 * `fd_direct` is a second, O_DIRECT descriptor of the file for its whole pages, or -1.
 *
 * `staging` is for bytes that cannot be written from `source`: page-aligned, whole pages, not used by another call.
 */
FST_EXPORT int32_t fst_write_range(int32_t fd, int32_t fd_direct, const void *source, uint64_t count, uint64_t offset,
                                   uint32_t from, uint32_t to, void *staging, uint64_t staging_length);

/* Waits until the file is on storage. */
FST_EXPORT int32_t fst_write_sync(int32_t fd);

/*
 * Renames; without `replace`, -EEXIST if the new path exists, even if it was created just now. On a file system
 * without this kind of rename and without hard links, the path is checked first; there the caller must exclude other
 * processes.
 */
FST_EXPORT int32_t fst_path_rename(const char *from, const char *to, int32_t replace);

/* Waits until the names in a folder are on storage. */
FST_EXPORT int32_t fst_folder_sync(const char *path);

#endif
