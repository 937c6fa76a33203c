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
  IDLE_SLEEP_US = 10000,    /* between polls for messages, without a call */
  LONGEST_LOOK_US = 100000, /* between polls for bytes to drop */
  DROP_US = 100000,         /* how long a failed call waits for its memory */
  GRACE_US = 5000000,       /* for the others to end by themselves, before they are aborted */
  HUNG_SECONDS = 5,         /* longest wait at the end for a library call that does not return */
};

/* Memory that the library sends from or receives into. */
typedef struct message {
  struct message *next;
  fst_mpi_handle request;
  int32_t rank;
  uint64_t bytes;
  char payload[];
} message;

fst_mpi_process fst_mpi;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* guards all up to `turns`; never held during a call of the library */
static pthread_cond_t work, event;
static message *to_send, *inbox;
static fst_mpi_transfers *to_move;
static fst_mpi_tags *new_tags; /* the last has no tags */
static int pending;            /* failed calls whose memory the library may still touch */
static int frozen; /* no calls of MPI, as the process may free memory that it would write to */
static int awaited, woken; /* messages */
static char failure[512];  /* of the library; empty: none */
static char last_words[FST_MPI_MESSAGE_BYTES];
static uint64_t last_words_bytes;
static int started;
static const char *refusal; /* NULL: MPI is being started; empty: it runs */
static enum fst_mpi_stage wanted, reached;
static int end_status;
static atomic_uint turns; /* of the thread; constant while a call of the library does not return */

/* The thread's own. */
static message *under_way; /* not sent yet, or received to be dropped */
static message *arrival;   /* is being received */
static fst_mpi_transfers *active;
static fst_mpi_tags *tags;
static int empty_ranks;    /* how many have reported that they have nothing in progress */
static int deaf, ends;
static uint64_t moved_at, look_at, look_every; /* microseconds */

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

/* All nodes begin with the next one. */
static void append(void *list, void *node) {
  struct node {
    struct node *next;
  } **last = list;
  while (*last) last = &(*last)->next;
  *last = node;
}

/* Gives the thread something to do. */
static void post(void *list, void *node) {
  pthread_mutex_lock(&mutex);
  append(list, node);
  frozen = 0;
  pthread_cond_signal(&work);
  pthread_mutex_unlock(&mutex);
}

/* ---- The library's part ---- */

