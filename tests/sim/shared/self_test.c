/* Checks, cases, and cases in a separate process. */
#include "self_test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPECTED = 16, VARIABLES = 16 };

static const char *case_name = "between cases";
static int cases, checks, failures, skips;
static struct {
  const char *kind;
  uint64_t count;
} expected[EXPECTED];
static int expected_count;
static const char *variables[VARIABLES];
static int variable_count;

bool check(bool holds, const char *what, const char *file, int line) {
  checks++;
  if (!holds) {
    failures++;
    fprintf(stderr, "%s: failed: %s (%s:%d)\n", case_name, what, file, line);
  }
  return holds;
}

bool check_equal(long long actual, long long wanted, const char *what, const char *file, int line) {
  bool holds = check(actual == wanted, what, file, line);
  if (!holds) fprintf(stderr, "  %lld expected, %lld found\n", wanted, actual);
  return holds;
}

void skipped(const char *what) {
  skips++;
  printf("%s: skipped: %s\n", case_name, what);
}

void cannot_go_on(const char *reason) {
  fprintf(stderr, "%s: cannot go on: %s\n", case_name, reason);
  exit(1);
}

void expect_violations(const char *kind, uint64_t count) {
  expected[expected_count].kind = kind;
  expected[expected_count++].count = count;
}

static char report[65536];

void start_over(void) {
  uint64_t wanted = 0;
  bool clean = true;
  for (int i = 0; i < expected_count; i++) {
    wanted += expected[i].count;
    clean &= CHECK_EQUAL(tested.violations_of(expected[i].kind), expected[i].count);
  }
  clean &= CHECK_EQUAL(tested.violations(), wanted);
  if (!clean && tested.report(report, sizeof report) > 0) fprintf(stderr, "  %s\n", report);
  expected_count = 0;
  tested.reset();
}

void configure(const char *name, const char *value) {
  setenv(name, value, 1);
  variables[variable_count++] = name;
  start_over();
}

bool reported(const char *text) {
  return tested.report(report, sizeof report) < (int)sizeof report && strstr(report, text);
}

/* The exit status of a child process, or less than 0: a signal. */
static int end_of(pid_t child) {
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

int signal_of(void (*action)(void *argument), void *argument) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGABRT, SIG_DFL); /* not the sanitizers' own report */
    signal(SIGSEGV, SIG_DFL);
    if (!freopen("/dev/null", "w", stderr)) _exit(126);
    action(argument);
    _exit(0);
  }
  int end = end_of(child);
  return end < 0 ? -end : 0;
}

int run_child(const char *argument, const char *const pairs[], int count) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    for (int i = 0; i < count; i += 2) setenv(pairs[i], pairs[i + 1], 1);
    execl("/proc/self/exe", "self_test", argument, (char *)NULL);
    _exit(127);
  }
  int end = end_of(child);
  return end < 0 ? -1 : end;
}

static void run_case(const test_case *test) {
  case_name = test->name;
  variable_count = 0;
  if (tested.begin) tested.begin();
  test->run();
  CHECK_EQUAL(tested.live_total(), 0);
  for (int i = 0; i < variable_count; i++) unsetenv(variables[i]);
  start_over();
}

void run_cases(const test_case *const lists[], size_t count) {
  for (size_t i = 0; i < count; i++) {
    for (const test_case *test = lists[i]; test->name; test++, cases++) run_case(test);
  }
  case_name = "after the cases";
}

int finish(void) {
  printf("%s, self test: %d cases, %d checks, %d failed, %d skipped\n", tested.name(), cases, checks, failures, skips);
  return failures > 0;
}
