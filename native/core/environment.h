/*
 * The environment variables that the shim knows. JavaScript reads them and passes them on: another thread may change
 * the process's own environment at any moment, and getenv would then read freed memory. Nothing here calls getenv or
 * setenv.
 */
#ifndef FST_ENVIRONMENT_H
#define FST_ENVIRONMENT_H

#include <stdint.h>

#include "export.h"

/* Longest value, with its NUL. */
#define FST_ENVIRONMENT_VALUE 4096

/*
 * Replaces all variables by "NAME=value" strings, each with its NUL, `bytes` bytes altogether; copied. Any thread may
 * call. 0, or -ENOMEM, which changes nothing.
 */
FST_EXPORT int32_t fst_environment_set(const char *variables, uint64_t bytes);

/* Copies a variable to `value`, which is returned; NULL where it is not set, empty, or longer. */
const char *fst_environment(const char *name, char value[FST_ENVIRONMENT_VALUE]);

#endif
