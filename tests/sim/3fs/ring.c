/* Rings: preparing reads, submitting them, waiting for them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Locked. */
static sim_ring *ring_of(const struct hf3fs_ior *ior) {
  if (!ior) return NULL;
  for (sim_ring *held = sim.rings; held; held = held->next) {
    if (held == ior->iorh) return held;
  }
  return NULL;
}

void sim_ring_free(sim_ring *ring) {
  if (!ring->destroyed || ring->running > 0) return;
  pthread_cond_destroy(&ring->completed);
  free(ring->reads);
  free(ring->done);
  free(ring);
}

SIM_EXPORT int hf3fs_iorcreate4(struct hf3fs_ior *ior, const char *mount_point, int entries, bool for_read,
                                int io_depth, int timeout, int numa, uint64_t flags) {
  int code;
  if (sim_injected("iorcreate4", &code)) return code;
  if (!ior || !mount_point || !*mount_point || timeout < 0 || entries <= 0) return -EINVAL;
  if (strlen(mount_point) >= sizeof ior->mount_point) return -EINVAL;
  (void)numa;
  char mount[4096];
  const char *there = sim_mount(mount, sizeof mount);
  pthread_mutex_lock(&sim.lock);
  if (sim.gone || !there || strcmp(there, mount_point) != 0) {
    int status = sim.gone ? -ENOTCONN : -ENOENT;
    pthread_mutex_unlock(&sim.lock);
    return status;
  }
  sim_ring *ring = sim_zeroed(sizeof *ring);
  pthread_cond_init(&ring->completed, NULL);
  ring->entries = entries;
  ring->io_depth = io_depth;
  ring->for_read = for_read;
  ring->reads = sim_zeroed((size_t)entries * sizeof *ring->reads);
  ring->done = sim_zeroed((size_t)entries * sizeof *ring->done);
  ring->next = sim.rings;
  sim.rings = ring;
  sim.counts.rings++;
  sim_workers_start();
  pthread_mutex_unlock(&sim.lock);
  memset(ior, 0, sizeof *ior);
  ior->iorh = ring;
  strcpy(ior->mount_point, mount_point);
  ior->for_read = for_read;
  ior->io_depth = io_depth;
  ior->timeout = timeout;
  ior->flags = flags;
  return 0;
}

/* Locked: lets go of what a read holds. */
static void release(sim_ring *ring, sim_read *held) {
  sim_file_drop(held->file);
  sim_iov_drop(held->iov);
  held->state = SIM_FREE;
  ring->used--;
}

SIM_EXPORT void hf3fs_iordestroy(struct hf3fs_ior *ior) {
  if (!ior || !ior->iorh) return;
  const char *violation = NULL;
  pthread_mutex_lock(&sim.lock);
  sim_ring *ring = ring_of(ior);
  if (!ring) {
    violation = "bad-ring";
  } else {
    if (ring->preparing || ring->waiting) violation = "destroyed-while-used";
    for (sim_ring **at = &sim.rings; *at; at = &(*at)->next) {
      if (*at != ring) continue;
      *at = ring->next;
      break;
    }
    for (int i = 0; i < ring->entries; i++) {
      sim_read *held = &ring->reads[i];
      if (held->state == SIM_FREE) continue;
      if (held->state != SIM_DONE) sim.counts.abandoned++;
      if (held->state != SIM_RUNNING) release(ring, held); /* a running one goes on, and is dropped by its worker */
    }
    ring->destroyed = true;
    sim_ring_free(ring);
  }
  pthread_mutex_unlock(&sim.lock);
  if (violation) sim_violation(violation, "iordestroy");
  ior->iorh = NULL;
}

/* Locked: how many reads may start now. A positive io_depth makes batches of just so many. */
static int make_ready(sim_ring *ring) {
  int queued = 0, made = 0;
  for (int i = 0; i < ring->entries; i++) queued += ring->reads[i].state == SIM_PREPARED;
  if (ring->io_depth > 0) queued -= queued % ring->io_depth;
  for (int i = 0; i < ring->entries && made < queued; i++) {
    if (ring->reads[i].state != SIM_PREPARED) continue;
    ring->reads[i].state = SIM_READY;
    made++;
  }
  return made;
}

/* Locked: whether another read that is not done goes to the same bytes of the iov. */
static bool overlaps(const sim_iov *iov, size_t at, uint64_t bytes) {
  for (const sim_ring *ring = sim.rings; ring; ring = ring->next) {
    for (int i = 0; i < ring->entries && ring->used > 0; i++) {
      const sim_read *other = &ring->reads[i];
      if (other->state == SIM_FREE || other->state == SIM_DONE || other->iov != iov) continue;
      if (at < other->at + other->bytes && other->at < at + bytes) return true;
    }
  }
  return false;
}

