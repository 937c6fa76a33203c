/* The environment variables that the library uses. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/core.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char *strings;
static size_t length;

int32_t fst_environment_set(const char *variables, uint64_t bytes) {
  char *copy = malloc(bytes + 1);
  if (!copy) return -ENOMEM;
  if (bytes > 0) memcpy(copy, variables, bytes);
  copy[bytes] = 0; /* the last string is terminated for any input */
  pthread_mutex_lock(&mutex);
  char *old = strings;
  strings = copy;
  length = bytes;
  pthread_mutex_unlock(&mutex);
  free(old);
  return 0;
}

const char *fst_environment(const char *name, char value[FST_ENVIRONMENT_VALUE]) {
  const size_t stem = strlen(name);
  const char *found = NULL;
  pthread_mutex_lock(&mutex);
  for (size_t at = 0; at < length && !found; at += strlen(strings + at) + 1) {
    const char *string = strings + at;
    if (strncmp(string, name, stem) != 0 || string[stem] != '=') continue;
    const size_t bytes = strlen(string + stem + 1) + 1;
    if (bytes == 1 || bytes > FST_ENVIRONMENT_VALUE) break;
    found = memcpy(value, string + stem + 1, bytes);
  }
  pthread_mutex_unlock(&mutex);
  return found;
}
