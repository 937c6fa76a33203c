/* What the cases of the self test share. */
#ifndef FST_SIM_SELF_TEST_H
#define FST_SIM_SELF_TEST_H

#include <string.h>

#include "../shared/self_test.h"
#include "cuda_abi.h"
#include "sim.h"

enum { H2D = 1, D2H = 2, D2D = 3, MIB = 1 << 20 };

/* Has kernels run from a library that lies beside this program; false if it is not there. */
bool use_kernels(const char *file);

/* Reads and writes that race on purpose: not seen by the sanitizers. */
unsigned char racy_read(const volatile unsigned char *address);
void racy_write(volatile unsigned char *address, unsigned char value);

/* Device and pinned memory; ends the process if there is none. */
unsigned char *device_new(size_t bytes);
unsigned char *pinned_new(size_t bytes);
void *stream_new(void);
void *event_new(void);

/* Fills with bytes that depend on the seed and the position; whether they are still there. */
void fill_pattern(unsigned char *bytes, size_t count, unsigned seed);
bool is_pattern(const unsigned char *bytes, size_t count, unsigned seed);
bool is_filled(const unsigned char *bytes, size_t count, unsigned char value);

extern const test_case memory_cases[], stream_cases[], order_cases[], driver_cases[], kernel_cases[],
    cufile_cases[], process_cases[];

/* What the child process does for each argument, see self_test_process_cases.c. */
int child_main(const char *argument);

#endif
