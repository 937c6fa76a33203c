/* The report: one line of JSON. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "shared.h"

void sim_add(sim_text *into, const char *format, ...) {
  size_t space = into->length < into->size ? into->size - into->length : 0;
  va_list rest;
  va_start(rest, format);
  int length = vsnprintf(space ? into->buffer + into->length : NULL, space, format, rest);
  va_end(rest);
  if (length > 0) into->length += (size_t)length;
}

void sim_add_string(sim_text *into, const char *string) {
  sim_add(into, "\"");
  for (; *string; string++) {
    const unsigned char byte = (unsigned char)*string;
    if (byte == '"' || byte == '\\') sim_add(into, "\\%c", byte);
    else if (byte < 32 || byte > 126) sim_add(into, "\\u%04x", byte);
    else sim_add(into, "%c", byte);
  }
  sim_add(into, "\"");
}

void sim_write_report(const char *path, int (*report)(char *buffer, size_t size)) {
  if (!*path) return;
  size_t size = (size_t)report(NULL, 0) + 4096; /* more, should it grow meanwhile */
  char *line = sim_zeroed(size);
  size_t length = (size_t)report(line, size - 1);
  if (length > size - 2) length = size - 2;
  line[length++] = '\n';
  int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd < 0 || write(fd, line, length) != (ssize_t)length || close(fd) != 0) {
    fprintf(stderr, "%s: cannot write its report to %s\n", sim_name(), path);
  }
  free(line);
}
