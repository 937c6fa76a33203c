/* Staging memory of a lane: inside the shim only. */
#ifndef FST_MEMORY_H
#define FST_MEMORY_H

#include <stddef.h>

#define FST_HUGE_PAGE ((size_t)2 << 20)

/* Page-aligned memory on huge pages where there are some; NULL when there is none. Unmap with the same length. */
void *fst_staging_map(size_t length);
void fst_staging_unmap(void *staging, size_t length);

#endif
