/*
 * MPI in this process: libmpi without mpi.h, its start, and its end with the process.
 */
#define _GNU_SOURCE /* dladdr, on_exit */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ranks/ranks.h"

/* ---- The library: its family decides what handles and constants look like ---- */

#define OPEN_MPI "libmpi.so.40"
#define MPICH "libmpi.so.12", "libmpich.so.12"
#define OTHERS "libmpi.so", "libmpi_abi.so.0"
static const char *const OPEN_MPI_FIRST[] = {OPEN_MPI, MPICH, OTHERS, NULL};
static const char *const MPICH_FIRST[] = {MPICH, OPEN_MPI, OTHERS, NULL};

/* Its file is called libmpi_abi: the functions alone do not tell, other libraries have them as well. */
static int has_standard_abi(const char *where) {
  char *path = realpath(where, NULL);
  const char *slash = path ? strrchr(path, '/') : NULL;
  const int standard = slash && strncmp(slash, "/libmpi_abi.", 12) == 0;
  free(path);
  return standard;
}

static void define(fst_mpi_library *mpi, const fst_library *opened) {
  void *world = dlsym(opened->handle, "ompi_mpi_comm_world");
  mpi->thread_funneled = 1;
  mpi->thread_serialized = 2;
  if (has_standard_abi(opened->path)) {
    mpi->family = "MPI ABI";
    mpi->world = 0x101;
    mpi->byte = 0x247;
    mpi->any_source = -1;
    mpi->thread_funneled = 1024;
    mpi->thread_serialized = 2048;
    mpi->tag_ub = 501;
  } else if (world) {
    mpi->family = "Open MPI";
    mpi->world = (uintptr_t)world;
    mpi->byte = (uintptr_t)dlsym(opened->handle, "ompi_mpi_byte");
    mpi->any_source = -1;
    mpi->tag_ub = 0;
  } else {
    mpi->family = "MPICH";
    mpi->world = 0x44000000;
    mpi->byte = 0x4c00010d;
    mpi->any_source = -2;
    mpi->tag_ub = 0x64400001;
  }
}

#define FUNCTION(name) {#name, offsetof(fst_mpi_library, name), 0}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(MPI_Initialized),
  FUNCTION(MPI_Init_thread),
  FUNCTION(MPI_Query_thread),
  FUNCTION(MPI_Finalized),
  FUNCTION(MPI_Finalize),
  FUNCTION(MPI_Abort),
  FUNCTION(MPI_Error_string),
  FUNCTION(MPI_Comm_rank),
  FUNCTION(MPI_Comm_size),
  FUNCTION(MPI_Comm_create_errhandler),
  FUNCTION(MPI_Comm_set_errhandler),
  FUNCTION(MPI_Comm_get_attr),
  FUNCTION(MPI_Comm_idup),
  FUNCTION(MPI_Isend),
  FUNCTION(MPI_Irecv),
  FUNCTION(MPI_Improbe),
  FUNCTION(MPI_Imrecv),
  FUNCTION(MPI_Get_count),
  FUNCTION(MPI_Test),
  FUNCTION(MPI_Cancel),
  {"MPIX_Query_cuda_support", offsetof(fst_mpi_library, MPIX_Query_cuda_support), 1},
};
#undef FUNCTION

static fst_mpi_library functions;
static fst_library library = {
  .variable = "FASTSAFETENSORS_MPI_LIB",
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &functions,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

/* ---- Its start and end ---- */

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
    snprintf(refusal, sizeof refusal, "\"%.300s\" (%s) gives error %d when it starts", library.path, mpi->family,
             code);
    return -1;
  }
  /* Another part of the process has started MPI, and calls it from another thread. */
  if (level < (fst_mpi.is_ours ? mpi->thread_funneled : mpi->thread_serialized)) {
    snprintf(refusal, sizeof refusal, "\"%.300s\" (%s) allows calls from one thread only", library.path, mpi->family);
    return -1;
  }
  const int *limit = NULL;
  int known = 0;
  code = mpi->MPI_Comm_get_attr(mpi->world, mpi->tag_ub, &limit, &known);
  fst_mpi.tags = (code == 0 && known && *limit > 32767 ? *limit : 32767) - fst_mpi_tag(0) + 1;
  return 0;
}

/* Waits for all ranks. They copy the world's communicator, so that messages do not mix with those of the program. */
const char *fst_mpi_start(uint64_t timeout_us) {
  const fst_mpi_library *mpi = fst_mpi.library;
  if (start_library() != 0) return refusal;
  const int code = mpi->MPI_Comm_idup(mpi->world, &copy, &fst_mpi.opening);
  if (code != 0) {
    fst_mpi.opening = 0;
    fst_mpi_trouble(refusal, sizeof refusal, "MPI_Comm_idup", code);
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

int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, int32_t mpich_first, char *where, char *reason,
                     uint64_t size) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  static const char *refused; /* once refused, always refused: MPI cannot be started twice */
  pthread_mutex_lock(&mutex);
  *where = *reason = 0;
  library.names = mpich_first ? MPICH_FIRST : OPEN_MPI_FIRST;
  if (!fst_mpi.library && fst_library_open(&library, reason, size) == 0) {
    define(&functions, &library);
    fst_mpi.library = &functions;
  }
  if (fst_mpi.library && !refused) refused = fst_mpi_start_thread(timeout_us);
  const int is_open = refused && !*refused;
  if (refused) snprintf(reason, size, "%s", refused);
  if (is_open) {
    snprintf(where, size, "%s", library.path);
    const fst_mpi_library *mpi = fst_mpi.library;
    *info = (fst_mpi_info){fst_mpi.rank, fst_mpi.size, 0, fst_mpi.tags, ""};
    info->cuda_aware = mpi->MPIX_Query_cuda_support && mpi->MPIX_Query_cuda_support() == 1;
    snprintf(info->family, sizeof info->family, "%s", mpi->family);
  }
  pthread_mutex_unlock(&mutex);
  return is_open ? 0 : -1;
}
