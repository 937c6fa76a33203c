/*
 * MPI in this process: its start and its end.
 *
 * At the end of the process every rank says so, receives what others still send it, and finalises MPI once nothing of
 * anyone is under way. If that cannot be, because a rank hangs, the process ends without.
 */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/core.h"
#include "mpi.h"

enum { GRACE_US = 5000000 }; /* for the others to end by themselves, before they are aborted */

static int is_ours; /* MPI was started here, and is finalised here */
static pthread_mutex_t words_mutex = PTHREAD_MUTEX_INITIALIZER;
static char last_words[480];

/* ---- The end ---- */

void fst_mpi_last_words(const char *text) {
  pthread_mutex_lock(&words_mutex);
  snprintf(last_words, sizeof last_words, "%s", text);
  pthread_mutex_unlock(&words_mutex);
  fst_mpi_freeze();
}

static void say_why(int status) {
  char why[sizeof last_words];
  pthread_mutex_lock(&words_mutex);
  snprintf(why, sizeof why, "%s", last_words);
  pthread_mutex_unlock(&words_mutex);
  if (!*why) snprintf(why, sizeof why, "it ended with exit status %d", status);
  for (fst_mpi_group *group = fst_mpi.groups; group; group = group->next) {
    char failure[sizeof why + 32];
    snprintf(failure, sizeof failure, "Rank %d failed: %s", group->rank, why);
    if (group->members[group->rank].reason || group->left) continue; /* it has said so already */
    fst_mpi_tell(group, status ? FST_MPI_FAILED : FST_MPI_LEFT, -1, group->rank, status ? failure : "");
  }
  fst_mpi_tell(&fst_mpi.everyone, FST_MPI_EXIT, -1, fst_mpi.rank, status ? why : "");
}

static int all_are_empty(void) {
  for (int rank = 0; rank < fst_mpi.size; rank++) {
    if (rank != fst_mpi.rank && !fst_mpi.everyone.members[rank].empty) return 0;
  }
  return 1;
}

enum fst_mpi_stage fst_mpi_end(int status) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int finalized = 0;
  if (!mpi || mpi->MPI_Finalized(&finalized) != 0 || finalized) return FST_MPI_FINALIZED;
  if (fst_mpi.comm == 0 && fst_mpi_has_pending()) return FST_MPI_GAVE_UP;
  int is_said = fst_mpi.comm == 0;
  if (!is_said) say_why(status);
  /* MPI_Finalize waits for everybody as well; here their messages are read, and it can be left. */
  const uint64_t start = fst_mpi_now_us();
  for (;;) {
    const int all_is_said = is_said && (fst_mpi.comm == 0 || all_are_empty());
    fst_mpi_progress(); /* also what was sent before the last word of all */
    if (all_is_said && fst_mpi_is_idle()) break;
    if (!is_said && fst_mpi_is_idle()) {
      is_said = 1;
      fst_mpi_tell(&fst_mpi.everyone, FST_MPI_EMPTY, -1, fst_mpi.rank, "");
    }
    const uint64_t waited = fst_mpi_now_us() - start;
    const int failed = status != 0 || fst_mpi_has_pending() || fst_mpi_message_error();
    if (failed && waited > GRACE_US) return FST_MPI_GAVE_UP;
    const struct timespec pause = {0, waited < 100000 ? 1000000 : 10000000};
    nanosleep(&pause, NULL);
  }
  if (fst_mpi.comm != 0) fst_mpi_stop_messages();
  if (is_ours) mpi->MPI_Finalize();
  return FST_MPI_FINALIZED;
}

int32_t fst_mpi_exit(int32_t status) {
  return fst_mpi_end_thread(status) != FST_MPI_FINALIZED;
}

static void at_exit(int status, void *unused) {
  (void)unused;
  const enum fst_mpi_stage stage = fst_mpi_end_thread(status);
  if (stage == FST_MPI_FINALIZED) return;
  /* The launcher ends the other ranks. Where this one has not failed nothing is said about it here. */
  if (stage == FST_MPI_GAVE_UP && status != 0) fst_mpi.library->MPI_Abort(fst_mpi.library->world, status);
  _exit(status);
}

