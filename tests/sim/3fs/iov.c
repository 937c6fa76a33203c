/* Shared memory for reads. */
#define _GNU_SOURCE /* getrandom */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "internal.h"

sim_iov *sim_iov_of(const struct hf3fs_iov *iov) {
  if (!iov) return NULL;
  for (sim_iov *held = sim.iovs; held; held = held->next) {
    if (held == iov->iovh) return held;
  }
  return NULL;
}

void sim_iov_drop(sim_iov *iov) {
  if (--iov->holders > 0) return;
  munmap(iov->own, iov->bytes);
  free(iov);
}

/* Makes the memory and maps it twice; 0 or -errno. */
static int map(sim_iov *iov) {
  int fd = shm_open(iov->name, O_RDWR | O_CREAT | O_EXCL, 0666);
  if (fd < 0) return -errno;
  int status = ftruncate(fd, (off_t)iov->bytes) == 0 ? 0 : -errno;
  iov->program = iov->own = MAP_FAILED;
  if (status == 0) iov->program = mmap(NULL, iov->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (iov->program != MAP_FAILED) iov->own = mmap(NULL, iov->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (status == 0 && iov->own == MAP_FAILED) status = -errno;
  close(fd);
  if (status == 0) return 0;
  if (iov->program != MAP_FAILED) munmap(iov->program, iov->bytes);
  shm_unlink(iov->name);
  return status;
}

/* Tells the mount of it by a link; 0 or -errno. */
static int announce(sim_iov *iov, const char *mount, const char *id) {
  char target[128];
  snprintf(target, sizeof target, "/dev/shm%s", iov->name);
  snprintf(iov->link, sizeof iov->link, "%s/3fs-virt/iovs/%s", mount, id);
  return symlink(target, iov->link) == 0 ? 0 : -errno;
}

SIM_EXPORT int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mount_point, size_t size, size_t block_size,
                               int numa) {
  int code;
  if (sim_injected("iovcreate", &code)) return code;
  if (!iov || !mount_point || strlen(mount_point) >= sizeof iov->mount_point || size == 0) return -EINVAL;
  if (sim.gone) return -ENOTCONN;
  unsigned char id[16];
  char text[40] = "";
  if (getrandom(id, sizeof id, 0) != sizeof id) return -EIO;
  for (size_t i = 0; i < sizeof id; i++) snprintf(text + 2 * i, 3, "%02x", id[i]);
  sim_iov *held = sim_zeroed(sizeof *held);
  held->bytes = size;
  held->holders = 1;
  snprintf(held->name, sizeof held->name, "/hf3fs-iov-%s", text);
  int status = map(held);
  if (status == 0 && (status = announce(held, mount_point, text)) != 0) {
    munmap(held->program, size);
    munmap(held->own, size);
    shm_unlink(held->name);
  }
  if (status != 0) {
    free(held);
    return status;
  }
  memset(iov, 0, sizeof *iov);
  iov->base = (uint8_t *)held->program;
  iov->iovh = held;
  memcpy(iov->id, id, sizeof id);
  strcpy(iov->mount_point, mount_point);
  iov->size = size;
  iov->block_size = block_size;
  iov->numa = numa;
  pthread_mutex_lock(&sim.lock);
  held->next = sim.iovs;
  sim.iovs = held;
  pthread_mutex_unlock(&sim.lock);
  return 0;
}

SIM_EXPORT void hf3fs_iovunlink(struct hf3fs_iov *iov) {
  pthread_mutex_lock(&sim.lock);
  sim_iov *held = sim_iov_of(iov);
  if (held) shm_unlink(held->name);
  pthread_mutex_unlock(&sim.lock);
  if (!held) sim_violation("bad-iov", "iovunlink: the iov does not exist");
}

SIM_EXPORT void hf3fs_iovdestroy(struct hf3fs_iov *iov) {
  if (!iov || !iov->iovh) return;
  pthread_mutex_lock(&sim.lock);
  sim_iov *held = sim_iov_of(iov);
  if (held) {
    for (sim_iov **at = &sim.iovs; *at; at = &(*at)->next) {
      if (*at != held) continue;
      *at = held->next;
      break;
    }
    munmap(held->program, held->bytes);
    unlink(held->link);
    shm_unlink(held->name);
    sim_iov_drop(held);
  }
  pthread_mutex_unlock(&sim.lock);
  if (!held) sim_violation("bad-iov", "iovdestroy: the iov does not exist");
  iov->iovh = NULL;
  iov->base = NULL;
}
