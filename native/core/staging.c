/*
 * The staging memory of all lanes of the process. It is mapped when lanes first need it and stays for the next ones,
 * because the kernel must clear every newly mapped page. Memory that no lane has used for some seconds is unmapped.
 */
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include "core/core.h"

/* Idle memory is unmapped earlier if more than this would be mapped otherwise. */
#define BOUND ((uint64_t)64 << 20)

/* How long memory stays mapped without a use. */
#define IDLE_NS ((uint64_t)5000000000)

/* Blocks that are larger than needed by this factor are not used. */
#define MOST_WASTE 4

typedef struct block {
  struct block *next;
  char *memory;
  uint64_t length;
  uint64_t idle_since; /* 0: in use */
} block;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static block *blocks;
static uint64_t mapped; /* bytes of all blocks */
static int has_thread;

/* These functions are called with the lock. */

static void unmap(block **place) {
  block *old = *place;
  *place = old->next;
  mapped -= old->length;
  fst_staging_unmap(old->memory, old->length);
  free(old);
}

/* The idle block that was used last before all others; NULL: none is idle. */
static block **oldest(void) {
  block **result = NULL;
  for (block **place = &blocks; *place; place = &(*place)->next) {
    if ((*place)->idle_since > 0 && (!result || (*place)->idle_since < (*result)->idle_since)) result = place;
  }
  return result;
}

static block *smallest_fit(uint64_t length) {
  block *result = NULL;
  for (block *at = blocks; at; at = at->next) {
    if (at->idle_since == 0 || at->length < length || at->length / MOST_WASTE > length) continue;
    if (!result || at->length < result->length) result = at;
  }
  return result;
}

static block *map(uint64_t length) {
  for (block **place; mapped + length > BOUND && (place = oldest());) unmap(place);
  block *new = malloc(sizeof *new);
  char *memory = new ? fst_staging_map(length) : NULL;
  if (!memory) {
    free(new);
    return NULL;
  }
  *new = (block){.next = blocks, .memory = memory, .length = length};
  blocks = new;
  mapped += length;
  return new;
}

/* Unmaps idle memory; ends when there is none. */
static void *unmap_idle(void *unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  for (block **place; (place = oldest());) {
    const uint64_t now = fst_now(), due = (*place)->idle_since + IDLE_NS;
    if (due <= now) {
      unmap(place);
      continue;
    }
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    const uint64_t ns = (uint64_t)until.tv_nsec + (due - now);
    until.tv_sec += (time_t)(ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    pthread_cond_timedwait(&changed, &mutex, &until);
  }
  has_thread = 0;
  pthread_mutex_unlock(&mutex);
  return NULL;
}

static void start_thread(void) {
  if (has_thread) return;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's threads handle signals */
  pthread_t thread;
  has_thread = pthread_create(&thread, NULL, unmap_idle, NULL) == 0;
  if (has_thread) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

char *fst_staging_take(uint64_t length) {
  pthread_mutex_lock(&mutex);
  block *taken = smallest_fit(length);
  if (!taken) taken = map(length);
  if (taken) taken->idle_since = 0;
  pthread_mutex_unlock(&mutex);
  return taken ? taken->memory : NULL;
}

void fst_staging_give(char *memory) {
  if (!memory) return;
  pthread_mutex_lock(&mutex);
  block **place = &blocks;
  while ((*place)->memory != memory) place = &(*place)->next;
  (*place)->idle_since = fst_now();
  if (mapped > BOUND) unmap(place);
  start_thread();
  pthread_mutex_unlock(&mutex);
}
