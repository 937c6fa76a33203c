/*
 * What a debug build (-DFST_DEBUG, `deno task build:debug`) adds: checks of what the shim itself takes for granted, and
 * lines on stderr that say what it does. In an ordinary build there is nothing of it.
 */
#ifndef FST_DEBUG_H
#define FST_DEBUG_H

#ifdef FST_DEBUG

#include <assert.h>

#define FST_ASSERT(condition) assert(condition)
#define FST_TRACE(...) fst_trace(__VA_ARGS__)

/* Writes a line to stderr: seconds since the first one, the thread, and the text. */
void fst_trace(const char *format, ...) __attribute__((format(printf, 1, 2), no_instrument_function));

#else

#define FST_ASSERT(condition) ((void)0)
#define FST_TRACE(...) ((void)0)

#endif
#endif
