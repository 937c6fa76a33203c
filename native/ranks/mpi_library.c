/* libmpi without mpi.h: which family it is decides what handles and constants look like. */
#define _GNU_SOURCE /* dlinfo */
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ranks/ranks.h"

#define OPEN_MPI "libmpi.so.40"
#define MPICH "libmpi.so.12", "libmpich.so.12"
#define OTHERS "libmpi.so", "libmpi_abi.so.0"

/* Its file is called libmpi_abi: the functions alone do not tell, other libraries have them as well. */
static int has_standard_abi(void *library) {
  struct link_map *map = NULL;
  if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0 || !map) return 0;
  char *path = realpath(map->l_name, NULL);
  if (!path) return 0;
  const char *slash = strrchr(path, '/');
  int standard = strncmp(slash ? slash + 1 : path, "libmpi_abi.", 11) == 0;
  free(path);
  return standard;
}

static void define(fst_mpi_library *mpi, void *library) {
  void *world = dlsym(library, "ompi_mpi_comm_world");
  mpi->thread_funneled = 1;
  mpi->thread_serialized = 2;
  if (has_standard_abi(library)) {
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
    mpi->byte = (uintptr_t)dlsym(library, "ompi_mpi_byte");
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
  FUNCTION(MPI_Iprobe),
  FUNCTION(MPI_Get_count),
  FUNCTION(MPI_Test),
  FUNCTION(MPI_Cancel),
  {"MPIX_Query_cuda_support", offsetof(fst_mpi_library, MPIX_Query_cuda_support), 1},
};
#undef FUNCTION

/* Both families may be installed: the one whose launcher started this process goes first. */
static const char *const *names(void) {
  static const char *const open_mpi_first[] = {OPEN_MPI, MPICH, OTHERS, NULL};
  static const char *const mpich_first[] = {MPICH, OPEN_MPI, OTHERS, NULL};
  char value[FST_ENVIRONMENT_VALUE];
  const int by_mpich = !fst_environment("OMPI_COMM_WORLD_SIZE", value) && fst_environment("PMI_SIZE", value);
  return by_mpich ? mpich_first : open_mpi_first;
}

const fst_mpi_library *fst_mpi_library_open(const char **path, char *reason, size_t size) {
  static fst_mpi_library mpi; /* fst_mpi_open() calls this, until it succeeds */
  static fst_library library = {
    .variable = "FASTSAFETENSORS_MPI_LIB",
    .symbols = SYMBOLS,
    .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
    .functions = &mpi,
    .mutex = PTHREAD_MUTEX_INITIALIZER,
  };
  library.names = names();
  if (fst_library_open(&library, reason, size) != 0) return NULL;
  define(&mpi, library.handle);
  *path = library.path;
  return &mpi;
}
