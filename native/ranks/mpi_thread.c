/*
 * The thread that makes every call into MPI: it passes messages, moves bytes, and at the end of the process waits for the
 * other ranks and finalises MPI.
 *
 * It polls the library, so that cancelling and timeouts end a call. The longer nothing happens, the rarer it polls.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ranks/ranks.h"

enum {
  SPIN_US = 5,
  MEETING_YIELD_US = 300,  /* other ranks may arrive much later */
  MOVING_YIELD_US = 20000, /* a library moves large messages only while it is called */
  LONGEST_SLEEP_US = 1000,
  IDLE_SLEEP_US = 10000, /* between polls for messages, without a call */
  LOOK_US = 1000,        /* between polls for bytes to drop: a poll yields the processor in some libraries */
  DROP_US = 100000,      /* how long a failed call waits for its memory */
  GRACE_US = 5000000,    /* for the others to end by themselves, before they are aborted */
  HUNG_SECONDS = 5,      /* longest wait at the end for a library call that does not return */
};

fst_mpi_process fst_mpi;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all up to `awaited`; never held during a call of the library */
static pthread_cond_t work, event;
static fst_mpi_work *posted;   /* what the thread is to begin with */
static fst_mpi_work *inbox;    /* messages that have come */
static fst_mpi_tags *new_tags; /* the last has no tags */
static int frozen;             /* no calls of MPI, as the process may free memory that it would write to */
static char last_words[FST_MPI_MESSAGE_BYTES];
static uint64_t last_words_bytes;
static const char *refusal; /* NULL: MPI is being started; empty: it runs */
static enum fst_mpi_stage wanted, reached;
static int end_status;
static atomic_int awaited; /* how many wait for the thread */
static atomic_uint turns;  /* of the thread; constant while a call of the library does not return */

/* The thread's own. */
static fst_mpi_work *active;
static fst_mpi_work *arrival; /* receives the next message */
static fst_mpi_tags *tags;
static int empty_ranks; /* how many have reported that they have nothing in progress */
static int deaf;        /* no message can be received any more: all calls fail */
static int ends;
static uint64_t moved_at, look_at; /* microseconds */

uint64_t fst_mpi_now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Waits for the condition, with the mutex; 0 when the time is up. */
static int wait_until(pthread_cond_t *what, uint64_t then) {
  const struct timespec until = {(time_t)(then / 1000000u), (long)(then % 1000000u) * 1000};
  return pthread_cond_timedwait(what, &mutex, &until) == 0;
}

static void append(fst_mpi_work **list, fst_mpi_work *node) {
  while (*list) list = &(*list)->next;
  *list = node;
}

/* Gives the thread something to do; -1 if there is no memory for it. */
static int post(fst_mpi_work *made) {
  if (!made) return -1;
  pthread_mutex_lock(&mutex);
  append(&posted, made);
  frozen = 0;
  pthread_cond_signal(&work);
  pthread_mutex_unlock(&mutex);
  return 0;
}

/* ---- The library's part ---- */

void fst_mpi_trouble(char *text, size_t size, const char *function, int code) {
  char meaning[1024] = "";
  int length = 0;
  fst_mpi.library->MPI_Error_string(code, meaning, &length);
  meaning[strcspn(meaning, "\n")] = 0;
  snprintf(text, size, "%s: %.400s", function, meaning);
}

int fst_mpi_take_back(fst_mpi_handle *requests, int count, int cancel) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int busy = 0;
  for (int i = 0; i < count; i++) {
    fst_mpi_status status;
    int done = 1;
    if (requests[i] != 0 && cancel) mpi->MPI_Cancel(&requests[i]);
    if (requests[i] != 0 && mpi->MPI_Test(&requests[i], &done, &status) == 0 && !done) busy = 1;
    else requests[i] = 0;
  }
  return busy;
}