/* The runtime closes the shim before the process ends: it must stay where `at_exit` is. */
static void stay_loaded(void) {
  Dl_info self;
  if (dladdr(&fst_mpi, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

/* ---- The start ---- */

typedef struct opening {
  int asked; /* for a copy of the world's communicator, so that messages here meet no others */
  fst_mpi_handle request, copy;
  const char *path; /* of the library */
  char refusal[1024];
} opening;
static opening state; /* of the only one there is: the library may write the copy after a call has failed */

static void ignore(fst_mpi_handle *comm, int *code, ...) {
  (void)comm, (void)code; /* installed so that functions give their code instead of ending the process */
}

/* A library under another family's launcher does not see the other ranks: every rank would be alone in a world. */
static int fits_launcher(void) {
  char value[FST_ENVIRONMENT_VALUE];
  const char *variable = fst_environment("OMPI_COMM_WORLD_SIZE", value) ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE";
  const char *text = fst_environment(variable, value);
  if (!text || atoi(text) == fst_mpi.size) return 1;
  snprintf(state.refusal, sizeof state.refusal,
           "the launcher started %.20s ranks (%s), and \"%.300s\" (%s) sees %d: use the launcher that belongs to the "
           "library, or name the launcher's library in FASTSAFETENSORS_MPI_LIB",
           text, variable, state.path, fst_mpi.library->family, fst_mpi.size);
  return 0;
}

static uint64_t tag_limit(void) {
  const int *limit = NULL;
  int known = 0;
  const int code = fst_mpi.library->MPI_Comm_get_attr(fst_mpi.library->world, fst_mpi.library->tag_ub, &limit, &known);
  return (uint64_t)(code == 0 && known && *limit > 32767 ? *limit : 32767) - FST_MPI_TAG_DATA + 1;
}

static int start_library(void) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int initialized = 0, level = 0, code = mpi->MPI_Initialized(&initialized);
  if (code == 0 && initialized) {
    code = mpi->MPI_Query_thread(&level);
  } else if (code == 0) {
    code = mpi->MPI_Init_thread(NULL, NULL, mpi->thread_funneled, &level);
    is_ours = code == 0;
  }
  if (code == 0) {
    stay_loaded();
    on_exit(at_exit, NULL);
  }
  fst_mpi_handle errhandler = 0;
  if (code == 0) code = mpi->MPI_Comm_create_errhandler(ignore, &errhandler);
  if (code == 0) code = mpi->MPI_Comm_set_errhandler(mpi->world, errhandler);
  if (code == 0) code = mpi->MPI_Comm_rank(mpi->world, &fst_mpi.rank);
  if (code == 0) code = mpi->MPI_Comm_size(mpi->world, &fst_mpi.size);
  if (code != 0) {
    snprintf(state.refusal, sizeof state.refusal, "\"%.300s\" (%s) gives error %d when it starts", state.path,
             mpi->family, code);
    return -1;
  }
  /* Whoever has started MPI calls it from a thread of its own. */
  if (level < (is_ours ? mpi->thread_funneled : mpi->thread_serialized)) {
    snprintf(state.refusal, sizeof state.refusal, "\"%.300s\" (%s) allows calls from one thread only", state.path,
             mpi->family);
    return -1;
  }
  if (!fits_launcher()) return -1;
  fst_mpi.tag_limit = tag_limit();
  fst_mpi.everyone = (fst_mpi_group){.rank = fst_mpi.rank, .size = fst_mpi.size, .id = UINT64_MAX};
  if (fst_mpi_know(&fst_mpi.everyone, NULL) == 0) return 0;
  snprintf(state.refusal, sizeof state.refusal, "there is no memory for a list of %d ranks", fst_mpi.size);
  return -1;
}

static enum fst_mpi_outcome step(void *unused, fst_group_call *call) {
  (void)unused;
  if (!state.asked) {
    state.asked = 1;
    if (start_library() != 0) {
      call->status = FST_GROUP_LIBRARY;
      return FST_MPI_FAILURE;
    }
    int code = fst_mpi.library->MPI_Comm_idup(fst_mpi.library->world, &state.copy, &state.request);
    if (code != 0) return fst_mpi_trouble(call, "MPI_Comm_idup", code);
    return FST_MPI_MOVED; /* the time begins when MPI has started */
  }
  const int done = fst_mpi_test(&state.request, call);
  if (done == 1) fst_mpi.comm = state.copy;
  return done < 0 ? FST_MPI_FAILURE : done ? FST_MPI_FINISHED : FST_MPI_IDLE;
}

static int drop(void *unused, fst_group_call *call) {
  (void)unused;
  if (call && !*state.refusal) {
    const char *late = "not every rank of the launcher made a group in time";
    snprintf(state.refusal, sizeof state.refusal, "%s", *call->message ? call->message : late);
  }
  return fst_mpi_take_back(&state.request, 1, 0);
}

static void release(void *unused) {
  (void)unused;
}

int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, char *path, char *reason, uint64_t size) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static int tried;
  pthread_mutex_lock(&mutex);
  *path = *reason = 0;
  if (!fst_mpi.library) fst_mpi.library = fst_mpi_library_open(&state.path, reason, size);
  if (!fst_mpi.library) {
    pthread_mutex_unlock(&mutex);
    return -1;
  }
  if (!tried) { /* once refused, always refused: MPI cannot be started twice */
    tried = 1;
    fst_group_call *call = calloc(1, sizeof *call);
    fst_mpi_command *command = calloc(1, sizeof *command);
    if (!call || !command || fst_mpi_start_thread() != 0) {
      snprintf(state.refusal, sizeof state.refusal, "there is no memory for its thread");
      free(command);
    } else {
      call->timeout_us = timeout_us;
      *command = (fst_mpi_command){.call = call, .count = 1};
      command->parts[0] = (fst_mpi_part){step, drop, release, NULL, -1, FST_MPI_MEETING};
      if (fst_mpi_do(command) != FST_GROUP_DONE && !*state.refusal) {
        snprintf(state.refusal, sizeof state.refusal, "the process ends");
      }
      if (!call->pending) fst_mpi_release(command);
    }
    free(call);
  }
  const int refused = *state.refusal != 0;
  snprintf(reason, size, "%s", state.refusal);
  if (!refused) {
    snprintf(path, size, "%s", state.path);
    const fst_mpi_library *mpi = fst_mpi.library;
    *info = (fst_mpi_info){fst_mpi.rank, fst_mpi.size, 0, ""};
    info->cuda_aware = mpi->MPIX_Query_cuda_support && mpi->MPIX_Query_cuda_support() == 1;
    snprintf(info->family, sizeof info->family, "%s", mpi->family);
  }
  pthread_mutex_unlock(&mutex);
  return refused ? -1 : 0;
}
