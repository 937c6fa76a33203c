/*
 * The thread that makes every call into MPI, and the commands that it is given.
 *
 * It asks again and again what has come about, so that a rank that fails, a call that is cancelled and time that runs out
 * all end a call. The longer nothing happens, the more the processor is left to others.
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mpi.h"

enum {
  SPIN_US = 5,
  MEETING_YIELD_US = 50,   /* the others may come much later */
  MOVING_YIELD_US = 20000, /* a library moves large messages only while it is called */
  LONGEST_SLEEP_US = 1000,
  IDLE_SLEEP_US = 10000,   /* between looks at what others say, when nothing is to be done */
  DEPARTURE_US = 1000000,  /* how long what a rank sent before it left may take to arrive */
  REASON_US = 250000,      /* how long after a rank has left the reason may take to arrive */
  HURRY_US = 2000000,      /* how long rank 0 may take to say for whom it waits */
  LONGEST_LOOK_US = 100000, /* between looks for what is sent to a call that failed */
  DROP_US = 100000,        /* how long a call that failed waits for its memory */
  HUNG_SECONDS = 5,        /* after which a library that does not come back is not waited for at the end */
};

fst_mpi_process fst_mpi;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of all below, but for `active`; never held in a library */
static pthread_cond_t work, finished;
static fst_mpi_command *posted;
static fst_mpi_command *active;  /* the thread's own */
static fst_mpi_command *pending; /* failed, and the library may still touch their memory */
static uint64_t pending_count;
static int frozen; /* the process may be about to free what the library would write to: MPI is not called */
static int ends; /* the thread's own: no command is taken any more */
static int started;
static enum fst_mpi_stage wanted, reached;
static int end_status;
static atomic_uint turns; /* of the thread: it stands still where the library does not come back */

uint64_t fst_mpi_now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

static struct timespec in_us(uint64_t us) {
  const uint64_t then = fst_mpi_now_us() + us;
  return (struct timespec){(time_t)(then / 1000000u), (long)(then % 1000000u) * 1000};
}

/* ---- The library's part ---- */

enum fst_mpi_outcome fst_mpi_trouble(fst_group_call *call, const char *function, int code) {
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
  fst_mpi_status status;
  int done = 0, code = fst_mpi.library->MPI_Test(request, &done, &status);
  if (code != 0) {
    *request = 0;
    fst_mpi_trouble(call, "MPI_Test", code);
    return -1;
  }
  if (done) *request = 0;
  return done;
}

int fst_mpi_take_back(fst_mpi_handle *requests, int count, int cancel) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int under_way = 0;
  for (int i = 0; i < count; i++) {
    fst_mpi_status status;
    int done = 1;
    if (requests[i] != 0 && cancel) mpi->MPI_Cancel(&requests[i]);
    if (requests[i] != 0 && mpi->MPI_Test(&requests[i], &done, &status) == 0 && !done) under_way = 1;
    else requests[i] = 0;
  }
  return under_way;
}

/* ---- Commands ---- */

void fst_mpi_release(fst_mpi_command *command) {
  for (int i = 0; i < command->count; i++) command->parts[i].release(command->parts[i].state);
  free(command);
}

/* Lets the caller go on; nothing of it is touched afterwards, unless it is pending. */
static void finish(fst_mpi_command *command) {
  const fst_group_call *call = command->call;
  fst_mpi_group *group = command->group;
  if (command->counts && (call->status == FST_GROUP_DONE || call->status == FST_GROUP_REFUSED)) {
    group->completed++;
    fst_mpi_publish(group);
  }
  pthread_mutex_lock(&mutex);
  *command->done = 1;
  pthread_cond_broadcast(&finished);
  pthread_mutex_unlock(&mutex);
}

static void suspend(fst_mpi_command *command) {
  pthread_mutex_lock(&mutex);
  command->pending = ++pending_count;
  command->next = pending;
  pending = command;
  pthread_mutex_unlock(&mutex);
}

