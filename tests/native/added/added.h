/*
 * What the sources in this folder add to the library for tests: tests/support/test_library.ts. A file that native/ has
 * too is appended to that one, and knows its static variables.
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
 * `pread`, `preaddirect`, `fstat`, `cachestat`, `create`, `allocate`, `pwrite`, `fsync`, `rename` or `link` behave differently:
 *   a number   fail with that errno                short=N  read at most N bytes
 *   eof        read nothing, as at the end         delay=N  wait N microseconds, then go on
 *   cached / uncached (cachestat)                  changed (fstat): another modification time
 *   plain (rename): EINVAL where it must not replace
 * "pagesize:*:65536" gives pages another size, in bytes. An empty string takes all of them away. 0 or -errno.
 */
FST_TEST int32_t fst_fault_set(const char *spec);

/* Gives back what is kept between loads, which is kernels and the cuFile driver. */
FST_TEST int32_t fst_cuda_shutdown(void);
int fst_cuda_unload_kernels(void);
int fst_cufile_shutdown(void);

/*
 * From now on casts use nothing beyond `isa`, an enum fst_cast_isa. Not while a cast runs. What is in use, which is less
 * than asked for where the machine lacks it.
 */
int fst_cast_limit(int isa);

#ifdef __cplusplus
}
#endif

#endif
