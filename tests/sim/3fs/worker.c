/* The threads that read. */
#define _GNU_SOURCE /* pthread_setname_np */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "internal.h"

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void sleep_until(int64_t moment) {
  struct timespec time = {moment / 1000000000, moment % 1000000000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, NULL) == EINTR) continue;
}

/* Locked: one of the reads that may start, any of them. */
static sim_read *pick(sim_ring **of) {
  sim_read *picked = NULL;
  uint64_t ready = 0;
  for (sim_ring *ring = sim.rings; ring; ring = ring->next) {
    for (int i = 0; i < ring->entries && ring->used > 0; i++) {
      if (ring->reads[i].state != SIM_READY || sim_random() % ++ready != 0) continue;
      picked = &ring->reads[i];
      *of = ring;
    }
  }
  return picked;
}

/* Reads until `bytes` are there or the file ends; the count, or -errno. */
static int64_t read_all(int fd, char *to, uint64_t bytes, uint64_t offset) {
  uint64_t done = 0;
  while (done < bytes) {
    ssize_t got = pread(fd, to + done, bytes - done, (off_t)(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) break;
    done += (uint64_t)got;
  }
  return (int64_t)done;
}

/* Called with the lock, which it releases meanwhile. */
static int64_t perform(const sim_read *read, uint64_t delay) {
  int code, fd = read->file->copy;
  uint64_t bytes = read->bytes, offset = read->offset;
  char *to = read->iov->own + read->at;
  int64_t until = delay > 0 ? now() + (int64_t)delay * 1000 : 0;
  if (sim.config.gbps > 0) {
    int64_t start = now();
    if (sim.link_free < start) sim.link_free = start;
    sim.link_free += (int64_t)((double)bytes / sim.config.gbps);
    if (sim.link_free > until) until = sim.link_free;
  }
  pthread_mutex_unlock(&sim.lock);
  if (until > 0) sleep_until(until);
  int64_t result;
  if (!sim_injected("read", &code)) result = read_all(fd, to, bytes, offset);
  else if (code < 0) result = code;
  else result = read_all(fd, to, (uint64_t)code < bytes ? (uint64_t)code : bytes, offset);
  pthread_mutex_lock(&sim.lock);
  return result;
}

/* Locked. */
static void complete(sim_ring *ring, sim_read *read, int64_t result) {
  ring->running--;
  if (ring->destroyed) {
    sim_file_drop(read->file);
    sim_iov_drop(read->iov);
    sim_ring_free(ring);
    return;
  }
  for (int i = 0; i < ring->entries; i++) {
    const sim_read *other = &ring->reads[i];
    if (other->state == SIM_FREE || other->state == SIM_DONE || other->order >= read->order) continue;
    sim.counts.out_of_order++;
    break;
  }
  read->result = result;
  read->state = SIM_DONE;
  ring->done[(ring->done_first + ring->done_count++) % ring->entries] = (int)(read - ring->reads);
  pthread_cond_signal(&ring->completed);
}

static void *work(void *unused) {
  (void)unused;
  pthread_mutex_lock(&sim.lock);
  for (;;) {
    sim_ring *ring = NULL;
    sim_read *read = sim.held ? NULL : pick(&ring);
    if (!read) {
      pthread_cond_wait(&sim.work, &sim.lock);
      continue;
    }
    int code;
    if (sim_injected("gone", &code)) sim.gone = true;
    if (sim.gone || sim_injected("lost", &code)) {
      read->state = SIM_LOST;
      continue;
    }
    read->state = SIM_RUNNING;
    ring->running++;
    sim.running++;
    uint64_t delay = sim.config.latency_us;
    if (sim.config.delay_us > 0) delay += sim_random() % (sim.config.delay_us + 1);
    int64_t result = perform(read, delay);
    sim.counts.reads++;
    if (result > 0) sim.counts.bytes += (uint64_t)result;
    complete(ring, read, result);
    if (--sim.running == 0) pthread_cond_broadcast(&sim.idle);
  }
  return NULL;
}

void sim_workers_start(void) {
  while (sim.workers < sim.config.workers) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) sim_die("no thread for a worker");
    pthread_setname_np(thread, "sim-3fs");
    pthread_detach(thread);
    sim.workers++;
  }
}

void sim_wake_workers(int reads) {
  if (reads >= (int)sim.workers) pthread_cond_broadcast(&sim.work);
  else while (reads-- > 0) pthread_cond_signal(&sim.work);
}
