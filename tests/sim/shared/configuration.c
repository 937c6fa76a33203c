/* Numbers and paths from the environment, and the end of a process that cannot go on. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared.h"

void sim_die(const char *what) {
  fprintf(stderr, "%s: %s\n", sim_name(), what);
  abort();
}

void *sim_zeroed(size_t bytes) {
  void *memory = calloc(1, bytes);
  if (!memory) sim_die("no memory for its own tables");
  return memory;
}

double sim_number_of(const char *variable, double otherwise, double least, double most) {
  const char *text = getenv(variable);
  if (!text || !*text) return otherwise;
  char *end;
  errno = 0;
  double value = strtod(text, &end);
  if (errno == 0 && *end == '\0' && value >= least && value <= most) return value;
  char message[256];
  snprintf(message, sizeof message, "cannot use %s=%s: a number from %g to %g expected", variable, text, least, most);
  sim_die(message);
}

void sim_path_of(const char *variable, char *path, size_t size) {
  const char *text = getenv(variable);
  snprintf(path, size, "%s", text ? text : "");
}
