/* Finding shared libraries that may be missing: inside the shim only. */
#ifndef FST_LIBRARY_H
#define FST_LIBRARY_H

#include <stddef.h>

/* Where a library may be. Lists end with NULL. */
typedef struct fst_library_place {
  const char *variable;       /* environment variable that names the library to use instead of all others */
  const char *const *names;   /* file names, best first */
  const char *const *wheels;  /* folders below a Python site-packages, where wheels put it; NULL: no part of CUDA */
} fst_library_place;

/* A function of a library: its name, and where its address goes in a struct. */
typedef struct fst_library_symbol {
  const char *name;
  size_t offset;
  int optional; /* left NULL where the library lacks it */
} fst_library_symbol;

/*
 * Opens a library: the one that the variable names, else one that the process has open already, else by name, else
 * from the usual folders. NULL with everything that was tried in `message`, which otherwise gets its path. Never
 * closed again: threads of its own may run in it.
 */
void *fst_library_open(const fst_library_place *place, char *message, size_t size);

/* Looks up `count` functions. 0, or -1 with the missing one in `message`. */
int fst_library_bind(void *library, const fst_library_symbol *symbols, size_t count, void *functions, char *message,
                     size_t size);

#endif
