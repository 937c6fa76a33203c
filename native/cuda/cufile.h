/* libcufile, opened at run time, and its driver: inside the shim only. */
#ifndef FST_CUFILE_H
#define FST_CUFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "fst_cuda.h"

/* Its errors begin here. */
#define FST_CUFILE_FIRST 5000

typedef struct fst_cufile_error {
  int err, cu_err; /* err is the status; cu_err says more where that is 5011 */
} fst_cufile_error;

typedef struct fst_cufile_description {
  int type; /* 1: fd */
  union {
    int fd;
    void *handle;
  } handle;
  const void *fs_ops;
} fst_cufile_description;
static_assert(sizeof(fst_cufile_description) == 24, "CUfileDescr_t");

typedef struct fst_cufile {
  fst_cufile_error (*cuFileDriverOpen)(void);
  fst_cufile_error (*cuFileDriverClose_v2)(void); /* may be NULL */
  fst_cufile_error (*cuFileDriverClose)(void);
  fst_cufile_error (*cuFileHandleRegister)(void **handle, fst_cufile_description *description);
  void (*cuFileHandleDeregister)(void *handle);
  fst_cufile_error (*cuFileBufRegister)(const void *base, size_t bytes, int flags);
  fst_cufile_error (*cuFileBufDeregister)(const void *base);
  ssize_t (*cuFileRead)(void *handle, void *base, size_t bytes, off_t file_offset, off_t buffer_offset);
  /* May be NULL: since cuFile 1.14. */
  fst_cufile_error (*cuFileSetParameterBool)(int parameter, bool value);
  fst_cufile_error (*cuFileSetParameterString)(int parameter, const char *value);
} fst_cufile;

/* The driver, once it is open. */
typedef struct fst_cufile_driver {
  const fst_cufile *cufile;
  enum fst_gds_mode mode; /* FST_GDS_REAL only where cuFile has agreed never to read in compatibility mode */
} fst_cufile_driver;

/*
 * Opens the driver for the process, if it is wanted and not in vain. A CUDA device must be current. 0, also with
 * `driver->mode` FST_GDS_OFF where it is not used; a status where it was tried and failed. `reason` gets why GPUDirect
 * Storage proper is not used, and is empty where it is.
 */
int fst_cufile_open(enum fst_gds_wish wish, fst_cufile_driver *driver, char *reason, size_t size);

/* What cuFile calls an error; NULL where it is not known. */
const char *fst_cufile_error_name(int status);

#ifdef FST_FAULTS
int fst_cufile_shutdown(void);
#endif

#endif
