/* Finding shared libraries that may be missing. */
#define _GNU_SOURCE /* dlinfo */
#include "library.h"

#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Adds to a message, which is cut where it does not fit. */
__attribute__((format(printf, 3, 4))) static void add(char *message, size_t size, const char *format, ...) {
  size_t length = strlen(message);
  if (length + 1 >= size) return;
  va_list rest;
  va_start(rest, format);
  vsnprintf(message + length, size - length, format, rest);
  va_end(rest);
}

static void *opened(void *library, char *message, size_t size) {
  struct link_map *map = NULL;
  int known = dlinfo(library, RTLD_DI_LINKMAP, &map) == 0 && map && *map->l_name;
  snprintf(message, size, "%s", known ? map->l_name : "");
  return library;
}

/* `dlerror` of the latest dlopen that found a file and could not use it is worth more than "no such file". */
static void *try_path(const char *path, char *trouble, size_t size) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library) return library;
  const char *text = dlerror();
  if (text && !strstr(text, "No such file")) snprintf(trouble, size, "%s", text);
  return NULL;
}

/* Every match of the pattern, each with the name behind it. */
static void *try_pattern(const char *pattern, const char *name, char *trouble, size_t size) {
  glob_t found;
  void *library = NULL;
  if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc && !library; i++) {
      char path[4096];
      int length = snprintf(path, sizeof path, "%s/%s", found.gl_pathv[i], name);
      if (length < (int)sizeof path) library = try_path(path, trouble, size);
    }
    globfree(&found);
  }
  return library;
}

/* Folders: those with a variable count only where it is set, "*" stands for a version, "%" for a wheel's folder. */
static const struct {
  const char *variable, *rest;
} FOLDERS[] = {
  {"CUDA_HOME", "/lib64"},
  {"CUDA_PATH", "/lib64"},
  {NULL, "/usr/local/cuda/lib64"},
  {"VIRTUAL_ENV", "/lib/python3*/site-packages/%"},
  {"CONDA_PREFIX", "/lib"},
  {"CONDA_PREFIX", "/lib/python3*/site-packages/%"},
  {"HOME", "/.local/lib/python3*/site-packages/%"},
  {NULL, "/usr/local/lib/python3*/site-packages/%"},
  {NULL, "/usr/local/lib/python3*/dist-packages/%"},
  {NULL, "/usr/lib/python3/dist-packages/%"},
};

static void *try_folders(const fst_library_place *place, const char *name, char *trouble, size_t size) {
  void *library = NULL;
  for (size_t i = 0; i < sizeof FOLDERS / sizeof *FOLDERS && !library; i++) {
    const char *base = FOLDERS[i].variable ? getenv(FOLDERS[i].variable) : "";
    if (!base || (FOLDERS[i].variable && base[0] != '/')) continue;
    int stem = (int)strcspn(FOLDERS[i].rest, "%"), has_wheel = FOLDERS[i].rest[stem] == '%';
    const char *const no_wheel[] = {"", NULL};
    for (const char *const *wheel = has_wheel ? place->wheels : no_wheel; *wheel && !library; wheel++) {
      char pattern[4096];
      int length = snprintf(pattern, sizeof pattern, "%s%.*s%s", base, stem, FOLDERS[i].rest, *wheel);
      if (length < (int)sizeof pattern) library = try_pattern(pattern, name, trouble, size);
    }
  }
  return library;
}

static void tell_tried(const fst_library_place *place, const char *trouble, char *message, size_t size) {
  snprintf(message, size, "looked for");
  for (const char *const *name = place->names; *name; name++) {
    add(message, size, "%s \"%s\"", name == place->names ? "" : ",", *name);
  }
  add(message, size, " among the system's libraries");
  if (place->wheels) add(message, size, ", below CUDA_HOME and in \"/usr/local/cuda/lib64\"");
  for (const char *const *wheel = place->wheels; wheel && *wheel; wheel++) {
    add(message, size, "%s \"%s\"", wheel == place->wheels ? ", in Python's packages below" : " and", *wheel);
  }
  add(message, size, "; %s can name it", place->variable);
  if (*trouble) add(message, size, "; %s", trouble);
}

void *fst_library_open(const fst_library_place *place, char *message, size_t size) {
  char trouble[512] = "";
  void *library = NULL;
  const char *named = getenv(place->variable);
  if (named && *named) {
    library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    if (library) return opened(library, message, size);
    const char *text = dlerror();
    snprintf(message, size, "%s names \"%s\": %s", place->variable, named, text ? text : "it cannot be opened");
    return NULL;
  }
  /* What another part of the process uses comes first: two runtimes side by side would not share their state. */
  for (const char *const *name = place->names; *name && !library; name++) {
    library = dlopen(*name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
  }
  for (const char *const *name = place->names; *name && !library; name++) {
    library = try_path(*name, trouble, sizeof trouble);
  }
  for (const char *const *name = place->names; place->wheels && *name && !library; name++) {
    library = try_folders(place, *name, trouble, sizeof trouble);
  }
  if (library) return opened(library, message, size);
  tell_tried(place, trouble, message, size);
  return NULL;
}

int fst_library_bind(void *library, const fst_library_symbol *symbols, size_t count, void *functions, char *message,
                     size_t size) {
  for (size_t i = 0; i < count; i++) {
    void *address = dlsym(library, symbols[i].name);
    if (!address && !symbols[i].optional) {
      char path[512];
      opened(library, path, sizeof path);
      snprintf(message, size, "\"%s\" has no function %s", path, symbols[i].name);
      return -1;
    }
    memcpy((char *)functions + symbols[i].offset, &address, sizeof address);
  }
  return 0;
}