/* Whether there is no sense in waiting on; fills in the call. */
static int is_hopeless(fst_mpi_command *command, uint64_t now) {
  const fst_mpi_part *part = &command->parts[command->current];
  fst_mpi_group *group = command->group;
  fst_group_call *call = command->call;
  if (atomic_load(&call->cancelled)) {
    call->status = FST_GROUP_CANCELLED;
    return 1;
  }
  const uint64_t idle = now - command->moved_at;
  const int all_meet = group && part->peer < 0 && part->phase == FST_MPI_MEETING;
  if (group) {
    const int error = fst_mpi_message_error();
    if (error) return fst_mpi_trouble(call, "MPI_Irecv", error) == FST_MPI_FAILURE;
    if (fst_mpi_gone(group, part->peer, &call->failed_rank, call->message, sizeof call->message)) {
      if (command->gone_at == 0) command->gone_at = now;
      /* What a rank sent to this one before it left may still arrive. */
      const uint64_t patience = part->peer < 0 ? REASON_US : DEPARTURE_US;
      if (!*call->message && (now - command->gone_at < patience || idle < patience)) return 0;
      call->status = FST_GROUP_GONE;
      return 1;
    }
  }
  const int hurried = all_meet && group->rank == 0 && group->hurried == group->completed + 1;
  if (idle < call->timeout_us && !hurried) return 0;
  if (all_meet && group->rank != 0) {
    /* Rank 0 knows who is missing, and is asked to say so before its own time is up. */
    if (command->hurried_at == 0) {
      command->hurried_at = now;
      fst_mpi_tell(group, FST_MPI_HURRY, 0, 0, "");
    }
    if (now - command->hurried_at < HURRY_US) return 0;
  }
  call->status = FST_GROUP_TIMED_OUT;
  return 1;
}

/* Takes a command back after a failure; 1 when the caller goes on. */
static int drop(fst_mpi_command *command, uint64_t now) {
  fst_mpi_part *part = &command->parts[command->current];
  if (command->dropped_at == 0) {
    command->dropped_at = now;
    if (command->group) command->group->broken = 1;
  }
  if (part->drop(part->state, command->call)) {
    if (now - command->dropped_at < DROP_US) return 0;
    suspend(command);
    command->call->pending = command->pending;
  }
  finish(command);
  return 1;
}

/* 1 when it is done with. */
static int advance(fst_mpi_command *command, uint64_t now) {
  if (command->dropped_at != 0) return drop(command, now);
  fst_group_call *call = command->call;
  if (command->moved_at == 0) command->moved_at = now;
  for (;;) {
    fst_mpi_part *part = &command->parts[command->current];
    const enum fst_mpi_outcome outcome = part->step(part->state, call);
    if (outcome == FST_MPI_MOVED) command->moved_at = now;
    if (outcome == FST_MPI_FAILURE) return drop(command, now);
    if (outcome != FST_MPI_FINISHED) return is_hopeless(command, now) ? drop(command, now) : 0;
    if (call->status != FST_GROUP_DONE || ++command->current == command->count) {
      finish(command);
      return 1;
    }
    command->moved_at = now;
    command->gone_at = 0;
  }
}

/* ---- Memory that the library may still use ---- */

int32_t fst_mpi_pending(uint64_t number) {
  pthread_mutex_lock(&mutex);
  const fst_mpi_command *command = pending;
  while (command && command->pending != number) command = command->next;
  pthread_mutex_unlock(&mutex);
  return command != NULL;
}

static void look_after_pending(void) {
  for (fst_mpi_command **link = &pending; *link;) { /* only this thread changes the list */
    fst_mpi_command *command = *link;
    fst_mpi_part *part = &command->parts[command->current];
    if (part->drop(part->state, NULL)) {
      link = &command->next;
      continue;
    }
    pthread_mutex_lock(&mutex);
    *link = command->next;
    pthread_mutex_unlock(&mutex);
    fst_mpi_release(command);
  }
}

/* What is sent to a call that failed here is received and dropped, so that its sender gets its memory back. */
typedef struct dropped {
  struct dropped *next;
  fst_mpi_handle request;
  char bytes[];
} dropped;
static dropped *dropping;

