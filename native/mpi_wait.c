/*
 * Waiting in MPI: by asking again and again, so that a rank that fails, a call that is cancelled and time that runs
 * out all end it. The longer nothing happens, the more the processor is left to others.
 */
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "mpi.h"

enum {
  SPIN_US = 5,
  MEETING_YIELD_US = 50,    /* the others may come much later */
  MOVING_YIELD_US = 20000,  /* a library moves large messages only while it is called */
  LONGEST_SLEEP_US = 1000,
  DEPARTURE_US = 1000000,   /* how long what a rank sent before it left may take to arrive */
  REASON_US = 250000,       /* how long after a rank has left the reason may take to arrive */
  HURRY_US = 2000000,       /* how long rank 0 may take to say for whom it waits */
  PROBE_US = 2000,          /* between looks for a rank that called something else */
};

static atomic_int ending;

void fst_mpi_set_ending(void) {
  atomic_store(&ending, 1);
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static void rest(uint64_t idle_us, enum fst_mpi_phase phase) {
  if (idle_us < SPIN_US) return;
  if (idle_us < (phase == FST_MPI_MOVING ? MOVING_YIELD_US : MEETING_YIELD_US)) {
    sched_yield();
    return;
  }
  uint64_t us = idle_us / 8 < LONGEST_SLEEP_US ? idle_us / 8 : LONGEST_SLEEP_US;
  struct timespec pause = {0, (long)us * 1000};
  nanosleep(&pause, NULL);
}

int fst_mpi_trouble(fst_group_call *call, const char *function, int code) {
  char text[1024] = "";
  int length = 0;
  fst_mpi.library->MPI_Error_string(code, text, &length);
  text[strcspn(text, "\n")] = 0;
  call->status = FST_GROUP_LIBRARY;
  call->code = code;
  snprintf(call->message, sizeof call->message, "%s: %.400s", function, text);
  return FST_MPI_FAILURE;
}

int fst_mpi_test(fst_mpi_handle *request, fst_group_call *call) {
  if (*request == 0) return 1;
  char status[64];
  int done = 0, code = fst_mpi.library->MPI_Test(request, &done, status);
  if (code != 0) {
    *request = 0;
    fst_mpi_trouble(call, "MPI_Test", code);
    return -1;
  }
  if (done) *request = 0;
  return done;
}

int fst_mpi_take_back(fst_mpi_handle *requests, int count, int receives) {
  const fst_mpi_library *mpi = fst_mpi.library;
  for (int i = 0; receives && i < count; i++) {
    if (requests[i] != 0) mpi->MPI_Cancel(&requests[i]);
  }
  int pending = 1;
  for (int tries = receives ? 100 : 1; pending && tries > 0; tries--) {
    pending = 0;
    for (int i = 0; i < count; i++) {
      char status[64];
      int done = 1;
      if (requests[i] != 0 && mpi->MPI_Test(&requests[i], &done, status) == 0 && !done) pending = 1;
      else requests[i] = 0;
    }
    if (pending && tries > 1) {
      struct timespec pause = {0, 1000000};
      nanosleep(&pause, NULL);
    }
  }
  return pending;
}

/* A rank that waits for this one in SEND or RECEIVE cannot come to a call of all ranks. Locked. */
static int called_something_else(const fst_mpi_group *group, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  char status[64];
  int waiting = 0;
  const int tag = fst_mpi_pair_tag(group);
  if (mpi->MPI_Iprobe(mpi->any_source, tag, group->comm, &waiting, status) != 0 || !waiting) return 0;
  fst_mpi_handle request = 0;
  if (mpi->MPI_Irecv(&call->other, sizeof call->other, mpi->byte, mpi->any_source, tag, group->comm, &request) != 0) {
    return 0;
  }
  while (fst_mpi_test(&request, call) == 0) sched_yield(); /* it is here already */
  call->reference = call->own;
  call->status = FST_GROUP_DIFFERENT;
  call->failed_rank = call->other.rank;
  return 1;
}

typedef struct wait {
  fst_mpi_group *group;
  fst_group_call *call;
  int peer;
  enum fst_mpi_phase phase;
  uint64_t moved_at, probed_at, hurried_at, gone_at; /* microseconds; 0: not yet */
} wait;

/* Whether there is no sense in waiting on; fills in the call. Locked. */
static int is_hopeless(wait *wait, uint64_t now) {
  fst_mpi_group *group = wait->group;
  fst_group_call *call = wait->call;
  if (atomic_load(&ending) || atomic_load(&call->cancelled)) {
    call->status = FST_GROUP_CANCELLED;
    return 1;
  }
  const uint64_t idle = now - wait->moved_at;
  if (group) {
    fst_mpi_listen();
    if (fst_mpi_gone(group, wait->peer, call)) {
      if (wait->gone_at == 0) wait->gone_at = now;
      /* What a rank sent to this one before it left may still arrive. */
      const uint64_t patience = wait->peer < 0 ? REASON_US : DEPARTURE_US;
      if (!*call->message && (now - wait->gone_at < patience || idle < patience)) return 0;
      call->status = FST_GROUP_GONE;
      return 1;
    }
    if (wait->peer < 0 && wait->phase == FST_MPI_MEETING && now - wait->probed_at > PROBE_US) {
      wait->probed_at = now;
      if (called_something_else(group, call)) return 1;
    }
  }
  const int hurried = group && group->rank == 0 && wait->peer < 0 && wait->phase == FST_MPI_MEETING &&
                      group->hurried == group->completed + 1;
  if (idle < call->timeout_us && !hurried) return 0;
  if (group && group->rank != 0 && wait->peer < 0 && wait->phase == FST_MPI_MEETING) {
    /* Rank 0 knows who is missing, and is asked to say so before its own time is up. */
    if (wait->hurried_at == 0) {
      wait->hurried_at = now;
      fst_mpi_tell(group, FST_MPI_HURRY, 0, 0, "");
    }
    if (now - wait->hurried_at < HURRY_US) return 0;
  }
  call->status = FST_GROUP_TIMED_OUT;
  return 1;
}

int fst_mpi_wait(fst_mpi_group *group, fst_group_call *call, int peer, enum fst_mpi_phase phase, fst_mpi_step step,
                 void *state) {
  const uint64_t start = now_us();
  wait wait = {group, call, peer, phase, start, start, 0, 0};
  for (;;) {
    fst_mpi_lock();
    const int outcome = step(state, call);
    const uint64_t now = now_us();
    if (outcome == FST_MPI_MOVED) wait.moved_at = now;
    const int over = outcome == FST_MPI_FINISHED || outcome == FST_MPI_FAILURE || is_hopeless(&wait, now);
    fst_mpi_unlock();
    if (over) return call->status;
    if (outcome == FST_MPI_IDLE) rest(now - wait.moved_at, phase);
  }
}
