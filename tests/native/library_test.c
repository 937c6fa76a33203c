/*
 * Finds shared libraries that this test builds. Their names have the form of CUDA's versions and wheels, but do not
 * exist on any machine.
 */
#include "core/core.h"

#include <dlfcn.h>

#include "environment_support.h"
#include "plan_support.h"

#define VARIABLE "FST_ABSENT_LIB"

static const char *const NAMES[] = {"libfst_absent.so.13", "libfst_absent.so.12", "libfst_absent.so.11.0", NULL};
static const char *const WHEELS[] = {"maker/cu13/lib", "maker/fst_absent/lib", NULL};

/* A library that is not open, without functions. */
static fst_library unopened(const char *const *names, const char *const *wheels) {
  return (fst_library){.variable = VARIABLE, .names = names, .wheels = wheels, .mutex = PTHREAD_MUTEX_INITIALIZER};
}

static char folder[64];

static void run(const char *format, const char *path) {
  char command[1024];
  snprintf(command, sizeof command, format, folder, path);
  require(system(command) == 0, command);
}

static void start(void) {
  snprintf(folder, sizeof folder, "/tmp/fst-library-XXXXXX");
  require(mkdtemp(folder) != NULL, "mkdtemp");
  run("echo 'int fst_absent_number(void) { return 7; }' | ${CC:-cc} -shared -fPIC -x c -o %s/%s -", "built.so");
}

/* Copies the library to a folder, and creates the folder if necessary. */
static void put(const char *path) {
  run("cd %s && mkdir -p \"$(dirname %s)\"", path);
  run("cd %s && cp built.so %s", path);
}

static void set(const char *variable, const char *path) {
  char whole[128];
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  set_variable(variable, whole);
}

static void *expect_found(const char *const *names, const char *const *wheels, const char *path) {
  fst_library library = unopened(names, wheels);
  char reason[1024] = "stale", whole[256];
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  int status = fst_library_open(&library, reason, sizeof reason);
  CHECK(status == 0 && strcmp(library.path, whole) == 0, "%s: \"%s\", \"%s\"", path, library.path, reason);
  CHECK(*reason == 0, "it was found, and the reason is \"%s\"", reason);
  CHECK(fst_library_open(&library, reason, sizeof reason) == 0 && *reason == 0, "the second time: \"%s\"", reason);
  return library.handle;
}

/* The reason of fst_library_open for a library that it must not find. */
static const char *expect_missing(const char *const *names, const char *const *wheels, size_t size) {
  static char reason[1024];
  fst_library library = unopened(names, wheels);
  CHECK(fst_library_open(&library, reason, size) == -1, "\"%s\" was opened", library.path);
  CHECK(*library.path == 0 && !library.handle, "it is not open, and has the path \"%s\"", library.path);
  return reason;
}

/* Closes it: otherwise the next test would find it "open already". */
static void end_found(void *library) {
  if (library) dlclose(library);
}

static void test_missing(void) {
  const char *reason = expect_missing(NAMES, WHEELS, 1024);
  CHECK(strcmp(reason,
               "looked for \"libfst_absent.so.13\", \"libfst_absent.so.12\", \"libfst_absent.so.11.0\" among the system's "
               "libraries, below CUDA_HOME and in \"/usr/local/cuda/lib64\", in Python's packages below "
               "\"maker/cu13/lib\" and \"maker/fst_absent/lib\"; FST_ABSENT_LIB can name it") == 0,
        "\"%s\"", reason);
  reason = expect_missing((const char *const[]){"libfst_absent.so", NULL}, NULL, 1024);
  CHECK(strcmp(reason, "looked for \"libfst_absent.so\" among the system's libraries; FST_ABSENT_LIB can name it") == 0,
        "\"%s\"", reason);
  CHECK(strcmp(expect_missing(NAMES, WHEELS, 20), "looked for \"libfst_") == 0, "\"%s\" is not cut", reason);
  fst_library library = unopened(NAMES, WHEELS);
  CHECK(fst_library_open(&library, NULL, 0) == -1, "\"%s\" was opened", library.path);
}

static void test_named(void) {
  char expected[256];
  set(VARIABLE, "nothing.so");
  snprintf(expected, sizeof expected, "FST_ABSENT_LIB names \"%s/nothing.so\": ", folder);
  const char *reason = expect_missing(NAMES, WHEELS, 1024);
  CHECK(strncmp(reason, expected, strlen(expected)) == 0 && strstr(reason, "No such file"), "\"%s\"", reason);
  put("named.so");
  set(VARIABLE, "named.so");
  setenv(VARIABLE, "/nowhere/library.so", 1); /* the process's environment is ignored */
  end_found(expect_found(NAMES, WHEELS, "named.so"));
  set_variable(VARIABLE, NULL);
  unsetenv(VARIABLE);
}

