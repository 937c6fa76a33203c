/* Registered descriptors. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "internal.h"

sim_file *sim_file_of(int fd) {
  size_t index = fd < 0 ? (size_t) - (int64_t)fd : (size_t)fd; /* what reg_fd gave serves as well */
  return index < sim.file_limit ? sim.files[index] : NULL;
}

void sim_file_drop(sim_file *file) {
  if (--file->holders > 0) return;
  close(file->copy);
  free(file);
}

SIM_EXPORT int hf3fs_reg_fd(int fd, uint64_t flags) {
  (void)flags;
  int code;
  if (sim_injected("reg_fd", &code)) return code;
  if (sim.gone) return ENOTCONN;
  if (fd < 0 || (size_t)fd >= sim.file_limit || !hf3fs_is_hf3fs(fd)) return EBADF;
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return errno;
  pthread_mutex_lock(&sim.lock);
  if (sim.files[fd] || sim.files[copy]) {
    pthread_mutex_unlock(&sim.lock);
    close(copy);
    sim_violation("double-register", "reg_fd: descriptor %d is registered", fd);
    return EINVAL;
  }
  sim_file *file = sim_zeroed(sizeof *file);
  *file = (sim_file){.fd = fd, .copy = copy, .holders = 1};
  file->writes_only = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_WRONLY;
  sim.files[fd] = sim.files[copy] = file;
  sim.file_count++;
  pthread_mutex_unlock(&sim.lock);
  return -copy;
}

SIM_EXPORT void hf3fs_dereg_fd(int fd) {
  if (!hf3fs_is_hf3fs(fd) || fd < 0) return;
  pthread_mutex_lock(&sim.lock);
  sim_file *file = sim_file_of(fd);
  if (file) {
    sim.files[file->fd] = sim.files[file->copy] = NULL;
    sim.file_count--;
    sim_file_drop(file);
  }
  pthread_mutex_unlock(&sim.lock);
  if (!file) sim_violation("bad-dereg", "dereg_fd: descriptor %d is not registered", fd);
}
