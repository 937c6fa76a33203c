/*
 * The parts that the sources in this folder add to the library for tests: tests/support/test_library.ts. A file that
 * native/ has too is appended to that one, and can use its static variables.
 */
#ifndef ADDED_H
#define ADDED_H

#include <stdint.h>

#define FST_TEST __attribute__((visibility("default")))

#ifdef __cplusplus
extern "C" {
#endif

/*
 * fst_fault_set("CALL:NTH:EFFECT,…") makes the NTH call (1 is the next one, "*" every one) of `open`, `opendirect`,
 * `pread`, `preaddirect`, `fstat`, `cachestat`, `create`, `allocate`, `pwrite`, `fsync`, `rename`, `link`, `uringsetup`, `uringenter` or
 * `uringread` (the result of a read of io_uring) behave
 *   differently: a number   fail with that errno                short=N  read at most N bytes
 *   eof        read no byte, as at the end         delay=N  wait N microseconds, then continue
 *   cached / uncached (cachestat)                  changed (fstat): another modification time
 *   plain (rename): EINVAL if it must not replace
 * Reads that must not wait (`preadnow`) find nothing in the page cache as long as any effect is set; cached: they may.
 * "pagesize:*:65536" sets the size of pages, in bytes; "now:*:1000" stops the clock, at these seconds. An empty string removes all effects. 0 or -errno.
 */
FST_TEST int32_t fst_fault_set(const char *spec);

/*
 * The number of calls since the faults were set: one of the names above, or `sleep` or `wake` for the calls that wait
 * for other threads and wake them.
 */
FST_TEST uint64_t fst_fault_calls(const char *call);

/* Frees the resources of later loads: the kernels and the cuFile driver. */
FST_TEST int32_t fst_cuda_shutdown(void);
int fst_cuda_unload_kernels(void);
int fst_cufile_shutdown(void);

/* Destroys the idle streams; a status. */
int fst_cuda_drop_streams(void);

/* Queues the idle pinned memory for freeing. */
void fst_cuda_drop_pinned(void);

/*
 * Limits casts to `isa`, an enum fst_cast_isa. Not while a cast runs. Returns the set in use, which is lower than
 * requested if the machine lacks it.
 */
int fst_cast_limit(int isa);

/* Looks at the staging memory of the process. */
typedef struct fst_staging_counts {
  uint64_t mapped, idle; /* bytes */
  uint32_t blocks;
} fst_staging_counts;
void fst_staging_state(fst_staging_counts *counts);

/* Makes all idle staging memory so old that it is unmapped. */
void fst_staging_age(void);

#ifdef __cplusplus
}
#endif

#endif
