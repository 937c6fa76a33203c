/* Reads through rings. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "self_test.h"

static void reads_in_any_order(void) {
  bench bench;
  bench_open(&bench, 64, 0);
  struct hf3fs_cqe results[64];
  bool seen[64] = {false};
  for (int i = 0; i < 64; i++) CHECK(prepare(&bench, i, (uint64_t)(63 - i) * PART) >= 0);
  CHECK_EQUAL(hf3fs_submit_ios(&bench.ior), 0);
  for (int done = 0; done < 64;) {
    int got = wait_for(&bench, results, 64, 1, 5000);
    if (!CHECK(got > 0)) break;
    for (int i = 0; i < got; i++, done++) {
      int part = (int)(intptr_t)results[i].userdata;
      CHECK(!seen[part]);
      seen[part] = true;
      CHECK_EQUAL(results[i].result, PART);
      CHECK(holds_file(bench.iov.base + part * PART, (uint64_t)(63 - part) * PART, PART));
    }
  }
  CHECK(fst_sim_3fs_out_of_order() > 0);
  CHECK_EQUAL(fst_sim_3fs_most_in_flight(), 64);
  CHECK_EQUAL(fst_sim_3fs_bytes(), 64 * PART);
  bench_close(&bench);
}

static void takes_what_reg_fd_gave(void) {
  bench bench;
  bench_open(&bench, 4, 0);
  hf3fs_dereg_fd(bench.fd);
  int other = hf3fs_reg_fd(bench.fd, 0);
  CHECK(other <= 0);
  struct hf3fs_cqe result;
  CHECK(hf3fs_prep_io(&bench.ior, &bench.iov, true, bench.iov.base, other, 77, 100, NULL) >= 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  CHECK_EQUAL(result.result, 100);
  CHECK(holds_file(bench.iov.base, 77, 100));
  bench_close(&bench);
}

static void checks_prepared_reads(void) {
  bench bench;
  bench_open(&bench, 4, 0);
  const uint8_t *base = bench.iov.base;
  struct { void *at; uint64_t bytes; int fd; bool read; int status; } cases[] = {
    {(void *)(base - 1), PART, bench.fd, true, -EINVAL},
    {(void *)(base + 63 * PART + 1), PART, bench.fd, true, -EINVAL},
    {(void *)base, 65 * PART, bench.fd, true, -EINVAL},
    {(void *)base, UINT64_MAX, bench.fd, true, -EINVAL},
    {(void *)base, 0, bench.fd, true, -EINVAL},
    {(void *)base, PART, bench.fd, false, -EINVAL},
    {(void *)base, PART, bench.fd + 100, true, -EBADF},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    CHECK_EQUAL(hf3fs_prep_io(&bench.ior, &bench.iov, cases[i].read, cases[i].at, cases[i].fd, 0, cases[i].bytes, NULL),
                cases[i].status);
  }
  expect_violations("out-of-bounds", 4);
  expect_violations("bad-length", 1);
  expect_violations("bad-direction", 2);
  expect_violations("not-registered", 1);
  int writes = open(file_path, O_WRONLY);
  CHECK(hf3fs_reg_fd(writes, 0) <= 0);
  CHECK_EQUAL(hf3fs_prep_io(&bench.ior, &bench.iov, true, bench.iov.base, writes, 0, PART, NULL), -EACCES);
  hf3fs_dereg_fd(writes);
  close(writes);
  struct hf3fs_cqe result;
  CHECK_EQUAL(hf3fs_wait_for_ios(&bench.ior, &result, 0, 0, NULL), -EINVAL);
  bench_close(&bench);
  CHECK_EQUAL(hf3fs_submit_ios(&bench.ior), -EINVAL);
  CHECK_EQUAL(hf3fs_wait_for_ios(&bench.ior, &result, 1, 1, NULL), -EINVAL);
  CHECK_EQUAL(prepare(&bench, 0, 0), -EINVAL);
  expect_violations("bad-ring", 3);
}

static void is_full_at_some_point(void) {
  bench bench;
  bench_open(&bench, 2, 0);
  struct hf3fs_cqe results[2];
  CHECK(prepare(&bench, 0, 0) >= 0);
  CHECK(prepare(&bench, 1, PART) >= 0);
  CHECK_EQUAL(prepare(&bench, 2, 2 * PART), -EAGAIN);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, results, 1, 1, 5000), 1);
  CHECK(prepare(&bench, 2, 2 * PART) >= 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, results, 2, 2, 5000), 2);
  bench_close(&bench);
}

static void holds_reads_back_for_a_depth(void) {
  bench bench;
  bench_open(&bench, 8, 3);
  struct hf3fs_cqe results[8];
  for (int i = 0; i < 2; i++) prepare(&bench, i, (uint64_t)i * PART);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, results, 8, 1, 50), 0);
  for (int i = 2; i < 4; i++) prepare(&bench, i, (uint64_t)i * PART);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, results, 8, 3, 5000), 3);
  CHECK_EQUAL(wait_for(&bench, results, 8, 1, 50), 0); /* the fourth waits for two more */
  CHECK_EQUAL(fst_sim_3fs_live_reads(), 1);
  bench_close(&bench);
  CHECK_EQUAL(fst_sim_3fs_abandoned(), 1);
}

