/*
 * libcuda, opened at run time: inside the shim only. What the runtime does not offer: modules of PTX, and launching
 * from them.
 */
#ifndef FST_CUDA_DRIVER_H
#define FST_CUDA_DRIVER_H

#include <stddef.h>

typedef struct fst_cuda_driver {
  int (*cuGetErrorString)(int code, const char **text);
  int (*cuGetErrorName)(int code, const char **text);
  int (*cuDeviceGetName)(char *name, int size, int device); /* may be NULL */
  int (*cuModuleLoadData)(void **module, const void *image);
  int (*cuModuleGetFunction)(void **function, void *module, const char *name);
  int (*cuModuleUnload)(void *module);
  int (*cuLaunchKernel)(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, void *stream, void **parameters,
                        void **extra);
} fst_cuda_driver;

/* The functions of libcuda, opened at the first call that finds it; NULL with the reason in `reason`. */
const fst_cuda_driver *fst_cuda_driver_open(char *reason, size_t size);

/* The same without the reason. */
const fst_cuda_driver *fst_cuda_driver_get(void);

#endif