/* Locked. The index, or -errno with a violation's kind where it is one. */
static int prepare(sim_ring *ring, sim_iov *iov, bool read, char *pointer, int fd, size_t offset, uint64_t length,
                   const void *userdata, const char **violation) {
  *violation = "bad-ring";
  if (!ring) return -EINVAL;
  *violation = "bad-iov";
  if (!iov) return -EINVAL;
  *violation = "bad-direction";
  if (read != ring->for_read) return -EINVAL;
  *violation = "bad-length";
  if (length == 0) return -EINVAL;
  *violation = "out-of-bounds";
  if (pointer < iov->program || length > iov->bytes || pointer > iov->program + (iov->bytes - length)) return -EINVAL;
  *violation = "not-registered";
  sim_file *file = sim_file_of(fd);
  if (!file) return -EBADF;
  *violation = "bad-direction";
  if (read && file->writes_only) return -EACCES;
  const bool changes_hands = ring->used > 0 && !pthread_equal(ring->owner, pthread_self());
  *violation = changes_hands ? "ring-changed-hands" : NULL;
  if (ring->used == ring->entries) return -EAGAIN;
  size_t at = (size_t)(pointer - iov->program);
  if (sim.config.checks && overlaps(iov, at, length)) *violation = "overlap";
  ring->owner = pthread_self();
  int index = 0;
  while (ring->reads[index].state != SIM_FREE) index++;
  bool early = sim_random() % 100 < sim.config.early && ring->io_depth <= 0;
  file->holders++;
  iov->holders++;
  ring->reads[index] = (sim_read){
    .state = early ? SIM_READY : SIM_PREPARED,
    .file = file,
    .iov = iov,
    .at = at,
    .offset = offset,
    .bytes = length,
    .order = ++ring->order,
    .userdata = userdata,
  };
  if ((uint64_t)++ring->used > sim.counts.most_in_flight) sim.counts.most_in_flight = (uint64_t)ring->used;
  if (sim.config.checks) memset(iov->own + at, SIM_POISON, length);
  if (early) sim_wake_workers(1);
  return index;
}

SIM_EXPORT int hf3fs_prep_io(const struct hf3fs_ior *ior, const struct hf3fs_iov *iov, bool read, void *pointer,
                             int fd, size_t offset, uint64_t length, const void *userdata) {
  int code;
  if (sim_injected("prep_io", &code)) return code;
  const char *violation;
  pthread_mutex_lock(&sim.lock);
  sim_ring *ring = ring_of(ior);
  const bool two = ring && ring->preparing;
  if (ring) ring->preparing = true;
  pthread_mutex_unlock(&sim.lock);
  pthread_mutex_lock(&sim.lock); /* a gap, for another thread to be caught in */
  int index = prepare(ring, sim_iov_of(iov), read, pointer, fd, offset, length, userdata, &violation);
  if (ring) ring->preparing = false;
  pthread_mutex_unlock(&sim.lock);
  if (two) sim_violation("two-preparing", "prep_io");
  if (violation) {
    sim_violation(violation, "prep_io: %llu bytes at offset %zu of descriptor %d", (unsigned long long)length, offset,
                  fd);
  }
  return index;
}

SIM_EXPORT int hf3fs_submit_ios(const struct hf3fs_ior *ior) {
  int code;
  if (sim_injected("submit_ios", &code)) return code;
  pthread_mutex_lock(&sim.lock);
  sim_ring *ring = ring_of(ior);
  if (ring) {
    sim_wake_workers(make_ready(ring));
  }
  pthread_mutex_unlock(&sim.lock);
  if (ring) return 0;
  sim_violation("bad-ring", "submit_ios");
  return -EINVAL;
}

/* Locked: hands out the read that was done first. */
static void take(sim_ring *ring, struct hf3fs_cqe *result) {
  int index = ring->done[ring->done_first];
  ring->done_first = (ring->done_first + 1) % ring->entries;
  ring->done_count--;
  sim_read *read = &ring->reads[index];
  *result = (struct hf3fs_cqe){.index = index, .result = read->result, .userdata = read->userdata};
  release(ring, read);
}

SIM_EXPORT int hf3fs_wait_for_ios(const struct hf3fs_ior *ior, struct hf3fs_cqe *results, int count, int least,
                                  const struct timespec *until) {
  int code;
  if (sim_injected("wait_for_ios", &code)) return code;
  if (count <= 0 || !results) return -EINVAL;
  if (least > count) least = count;
  int filled = 0;
  pthread_mutex_lock(&sim.lock);
  sim_ring *ring = ring_of(ior);
  const bool two = ring && ring->waiting;
  if (ring) ring->waiting = true;
  while (ring) {
    while (filled < count && ring->done_count > 0) take(ring, &results[filled++]);
    if (filled >= least) break;
    if (!until) pthread_cond_wait(&ring->completed, &sim.lock);
    else if (pthread_cond_timedwait(&ring->completed, &sim.lock, until) == ETIMEDOUT) break;
  }
  if (ring) ring->waiting = false;
  pthread_mutex_unlock(&sim.lock);
  if (two) sim_violation("two-waiting", "wait_for_ios");
  if (ring) return filled;
  sim_violation("bad-ring", "wait_for_ios");
  return -EINVAL;
}