static void starts_before_submit_or_not(void) {
  bench bench;
  struct hf3fs_cqe result;
  configure("FST_SIM_3FS_EARLY", "0");
  bench_open(&bench, 4, 0);
  prepare(&bench, 0, 0);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 50), 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  configure("FST_SIM_3FS_EARLY", "100");
  prepare(&bench, 0, 0);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  bench_close(&bench);
}

static void reads_short_at_the_end(void) {
  bench bench;
  struct hf3fs_cqe result;
  bench_open(&bench, 4, 0);
  prepare(&bench, 0, FILE_BYTES - 100);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  CHECK_EQUAL(result.result, 100);
  CHECK(holds_file(bench.iov.base, FILE_BYTES - 100, 100));
  CHECK(holds_poison(bench.iov.base + 100, PART - 100));
  prepare(&bench, 0, FILE_BYTES + 1);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  CHECK_EQUAL(result.result, 0);
  bench_close(&bench);
}

static void poisons_prepared_buffers(void) {
  bench bench;
  struct hf3fs_cqe result;
  configure("FST_SIM_3FS_EARLY", "0");
  bench_open(&bench, 4, 0);
  prepare(&bench, 1, 0);
  CHECK(holds_poison(bench.iov.base + PART, PART));
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  CHECK(holds_file(bench.iov.base + PART, 0, PART));
  prepare(&bench, 1, PART);
  CHECK(holds_poison(bench.iov.base + PART, PART));
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  bench_close(&bench);
}

static void fails_reads_on_request(void) {
  bench bench;
  struct hf3fs_cqe results[4];
  bench_open(&bench, 4, 0);
  CHECK_EQUAL(fst_sim_3fs_fail("read:1:-5,read:2:10,lost:4:0,prep_io:5:-22,submit_ios:5:-5,wait_for_ios:6:-5"), 0);
  int64_t expected[] = {-EIO, 10, PART};
  for (int i = 0; i < 3; i++) {
    prepare(&bench, i, 0);
    hf3fs_submit_ios(&bench.ior);
    CHECK_EQUAL(wait_for(&bench, results, 4, 1, 5000), 1);
    CHECK_EQUAL(results[0].result, expected[i]);
  }
  prepare(&bench, 3, 0);
  CHECK_EQUAL(hf3fs_submit_ios(&bench.ior), 0);
  CHECK_EQUAL(wait_for(&bench, results, 4, 1, 50), 0);
  CHECK_EQUAL(prepare(&bench, 2, 0), -EINVAL);
  CHECK_EQUAL(hf3fs_submit_ios(&bench.ior), -EIO);
  CHECK_EQUAL(wait_for(&bench, results, 4, 1, 50), 0);
  CHECK_EQUAL(wait_for(&bench, results, 4, 1, 50), -EIO);
  bench_close(&bench);
}

static void loses_its_mount(void) {
  bench bench;
  struct hf3fs_cqe result;
  struct hf3fs_iov iov;
  bench_open(&bench, 4, 0);
  CHECK_EQUAL(fst_sim_3fs_fail("gone:2:0"), 0);
  prepare(&bench, 0, 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 5000), 1);
  for (int i = 0; i < 2; i++) prepare(&bench, i, 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, &result, 1, 1, 50), 0);
  CHECK(!hf3fs_is_hf3fs(bench.fd));
  CHECK_EQUAL(hf3fs_iovcreate(&iov, mount_point, PART, 0, -1), -ENOTCONN);
  CHECK_EQUAL(hf3fs_reg_fd(0, 0), ENOTCONN);
  hf3fs_dereg_fd(bench.fd);
  CHECK_EQUAL(fst_sim_3fs_live_fds(), 1);
  CHECK_EQUAL(fst_sim_3fs_fail(""), 0);
  CHECK(hf3fs_is_hf3fs(bench.fd));
  bench_close(&bench);
}

