/* The environment that a C test passes to the library, as setenv and unsetenv do for a program. */
#ifndef ENVIRONMENT_SUPPORT_H
#define ENVIRONMENT_SUPPORT_H

#include <stdio.h>
#include <string.h>

#include "core/core.h"

/* Sets a variable of the library; NULL removes it. */
static inline void set_variable(const char *name, const char *value) {
  static char strings[8192];
  static size_t length;
  char kept[sizeof strings];
  size_t bytes = 0;
  for (size_t at = 0; at < length; at += strlen(strings + at) + 1) {
    const size_t stem = strlen(name), whole = strlen(strings + at) + 1;
    if (strncmp(strings + at, name, stem) == 0 && strings[at + stem] == '=') continue;
    memcpy(kept + bytes, strings + at, whole);
    bytes += whole;
  }
  if (value) bytes += 1 + (size_t)snprintf(kept + bytes, sizeof kept - bytes, "%s=%s", name, value);
  memcpy(strings, kept, bytes);
  length = bytes;
  fst_environment_set(strings, length);
}

#endif
