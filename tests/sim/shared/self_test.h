/* What the self tests of stand-ins have in common. Every case starts from a reset stand-in and ends with nothing held. */
#ifndef FST_SIM_SHARED_SELF_TEST_H
#define FST_SIM_SHARED_SELF_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The functions of the stand-in that is tested; each self test has its own. */
typedef struct stand_in {
  const char *(*name)(void);
  uint64_t (*violations)(void);
  uint64_t (*violations_of)(const char *kind);
  uint64_t (*live_total)(void);
  int (*report)(char *buffer, size_t size);
  void (*reset)(void);
  void (*begin)(void); /* before each case; NULL: nothing */
} stand_in;
extern const stand_in tested;

/* Counts a check, and says which one failed. */
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(actual, expected) \
  check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
#define OK(call) CHECK_EQUAL(call, 0)
bool check(bool holds, const char *what, const char *file, int line);
bool check_equal(long long actual, long long expected, const char *what, const char *file, int line);

/* A message about something that could not be tested here. */
void skipped(const char *what);

/* Ends the self test: what a case needs is not to be had, for this reason. */
_Noreturn void cannot_go_on(const char *reason);

/* Says that there have been `count` violations of a kind. Checked, with that there were no others, by start_over(). */
void expect_violations(const char *kind, uint64_t count);

/* Checks the violations so far and resets the stand-in; the end of a case does so too. */
void start_over(void);

/* Sets a variable of the stand-in for the rest of the case and starts over. */
void configure(const char *name, const char *value);

/* The report holds this text. */
bool reported(const char *text);

/* Runs in a forked process without stderr; gives the signal that ended it, or 0. */
int signal_of(void (*action)(void *argument), void *argument);

/*
 * Runs this program again with an argument, see main(), and with variables, `count` names and values in turns. Gives
 * its exit status, or -1 if a signal ended it.
 */
int run_child(const char *argument, const char *const variables[], int count);

typedef struct test_case {
  const char *name; /* NULL: the end of a list */
  void (*run)(void);
} test_case;

/* Runs lists of cases. */
void run_cases(const test_case *const lists[], size_t count);

/* Prints how it went; gives the exit status. */
int finish(void);

#endif