static void continues_reads_of_a_destroyed_ring(void) {
  bench bench;
  configure("FST_SIM_3FS_LATENCY_US", "20000");
  configure("FST_SIM_3FS_EARLY", "100");
  bench_open(&bench, 8, 0);
  for (int i = 0; i < 8; i++) prepare(&bench, i, 0);
  usleep(5000);
  bench_close(&bench);
  CHECK_EQUAL(fst_sim_3fs_live_total(), 0);
  CHECK_EQUAL(fst_sim_3fs_abandoned(), 8);
}

static void sees_reads_that_overlap(void) {
  bench bench;
  configure("FST_SIM_3FS_EARLY", "0"); /* and they are never submitted: two workers would race */
  bench_open(&bench, 4, 0);
  prepare(&bench, 0, 0);
  CHECK(hf3fs_prep_io(&bench.ior, &bench.iov, true, bench.iov.base + PART - 1, bench.fd, 0, 2, NULL) >= 0);
  expect_violations("overlap", 1);
  bench_close(&bench);
}

static void *prepare_elsewhere(void *of) {
  for (int i = 0; i < 500; i++) prepare(of, 32 + i % 8, 0);
  return NULL;
}

static void sees_two_threads_preparing(void) {
  bench bench;
  pthread_t other;
  configure("FST_SIM_3FS_EARLY", "0");
  bench_open(&bench, 4, 0);
  prepare(&bench, 0, 0);
  pthread_create(&other, NULL, prepare_elsewhere, &bench);
  for (int i = 0; i < 500; i++) prepare(&bench, i % 8, 0);
  pthread_join(other, NULL);
  uint64_t seen = fst_sim_3fs_violations_of("two-preparing") + fst_sim_3fs_violations_of("ring-changed-hands");
  CHECK(seen > 0);
  expect_violations("two-preparing", fst_sim_3fs_violations_of("two-preparing"));
  expect_violations("ring-changed-hands", fst_sim_3fs_violations_of("ring-changed-hands"));
  expect_violations("overlap", fst_sim_3fs_violations_of("overlap"));
  bench_close(&bench);
}

static void *wait_elsewhere(void *of) {
  struct hf3fs_cqe result;
  wait_for(of, &result, 1, 1, 200);
  return NULL;
}

static void sees_two_threads_waiting(void) {
  bench bench;
  pthread_t other;
  struct hf3fs_cqe result;
  bench_open(&bench, 4, 0);
  pthread_create(&other, NULL, wait_elsewhere, &bench);
  usleep(20000);
  wait_for(&bench, &result, 1, 1, 20);
  pthread_join(other, NULL);
  expect_violations("two-waiting", 1);
  bench_close(&bench);
}

static void keeps_to_the_rate_of_its_link(void) {
  bench bench;
  struct hf3fs_cqe results[32];
  struct timespec start, end;
  configure("FST_SIM_3FS_GBPS", "0.002"); /* 32 parts: 65 ms */
  bench_open(&bench, 32, 0);
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < 32; i++) prepare(&bench, i, 0);
  hf3fs_submit_ios(&bench.ior);
  CHECK_EQUAL(wait_for(&bench, results, 32, 32, 5000), 32);
  clock_gettime(CLOCK_MONOTONIC, &end);
  double seconds = (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
  CHECK(seconds > 0.06);
  bench_close(&bench);
}

const test_case ring_cases[] = {
  {"reads in any order", reads_in_any_order},
  {"takes what reg_fd gave", takes_what_reg_fd_gave},
  {"checks prepared reads", checks_prepared_reads},
  {"is full at some point", is_full_at_some_point},
  {"holds reads back for a depth", holds_reads_back_for_a_depth},
  {"starts before submit, or not", starts_before_submit_or_not},
  {"reads short at the end", reads_short_at_the_end},
  {"poisons prepared buffers", poisons_prepared_buffers},
  {"fails reads on request", fails_reads_on_request},
  {"loses its mount", loses_its_mount},
  {"continues reads of a destroyed ring", continues_reads_of_a_destroyed_ring},
  {"sees reads that overlap", sees_reads_that_overlap},
  {"sees two threads preparing", sees_two_threads_preparing},
  {"sees two threads waiting", sees_two_threads_waiting},
  {"keeps to the rate of its link", keeps_to_the_rate_of_its_link},
  {NULL, NULL},
};
