/* The interface of libhf3fs_api_shared.so as far as a reader needs it; layouts for x86-64. */
#ifndef FST_SIM_3FS_ABI_H
#define FST_SIM_3FS_ABI_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct hf3fs_iov {
  uint8_t *base;
  void *iovh;
  char id[16];
  char mount_point[256];
  size_t size;
  size_t block_size;
  int numa;
};
static_assert(sizeof(struct hf3fs_iov) == 312 && offsetof(struct hf3fs_iov, size) == 288, "as the library has it");
static_assert(offsetof(struct hf3fs_iov, numa) == 304, "as the library has it");

struct hf3fs_ior {
  struct hf3fs_iov iov;
  void *iorh;
  char mount_point[256];
  bool for_read;
  int io_depth;
  int priority;
  int timeout;
  uint64_t flags;
};
static_assert(sizeof(struct hf3fs_ior) == 600 && offsetof(struct hf3fs_ior, iorh) == 312, "as the library has it");
static_assert(offsetof(struct hf3fs_ior, for_read) == 576, "as the library has it");
static_assert(offsetof(struct hf3fs_ior, flags) == 592, "as the library has it");

struct hf3fs_cqe {
  int32_t index;
  int32_t reserved;
  int64_t result;
  const void *userdata;
};
static_assert(sizeof(struct hf3fs_cqe) == 24, "as the library has it");

bool hf3fs_is_hf3fs(int fd);
int hf3fs_extract_mount_point(char *mount_point, int size, const char *path);
int hf3fs_iovcreate(struct hf3fs_iov *iov, const char *mount_point, size_t size, size_t block_size, int numa);
void hf3fs_iovunlink(struct hf3fs_iov *iov);
void hf3fs_iovdestroy(struct hf3fs_iov *iov);
int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mount_point, int entries, bool for_read, int io_depth,
                     int timeout, int numa, uint64_t flags);
void hf3fs_iordestroy(struct hf3fs_ior *ior);
int hf3fs_reg_fd(int fd, uint64_t flags);
void hf3fs_dereg_fd(int fd);
int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read, void *pointer, int fd,
                  size_t offset, uint64_t length, const void *userdata);
int hf3fs_submit_ios(const struct hf3fs_ior *ior);
int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *results, int count, int least,
                       const struct timespec *until);

#endif
