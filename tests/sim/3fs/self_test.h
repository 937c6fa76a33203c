/* What the cases of the self test share. Every case starts from a reset stand-in and ends with nothing held. */
#ifndef FST_SIM_3FS_SELF_TEST_H
#define FST_SIM_3FS_SELF_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hf3fs_abi.h"
#include "sim.h"

enum { FILE_BYTES = 1 << 20, PART = 4096, POISON = 0xDB };

/* Counts a check, and says which one failed. */
#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(actual, expected) \
  check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
bool check(bool holds, const char *what, const char *file, int line);
bool check_equal(long long actual, long long expected, const char *what, const char *file, int line);

/* Says that there have been `count` violations of a kind; that there were no others is checked at the case's end. */
void expect_violations(const char *kind, uint64_t count);

/* Sets a variable of the stand-in for the rest of the case and reads it. */
void configure(const char *name, const char *value);

/* The mount, a file of FILE_BYTES on it, and one of a page that is not. */
extern char mount_point[256], file_path[300], outside_path[300];

/* The byte at an offset of the file. */
unsigned char byte_at(uint64_t offset);
bool holds_file(const uint8_t *bytes, uint64_t offset, uint64_t count);
bool holds_poison(const uint8_t *bytes, uint64_t count);

/* Runs in a forked process; gives the signal that ended it, or 0. */
int signal_of(void (*action)(void));

/* Runs this program again with an argument, see main(), and a variable; its exit status, or -1 if a signal ended it. */
int run_child(const char *argument, const char *name, const char *value);

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

typedef struct test_case {
  const char *name;
  void (*run)(void);
} test_case;

extern const test_case library_cases[], ring_cases[];

#endif
