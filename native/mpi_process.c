/*
 * MPI in this process: its start and its end.
 *
 * At the end of the process MPI is finalised; if that cannot work, because the bytes of an abandoned call are still
 * under way or a rank hangs, it is aborted, after a time in which the others can end by themselves.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "mpi.h"

enum { GRACE_MS = 5000 }; /* for the others to end by themselves, before they are aborted */

fst_mpi_process fst_mpi;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int is_ours; /* MPI was started here, and is finalised here */
static char last_words[480];

void fst_mpi_lock(void) {
  pthread_mutex_lock(&mutex);
}

void fst_mpi_unlock(void) {
  pthread_mutex_unlock(&mutex);
}

static void pause_ms(long ms) {
  struct timespec time = {ms / 1000, ms % 1000 * 1000000};
  nanosleep(&time, NULL);
}

/* ---- The end ---- */

void fst_mpi_last_words(const char *text) {
  fst_mpi_lock();
  snprintf(last_words, sizeof last_words, "%s", text);
  fst_mpi_unlock();
}

static int all_have_ended(void) {
  for (int rank = 0; rank < fst_mpi_everyone.size; rank++) {
    if (rank != fst_mpi_everyone.rank && fst_mpi_everyone.left[rank] == UINT64_MAX) return 0;
  }
  return 1;
}

static void finalize(void) {
  fst_mpi_stop_listening();
  if (is_ours) fst_mpi.library->MPI_Finalize();
}

static void end(int status, void *unused) {
  (void)unused;
  fst_mpi_set_ending();
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 2;
  const int locked = pthread_mutex_timedlock(&mutex, &until) == 0;
  const fst_mpi_library *mpi = fst_mpi.library;
  int finalized = 0;
  mpi->MPI_Finalized(&finalized);
  if (finalized) return; /* by another part of the process */
  if (!locked) { /* a thread hangs within the library */
    mpi->MPI_Abort(mpi->world, status ? status : 1);
    _exit(status ? status : 1);
  }
  if (fst_mpi_everyone.comm == 0) { /* refused at the start */
    finalize();
    fst_mpi_unlock();
    return;
  }
  char why[sizeof last_words];
  snprintf(why, sizeof why, "%s", last_words);
  if (!*why) snprintf(why, sizeof why, "it ended with exit status %d", status);
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) {
    char failure[sizeof why + 32];
    snprintf(failure, sizeof failure, "Rank %d failed: %s", group->rank, why);
    if (group->reasons[group->rank]) continue; /* it has told already */
    fst_mpi_tell(group, status ? FST_MPI_FAILED : FST_MPI_LEFT, -1, group->rank, status ? failure : "");
  }
  fst_mpi_tell(&fst_mpi_everyone, FST_MPI_EXIT, -1, fst_mpi_everyone.rank, status ? why : "");
  /* MPI_Finalize waits for everybody as well; here their notices are read, and it can be left. */
  const int failed = status != 0 || fst_mpi.stuck;
  for (long waited = 0; !all_have_ended() && !(failed && waited > GRACE_MS);) {
    const long ms = waited < 100 ? 1 : 10;
    fst_mpi_listen();
    pause_ms(ms);
    waited += ms;
  }
  if (fst_mpi.stuck || !all_have_ended()) {
    mpi->MPI_Abort(mpi->world, status ? status : 1);
    _exit(status ? status : 1);
  }
  finalize();
  fst_mpi_unlock();
}

