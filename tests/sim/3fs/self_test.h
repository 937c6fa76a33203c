/* What the cases of the self test share. */
#ifndef FST_SIM_3FS_SELF_TEST_H
#define FST_SIM_3FS_SELF_TEST_H

#include "../shared/self_test.h"
#include "hf3fs_abi.h"
#include "sim.h"

enum { FILE_BYTES = 1 << 20, PART = 4096, POISON = 0xDB };

/* The mount, a file of FILE_BYTES on it, and one of a page that is not. */
extern char mount_point[256], file_path[300], outside_path[300];

/* The byte at an offset of the file. */
unsigned char byte_at(uint64_t offset);
bool holds_file(const uint8_t *bytes, uint64_t offset, uint64_t count);
bool holds_poison(const uint8_t *bytes, uint64_t count);

/* A ring, an iov of 64 parts and the registered file. */
typedef struct bench {
  struct hf3fs_iov iov;
  struct hf3fs_ior ior;
  int fd;
} bench;
void bench_open(bench *bench, int entries, int io_depth);
void bench_close(bench *bench);

/* Prepares a read of a part of the file to a part of the iov; as prep_io. */
int prepare(bench *bench, int part_of_iov, uint64_t offset);

/* Waits for `least` results for at most so many milliseconds. */
int wait_for(bench *bench, struct hf3fs_cqe *results, int count, int least, int milliseconds);

extern const test_case library_cases[], ring_cases[];

#endif