static void put_in_inbox(fst_mpi_work *message) {
  pthread_mutex_lock(&mutex);
  append(&inbox, message);
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

void fst_mpi_failed(fst_mpi_work *one, const char *function, int code) {
  fst_group_call *call = one->call;
  one->has_failed = 1;
  char text[sizeof call->message] = "";
  fst_mpi_trouble(text, sizeof text, function, code);
  if (call) {
    call->status = FST_GROUP_LIBRARY;
    call->code = code;
    memcpy(call->message, text, sizeof text);
    return;
  }
  fst_mpi_work *said = fst_mpi_plan_message(FST_MPI_NONE, FST_MPI_NONE, FST_MPI_MESSAGES, text, sizeof text);
  if (!said) return;
  said->has_failed = 1;
  put_in_inbox(said);
}

/* ---- Waiting ---- */

/*
 * Waits with the mutex for an event of this or another thread; 0 when the time is up. A short wait polls, because waking
 * up takes longer than the event.
 */
static int wait_for(uint64_t then, int is_short) {
  if (!is_short) return wait_until(&event, then);
  pthread_mutex_unlock(&mutex);
  sched_yield();
  pthread_mutex_lock(&mutex);
  return fst_mpi_now_us() < then;
}

static int has_come(const fst_group_call *call) {
  return call ? !call->running : inbox != NULL;
}

int32_t fst_mpi_wait(const fst_group_call *call, uint64_t wait_us) {
  const uint64_t then = fst_mpi_now_us() + wait_us;
  int in_time = 1;
  pthread_mutex_lock(&mutex);
  atomic_fetch_add(&awaited, 1);
  pthread_cond_signal(&work);
  /* At the end of the process callers stay here, so that their memory stays. */
  while (in_time && (wanted != FST_MPI_RUNNING || !has_come(call))) {
    in_time = wait_for(then, wait_us < LONGEST_SLEEP_US);
  }
  atomic_fetch_sub(&awaited, 1);
  const int there = wanted == FST_MPI_RUNNING && has_come(call);
  pthread_mutex_unlock(&mutex);
  return there;
}

int32_t fst_mpi_hold(const fst_group_call *call, FST_KEEP_16) {
  while (!fst_mpi_wait(call, 1u << 30)) {}
  return call->status;
}

/* ---- Messages ---- */

int32_t fst_mpi_send(int32_t rank, const void *payload, uint64_t bytes) {
  return post(fst_mpi_plan_message(FST_MPI_NONE, rank, FST_MPI_MESSAGES, payload, bytes));
}

int64_t fst_mpi_receive(void *buffer) {
  pthread_mutex_lock(&mutex);
  fst_mpi_work *first = inbox;
  if (first) inbox = first->next;
  pthread_mutex_unlock(&mutex);
  if (!first) return 0;
  const int64_t bytes = first->has_failed ? -1 : (int64_t)first->pieces->bytes;
  memcpy(buffer, (void *)(uintptr_t)first->pieces->address, first->pieces->bytes);
  free(first);
  return bytes;
}

static void send_to_all(const void *payload, uint64_t bytes) {
  for (int rank = 0; rank < fst_mpi.size; rank++) {
    if (rank == fst_mpi.rank) continue;
    append(&active, fst_mpi_plan_message(FST_MPI_NONE, rank, FST_MPI_MESSAGES, payload, bytes));
  }
}

static void take_in(const fst_mpi_work *come) {
  const fst_group_block *payload = come->pieces;
  if (payload->bytes == 0) empty_ranks++;
  if (payload->bytes == 0 || ends) return;
  const void *bytes = (const void *)(uintptr_t)payload->address;
  fst_mpi_work *said = fst_mpi_plan_message(FST_MPI_NONE, FST_MPI_NONE, FST_MPI_MESSAGES, bytes, payload->bytes);
  if (said) put_in_inbox(said); /* else it is lost: calls end by their timeouts */
}

/* One receive is always waiting. */
static void receive_messages(void) {
  while (!deaf) {
    if (!arrival) {
      arrival = fst_mpi_plan_message(FST_MPI_ANY, FST_MPI_NONE, FST_MPI_MESSAGES, NULL, FST_MPI_MESSAGE_BYTES);
    }
    if (!arrival) return;
    if (fst_mpi_step(arrival)) moved_at = fst_mpi_now_us();
    deaf = arrival->has_failed;
    if (!arrival->is_finished) return;
    take_in(arrival);
    free(arrival);
    arrival = NULL;
  }
}

/* ---- Moving bytes ---- */

int32_t fst_mpi_move(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count, const fst_group_block *pieces) {
  fst_mpi_work *made = fst_mpi_plan_call(call, pipes, count, pieces);
  call->running = made != NULL;
  return post(made);
}

/* Whether the call cannot succeed any more; fills in the call. */
static int is_hopeless(const fst_mpi_work *one, uint64_t now) {
  fst_group_call *call = one->call;
  if (atomic_load(&call->cancelled)) call->status = FST_GROUP_CANCELLED;
  else if (now - one->moved_at >= call->timeout_us) call->status = FST_GROUP_TIMED_OUT;
  return call->status != FST_GROUP_DONE;
}

/* Lets the caller of a call return. */
static void end_call(fst_group_call *call, int is_pending) {
  pthread_mutex_lock(&mutex);
  atomic_store(&call->pending, (uint32_t)is_pending);
  call->running = 0;
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

/* After a failure; 1 when nothing of it is in progress any more. */
static int give_up(fst_mpi_work *one, uint64_t now) {
  fst_group_call *call = one->call;
  const int busy = fst_mpi_drop(one);
  if (call && call->running) {
    if (!busy || now - one->dropped_at >= DROP_US) end_call(call, busy);
  } else if (call && !busy) {
    atomic_store(&call->pending, 0u); /* the last that is done with its memory */
  }
  return !busy;
}

/* 1 when nothing of it is in progress any more. */
static int advance(fst_mpi_work *one, uint64_t now) {
  if (one->dropped_at != 0) return give_up(one, now);
  if (one->moved_at == 0) one->moved_at = now;
  if (fst_mpi_step(one)) moved_at = one->moved_at = now;
  if (one->is_finished) {
    if (one->call) end_call(one->call, 0);
    return 1;
  }
  if (!one->has_failed && !(one->call && is_hopeless(one, now))) return 0;
  one->dropped_at = now;
  return give_up(one, now);
}

static void advance_all(void) {
  const uint64_t now = fst_mpi_now_us();
  for (fst_mpi_work **link = &active; *link;) {
    fst_mpi_work *one = *link, *next = one->next;
    if (!advance(one, now)) {
      link = &one->next;
      continue;
    }
    *link = next;
    free(one);
  }
}

/* ---- Bytes without a receiver ---- */

int32_t fst_mpi_set_tags(const fst_mpi_tags *all, uint32_t count) {
  fst_mpi_tags *made = calloc(count + 1, sizeof *made);
  if (!made) return -1;
  if (count > 0) memcpy(made, all, count * sizeof *made);
  pthread_mutex_lock(&mutex);
  free(new_tags);
  new_tags = made;
  pthread_cond_signal(&work);
  pthread_mutex_unlock(&mutex);
  return 0;
}

/* Receives what has arrived with this tag, so that no call receives it any more. */
static void receive_and_drop(int tag) {
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_handle found = 0;
  fst_mpi_status status;
  int is_there = 0, bytes = 0;
  const int code = mpi->MPI_Improbe(mpi->any_source, fst_mpi_tag(tag), fst_mpi.comm, &is_there, &found, &status);
  if (code != 0 || !is_there || mpi->MPI_Get_count(&status, mpi->byte, &bytes) != 0) return;
  fst_mpi_work *made = fst_mpi_plan_message(FST_MPI_ANY, FST_MPI_NONE, tag, NULL, (uint64_t)bytes);
  if (!made) return;
  made->found = found;
  append(&active, made);
}

static void drop_what_comes(uint64_t now) {
  if (!tags || (now < look_at && !ends)) return;
  look_at = now + LOOK_US;
  for (const fst_mpi_tags *group = tags; group->count > 0; group++) {
    for (int i = 0; i < group->count && (ends || group->dropped); i++) receive_and_drop(group->first + i);
  }
}

/* ---- The thread ---- */

/* Does all work that is possible now. */
static void take_turn(void) {
  atomic_fetch_add(&turns, 1);
  pthread_mutex_lock(&mutex);
  const int asleep = frozen;
  if (posted || new_tags) moved_at = fst_mpi_now_us();
  if (!ends) { /* what is posted later does not begin */
    append(&active, posted);
    posted = NULL;
  }
  if (new_tags) {
    free(tags);
    tags = new_tags;
    new_tags = NULL;
  }
  pthread_mutex_unlock(&mutex);
  if (fst_mpi.comm == 0 || asleep) return;
  receive_messages();
  advance_all();
  drop_what_comes(fst_mpi_now_us()); /* after calls that are cancelled have stopped to receive these bytes */
}

/* How long until the next turn, in microseconds; 0: at once, after a yield of the processor where nothing moves. */
static uint64_t how_long_to_sleep(int listens) {
  const uint64_t idle = fst_mpi_now_us() - moved_at;
  if (idle < SPIN_US) return 0;
  if (idle < (active ? MOVING_YIELD_US : MEETING_YIELD_US)) {
    sched_yield();
    return 0;
  }
  if (!active && !listens) return IDLE_SLEEP_US;
  return idle / 8 < LONGEST_SLEEP_US ? idle / 8 : LONGEST_SLEEP_US;
}

/* Waits for work: for a short time, or until there is some. */
static void rest(void) {
  const int listens = atomic_load(&awaited) > 0;
  const uint64_t sleep = how_long_to_sleep(listens);
  if (sleep == 0) return;
  const uint64_t then = fst_mpi_now_us() + sleep;
  const int looks = listens || active || (tags && tags->count > 0);
  pthread_mutex_lock(&mutex);
  if (!posted && !new_tags && wanted == reached && listens == (atomic_load(&awaited) > 0)) {
    if (looks && !frozen) wait_until(&work, then);
    else pthread_cond_wait(&work, &mutex);
  }
  pthread_mutex_unlock(&mutex);
}

int fst_mpi_is_ending(void) {
  pthread_mutex_lock(&mutex);
  const int ending = wanted != FST_MPI_RUNNING;
  pthread_mutex_unlock(&mutex);
  return ending;
}

/*
 * The last step of the thread. Callers stay in their calls, so that memory stays which the library may still touch.
 * MPI_Finalize waits for all ranks; this reads their messages meanwhile, and its wait has a limit.
 */
static enum fst_mpi_stage end(int status, int asleep) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int finalized = 0, is_said = fst_mpi.comm == 0;
  if (mpi->MPI_Finalized(&finalized) != 0 || finalized) return FST_MPI_FINALIZED;
  if (asleep || fst_mpi_take_back(&fst_mpi.opening, 1, 0)) return FST_MPI_GAVE_UP;
  pthread_mutex_lock(&mutex);
  append(&active, posted);
  posted = NULL;
  pthread_mutex_unlock(&mutex);
  ends = 1;
  const uint64_t start = fst_mpi_now_us();
  for (fst_mpi_work *one = active; one; one = one->next) {
    if (one->call) one->dropped_at = start;
    one->call = NULL;
  }
  take_turn();
  if (!is_said && last_words_bytes > 0) send_to_all(last_words, last_words_bytes);
  for (;;) {
    const int is_all_said = is_said && (fst_mpi.comm == 0 || empty_ranks == fst_mpi.size - 1);
    take_turn(); /* also messages that were sent before the last one */
    if (is_all_said && !active) break;
    if (!is_said && !active) {
      is_said = 1;
      send_to_all(NULL, 0);
    }
    const uint64_t now = fst_mpi_now_us(), waited = now - start;
    const int is_stuck = (active || deaf) && now - moved_at > GRACE_US;
    if (waited > GRACE_US && (status != 0 || is_stuck)) return FST_MPI_GAVE_UP;
    const struct timespec pause = {0, waited < 100000 ? 1000000 : 10000000};
    nanosleep(&pause, NULL);
  }
  if (arrival) fst_mpi_drop(arrival);
  if (fst_mpi.is_ours) mpi->MPI_Finalize();
  return FST_MPI_FINALIZED;
}

static void *run(void *timeout_us) {
  const char *reason = fst_mpi_start(*(const uint64_t *)timeout_us);
  pthread_mutex_lock(&mutex);
  refusal = reason;
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
  while (!fst_mpi_is_ending()) {
    take_turn();
    rest();
  }
  pthread_mutex_lock(&mutex);
  const int status = end_status, asleep = frozen;
  pthread_mutex_unlock(&mutex);
  const enum fst_mpi_stage stage = end(status, asleep);
  pthread_mutex_lock(&mutex);
  reached = stage;
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
  return NULL;
}

const char *fst_mpi_start_thread(uint64_t timeout_us) {
  static uint64_t timeout;
  timeout = timeout_us;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&work, &monotonic);
  pthread_cond_init(&event, &monotonic);
  pthread_condattr_destroy(&monotonic);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the program handles signals */
  pthread_t thread;
  const int failed = pthread_create(&thread, NULL, run, &timeout);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return "there is no memory for its thread";
  pthread_detach(thread);
  pthread_mutex_lock(&mutex);
  while (wanted != FST_MPI_RUNNING || !refusal) pthread_cond_wait(&event, &mutex);
  pthread_mutex_unlock(&mutex);
  return refusal;
}

void fst_mpi_last_words(const void *payload, uint64_t bytes, int32_t freeze) {
  pthread_mutex_lock(&mutex);
  last_words_bytes = bytes <= sizeof last_words ? bytes : 0;
  if (last_words_bytes > 0) memcpy(last_words, payload, bytes);
  frozen = freeze;
  pthread_mutex_unlock(&mutex);
}

enum fst_mpi_stage fst_mpi_end_thread(int status) {
  pthread_mutex_lock(&mutex);
  if (wanted == FST_MPI_RUNNING) end_status = status;
  wanted = FST_MPI_FINALIZED;
  pthread_cond_signal(&work);
  unsigned seen = atomic_load(&turns);
  for (int seconds = 0; reached == FST_MPI_RUNNING && seconds < HUNG_SECONDS;) {
    if (wait_until(&event, fst_mpi_now_us() + 1000000)) continue;
    const unsigned now = atomic_load(&turns);
    seconds = now == seen ? seconds + 1 : 0;
    seen = now;
  }
  const enum fst_mpi_stage stage = reached;
  pthread_mutex_unlock(&mutex);
  return stage;
}