/* The runtime closes the shim before the process ends: it must stay where `end` is. */
static void stay_loaded(void) {
  Dl_info self;
  if (dladdr(&fst_mpi, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* ---- The start ---- */

static void ignore(fst_mpi_handle *comm, int *code, ...) {
  (void)comm, (void)code; /* installed so that functions give their code instead of ending the process */
}

/* A library under another family's launcher does not see the other ranks: every rank would be alone in a world. */
static int fits_launcher(const fst_mpi_library *mpi, const char *path, int size, char *message, size_t bytes) {
  const char *variable = getenv("OMPI_COMM_WORLD_SIZE") ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE";
  const char *text = getenv(variable);
  if (!text || atoi(text) == size) return 1;
  snprintf(message, bytes,
           "the launcher started %s ranks (%s), and \"%.300s\" (%s) sees %d: use the launcher that belongs to the "
           "library, or name the launcher's library in FASTSAFETENSORS_MPI_LIB",
           text, variable, path, mpi->family, size);
  return 0;
}

static int start(const fst_mpi_library *mpi, const char *path, char *message, size_t bytes) {
  int initialized = 0, level = 0, code = mpi->MPI_Initialized(&initialized);
  if (code == 0 && initialized) {
    code = mpi->MPI_Query_thread(&level);
  } else if (code == 0) {
    /* A world of one needs no daemon; where the launcher's program is missing Open MPI would end the process. */
    if (!getenv("OMPI_COMM_WORLD_SIZE") && !getenv("PMIX_RANK")) setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    code = mpi->MPI_Init_thread(NULL, NULL, mpi->thread_multiple, &level);
    is_ours = code == 0;
  }
  if (code == 0) {
    stay_loaded();
    on_exit(end, NULL);
  }
  fst_mpi_handle errhandler = 0;
  if (code == 0) code = mpi->MPI_Comm_create_errhandler(ignore, &errhandler);
  if (code == 0) code = mpi->MPI_Comm_set_errhandler(mpi->world, errhandler);
  if (code == 0) code = mpi->MPI_Comm_rank(mpi->world, &fst_mpi.rank);
  if (code == 0) code = mpi->MPI_Comm_size(mpi->world, &fst_mpi.size);
  if (code != 0) {
    snprintf(message, bytes, "\"%.300s\" (%s) gives error %d when it starts", path, mpi->family, code);
    return -1;
  }
  if (level < mpi->thread_serialized) {
    snprintf(message, bytes, "\"%.300s\" (%s) allows calls from one thread only", path, mpi->family);
    return -1;
  }
  return fits_launcher(mpi, path, fst_mpi.size, message, bytes) ? 0 : -1;
}

static int copied(void *state, fst_group_call *call) {
  int done = fst_mpi_test(state, call);
  return done < 0 ? FST_MPI_FAILURE : done ? FST_MPI_FINISHED : FST_MPI_IDLE;
}

/* A communicator for notices, so that they meet no other messages. */
static int make_everyone(const fst_mpi_library *mpi, uint64_t timeout_us, char *message, size_t bytes) {
  fst_group_call call = {.timeout_us = timeout_us};
  fst_mpi_handle request = 0;
  fst_mpi_everyone.rank = fst_mpi.rank;
  fst_mpi_everyone.size = fst_mpi.size;
  if (fst_mpi_know(&fst_mpi_everyone) != 0) {
    snprintf(message, bytes, "there is no memory for a list of %d ranks", fst_mpi.size);
    return -1;
  }
  for (int rank = 0; rank < fst_mpi.size; rank++) fst_mpi_everyone.members[rank] = rank;
  static fst_mpi_handle copy; /* written when the request is done, which may be after this function */
  int code = mpi->MPI_Comm_idup(mpi->world, &copy, &request);
  if (code != 0) {
    fst_mpi_trouble(&call, "MPI_Comm_idup", code);
  } else {
    fst_mpi_unlock();
    fst_mpi_wait(NULL, &call, -1, FST_MPI_MEETING, copied, &request);
    fst_mpi_lock();
    if (call.status == FST_GROUP_DONE) {
      fst_mpi_everyone.comm = copy;
      return 0;
    }
    fst_mpi.stuck = 1;
  }
  snprintf(message, bytes, "%s", *call.message ? call.message : "not every rank of the launcher made a group in time");
  return -1;
}

static int open_locked(uint64_t timeout_us, char *message, size_t size) {
  static char path[1024], refusal[1024];
  if (fst_mpi_everyone.comm != 0) {
    snprintf(message, size, "%s", path);
    return 0;
  }
  if (!*refusal) { /* once refused, always refused: MPI cannot be started twice */
    const fst_mpi_library *mpi = fst_mpi_library_open(message, size);
    if (!mpi) return -1;
    snprintf(path, sizeof path, "%s", message);
    fst_mpi.library = mpi;
    if (start(mpi, path, refusal, sizeof refusal) == 0 &&
        make_everyone(mpi, timeout_us, refusal, sizeof refusal) == 0) {
      fst_mpi_listen();
      return 0;
    }
  }
  snprintf(message, size, "%s", refusal);
  return -1;
}

int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, char *message, uint64_t size) {
  static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
  pthread_mutex_lock(&opening);
  fst_mpi_lock();
  int status = open_locked(timeout_us, message, size);
  const fst_mpi_library *mpi = fst_mpi.library;
  if (status == 0) {
    *info = (fst_mpi_info){fst_mpi.rank, fst_mpi.size, 0, ""};
    info->cuda_aware = mpi->MPIX_Query_cuda_support && mpi->MPIX_Query_cuda_support() == 1;
    snprintf(info->family, sizeof info->family, "%s", mpi->family);
  }
  fst_mpi_unlock();
  pthread_mutex_unlock(&opening);
  return status;
}