static int receive_and_drop(int tag) {
  const fst_mpi_library *mpi = fst_mpi.library;
  fst_mpi_status status;
  int waiting = 0, bytes = 0;
  if (mpi->MPI_Iprobe(mpi->any_source, tag, fst_mpi.comm, &waiting, &status) != 0 || !waiting) return 0;
  if (mpi->MPI_Get_count(&status, mpi->byte, &bytes) != 0 || bytes < 0) return 0;
  dropped *made = malloc(sizeof *made + (size_t)bytes);
  if (!made) return 0;
  if (mpi->MPI_Irecv(made->bytes, bytes, mpi->byte, mpi->any_source, tag, fst_mpi.comm, &made->request) != 0) {
    free(made);
    return 0;
  }
  made->next = dropping;
  dropping = made;
  return 1;
}

static void drop_what_comes(void) {
  for (dropped **link = &dropping; *link;) {
    dropped *one = *link;
    if (fst_mpi_take_back(&one->request, 1, 0)) {
      link = &one->next;
      continue;
    }
    *link = one->next;
    free(one);
  }
  /* A look is a yield of the processor in some libraries: the longer nothing comes, the fewer there are. */
  const uint64_t now = fst_mpi_now_us();
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) {
    if (!group->broken || (now < group->look_at && !ends)) continue;
    int came = 0;
    for (int root = 0; root < group->size; root++) came |= receive_and_drop(fst_mpi_data_tag(group, root));
    group->look_every = came || group->look_every == 0 ? LONGEST_SLEEP_US : 2 * group->look_every;
    if (group->look_every > LONGEST_LOOK_US) group->look_every = LONGEST_LOOK_US;
    group->look_at = now + group->look_every;
  }
}

/* ---- The thread ---- */

void fst_mpi_publish(fst_mpi_group *group) {
  int32_t rank;
  char reason[sizeof group->gone_reason];
  const int gone = fst_mpi_gone(group, -1, &rank, reason, sizeof reason);
  pthread_mutex_lock(&mutex);
  group->gone = gone;
  if (gone) {
    group->gone_rank = rank;
    memcpy(group->gone_reason, reason, sizeof reason);
  }
  pthread_mutex_unlock(&mutex);
}

int32_t fst_mpi_watch(fst_mpi_group *group, fst_group_call *call) {
  pthread_mutex_lock(&mutex);
  const int gone = group->gone;
  if (gone) {
    call->status = FST_GROUP_GONE;
    call->failed_rank = group->gone_rank;
    memcpy(call->message, group->gone_reason, sizeof call->message);
  }
  pthread_mutex_unlock(&mutex);
  return gone;
}

static int cleans_up(void) {
  return pending || dropping || fst_mpi_sends();
}

/* How long until the next turn, in microseconds; 0: at once, after a yield of the processor where nothing moves. */
static uint64_t how_long_to_sleep(uint64_t now, int moved) {
  uint64_t idle = UINT64_MAX;
  int moving = 0;
  for (const fst_mpi_command *command = active; command; command = command->next) {
    if (now - command->moved_at < idle) idle = now - command->moved_at;
    if (command->parts[command->current].phase == FST_MPI_MOVING && command->dropped_at == 0) moving = 1;
  }
  if (moved || (active && idle < SPIN_US)) return 0;
  if (active && idle < (moving ? MOVING_YIELD_US : MEETING_YIELD_US)) {
    sched_yield();
    return 0;
  }
  if (active) return idle / 8 < LONGEST_SLEEP_US ? idle / 8 : LONGEST_SLEEP_US;
  return cleans_up() ? LONGEST_SLEEP_US : IDLE_SLEEP_US;
}

/* Waits for something to do: a little, or until it is there. */
static void rest(int moved) {
  const uint64_t sleep = how_long_to_sleep(fst_mpi_now_us(), moved);
  if (sleep == 0) return;
  const int looks = active || fst_mpi.groups || cleans_up();
  const struct timespec until = in_us(sleep);
  pthread_mutex_lock(&mutex);
  if (!posted && wanted == reached) {
    if (active || (!frozen && looks)) pthread_cond_timedwait(&work, &mutex, &until);
    else pthread_cond_wait(&work, &mutex);
  }
  pthread_mutex_unlock(&mutex);
}

int fst_mpi_progress(void) {
  atomic_fetch_add(&turns, 1);
  if (fst_mpi.comm == 0) return 0;
  const int moved = fst_mpi_pass_messages();
  look_after_pending();
  drop_what_comes();
  return moved;
}

