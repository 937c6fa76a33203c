/*
 * The trace lines of a debug build: one when an exported function is called, one when it returns. The compiler calls
 * the two hooks below around every function (-finstrument-functions); they skip functions that are not exported.
 */
#define _GNU_SOURCE /* dladdr */
#include "core/core.h"

#ifdef FST_DEBUG

#include <dlfcn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define UNTRACED __attribute__((no_instrument_function))
#define NAMES 512u

/* The thread's cache of function names: the name of an exported one, "" of another. */
static _Thread_local struct {
  const void *function;
  const char *name;
} names[NAMES];

static _Thread_local unsigned depth; /* the nesting of exported functions */
static _Thread_local double entered;

UNTRACED static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

void fst_trace(const char *format, ...) {
  static _Atomic double first;
  double none = 0, time = now();
  __atomic_compare_exchange(&first, &none, &time, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  char line[512];
  const int start = snprintf(line, sizeof line, "fst %11.6f %6ld  ", time - first, syscall(SYS_gettid));
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line + start, sizeof line - (size_t)start - 1, format, arguments);
  va_end(arguments);
  const size_t length = strlen(line);
  line[length] = '\n';
  if (write(STDERR_FILENO, line, length + 1) < 0) return; /* one call for the whole line; an error is ignored */
}

UNTRACED static const char *exported(const void *function) {
  const unsigned at = (unsigned)((uintptr_t)function >> 2) % NAMES;
  if (names[at].function != function) {
    Dl_info info;
    const int known = dladdr(function, &info) != 0 && info.dli_saddr == function && info.dli_sname != NULL;
    names[at].function = function;
    names[at].name = known && strncmp(info.dli_sname, "fst_", 4) == 0 ? info.dli_sname : "";
  }
  return names[at].name;
}

UNTRACED void __cyg_profile_func_enter(void *function, void *caller);
UNTRACED void __cyg_profile_func_exit(void *function, void *caller);

void __cyg_profile_func_enter(void *function, void *caller) {
  (void)caller;
  const char *name = exported(function);
  if (*name == 0 || depth++ > 0) return;
  fst_trace("> %s", name);
  entered = now();
}

void __cyg_profile_func_exit(void *function, void *caller) {
  (void)caller;
  const char *name = exported(function);
  if (*name == 0 || --depth > 0) return;
  fst_trace("< %s, %.3f ms", name, 1e3 * (now() - entered));
}

#endif
