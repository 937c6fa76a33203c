/* Finding shared libraries that may be missing: inside the shim only. */
#ifndef FST_LIBRARY_H
#define FST_LIBRARY_H

#include <pthread.h>
#include <stddef.h>

/* Longest path that is reported, with its NUL. */
#define FST_LIBRARY_PATH 1024

/* A function of a library: its name, and where its address goes in a struct. */
typedef struct fst_library_symbol {
  const char *name;
  size_t offset;
  int optional; /* left NULL where the library lacks it */
} fst_library_symbol;

/*
 * A library: where it may be, what is wanted of it, and, once it is open, where it was. One static object each;
 * lists end with NULL.
 */
typedef struct fst_library {
  const char *variable;       /* environment variable that names the library to use instead of all others */
  const char *const *names;   /* file names, best first */
  const char *const *wheels;  /* folders below a Python site-packages, where wheels put it; NULL: not a part of CUDA */
  const fst_library_symbol *symbols;
  size_t symbol_count;
  void *functions;            /* the struct that the symbols' offsets count in */
  pthread_mutex_t mutex;      /* PTHREAD_MUTEX_INITIALIZER */
  void *handle;               /* of dlopen; NULL: not open */
  char path[FST_LIBRARY_PATH]; /* does not change any more once the library is open */
} fst_library;

/*
 * Opens a library and looks up its functions, at the first call that finds it; from any thread. It is the one that the
 * variable names, else one that the process has open already, else one found by name, else one from the usual folders.
 * Never closed again: threads of its own may run in it. 0, or -1 with the reason, and everything that was tried, in
 * `reason`; empty otherwise.
 */
int fst_library_open(fst_library *library, char *reason, size_t size);

/*
 * Looks up `count` functions of a library that was opened from `path`. 0, or -1 with the missing one in `reason`, which
 * is left alone otherwise.
 */
int fst_library_bind(void *handle, const char *path, const fst_library_symbol *symbols, size_t count, void *functions,
                     char *reason, size_t size);

#endif
