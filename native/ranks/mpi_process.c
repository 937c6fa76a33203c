/* MPI in this process: its start, and its end with the process. */
#define _GNU_SOURCE /* dladdr */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ranks/ranks.h"

static const char *path; /* of the library */
static fst_mpi_handle copy; /* of the world's communicator: the library may write it after a start has failed */
static char refusal[1024];

int32_t fst_mpi_exit(int32_t status) {
  return fst_mpi_end_thread(status) != FST_MPI_FINALIZED;
}

static void at_exit(int status, void *unused) {
  (void)unused;
  const enum fst_mpi_stage stage = fst_mpi_end_thread(status);
  if (stage == FST_MPI_FINALIZED) return;
  /* The launcher ends the other ranks. A rank that has not failed prints nothing. */
  if (stage == FST_MPI_GAVE_UP && status != 0) fst_mpi.library->MPI_Abort(fst_mpi.library->world, status);
  _exit(status);
}

/* The runtime closes the shim before the process ends: it must stay where `at_exit` is. */
static void stay_loaded(void) {
  Dl_info self;
  if (dladdr(&fst_mpi, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
}

static void ignore(fst_mpi_handle *comm, int *code, ...) {
  (void)comm, (void)code; /* installed so that functions return their code and do not end the process */
}

/* A library under another family's launcher does not see the other ranks: every rank would be alone in a world. */
static int fits_launcher(void) {
  char value[FST_ENVIRONMENT_VALUE];
  const char *variable = fst_environment("OMPI_COMM_WORLD_SIZE", value) ? "OMPI_COMM_WORLD_SIZE" : "PMI_SIZE";
  const char *text = fst_environment(variable, value);
  if (!text || atoi(text) == fst_mpi.size) return 1;
  snprintf(refusal, sizeof refusal,
           "the launcher started %.20s ranks (%s), and \"%.300s\" (%s) sees %d: use the launcher that belongs to the "
           "library, or name the launcher's library in FASTSAFETENSORS_MPI_LIB",
           text, variable, path, fst_mpi.library->family, fst_mpi.size);
  return 0;
}

static int start_library(void) {
  const fst_mpi_library *mpi = fst_mpi.library;
  int initialized = 0, level = 0, code = mpi->MPI_Initialized(&initialized);
  if (code == 0 && initialized) {
    code = mpi->MPI_Query_thread(&level);
  } else if (code == 0) {
    code = mpi->MPI_Init_thread(NULL, NULL, mpi->thread_funneled, &level);
    fst_mpi.is_ours = code == 0;
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
    snprintf(refusal, sizeof refusal, "\"%.300s\" (%s) gives error %d when it starts", path, mpi->family, code);
    return -1;
  }
  /* Another part of the process has started MPI, and calls it from another thread. */
  if (level < (fst_mpi.is_ours ? mpi->thread_funneled : mpi->thread_serialized)) {
    snprintf(refusal, sizeof refusal, "\"%.300s\" (%s) allows calls from one thread only", path, mpi->family);
    return -1;
  }
  const int *limit = NULL;
  int known = 0;
  code = mpi->MPI_Comm_get_attr(mpi->world, mpi->tag_ub, &limit, &known);
  fst_mpi.tags = (code == 0 && known && *limit > 32767 ? *limit : 32767) - FST_MPI_TAG_DATA + 1;
  return fits_launcher() ? 0 : -1;
}

/* Waits for all ranks. They copy the world's communicator, so that messages do not mix with those of the program. */
const char *fst_mpi_start(uint64_t timeout_us) {
  const fst_mpi_library *mpi = fst_mpi.library;
  if (start_library() != 0) return refusal;
  fst_group_call call;
  int code = mpi->MPI_Comm_idup(mpi->world, &copy, &fst_mpi.opening);
  if (code != 0) {
    fst_mpi.opening = 0;
    fst_mpi_trouble(&call, "MPI_Comm_idup", code);
    snprintf(refusal, sizeof refusal, "%s", call.message);
    return refusal;
  }
  const uint64_t start = fst_mpi_now_us();
  while (fst_mpi_take_back(&fst_mpi.opening, 1, 0)) {
    const uint64_t waited = fst_mpi_now_us() - start;
    if (fst_mpi_is_ending()) return "the process ends";
    if (waited >= timeout_us) return "not every rank of the launcher made a group in time";
    const struct timespec pause = {0, waited < 1000 ? 0 : 1000000};
    nanosleep(&pause, NULL);
  }
  fst_mpi.comm = copy;
  return refusal;
}

int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, char *where, char *reason, uint64_t size) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static const char *refused; /* once refused, always refused: MPI cannot be started twice */
  pthread_mutex_lock(&mutex);
  *where = *reason = 0;
  if (!fst_mpi.library) fst_mpi.library = fst_mpi_library_open(&path, reason, size);
  if (fst_mpi.library && !refused) refused = fst_mpi_start_thread(timeout_us);
  const int is_open = refused && !*refused;
  if (refused) snprintf(reason, size, "%s", refused);
  if (is_open) {
    snprintf(where, size, "%s", path);
    const fst_mpi_library *mpi = fst_mpi.library;
    *info = (fst_mpi_info){fst_mpi.rank, fst_mpi.size, 0, fst_mpi.tags, ""};
    info->cuda_aware = mpi->MPIX_Query_cuda_support && mpi->MPIX_Query_cuda_support() == 1;
    snprintf(info->family, sizeof info->family, "%s", mpi->family);
  }
  pthread_mutex_unlock(&mutex);
  return is_open ? 0 : -1;
}
