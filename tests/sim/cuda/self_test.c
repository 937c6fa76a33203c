/* Self test of the stand-ins: that they do what CUDA does, and that they catch what they are there to catch. */
#include "self_test.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPECTED = 16, VARIABLES = 16 };

static const char *case_name;
static int checks, failures, skips;
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

void expect_violations(const char *kind, uint64_t count) {
  expected[expected_count].kind = kind;
  expected[expected_count++].count = count;
}

void start_over(void) {
  static char report[65536];
  uint64_t wanted = 0;
  bool clean = true;
  for (int i = 0; i < expected_count; i++) {
    wanted += expected[i].count;
    clean &= CHECK_EQUAL(fst_sim_violations_of(expected[i].kind), expected[i].count);
  }
  clean &= CHECK_EQUAL(fst_sim_violations(), wanted);
  if (!clean && fst_sim_report(report, sizeof report) > 0) fprintf(stderr, "  %s\n", report);
  expected_count = 0;
  fst_sim_reset();
}

void configure(const char *name, const char *value) {
  setenv(name, value, 1);
  variables[variable_count++] = name;
  start_over();
}

bool use_kernels(const char *file) {
  char path[4096];
  ssize_t length = readlink("/proc/self/exe", path, sizeof path - 64);
  while (length > 0 && path[length - 1] != '/') length--;
  snprintf(path + (length > 0 ? length : 0), 64, "%s", file);
  if (access(path, R_OK) != 0) return false;
  configure("FST_SIM_KERNELS", path);
  return true;
}

void skipped(const char *what) {
  skips++;
  printf("%s: skipped: %s\n", case_name, what);
}

bool reported(const char *text) {
  static char report[65536];
  return fst_sim_report(report, sizeof report) < (int)sizeof report && strstr(report, text);
}

int run_child(const char *argument, const char *const pairs[], int count) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    for (int i = 0; i < count; i += 2) setenv(pairs[i], pairs[i + 1], 1);
    execl("/proc/self/exe", "self_test", argument, (char *)NULL);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int signal_of(void (*action)(void *argument), void *argument) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGSEGV, SIG_DFL); /* not the sanitizers' own report */
    action(argument);
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

__attribute__((noinline, no_sanitize("thread", "address"))) unsigned char racy_read(
    const volatile unsigned char *address) {
  return *address;
}

__attribute__((noinline, no_sanitize("thread", "address"))) void racy_write(volatile unsigned char *address,
                                                                           unsigned char value) {
  *address = value;
}

static void *needed(int code, void *made) {
  if (code == 0 && made) return made;
  fprintf(stderr, "%s: cannot go on: %s\n", case_name, cudaGetErrorString(code));
  exit(1);
}

unsigned char *device_new(size_t bytes) {
  void *made = NULL;
  int code = cudaMalloc(&made, bytes);
  return needed(code, made);
}

unsigned char *pinned_new(size_t bytes) {
  void *made = NULL;
  int code = cudaHostAlloc(&made, bytes, 1);
  return needed(code, made);
}

void *stream_new(void) {
  void *made = NULL;
  int code = cudaStreamCreateWithFlags(&made, 1);
  return needed(code, made);
}

void *event_new(void) {
  void *made = NULL;
  int code = cudaEventCreateWithFlags(&made, 2);
  return needed(code, made);
}

static unsigned char pattern(size_t index, unsigned seed) {
  return (unsigned char)((index * 31u + (index >> 8) * 7u + seed * 101u) % 251u);
}

void fill_pattern(unsigned char *bytes, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; i++) bytes[i] = pattern(i, seed);
}

bool is_pattern(const unsigned char *bytes, size_t count, unsigned seed) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != pattern(i, seed)) return false;
  }
  return true;
}

bool is_filled(const unsigned char *bytes, size_t count, unsigned char value) {
  for (size_t i = 0; i < count; i++) {
    if (bytes[i] != value) return false;
  }
  return true;
}

static void run_case(const test_case *test) {
  case_name = test->name;
  variable_count = 0;
  cudaSetDevice(0);
  test->run();
  cudaGetLastError();
  CHECK_EQUAL(fst_sim_live_total(), 0);
  for (int i = 0; i < variable_count; i++) unsetenv(variables[i]);
  start_over();
}

int main(int count, char **arguments) {
  if (count > 1) return child_main(arguments[1]);
  const test_case *const lists[] = {memory_cases, stream_cases, order_cases, driver_cases,
                                    kernel_cases, cufile_cases, process_cases};
  int cases = 0;
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    for (const test_case *test = lists[i]; test->name; test++, cases++) run_case(test);
  }
  printf("%s, self test: %d cases, %d checks, %d failed, %d skipped\n", fst_sim_name(), cases, checks, failures, skips);
  return failures > 0;
}