static int take_posted(void) {
  fst_mpi_command **last = &active;
  while (*last) last = &(*last)->next;
  pthread_mutex_lock(&mutex);
  *last = posted;
  posted = NULL;
  const int awake = !frozen;
  pthread_mutex_unlock(&mutex);
  return awake;
}

/* Does what can be done at present; 1 if a message came. */
static int take_turn(int awake) {
  const int moved = awake && fst_mpi_progress();
  const uint64_t now = fst_mpi_now_us();
  for (fst_mpi_command **link = &active; *link;) {
    fst_mpi_command *command = *link, *next = command->next;
    if (advance(command, now)) *link = next;
    else link = &command->next;
  }
  return moved;
}

int fst_mpi_do(fst_mpi_command *command) {
  fst_group_call *call = command->call;
  int done = 0; /* here, as the thread may free a pending command before its caller wakes up */
  command->done = &done;
  pthread_mutex_lock(&mutex);
  if (wanted != FST_MPI_RUNNING) {
    call->status = FST_GROUP_CANCELLED;
  } else {
    fst_mpi_command **last = &posted;
    while (*last) last = &(*last)->next;
    *last = command;
    frozen = 0;
    pthread_cond_signal(&work);
    /* Once the process ends nobody is let go, and the command may be freed. */
    while (wanted != FST_MPI_RUNNING || !done) pthread_cond_wait(&finished, &mutex);
  }
  pthread_mutex_unlock(&mutex);
  return call->status;
}

int fst_mpi_is_idle(void) {
  return !pending && !dropping && !fst_mpi_sends();
}

int fst_mpi_has_pending(void) {
  return pending != NULL;
}

/* The callers of these stay where they are, and with them the memory that the library may still touch. */
static void abandon_all(void) {
  ends = 1;
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) group->broken = 1;
  while (active) {
    fst_mpi_command *command = active;
    active = command->next;
    fst_mpi_part *part = &command->parts[command->current];
    if (part->drop(part->state, NULL)) suspend(command);
  }
}

static void *run(void *unused) {
  (void)unused;
  for (;;) {
    const int awake = take_posted();
    pthread_mutex_lock(&mutex);
    const int is_wanted = wanted != FST_MPI_RUNNING, status = end_status;
    pthread_mutex_unlock(&mutex);
    if (is_wanted) {
      abandon_all();
      const enum fst_mpi_stage stage = !awake && pending ? FST_MPI_GAVE_UP : fst_mpi_end(status);
      pthread_mutex_lock(&mutex);
      reached = stage;
      pthread_cond_broadcast(&finished);
      pthread_mutex_unlock(&mutex);
      return NULL;
    }
    rest(take_turn(awake));
  }
}

int fst_mpi_start_thread(void) {
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&work, &monotonic);
  pthread_cond_init(&finished, &monotonic);
  pthread_condattr_destroy(&monotonic);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are the program's */
  pthread_t thread;
  const int failed = pthread_create(&thread, NULL, run, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (failed) return -1;
  pthread_mutex_lock(&mutex);
  started = 1;
  pthread_mutex_unlock(&mutex);
  pthread_detach(thread);
  return 0;
}

enum fst_mpi_stage fst_mpi_end_thread(int status) {
  pthread_mutex_lock(&mutex);
  if (wanted == FST_MPI_RUNNING) end_status = status;
  wanted = FST_MPI_FINALIZED;
  pthread_cond_signal(&work);
  unsigned seen = atomic_load(&turns);
  for (int seconds = 0; started && reached == FST_MPI_RUNNING && seconds < HUNG_SECONDS;) {
    const struct timespec until = in_us(1000000);
    if (pthread_cond_timedwait(&finished, &mutex, &until) == 0) continue;
    const unsigned now = atomic_load(&turns);
    seconds = now == seen ? seconds + 1 : 0;
    seen = now;
  }
  const enum fst_mpi_stage stage = started ? reached : FST_MPI_FINALIZED;
  pthread_mutex_unlock(&mutex);
  return stage;
}

void fst_mpi_freeze(void) {
  pthread_mutex_lock(&mutex);
  frozen = pending != NULL;
  pthread_mutex_unlock(&mutex);
}