/* Libraries in folders that a variable names. Versions come before folders. */
static void test_folders(void) {
  static const struct {
    const char *variable, *path;
  } cases[] = {
    {"HOME", ".local/lib/python3.9/site-packages/maker/fst_absent/lib/libfst_absent.so.11.0"},
    {"CONDA_PREFIX", "lib/python3.13/site-packages/maker/cu13/lib/libfst_absent.so.11.0"},
    {"CONDA_PREFIX", "lib/libfst_absent.so.12"},
    {"VIRTUAL_ENV", "lib/python3.11/site-packages/maker/fst_absent/lib/libfst_absent.so.12"},
    {"VIRTUAL_ENV", "lib/python3.11/site-packages/maker/cu13/lib/libfst_absent.so.12"},
    {"CUDA_PATH", "lib64/libfst_absent.so.12"},
    {"CUDA_HOME", "lib64/libfst_absent.so.13"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) { /* each is preferred to the earlier ones */
    char path[256];
    snprintf(path, sizeof path, "%s/%s", cases[i].variable, cases[i].path);
    put(path);
    set(cases[i].variable, cases[i].variable);
    end_found(expect_found(NAMES, WHEELS, path));
  }
  set_variable("CUDA_HOME", "relative");
  char path[256];
  snprintf(path, sizeof path, "%s/%s", cases[5].variable, cases[5].path);
  end_found(expect_found(NAMES, WHEELS, path));
}

/* A file that is not a library is reported, and later places are still tried. */
static void test_damaged(void) {
  static const char *const names[] = {"libfst_damaged.so", NULL};
  put("CUDA_PATH/lib64/libfst_damaged.so");
  run("echo none > %s/%s", "CUDA_PATH/lib64/libfst_damaged.so");
  const char *reason = expect_missing(names, WHEELS, 1024);
  CHECK(strstr(reason, "FST_ABSENT_LIB can name it; ") && strstr(reason, "CUDA_PATH/lib64/libfst_damaged.so: "),
        "\"%s\"", reason);
  put("CONDA_PREFIX/lib/libfst_damaged.so");
  end_found(expect_found(names, WHEELS, "CONDA_PREFIX/lib/libfst_damaged.so"));
}

/* A library that is already open is preferred to better names elsewhere. */
static void test_open_already(void) {
  char path[128];
  run("cd %s && ${CC:-cc} -shared -fPIC -Wl,-soname,libfst_absent.so.11.0 -o %s -x c /dev/null", "own.so");
  snprintf(path, sizeof path, "%s/own.so", folder);
  void *own = dlopen(path, RTLD_NOW);
  require(own != NULL, path);
  set("CUDA_HOME", "CUDA_HOME");
  end_found(expect_found(NAMES, WHEELS, "own.so"));
  dlclose(own);
}

static void test_binding(void) {
  struct {
    void *missing;
    int (*number)(void);
  } functions = {&functions, NULL};
  const fst_library_symbol symbols[] = {
    {"fst_absent_other", 0, 1},
    {"fst_absent_number", sizeof(void *), 0},
    {"fst_absent_needed", 0, 0},
  };
  char reason[512] = "", expected[256];
  const char *path = "CUDA_HOME/lib64/libfst_absent.so.13";
  fst_library library = unopened(NAMES, WHEELS);
  library.symbols = symbols;
  library.functions = &functions;
  library.symbol_count = 2;
  CHECK(fst_library_open(&library, reason, sizeof reason) == 0 && *reason == 0, "\"%s\"", reason);
  CHECK(functions.missing == NULL && functions.number && functions.number() == 7, "other functions");
  end_found(library.handle);
  library.handle = NULL;
  library.symbol_count = 3;
  CHECK(fst_library_open(&library, reason, sizeof reason) == -1, "nothing is missing");
  snprintf(expected, sizeof expected, "\"%s/%s\" has no function fst_absent_needed", folder, path);
  CHECK(strcmp(reason, expected) == 0, "\"%s\"", reason);
}

/* Values that are set, replaced, removed, empty, and too long. */
static void test_environment(void) {
  char value[FST_ENVIRONMENT_VALUE], long_value[FST_ENVIRONMENT_VALUE + 1];
  set_variable("FST_A", "one");
  set_variable("FST_AB", "two");
  CHECK(strcmp(fst_environment("FST_A", value), "one") == 0, "\"%s\"", value);
  CHECK(strcmp(fst_environment("FST_AB", value), "two") == 0, "\"%s\"", value);
  set_variable("FST_A", "");
  CHECK(!fst_environment("FST_A", value), "an empty value counts as not set");
  CHECK(!fst_environment("FST", value) && !fst_environment("FST_ABC", value), "other names");
  memset(long_value, 'x', sizeof long_value);
  long_value[FST_ENVIRONMENT_VALUE] = 0;
  set_variable("FST_A", long_value);
  CHECK(!fst_environment("FST_A", value), "a value that does not fit");
  long_value[FST_ENVIRONMENT_VALUE - 1] = 0;
  set_variable("FST_A", long_value);
  CHECK(fst_environment("FST_A", value) && strlen(value) == FST_ENVIRONMENT_VALUE - 1, "a value that just fits");
  fst_environment_set("FST_A=open", 10); /* without its NUL */
  CHECK(strcmp(fst_environment("FST_A", value), "open") == 0, "\"%s\"", value);
  fst_environment_set(NULL, 0);
  CHECK(!fst_environment("FST_A", value), "no variables at all");
}

int main(void) {
  start();
  test_missing();
  test_named();
  test_folders();
  test_damaged();
  test_open_already();
  test_binding();
  test_environment();
  run("rm -r %s%s", "");
  return report("library_test");
}
