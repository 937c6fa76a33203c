/* Self test of the stand-in: that it does what 3FS does, and that it catches what it is there to catch. */
#include "self_test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXPECTED = 16, VARIABLES = 16 };

char mount_point[256], file_path[300], outside_path[300];
static const char *case_name;
static int checks, failures;
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

/* Violations are forgotten by the reset; so are the ones expected. */
static void check_violations(void) {
  uint64_t wanted = 0;
  for (int i = 0; i < expected_count; i++) {
    wanted += expected[i].count;
    CHECK_EQUAL(fst_sim_3fs_violations_of(expected[i].kind), expected[i].count);
  }
  CHECK_EQUAL(fst_sim_3fs_violations(), wanted);
  expected_count = 0;
  fst_sim_3fs_reset();
}

void configure(const char *name, const char *value) {
  setenv(name, value, 1);
  variables[variable_count++] = name;
  check_violations();
}

unsigned char byte_at(uint64_t offset) {
  return (unsigned char)((offset * 31 + (offset >> 8) * 7 + 3) % 251);
}

bool holds_file(const uint8_t *bytes, uint64_t offset, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (bytes[i] != byte_at(offset + i)) return false;
  }
  return true;
}

bool holds_poison(const uint8_t *bytes, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    if (bytes[i] != POISON) return false;
  }
  return true;
}

int signal_of(void (*action)(void)) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    signal(SIGABRT, SIG_DFL); /* not the sanitizers' own report */
    if (!freopen("/dev/null", "w", stderr)) _exit(126);
    action();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int run_child(const char *argument, const char *name, const char *value) {
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    setenv(name, value, 1);
    if (!freopen("/dev/null", "w", stderr)) _exit(126);
    execl("/proc/self/exe", "self_test", argument, (char *)NULL);
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void bench_open(bench *bench, int entries, int io_depth) {
  CHECK_EQUAL(hf3fs_iovcreate(&bench->iov, mount_point, 64 * PART, 0, -1), 0);
  CHECK_EQUAL(hf3fs_iorcreate4(&bench->ior, mount_point, entries, true, io_depth, 0, -1, 0), 0);
  bench->fd = open(file_path, O_RDONLY);
  CHECK(hf3fs_reg_fd(bench->fd, 0) <= 0);
}

void bench_close(bench *bench) {
  hf3fs_dereg_fd(bench->fd);
  close(bench->fd);
  hf3fs_iordestroy(&bench->ior);
  hf3fs_iovdestroy(&bench->iov);
}

int prepare(bench *bench, int part, uint64_t offset) {
  return hf3fs_prep_io(&bench->ior, &bench->iov, true, bench->iov.base + part * PART, bench->fd, offset, PART,
                       (void *)(intptr_t)part);
}

int wait_for(bench *bench, struct hf3fs_cqe *results, int count, int least, int milliseconds) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_nsec += (long)milliseconds * 1000000;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  return hf3fs_wait_for_ios(&bench->ior, results, count, least, &until);
}

/* What a child does that run_child() started. */
static int child_main(const char *argument) {
  if (strcmp(argument, "leak") == 0) {
    struct hf3fs_iov iov;
    struct hf3fs_ior none = {.iorh = &iov};
    hf3fs_iovcreate(&iov, getenv("FST_SIM_3FS_MOUNT"), PART, 0, -1);
    hf3fs_submit_ios(&none);
  }
  return 0;
}

static void write_file(const char *path, size_t bytes) {
  static unsigned char content[FILE_BYTES];
  for (size_t i = 0; i < bytes; i++) content[i] = byte_at(i);
  FILE *file = fopen(path, "we");
  if (!file || fwrite(content, 1, bytes, file) != bytes || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

static void make_mount(void) {
  char path[320];
  snprintf(mount_point, sizeof mount_point, "/tmp/fst-sim-3fs-XXXXXX");
  if (!mkdtemp(mount_point)) {
    perror(mount_point);
    exit(1);
  }
  snprintf(path, sizeof path, "%s/3fs-virt", mount_point);
  mkdir(path, 0777);
  snprintf(path, sizeof path, "%s/3fs-virt/iovs", mount_point);
  mkdir(path, 0777);
  snprintf(file_path, sizeof file_path, "%s/file", mount_point);
  snprintf(outside_path, sizeof outside_path, "%s.outside", mount_point);
  write_file(file_path, FILE_BYTES);
  write_file(outside_path, PART);
  setenv("FST_SIM_3FS_MOUNT", mount_point, 1);
}

static void remove_mount(void) {
  char path[320];
  snprintf(path, sizeof path, "%s/3fs-virt/iovs", mount_point);
  CHECK(rmdir(path) == 0);
  snprintf(path, sizeof path, "%s/3fs-virt", mount_point);
  rmdir(path);
  unlink(file_path);
  unlink(outside_path);
  rmdir(mount_point);
}

static void run_case(const test_case *test) {
  case_name = test->name;
  variable_count = 0;
  test->run();
  CHECK_EQUAL(fst_sim_3fs_live_total(), 0);
  for (int i = 0; i < variable_count; i++) unsetenv(variables[i]);
  check_violations();
}

int main(int count, char **arguments) {
  if (count > 1) return child_main(arguments[1]);
  make_mount();
  const test_case *const lists[] = {library_cases, ring_cases};
  int cases = 0;
  for (size_t i = 0; i < sizeof lists / sizeof *lists; i++) {
    for (const test_case *test = lists[i]; test->name; test++, cases++) run_case(test);
  }
  case_name = "cleaning up";
  remove_mount();
  printf("%s, self test: %d cases, %d checks, %d failed\n", fst_sim_3fs_name(), cases, checks, failures);
  return failures > 0;
}
