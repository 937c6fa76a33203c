/* What the cases of the self test share. Every case starts from a reset stand-in and ends with nothing held. */
#ifndef FST_SIM_SELF_TEST_H
#define FST_SIM_SELF_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "cuda_abi.h"
#include "sim.h"

enum { H2D = 1, D2H = 2, D2D = 3, MIB = 1 << 20 };

/* Counts a check, and says which one failed. */
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(actual, expected) \
  check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
#define OK(call) CHECK_EQUAL(call, 0)
bool check(bool holds, const char *what, const char *file, int line);
bool check_equal(long long actual, long long expected, const char *what, const char *file, int line);

/* Says that there have been `count` violations of a kind. Checked, with that there were no others, by start_over(). */
void expect_violations(const char *kind, uint64_t count);

/* Checks the violations so far and resets the stand-in; the end of a case does so too. */
void start_over(void);

/* Sets a variable of the stand-in for the rest of the case and starts over. */
void configure(const char *name, const char *value);

/* Has kernels run from a library that lies beside this program; false if it is not there. */
bool use_kernels(const char *file);

/* A message about something that could not be tested here. */
void skipped(const char *what);

/* The report holds this text. */
bool reported(const char *text);

/* Runs this program again with an argument, see main(); gives its exit status, or -1 if a signal ended it. */
int run_child(const char *argument, const char *const variables[], int count);

/* Runs in a forked process; gives the signal that ended it, or 0. */
int signal_of(void (*action)(void *argument), void *argument);

/* Reads and writes that race on purpose: not seen by the sanitizers. */
unsigned char racy_read(const volatile unsigned char *address);
void racy_write(volatile unsigned char *address, unsigned char value);

/* Device and pinned memory; ends the process if there is none. */
unsigned char *device_new(size_t bytes);
unsigned char *pinned_new(size_t bytes);
void *stream_new(void);
void *event_new(void);

/* Fills with bytes that depend on the seed and the position; whether they are still there. */
void fill_pattern(unsigned char *bytes, size_t count, unsigned seed);
bool is_pattern(const unsigned char *bytes, size_t count, unsigned seed);
bool is_filled(const unsigned char *bytes, size_t count, unsigned char value);

typedef struct test_case {
  const char *name;
  void (*run)(void);
} test_case;

/* Ended by an empty one. */
extern const test_case memory_cases[], stream_cases[], order_cases[], driver_cases[], kernel_cases[],
    cufile_cases[], process_cases[];

/* What the child process does for each argument, see self_test_process_cases.c. */
int child_main(const char *argument);

#endif
