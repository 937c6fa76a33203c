/* Finds shared libraries that may be missing. */
#define _GNU_SOURCE /* dlinfo */
#include <dlfcn.h>
#include <glob.h>
#include <link.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/core.h"

void fst_library_tell(char *reason, size_t size, const char *format, ...) {
  size_t length = size > 0 ? strlen(reason) : 0;
  if (length + 1 >= size) return;
  va_list rest;
  va_start(rest, format);
  vsnprintf(reason + length, size - length, format, rest);
  va_end(rest);
}

/*
 * Looks up the functions of a library. 0, or -1 with the missing one in `reason`, which is otherwise unchanged; nobody
 * asks for it if `size` is 0.
 */
static int bind(const fst_library *library, void *handle, char *reason, size_t size) {
  for (size_t i = 0; i < library->symbol_count; i++) {
    const fst_library_symbol *symbol = &library->symbols[i];
    void *address = dlsym(handle, symbol->name);
    if (!address && !symbol->optional) {
      if (size > 0) snprintf(reason, size, "\"%s\" has no function %s", library->path, symbol->name);
      return -1;
    }
    memcpy((char *)library->functions + symbol->offset, &address, sizeof address);
  }
  return 0;
}

/* What a search has found besides what it returns. */
typedef struct search {
  fst_library *wanted;
  void *refused;     /* the first library that refuses */
  char trouble[512]; /* why a file that exists cannot be opened */
} search;

/* Returns a library that can be used; NULL for others. */
static void *accept(search *search, void *library) {
  fst_library *wanted = search->wanted;
  if (!library || !wanted->refuses || bind(wanted, library, NULL, 0) != 0 || !wanted->refuses()) {
    return library;
  }
  if (!search->refused) search->refused = library;
  return NULL;
}

/* The `dlerror` of a file that exists but cannot be opened is a better reason than "no such file". */
static void *try_path(search *search, const char *path) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library) return accept(search, library);
  const char *text = dlerror();
  if (text && !strstr(text, "No such file")) snprintf(search->trouble, sizeof search->trouble, "%s", text);
  return NULL;
}

/* Tries every match of the pattern, with the name appended. */
static void *try_pattern(search *search, const char *pattern, const char *name) {
  glob_t found;
  void *library = NULL;
  if (glob(pattern, GLOB_NOSORT, NULL, &found) == 0) {
    for (size_t i = 0; i < found.gl_pathc && !library; i++) {
      char path[4096];
      int length = snprintf(path, sizeof path, "%s/%s", found.gl_pathv[i], name);
      if (length < (int)sizeof path) library = try_path(search, path);
    }
    globfree(&found);
  }
  return library;
}

/* Folders: one with a variable is used only if it is set; "*" is a version, "%" a wheel's folder. */
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

int fst_library_folder(size_t index, const char *wheel, char *pattern, size_t size) {
  if (index >= sizeof FOLDERS / sizeof *FOLDERS) return -1;
  char value[FST_ENVIRONMENT_VALUE];
  const char *rest = FOLDERS[index].rest;
  const char *base = FOLDERS[index].variable ? fst_environment(FOLDERS[index].variable, value) : "";
  if (!base || (FOLDERS[index].variable && base[0] != '/')) return 0;
  const int stem = (int)strcspn(rest, "%"), has_wheel = rest[stem] == '%';
  if (has_wheel != (wheel != NULL)) return 0;
  return snprintf(pattern, size, "%s%.*s%s", base, stem, rest, wheel ? wheel : "") < (int)size;
}

static void *try_folders(search *search, const char *name) {
  void *library = NULL;
  char pattern[4096];
  int more;
  for (size_t i = 0; !library && (more = fst_library_folder(i, NULL, pattern, sizeof pattern)) >= 0; i++) {
    if (more) library = try_pattern(search, pattern, name);
    for (const char *const *wheel = search->wanted->wheels; *wheel && !library; wheel++) {
      if (fst_library_folder(i, *wheel, pattern, sizeof pattern) > 0) {
        library = try_pattern(search, pattern, name);
      }
    }
  }
  return library;
}

static void tell_tried(const fst_library *wanted, const char *trouble, char *reason, size_t size) {
  snprintf(reason, size, "looked for");
  for (const char *const *name = wanted->names; *name; name++) {
    fst_library_tell(reason, size, "%s \"%s\"", name == wanted->names ? "" : ",", *name);
  }
  fst_library_tell(reason, size, " among the system's libraries");
  if (wanted->wheels) fst_library_tell(reason, size, ", below CUDA_HOME and in \"/usr/local/cuda/lib64\"");
  for (const char *const *wheel = wanted->wheels; wheel && *wheel; wheel++) {
    fst_library_tell(reason, size, "%s \"%s\"", wheel == wanted->wheels ? ", in Python's packages below" : " and", *wheel);
  }
  fst_library_tell(reason, size, "; %s can name it", wanted->variable);
  if (*trouble) fst_library_tell(reason, size, "; %s", trouble);
}

/* Finds the library; NULL with the reason. */
static void *find(fst_library *wanted, char *reason, size_t size) {
  char value[FST_ENVIRONMENT_VALUE];
  search search = {.wanted = wanted};
  void *library = NULL;
  const char *named = fst_environment(wanted->variable, value);
  if (named) {
    library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
    const char *text = library ? NULL : dlerror();
    if (!library) {
      snprintf(reason, size, "%s names \"%s\": %s", wanted->variable, named, text ? text : "it cannot be opened");
    }
    return library;
  }
  /* A library that the process already uses comes first, because two runtimes would not share their state. */
  for (const char *const *name = wanted->names; *name && !library; name++) {
    library = accept(&search, dlopen(*name, RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD));
  }
  for (const char *const *name = wanted->names; *name && !library; name++) {
    library = try_path(&search, *name);
  }
  for (const char *const *name = wanted->names; wanted->wheels && *name && !library; name++) {
    library = try_folders(&search, *name);
  }
  if (!library) library = search.refused;
  if (!library) tell_tried(wanted, search.trouble, reason, size);
  return library;
}

int fst_library_open(fst_library *library, char *reason, size_t size) {
  if (size > 0) *reason = 0;
  pthread_mutex_lock(&library->mutex);
  void *handle = NULL;
  if (!library->handle) handle = library->find ? library->find(reason, size) : find(library, reason, size);
  if (handle) {
    struct link_map *map = NULL;
    int known = dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0 && map;
    snprintf(library->path, sizeof library->path, "%s", known ? map->l_name : "");
    if (bind(library, handle, reason, size) == 0) library->handle = handle;
  }
  int status = library->handle ? 0 : -1;
  pthread_mutex_unlock(&library->mutex);
  return status;
}
