/* Takes segments, marks them, and waits for marks. */
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"

static void wake_all(fst_plan *plan) {
  atomic_fetch_add(&plan->wake, 1);
  syscall(SYS_futex, (uint32_t *)&plan->wake, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
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

void fst_plan_landed(fst_plan *plan, uint32_t index) {
  FST_ASSERT(index < atomic_load(&plan->next) && atomic_load(&fst_plan_done(plan)[index]) == 0);
  atomic_fetch_add(&plan->landed_bytes, fst_segment_bytes(&fst_plan_segments(plan)[index]));
  atomic_store(&fst_plan_done(plan)[index], 1);
  wake_all(plan);
}

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
  wake_all(plan);
}

void fst_plan_cancel(fst_plan *plan) {
  uint32_t none = 0;
  atomic_compare_exchange_strong(&plan->cancelled, &none, 1);
  wake_all(plan);
}

/* The longest delay of the end of a load, in microseconds. */
#define GATHER_STEP_US 2000u

uint32_t fst_plan_wait(fst_plan *plan, uint32_t seen, uint32_t timeout_us, uint32_t gather_us) {
  if (atomic_load(&plan->wake) == seen) {
    struct timespec timeout = {timeout_us / 1000000, (long)(timeout_us % 1000000) * 1000};
    syscall(SYS_futex, (uint32_t *)&plan->wake, FUTEX_WAIT_PRIVATE, seen, &timeout, NULL, 0);
  }
  /* Stop gathering after the last segment is taken, so that the end of the load is not delayed. */
  while (gather_us > 0 && !stopped(plan) && atomic_load(&plan->next) < plan->segment_count) {
    const uint32_t step_us = gather_us < GATHER_STEP_US ? gather_us : GATHER_STEP_US;
    const struct timespec step = {0, (long)step_us * 1000};
    nanosleep(&step, NULL);
    gather_us -= step_us;
  }
  return atomic_load(&plan->wake);
}
