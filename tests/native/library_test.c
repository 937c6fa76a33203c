/*
 * Finding shared libraries, among some that this test builds: no machine has others of these names, which are of the
 * form that CUDA's versions and wheels have.
 */
#include "library.h"

#include <dlfcn.h>

#include "plan_support.h"

static const fst_library_place PLACE = {
  .variable = "FST_ABSENT_LIB",
  .names = (const char *const[]){"libfst_absent.so.13", "libfst_absent.so.12", "libfst_absent.so.11.0", NULL},
  .wheels = (const char *const[]){"maker/cu13/lib", "maker/fst_absent/lib", NULL},
};

static const char *const VARIABLES[] = {"CUDA_HOME", "CUDA_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME"};

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
  for (size_t i = 0; i < sizeof VARIABLES / sizeof *VARIABLES; i++) unsetenv(VARIABLES[i]);
  unsetenv(PLACE.variable);
}

/* A copy of the library, in a folder that may be new. */
static void put(const char *path) {
  run("cd %s && mkdir -p \"$(dirname %s)\"", path);
  run("cd %s && cp built.so %s", path);
}

static void set(const char *variable, const char *path) {
  char whole[128];
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  setenv(variable, whole, 1);
}

static void *expect_found(const fst_library_place *place, const char *path) {
  char message[1024] = "", whole[256];
  snprintf(whole, sizeof whole, "%s/%s", folder, path);
  void *library = fst_library_open(place, message, sizeof message);
  CHECK(library != NULL && strcmp(message, whole) == 0, "%s: \"%s\"", path, message);
  return library;
}

/* Else it would be "open already" for the next. */
static void end_found(void *library) {
  if (library) dlclose(library);
}

static void test_missing(void) {
  char message[1024] = "";
  CHECK(fst_library_open(&PLACE, message, sizeof message) == NULL, "\"%s\" was opened", message);
  CHECK(strcmp(message,
               "looked for \"libfst_absent.so.13\", \"libfst_absent.so.12\", \"libfst_absent.so.11.0\" among the system's "
               "libraries, below CUDA_HOME and in \"/usr/local/cuda/lib64\", in Python's packages below "
               "\"maker/cu13/lib\" and \"maker/fst_absent/lib\"; FST_ABSENT_LIB can name it") == 0,
        "\"%s\"", message);
  const fst_library_place system_only = {"FST_ABSENT_LIB", (const char *const[]){"libfst_absent.so", NULL}, NULL};
  CHECK(fst_library_open(&system_only, message, sizeof message) == NULL, "\"%s\" was opened", message);
  CHECK(strcmp(message, "looked for \"libfst_absent.so\" among the system's libraries; FST_ABSENT_LIB can name it") == 0,
        "\"%s\"", message);
  char brief[20] = "";
  CHECK(fst_library_open(&PLACE, brief, sizeof brief) == NULL && strcmp(brief, "looked for \"libfst_") == 0,
        "\"%s\" is not cut", brief);
}

static void test_named(void) {
  char message[1024] = "", expected[256];
  set(PLACE.variable, "nothing.so");
  snprintf(expected, sizeof expected, "FST_ABSENT_LIB names \"%s/nothing.so\": ", folder);
  CHECK(fst_library_open(&PLACE, message, sizeof message) == NULL, "\"%s\" was opened", message);
  CHECK(strncmp(message, expected, strlen(expected)) == 0 && strstr(message, "No such file"), "\"%s\"", message);
  put("named.so");
  set(PLACE.variable, "named.so");
  end_found(expect_found(&PLACE, "named.so"));
  unsetenv(PLACE.variable);
}

/* In what a variable names; the path below it. Versions come before folders. */
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
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) { /* each goes before those so far */
    char path[256];
    snprintf(path, sizeof path, "%s/%s", cases[i].variable, cases[i].path);
    put(path);
    set(cases[i].variable, cases[i].variable);
    end_found(expect_found(&PLACE, path));
  }
  setenv("CUDA_HOME", "relative", 1);
  char path[256];
  snprintf(path, sizeof path, "%s/%s", cases[5].variable, cases[5].path);
  end_found(expect_found(&PLACE, path));
}

/* A file that is no library is told of, and does not keep from finding one further on. */
static void test_damaged(void) {
  char message[1024] = "";
  const fst_library_place place = {"FST_ABSENT_LIB", (const char *const[]){"libfst_damaged.so", NULL}, PLACE.wheels};
  put("CUDA_PATH/lib64/libfst_damaged.so");
  run("echo none > %s/%s", "CUDA_PATH/lib64/libfst_damaged.so");
  CHECK(fst_library_open(&place, message, sizeof message) == NULL, "\"%s\" was opened", message);
  CHECK(strstr(message, "FST_ABSENT_LIB can name it; ") && strstr(message, "CUDA_PATH/lib64/libfst_damaged.so: "),
        "\"%s\"", message);
  put("CONDA_PREFIX/lib/libfst_damaged.so");
  end_found(expect_found(&place, "CONDA_PREFIX/lib/libfst_damaged.so"));
}

/* What is open already goes before better names elsewhere. */
static void test_open_already(void) {
  char path[128];
  run("cd %s && ${CC:-cc} -shared -fPIC -Wl,-soname,libfst_absent.so.11.0 -o %s -x c /dev/null", "own.so");
  snprintf(path, sizeof path, "%s/own.so", folder);
  void *own = dlopen(path, RTLD_NOW);
  require(own != NULL, path);
  set("CUDA_HOME", "CUDA_HOME");
  end_found(expect_found(&PLACE, "own.so"));
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
  char message[512] = "", expected[256];
  void *library = expect_found(&PLACE, "CUDA_HOME/lib64/libfst_absent.so.13");
  CHECK(fst_library_bind(library, symbols, 2, &functions, message, sizeof message) == 0, "\"%s\"", message);
  CHECK(functions.missing == NULL && functions.number && functions.number() == 7, "other functions");
  CHECK(fst_library_bind(library, symbols, 3, &functions, message, sizeof message) == -1, "nothing is missing");
  snprintf(expected, sizeof expected, "\"%s/CUDA_HOME/lib64/libfst_absent.so.13\" has no function fst_absent_needed",
           folder);
  CHECK(strcmp(message, expected) == 0, "\"%s\"", message);
  end_found(library);
}

int main(void) {
  start();
  test_missing();
  test_named();
  test_folders();
  test_damaged();
  test_open_already();
  test_binding();
  run("rm -r %s%s", "");
  return report("library_test");
}
