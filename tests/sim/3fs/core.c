/* Configuration, the mount, and what loading the library does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "internal.h"

struct sim sim = {
  .lock = PTHREAD_MUTEX_INITIALIZER,
  .work = PTHREAD_COND_INITIALIZER,
  .idle = PTHREAD_COND_INITIALIZER,
};

const char *sim_name(void) {
  return "fastsafetensors 3FS stand-in";
}

SIM_EXPORT const char *fst_sim_3fs_name(void) {
  return sim_name();
}

uint64_t sim_random(void) {
  sim.random ^= sim.random << 13;
  sim.random ^= sim.random >> 7;
  sim.random ^= sim.random << 17;
  return sim.random;
}

void sim_configure(void) {
  sim_configuration *config = &sim.config;
  config->workers = (unsigned)sim_number_of("FST_SIM_3FS_WORKERS", 4, 1, SIM_WORKERS);
  config->delay_us = (unsigned)sim_number_of("FST_SIM_3FS_DELAY_US", 50, 0, 10e6);
  config->latency_us = (unsigned)sim_number_of("FST_SIM_3FS_LATENCY_US", 0, 0, 10e6);
  config->gbps = sim_number_of("FST_SIM_3FS_GBPS", 0, 0, 1e6);
  config->early = (unsigned)sim_number_of("FST_SIM_3FS_EARLY", 25, 0, 100);
  config->seed = (uint64_t)sim_number_of("FST_SIM_3FS_SEED", 1, 0, 1e15);
  config->checks = sim_number_of("FST_SIM_3FS_CHECKS", 1, 0, 1) != 0;
  sim_is_verbose = sim_number_of("FST_SIM_3FS_VERBOSE", 0, 0, 1) != 0;
  sim_path_of("FST_SIM_3FS_REPORT", config->report, sizeof config->report);
  if (fst_sim_3fs_fail(getenv("FST_SIM_3FS_FAIL")) != 0) {
    sim_die("cannot use FST_SIM_3FS_FAIL: see fst_sim_3fs_fail() in sim.h");
  }
  sim.random = config->seed * 0x9E3779B97F4A7C15u + 1;
}

/* The real library's table of descriptors has as many entries as the hard limit allows, all of them written. */
static void size_table(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) sim_die("cannot get the limit of open files");
  rlim_t most = (rlim_t)sim_number_of("FST_SIM_3FS_TABLE", 67108864, 1, 1e12);
  if (limit.rlim_max > most) sim_die("the table of descriptors does not fit: lower the hard limit");
  sim.file_limit = limit.rlim_max;
  sim.files = sim_zeroed((sim.file_limit ? sim.file_limit : 1) * sizeof *sim.files);
}

__attribute__((constructor)) static void start(void) {
  size_table();
  pthread_mutex_lock(&sim.lock);
  sim_configure();
  pthread_mutex_unlock(&sim.lock);
}

SIM_EXPORT int fst_sim_3fs_fail(const char *spec) {
  if (sim_fail(spec) != 0) return -1;
  sim.gone = false;
  return 0;
}

SIM_EXPORT void fst_sim_3fs_hold(int held) {
  pthread_mutex_lock(&sim.lock);
  sim.held = held;
  pthread_cond_broadcast(&sim.work);
  pthread_mutex_unlock(&sim.lock);
}

SIM_EXPORT void fst_sim_3fs_reset(void) {
  pthread_mutex_lock(&sim.lock);
  while (sim.running > 0) pthread_cond_wait(&sim.idle, &sim.lock);
  memset(&sim.counts, 0, sizeof sim.counts);
  sim.link_free = 0;
  sim_violations_clear();
  sim_configure();
  pthread_mutex_unlock(&sim.lock);
}

/* The mount */

const char *sim_mount(char *path, size_t size) {
  const char *named = getenv("FST_SIM_3FS_MOUNT");
  char real[4096], inside[4200];
  struct stat status;
  if (!named || !*named || !realpath(named, real)) return NULL;
  snprintf(inside, sizeof inside, "%s/3fs-virt", real);
  if (stat(inside, &status) != 0 || !S_ISDIR(status.st_mode) || strlen(real) >= size) return NULL;
  return strcpy(path, real);
}

static bool is_below(const char *path, const char *mount) {
  size_t length = strlen(mount);
  return strncmp(path, mount, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

SIM_EXPORT bool hf3fs_is_hf3fs(int fd) {
  int code;
  if (sim_injected("is_hf3fs", &code)) return code != 0;
  char link[64], path[4096], mount[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (sim.gone || length < 0 || !sim_mount(mount, sizeof mount)) return false;
  path[length] = '\0';
  return is_below(path, mount);
}

SIM_EXPORT int hf3fs_extract_mount_point(char *mount_point, int size, const char *path) {
  char real[4096], mount[4096];
  if (!realpath(path, real)) {
    char message[4352];
    snprintf(message, sizeof message, "extract_mount_point: no such path: \"%.4096s\"", path);
    sim_die(message); /* like an uncaught exception */
  }
  if (!sim_mount(mount, sizeof mount) || !is_below(real, mount)) return -1;
  int length = (int)strlen(mount);
  if (length < size) strcpy(mount_point, mount);
  return length + 1;
}
