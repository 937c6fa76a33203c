/* Takes segments, marks them, looks at their files, and waits for marks. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <time.h>

#include "core/core.h"

void fst_plan_wake(fst_plan *plan) {
  atomic_fetch_add(&plan->wake, 1);
  if (atomic_load(&plan->waiters) == 0) return; /* the system call costs more than a small segment */
  fst_sys_futex((uint32_t *)&plan->wake, FUTEX_WAKE_PRIVATE, INT_MAX, NULL);
}

static int stopped(fst_plan *plan) {
  return atomic_load(&plan->cancelled) || atomic_load(&plan->failure);
}

int fst_plan_take(fst_plan *plan, uint32_t limit, uint32_t *index) {
  if (limit > plan->segment_count) limit = plan->segment_count;
  uint32_t next = atomic_load(&plan->next);
  /* Compare and swap instead of add: `next` must not pass the limit, where another call of a lane continues. */
  while (next < limit && !stopped(plan)) {
    if (atomic_compare_exchange_weak(&plan->next, &next, next + 1)) {
      *index = next;
      return 1;
    }
  }
  return 0;
}

int fst_plan_take_next(fst_plan *plan, uint32_t limit, uint32_t index) {
  uint32_t next = index;
  return index < limit && index < plan->segment_count && !stopped(plan) &&
         atomic_compare_exchange_strong(&plan->next, &next, index + 1);
}

void fst_plan_landed(fst_plan *plan, uint32_t index) {
  FST_ASSERT(index < atomic_load(&plan->next) && atomic_load(&fst_plan_done(plan)[index]) == FST_NOT_DONE);
  atomic_store(&fst_plan_done(plan)[index], FST_LANDED);
  fst_plan_wake(plan);
}

/* ---- Files that change during a load ---- */

static int has_landed(fst_plan *plan) {
  const uint32_t taken = atomic_load(&plan->next);
  for (uint32_t i = 0; i < taken; i++) {
    if (atomic_load_explicit(&fst_plan_done(plan)[i], memory_order_relaxed) == FST_LANDED) return 1;
  }
  return 0;
}

/* Fails the plan because of a segment whose file is not the one whose header was read; 0: it is. */
static int verify(fst_plan *plan, uint32_t index) {
  const fst_segment *segment = &fst_plan_segments(plan)[index];
  const fst_plan_file *file = &fst_plan_files(plan)[segment->file];
  struct stat status;
  fst_error error = {FST_FAILURE_NONE, 0, segment->file_offset, fst_segment_bytes(segment), 0};
  if (file->fd < 0 || file->is_partial) return 0; /* its reader does this with each read */
  if (fst_sys_fstat(file->fd, &status) != 0) {
    error = (fst_error){FST_FAILURE_SYSTEM, errno, segment->file_offset, 0, 0};
  } else if ((uint64_t)status.st_size < file->size) {
    error = (fst_error){FST_FAILURE_TRUNCATED, 0, 0, file->size, (uint64_t)status.st_size};
  } else if ((uint64_t)status.st_size != file->size || status.st_mtim.tv_sec != file->mtime_seconds ||
             status.st_mtim.tv_nsec != file->mtime_nanoseconds) {
    error = (fst_error){FST_FAILURE_CHANGED, 0, segment->file_offset, file->size, (uint64_t)status.st_size};
  }
  if (error.kind == FST_FAILURE_NONE) return 0;
  fst_plan_fail(plan, index, &error);
  return -1;
}

void fst_plan_verify(fst_plan *plan) {
  _Atomic uint8_t *done = fst_plan_done(plan);
  pthread_mutex_lock(&plan->verifying);
  const uint32_t taken = atomic_load(&plan->next);
  uint32_t count = 0;
  /* First all segments, then their files: bytes that are read after a look at the file are not covered by it. */
  for (uint32_t i = 0; i < taken; i++) {
    uint8_t landed = FST_LANDED;
    if (atomic_load_explicit(&done[i], memory_order_relaxed) != FST_LANDED) continue;
    count += atomic_compare_exchange_strong(&done[i], &landed, FST_CHECKED);
  }
  const fst_segment *segments = fst_plan_segments(plan);
  int64_t looked_at = -1;
  int has_changed = 0;
  for (uint32_t i = 0, seen = 0; seen < count; i++) {
    if (atomic_load_explicit(&done[i], memory_order_relaxed) != FST_CHECKED) continue;
    seen++;
    if (segments[i].file != looked_at) has_changed = verify(plan, i) != 0;
    looked_at = segments[i].file;
    if (!has_changed) atomic_fetch_add(&plan->landed_bytes, fst_segment_bytes(&segments[i]));
    atomic_store(&done[i], has_changed ? FST_NOT_DONE : FST_DONE);
  }
  pthread_mutex_unlock(&plan->verifying);
  if (count > 0) fst_plan_wake(plan);
}

/* ---- The ends of a plan ---- */

void fst_plan_fail(fst_plan *plan, uint32_t index, const fst_error *error) {
  /* The thread that sets `cancelled` first also writes the failure's fields. */
  uint32_t none = 0;
  if (!atomic_compare_exchange_strong(&plan->cancelled, &none, 2)) return;
  FST_TRACE("segment %u fails: kind %u, code %d, at byte %llu, %llu of %llu bytes", index, error->kind, error->code,
            (unsigned long long)error->offset, (unsigned long long)error->actual, (unsigned long long)error->expected);
  plan->failed_segment = index;
  plan->failed_code = error->code;
  plan->failed_offset = error->offset;
  plan->failed_expected = error->expected;
  plan->failed_actual = error->actual;
  atomic_store(&plan->failure, error->kind);
  fst_plan_wake(plan);
}

void fst_plan_cancel(fst_plan *plan) {
  uint32_t none = 0;
  atomic_compare_exchange_strong(&plan->cancelled, &none, 1);
  fst_plan_wake(plan);
}

/* The longest delay of the end of a load, in microseconds. */
#define GATHER_STEP_US 2000u

uint32_t fst_plan_wait(fst_plan *plan, uint32_t seen, uint32_t timeout_us, uint32_t gather_us) {
  if (atomic_load(&plan->wake) == seen && !has_landed(plan)) {
    struct timespec timeout = {timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000};
    atomic_fetch_add(&plan->waiters, 1);
    fst_sys_futex((uint32_t *)&plan->wake, FUTEX_WAIT_PRIVATE, seen, &timeout);
    atomic_fetch_sub(&plan->waiters, 1);
  }
  /* Stop gathering after the last segment is taken, so that the end of the load is not delayed. */
  while (gather_us > 0 && !stopped(plan) && atomic_load(&plan->next) < plan->segment_count) {
    const uint32_t step_us = gather_us < GATHER_STEP_US ? gather_us : GATHER_STEP_US;
    const struct timespec step = {0, (long)step_us * 1000};
    nanosleep(&step, NULL);
    gather_us -= step_us;
  }
  fst_plan_verify(plan);
  return atomic_load(&plan->wake);
}
