/* Staging memory of a lane, and what a control group allows: inside the shim only. */
#ifndef FST_MEMORY_H
#define FST_MEMORY_H

#include <stddef.h>
#include <stdint.h>

#define FST_HUGE_PAGE ((size_t)2 << 20)

/* Whole pages of memory, huge ones where there are some; NULL when there is none. Unmap with the same length. */
void *fst_staging_map(size_t length);
void fst_staging_unmap(void *staging, size_t length);

/*
 * Bytes that the control groups of a process still allow: the smallest of its own and all its parents', of both versions.
 * INT64_MAX without a limit. `groups` is as /proc/self/cgroup, `mount` as /sys/fs/cgroup.
 */
int64_t fst_group_available(const char *groups, const char *mount);

#endif