void fst_mpi_trouble(fst_group_call *call, const char *function, int code) {
  char text[1024] = "";
  int length = 0;
  fst_mpi.library->MPI_Error_string(code, text, &length);
  text[strcspn(text, "\n")] = 0;
  call->status = FST_GROUP_LIBRARY;
  call->code = code;
  snprintf(call->message, sizeof call->message, "%s: %.400s", function, text);
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

/* ---- Messages ---- */

static message *make_message(int32_t rank, const void *payload, uint64_t bytes) {
  message *made = malloc(sizeof *made + bytes);
  if (!made) return NULL;
  *made = (message){NULL, 0, rank, bytes};
  if (payload && bytes > 0) memcpy(made->payload, payload, bytes);
  return made;
}

int32_t fst_mpi_send(int32_t rank, const void *payload, uint64_t bytes) {
  message *made = make_message(rank, payload, bytes);
  if (!made) return -1;
  post(&to_send, made);
  return 0;
}

int64_t fst_mpi_receive(void *buffer) {
  int64_t bytes = 0;
  pthread_mutex_lock(&mutex);
  message *first = inbox;
  if (first) {
    inbox = first->next;
    bytes = (int64_t)first->bytes;
    memcpy(buffer, first->payload, first->bytes);
  } else if (*failure) {
    bytes = -1;
    memcpy(buffer, failure, sizeof failure);
  }
  pthread_mutex_unlock(&mutex);
  free(first);
  return bytes;
}

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

int32_t fst_mpi_await(uint64_t wait_us) {
  const uint64_t then = fst_mpi_now_us() + wait_us;
  const int is_short = wait_us < LONGEST_SLEEP_US; /* and cannot be woken up */
  pthread_mutex_lock(&mutex);
  awaited++;
  pthread_cond_signal(&work);
  /* At the end of the process callers stay here. */
  for (int in_time = 1; in_time && (wanted != FST_MPI_RUNNING || (!inbox && !*failure && (is_short || !woken)));) {
    in_time = wait_for(then, is_short);
  }
  awaited--;
  if (!is_short) woken = 0;
  const int there = inbox || *failure;
  pthread_mutex_unlock(&mutex);
  return there;
}

void fst_mpi_wake(void) {
  pthread_mutex_lock(&mutex);
  woken = 1;
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

static void fail(const char *function, int code) {
  fst_group_call call;
  fst_mpi_trouble(&call, function, code);
  pthread_mutex_lock(&mutex);
  if (!*failure) snprintf(failure, sizeof failure, "%s", call.message);
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

static void begin_to_send(message *one) {
  if (!one) return;
  const int code = fst_mpi.library->MPI_Isend(one->payload, (int)one->bytes, fst_mpi.library->byte, one->rank,
                                              FST_MPI_TAG_MESSAGE, fst_mpi.comm, &one->request);
  if (code != 0) {
    one->request = 0;
    fail("MPI_Isend", code);
  }
  one->next = under_way;
  under_way = one;
}

static void send_to_all(const void *payload, uint64_t bytes) {
  for (int rank = 0; rank < fst_mpi.size; rank++) {
    if (rank != fst_mpi.rank) begin_to_send(make_message(rank, payload, bytes));
  }
}

static void take_in(message *come, const fst_mpi_status *status) {
  int bytes = 0;
  if (fst_mpi.library->MPI_Get_count(status, fst_mpi.library->byte, &bytes) != 0) return;
  if (bytes == 0) empty_ranks++;
  message *said = bytes > 0 && !ends ? make_message(0, come->payload, (uint64_t)bytes) : NULL;
  if (!said) return;
  pthread_mutex_lock(&mutex);
  append(&inbox, said);
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

/* One receive is always waiting; 1 if a message has come. */
static int receive_messages(void) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int moved = 0, done = 1;
  while (!deaf && (arrival || (arrival = make_message(0, NULL, FST_MPI_MESSAGE_BYTES)) != NULL)) {
    fst_mpi_status status;
    const char *function = "MPI_Test";
    int code = arrival->request == 0 ? 0 : mpi->MPI_Test(&arrival->request, &done, &status);
    if (code == 0 && !done) break;
    if (code == 0 && arrival->request != 0) take_in(arrival, &status);
    moved |= arrival->request != 0;
    if (code == 0) {
      function = "MPI_Irecv";
      code = mpi->MPI_Irecv(arrival->payload, FST_MPI_MESSAGE_BYTES, mpi->byte, mpi->any_source, FST_MPI_TAG_MESSAGE,
                            fst_mpi.comm, &arrival->request);
    }
    if (code == 0) continue;
    arrival->request = 0;
    deaf = 1; /* no message can be received any more: all calls fail */
    fail(function, code);
  }
  return moved;
}

/* ---- Moving bytes ---- */

int32_t fst_mpi_move(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count, const fst_group_block *blocks,
                     fst_mpi_staging *staging) {
  fst_mpi_transfers *made = fst_mpi_plan(call, pipes, count, blocks, staging);
  if (!made) return -1;
  call->running = 1;
  post(&to_move, made);
  return 0;
}

int32_t fst_mpi_finish(fst_group_call *call, uint64_t wait_us) {
  const uint64_t then = fst_mpi_now_us() + wait_us;
  int in_time = 1;
  pthread_mutex_lock(&mutex);
  /* At the end of the process callers stay here, so that their memory stays. */
  while (in_time && (wanted != FST_MPI_RUNNING || call->running)) in_time = wait_for(then, wait_us < LONGEST_SLEEP_US);
  const int ended = in_time || (wanted == FST_MPI_RUNNING && !call->running);
  pthread_mutex_unlock(&mutex);
  return ended;
}

int32_t fst_mpi_hold(fst_group_call *call, FST_KEEP_16) {
  while (!fst_mpi_finish(call, 1u << 30)) {}
  return call->status;
}

/* Whether the call cannot succeed any more; fills in the call. */
static int is_hopeless(const fst_mpi_transfers *one, uint64_t now) {
  fst_group_call *call = one->call;
  if (atomic_load(&call->cancelled)) call->status = FST_GROUP_CANCELLED;
  else if (now - one->moved_at >= call->timeout_us) call->status = FST_GROUP_TIMED_OUT;
  return call->status != FST_GROUP_DONE;
}

/* Lets the caller of a call return. */
static void end_call(fst_group_call *call, int is_pending) {
  pthread_mutex_lock(&mutex);
  if (is_pending) {
    pending++;
    atomic_store(&call->pending, 1);
  }
  call->running = 0;
  pthread_cond_broadcast(&event);
  pthread_mutex_unlock(&mutex);
}

/* 1 when nothing of it is in progress any more. */
static int advance(fst_mpi_transfers *one, uint64_t now) {
  fst_group_call *call = one->call;
  if (!call) return !fst_mpi_drop(one);
  if (one->moved_at == 0) one->moved_at = now;
  if (one->dropped_at == 0) {
    const enum fst_mpi_outcome outcome = fst_mpi_step(one);
    if (outcome == FST_MPI_MOVED || outcome == FST_MPI_FINISHED) moved_at = one->moved_at = now;
    if (outcome == FST_MPI_FINISHED) {
      end_call(call, 0);
      return 1;
    }
    if (outcome != FST_MPI_FAILURE && !is_hopeless(one, now)) return 0;
    one->dropped_at = now;
  }
  const int is_pending = (int)atomic_load(&call->pending), busy = fst_mpi_drop(one);
  if (!busy && is_pending) {
    pthread_mutex_lock(&mutex);
    pending--;
    atomic_store(&call->pending, 0); /* the last that is done with its memory */
    pthread_mutex_unlock(&mutex);
  }
  if (!is_pending && (!busy || now - one->dropped_at >= DROP_US)) end_call(call, busy);
  return !busy;
}

static void advance_all(void) {
  const uint64_t now = fst_mpi_now_us();
  for (fst_mpi_transfers **link = &active; *link;) {
    fst_mpi_transfers *one = *link, *next = one->next;
    if (!advance(one, now)) {
      link = &one->next;
      continue;
    }
    *link = next;
    fst_mpi_release(one);
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

static int receive_and_drop(int tag) {
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_status status;
  int waiting = 0, bytes = 0;
  if (mpi->MPI_Iprobe(mpi->any_source, tag, fst_mpi.comm, &waiting, &status) != 0 || !waiting) return 0;
  if (mpi->MPI_Get_count(&status, mpi->byte, &bytes) != 0 || bytes < 0) return 0;
  message *made = make_message(0, NULL, (uint64_t)bytes);
  if (!made) return 0;
  if (mpi->MPI_Irecv(made->payload, bytes, mpi->byte, mpi->any_source, tag, fst_mpi.comm, &made->request) != 0) {
    made->request = 0;
  }
  made->next = under_way;
  under_way = made;
  return 1;
}

/* Whether a call in progress still receives with these tags: dropping must not take its next piece. */
static int is_in_use(const fst_mpi_tags *group) {
  for (const fst_mpi_transfers *one = active; one; one = one->next) {
    if (one->call && one->dropped_at == 0 && fst_mpi_uses(one, group->first, group->count)) return 1;
  }
  return 0;
}

static void drop_what_comes(uint64_t now) {
  /* A poll yields the processor in some libraries: the longer nothing arrives, the fewer there are. */
  if (!tags || (now < look_at && !ends)) return;
  int came = 0;
  for (const fst_mpi_tags *group = tags; group->count > 0; group++) {
    if (is_in_use(group)) continue;
    for (int i = 0; i < group->count && (ends || group->dropped); i++) {
      came |= receive_and_drop(FST_MPI_TAG_DATA + group->first + i);
    }
  }
  look_every = came || look_every == 0 ? LONGEST_SLEEP_US : 2 * look_every;
  if (look_every > LONGEST_LOOK_US) look_every = LONGEST_LOOK_US;
  look_at = now + look_every;
}

/* ---- The thread ---- */

/* Does all work that is possible now; 1 if there was any. */
static int take_turn(void) {
  atomic_fetch_add(&turns, 1);
  pthread_mutex_lock(&mutex);
  message *messages = to_send;
  const int is_new = to_send || to_move || new_tags, asleep = frozen;
  if (!ends) append(&active, to_move);
  to_send = NULL;
  to_move = NULL; /* calls that arrive after the end do not begin */
  if (new_tags) {
    free(tags);
    tags = new_tags;
    new_tags = NULL;
    look_at = look_every = 0;
  }
  pthread_mutex_unlock(&mutex);
  if (fst_mpi.comm == 0 || asleep) return 0;
  while (messages) {
    message *one = messages;
    messages = one->next;
    begin_to_send(one);
  }
  for (message **link = &under_way; *link;) {
    message *one = *link;
    if (fst_mpi_take_back(&one->request, 1, 0)) {
      link = &one->next;
      continue;
    }
    *link = one->next;
    free(one);
  }
  const int moved = receive_messages() || is_new;
  drop_what_comes(fst_mpi_now_us());
  advance_all();
  return moved;
}

/* How long until the next turn, in microseconds; 0: at once, after a yield of the processor where nothing moves. */
static uint64_t how_long_to_sleep(int listens) {
  const uint64_t idle = fst_mpi_now_us() - moved_at;
  int moving = 0;
  for (const fst_mpi_transfers *one = active; one; one = one->next) moving |= one->dropped_at == 0;
  if (idle < SPIN_US) return 0;
  if (idle < (moving ? MOVING_YIELD_US : MEETING_YIELD_US)) {
    sched_yield();
    return 0;
  }
  if (moving || listens) return idle / 8 < LONGEST_SLEEP_US ? idle / 8 : LONGEST_SLEEP_US;
  return active || under_way ? LONGEST_SLEEP_US : IDLE_SLEEP_US;
}

/* Waits for work: for a short time, or until there is some. */
static void rest(void) {
  pthread_mutex_lock(&mutex);
  const int listens = awaited > 0;
  pthread_mutex_unlock(&mutex);
  const uint64_t sleep = how_long_to_sleep(listens);
  if (sleep == 0) return;
  const uint64_t then = fst_mpi_now_us() + sleep;
  const int looks = listens || active || under_way || (tags && tags->count > 0);
  pthread_mutex_lock(&mutex);
  if (!to_send && !to_move && !new_tags && wanted == reached && listens == (awaited > 0)) {
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
  ends = 1;
  for (fst_mpi_transfers *one = active; one; one = one->next) one->call = NULL;
  take_turn();
  if (!is_said && last_words_bytes > 0) send_to_all(last_words, last_words_bytes);
  const uint64_t start = fst_mpi_now_us();
  for (;;) {
    const int is_all_said = is_said && (fst_mpi.comm == 0 || empty_ranks == fst_mpi.size - 1);
    take_turn(); /* also messages that were sent before the last one */
    if (is_all_said && !active && !under_way) break;
    if (!is_said && !active && !under_way) {
      is_said = 1;
      send_to_all(NULL, 0);
    }
    const uint64_t waited = fst_mpi_now_us() - start;
    if ((status != 0 || active || deaf) && waited > GRACE_US) return FST_MPI_GAVE_UP;
    const struct timespec pause = {0, waited < 100000 ? 1000000 : 10000000};
    nanosleep(&pause, NULL);
  }
  if (arrival && fst_mpi_take_back(&arrival->request, 1, 1) == 0) free(arrival);
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
    if (take_turn()) moved_at = fst_mpi_now_us();
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
  started = 1;
  while (wanted != FST_MPI_RUNNING || !refusal) pthread_cond_wait(&event, &mutex);
  pthread_mutex_unlock(&mutex);
  return refusal;
}

void fst_mpi_last_words(const void *payload, uint64_t bytes) {
  pthread_mutex_lock(&mutex);
  last_words_bytes = bytes <= sizeof last_words ? bytes : 0;
  if (last_words_bytes > 0) memcpy(last_words, payload, bytes);
  frozen = bytes > 0 && pending > 0;
  pthread_mutex_unlock(&mutex);
}

enum fst_mpi_stage fst_mpi_end_thread(int status) {
  pthread_mutex_lock(&mutex);
  if (wanted == FST_MPI_RUNNING) end_status = status;
  wanted = FST_MPI_FINALIZED;
  pthread_cond_signal(&work);
  unsigned seen = atomic_load(&turns);
  for (int seconds = 0; started && reached == FST_MPI_RUNNING && seconds < HUNG_SECONDS;) {
    if (wait_until(&event, fst_mpi_now_us() + 1000000)) continue;
    const unsigned now = atomic_load(&turns);
    seconds = now == seen ? seconds + 1 : 0;
    seen = now;
  }
  const enum fst_mpi_stage stage = started ? reached : FST_MPI_FINALIZED;
  pthread_mutex_unlock(&mutex);
  return stage;
}
