/*
 * Frees resources that a device or its driver may still use. cudaFree waits for all work of its device, also for
 * kernels that wait for other ranks: so the caller only queues the object, and one thread of the library frees one
 * after another. So no caller waits, the current device of a consumer's thread does not change, and at most one
 * thread blocks if a device does.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "cuda/cuda.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t queued = PTHREAD_COND_INITIALIZER, freed = PTHREAD_COND_INITIALIZER;
static fst_cuda_release_job *first, **last = &first;
static fst_cuda_releases counts;
static int has_thread;

static void *run(void *unused) {
  (void)unused;
  pthread_mutex_lock(&mutex);
  for (;;) {
    while (!first) pthread_cond_wait(&queued, &mutex);
    fst_cuda_release_job *job = first;
    first = job->next;
    if (!first) last = &first;
    pthread_mutex_unlock(&mutex);
    int status = job->free(job);
    pthread_mutex_lock(&mutex);
    counts.done++;
    if (status != 0) {
      counts.failed++;
      counts.status = status;
    }
    pthread_cond_broadcast(&freed);
  }
  return NULL;
}

/* The caller has the lock. The thread does not end, because a process that frees device memory does so again. */
static void start_thread(void) {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before); /* the program's threads handle signals */
  pthread_t thread;
  has_thread = pthread_create(&thread, NULL, run, NULL) == 0;
  if (has_thread) pthread_detach(thread);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void fst_cuda_release_later(fst_cuda_release_job *job) {
  pthread_mutex_lock(&mutex);
  job->next = NULL;
  *last = job;
  last = &job->next;
  counts.queued++;
  if (!has_thread) start_thread(); /* if that fails, the next call tries again */
  pthread_cond_signal(&queued);
  pthread_mutex_unlock(&mutex);
}

void fst_cuda_releases_now(fst_cuda_releases *result) {
  pthread_mutex_lock(&mutex);
  *result = counts;
  pthread_mutex_unlock(&mutex);
}

int32_t fst_cuda_releases_wait(uint64_t queued_before) {
  pthread_mutex_lock(&mutex);
  if (!has_thread && first) start_thread();
  while (has_thread && counts.done < queued_before) pthread_cond_wait(&freed, &mutex);
  int status = counts.done < queued_before ? -EAGAIN : 0;
  pthread_mutex_unlock(&mutex);
  return status;
}
