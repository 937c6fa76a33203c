/*
 * The functions of the 3FS library over ordinary reads, for the low-level reader without 3FS. The thread that waits
 * for a read performs it.
 */
#include <errno.h>
#include <stdlib.h>

#include "three_fs/three_fs.h"

typedef struct request {
  int fd;
  void *pointer;
  uint64_t offset, length;
  const void *userdata;
} request;

typedef struct ring {
  int entries, first, count; /* a circle of requests, in order */
  request requests[];
} ring;

static bool is_hf3fs(int fd) {
  (void)fd;
  return true;
}

static int extract_mount_point(char *mount_point, int size, const char *path) {
  (void)path;
  if (size >= 2) mount_point[0] = '/', mount_point[1] = '\0';
  return 2;
}

static int iovcreate(struct hf3fs_iov *iov, const char *mount_point, size_t size, size_t block_size, int numa) {
  (void)mount_point, (void)block_size, (void)numa;
  *iov = (struct hf3fs_iov){.base = fst_staging_map(size), .size = size};
  return iov->base ? 0 : -ENOMEM;
}

static void iovunlink(struct hf3fs_iov *iov) {
  (void)iov;
}

static void iovdestroy(struct hf3fs_iov *iov) {
  fst_staging_unmap(iov->base, iov->size);
}

static int iorcreate4(struct hf3fs_ior *ior, const char *mount_point, int entries, bool for_read, int io_depth,
                      int timeout, int numa, uint64_t flags) {
  (void)mount_point, (void)for_read, (void)io_depth, (void)timeout, (void)numa, (void)flags;
  ring *made = calloc(1, sizeof *made + (size_t)entries * sizeof *made->requests);
  if (!made) return -ENOMEM;
  made->entries = entries;
  *ior = (struct hf3fs_ior){.iorh = made};
  return 0;
}

static void iordestroy(struct hf3fs_ior *ior) {
  free(ior->iorh);
}

static int reg_fd(int fd, uint64_t flags) {
  (void)fd, (void)flags;
  return 0;
}

static void dereg_fd(int fd) {
  (void)fd;
}

static int prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read, void *pointer, int fd,
                   size_t offset, uint64_t length, const void *userdata) {
  (void)iov, (void)read;
  ring *ring = ior->iorh;
  if (ring->count == ring->entries) return -EAGAIN;
  int index = (ring->first + ring->count++) % ring->entries;
  ring->requests[index] = (request){fd, pointer, offset, length, userdata};
  return index;
}

static int submit_ios(const struct hf3fs_ior *ior) {
  (void)ior;
  return 0;
}

static int wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *results, int count, int least,
                        const struct timespec *until) {
  (void)count, (void)least, (void)until;
  ring *ring = ior->iorh;
  if (ring->count == 0) return 0;
  const int index = ring->first;
  const request *next = &ring->requests[index];
  int64_t got = fst_file_read(next->fd, next->pointer, next->length, next->offset);
  *results = (struct hf3fs_cqe){.index = index, .result = got, .userdata = next->userdata};
  ring->first = (index + 1) % ring->entries;
  ring->count--;
  return 1;
}

const fst_usrbio *fst_usrbio_posix(void) {
  static const fst_usrbio functions = {
    .is_private = 1,
    .is_hf3fs = is_hf3fs,
    .extract_mount_point = extract_mount_point,
    .iovcreate = iovcreate,
    .iovunlink = iovunlink,
    .iovdestroy = iovdestroy,
    .iorcreate4 = iorcreate4,
    .iordestroy = iordestroy,
    .reg_fd = reg_fd,
    .dereg_fd = dereg_fd,
    .prep_io = prep_io,
    .submit_ios = submit_ios,
    .wait_for_ios = wait_for_ios,
  };
  return &functions;
}
