/*
 * open_library LIBRARY FILE SYMBOL…: opens a built library as Deno does, finds every symbol, and reads FILE with it.
 * Prints the version of its interface and the bytes of the file.
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "fst.h"

static void *find(void *library, const char *name) {
  void *symbol = dlsym(library, name);
  if (symbol) return symbol;
  fprintf(stderr, "%s is missing: %s\n", name, dlerror());
  exit(1);
}

int main(int count, char **arguments) {
  if (count < 3) return 2;
  void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    fprintf(stderr, "%s\n", dlerror());
    return 1;
  }
  for (int i = 3; i < count; i++) find(library, arguments[i]);
  __typeof__(fst_abi_version) *abi_version = find(library, "fst_abi_version");
  __typeof__(fst_file_open) *file_open = find(library, "fst_file_open");
  __typeof__(fst_file_read) *file_read = find(library, "fst_file_read");
  __typeof__(fst_file_close) *file_close = find(library, "fst_file_close");
  fst_file_info info;
  char head[1], bytes[64] = "";
  if (file_open(arguments[2], &info, head, sizeof head) != 0) return 3;
  if (file_read(info.fd, bytes, sizeof bytes - 1, 0) != (int64_t)info.size) return 4;
  printf("%u %s", abi_version(), bytes);
  return -file_close(info.fd);
}
