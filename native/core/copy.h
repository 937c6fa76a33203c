/* Copying: inside the shim only. */
#ifndef FST_COPY_H
#define FST_COPY_H

#include <stdint.h>

/* Copies what is in a cache to memory that has just been cleared: there it is quicker than memcpy. */
void fst_copy(void *to, const void *from, uint64_t bytes);

#endif
