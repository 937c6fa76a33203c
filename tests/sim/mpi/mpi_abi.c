/*
 * A stand-in for libmpi_abi.so: a library with the standard ABI of MPI-5, which no distribution carries yet. It passes
 * every call on to MPICH's library, so that ranks that mpirun.mpich started really meet, and takes nothing but what the
 * ABI says: handles as wide as a pointer with its numbers for the world, bytes and "no request", its levels of threads
 * and its "any source". Anything else, such as MPICH's own numbers, ends the process.
 *
 *   FASTSAFETENSORS_MPI_LIB = .../libmpi_abi.so.0
 *   FST_SIM_MPI_CUDA = .../libfst_sim_nccl.so   takes device memory of that stand-in as it is ("CUDA-aware")
 *   FST_SIM_MPI_FAIL = FUNCTION:RANK:NTH        that call of the function, from 1 on, does nothing and gives
 *                                               MPI_ERR_OTHER on that rank
 */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

typedef uintptr_t handle; /* of the ABI */

enum {
  WORLD = 0x101,
  NO_REQUEST = 0x180,
  BYTE = 0x247,
  ANY_SOURCE = -1,
  TAG_UB = 501,
  MPICH_WORLD = 0x44000000,
  MPICH_NO_REQUEST = 0x2c000000,
  MPICH_BYTE = 0x4c00010d,
  MPICH_ANY_SOURCE = -2,
  MPICH_TAG_UB = 0x64400001,
  MPICH_ERR_OTHER = 15,
};
static const int LEVELS[] = {0, 1024, 2048, 4096}; /* MPI_THREAD_SINGLE to MPI_THREAD_MULTIPLE */

static _Noreturn void refuse(const char *what, uintptr_t value) {
  fprintf(stderr, "libmpi_abi stand-in: %s 0x%lx is none of the standard ABI\n", what, (unsigned long)value);
  abort();
}

/* A function of MPICH. Without a prototype of its own here: every caller knows the types. */
static void *mpich(const char *name) {
  static void *library;
  if (!library) library = dlopen("libmpich.so.12", RTLD_NOW | RTLD_GLOBAL);
  void *function = library ? dlsym(library, name) : NULL;
  if (function) return function;
  fprintf(stderr, "libmpi_abi stand-in: MPICH has no %s\n", name);
  abort();
}

static int comm_of(handle comm) {
  if (comm == WORLD) return MPICH_WORLD;
  if (comm >> 32 != 0x5a) refuse("the communicator", comm); /* those that were made carry a mark */
  return (int)(uint32_t)comm;
}

static handle mark(int made) {
  return (handle)0x5a << 32 | (uint32_t)made;
}

static int type_of(handle type) {
  if (type != BYTE) refuse("the datatype", type);
  return MPICH_BYTE;
}

static int source_of(int rank) {
  if (rank < ANY_SOURCE) refuse("the rank", (uintptr_t)rank);
  return rank == ANY_SOURCE ? MPICH_ANY_SOURCE : rank;
}

static void give(handle *request, int made) {
  *request = made == MPICH_NO_REQUEST ? NO_REQUEST : mark(made);
}

static int request_of(handle request) {
  if (request == NO_REQUEST) return MPICH_NO_REQUEST;
  if (request >> 32 != 0x5a) refuse("the request", request);
  return (int)(uint32_t)request;
}

/* Where the bytes of a buffer are: those of a device are elsewhere in the stand-in for CUDA. */
static void *memory_of(const void *buffer, int bytes) {
  const char *path = getenv("FST_SIM_MPI_CUDA");
  static void *(*backing)(const void *address, size_t bytes);
  if (path && !backing) backing = (void *(*)(const void *, size_t))dlsym(dlopen(path, RTLD_NOW), "fst_sim_backing");
  void *found = backing ? backing(buffer, (size_t)bytes) : NULL;
  return found ? found : (void *)buffer;
}

/* A communicator of a call that is not done yet, written when its request is. */
static struct made {
  int comm;
  int request;
  handle *result;
} making[64];

/* Whether this call is the one that is to fail. Not from two threads at once, as no call here is. */
static int is_to_fail(const char *name) {
  static long calls;
  const char *spec = getenv("FST_SIM_MPI_FAIL"), *rank = getenv("PMI_RANK");
  const size_t length = strlen(name);
  if (!spec || !rank || strncmp(spec, name, length) != 0 || spec[length] != ':') return 0;
  char *rest;
  if (strtol(spec + length + 1, &rest, 10) != atol(rank) || *rest != ':') return 0;
  return ++calls == atol(rest + 1);
}

#define CALL(name, types, ...) (is_to_fail(name) ? MPICH_ERR_OTHER : ((int (*) types)mpich(name))(__VA_ARGS__))

EXPORT int MPI_Initialized(int *flag) {
  return CALL("MPI_Initialized", (int *), flag);
}

EXPORT int MPI_Init_thread(int *argc, char ***argv, int required, int *provided) {
  int level = 0;
  while (level < 4 && LEVELS[level] != required) level++;
  if (level == 4) refuse("the level of threads", (uintptr_t)required);
  int code = CALL("MPI_Init_thread", (int *, char ***, int, int *), argc, argv, level, provided);
  *provided = LEVELS[*provided];
  return code;
}

EXPORT int MPI_Query_thread(int *provided) {
  int code = CALL("MPI_Query_thread", (int *), provided);
  *provided = LEVELS[*provided];
  return code;
}

EXPORT int MPI_Finalized(int *flag) {
  return CALL("MPI_Finalized", (int *), flag);
}

EXPORT int MPI_Finalize(void) {
  return ((int (*)(void))mpich("MPI_Finalize"))();
}

EXPORT int MPI_Abort(handle comm, int code) {
  return CALL("MPI_Abort", (int, int), comm_of(comm), code);
}

EXPORT int MPI_Error_string(int code, char *text, int *length) {
  return CALL("MPI_Error_string", (int, char *, int *), code, text, length);
}

EXPORT int MPI_Comm_rank(handle comm, int *rank) {
  return CALL("MPI_Comm_rank", (int, int *), comm_of(comm), rank);
}

EXPORT int MPI_Comm_size(handle comm, int *size) {
  return CALL("MPI_Comm_size", (int, int *), comm_of(comm), size);
}

EXPORT int MPI_Comm_create_errhandler(void (*handler)(handle *, int *, ...), handle *errhandler) {
  int made = 0; /* the handler looks at nothing that it is given */
  int code = CALL("MPI_Comm_create_errhandler", (void *, int *), (void *)handler, &made);
  *errhandler = mark(made);
  return code;
}

EXPORT int MPI_Comm_set_errhandler(handle comm, handle errhandler) {
  return CALL("MPI_Comm_set_errhandler", (int, int), comm_of(comm), (int)(uint32_t)errhandler);
}

EXPORT int MPI_Comm_idup(handle comm, handle *copy, handle *request) {
  size_t free = 0;
  while (free < 64 && making[free].result) free++;
  if (free == 64) refuse("one more communicator that is not done yet,", 64);
  making[free].result = copy;
  int code = CALL("MPI_Comm_idup", (int, int *, int *), comm_of(comm), &making[free].comm, &making[free].request);
  if (code == 0) give(request, making[free].request);
  else making[free].result = NULL;
  return code;
}

EXPORT int MPI_Comm_get_attr(handle comm, int key, void *value, int *flag) {
  if (key != TAG_UB) refuse("the attribute", (uintptr_t)key);
  return CALL("MPI_Comm_get_attr", (int, int, void *, int *), comm_of(comm), MPICH_TAG_UB, value, flag);
}

EXPORT int MPI_Isend(const void *buffer, int count, handle type, int peer, int tag, handle comm, handle *request) {
  int made = 0, code = CALL("MPI_Isend", (void *, int, int, int, int, int, int *), memory_of(buffer, count), count,
                            type_of(type), peer, tag, comm_of(comm), &made);
  if (code == 0) give(request, made);
  return code;
}

EXPORT int MPI_Irecv(void *buffer, int count, handle type, int peer, int tag, handle comm, handle *request) {
  int made = 0, code = CALL("MPI_Irecv", (void *, int, int, int, int, int, int *), memory_of(buffer, count), count,
                            type_of(type), source_of(peer), tag, comm_of(comm), &made);
  if (code == 0) give(request, made);
  return code;
}

EXPORT int MPI_Improbe(int peer, int tag, handle comm, int *flag, handle *message, void *status) {
  int found = 0, code = CALL("MPI_Improbe", (int, int, int, int *, int *, void *), source_of(peer), tag, comm_of(comm),
                             flag, &found, status);
  if (code == 0 && *flag) *message = mark(found);
  return code;
}

EXPORT int MPI_Imrecv(void *buffer, int count, handle type, handle *message, handle *request) {
  if (*message >> 32 != 0x5a) refuse("the message", *message);
  int made = 0, found = (int)(uint32_t)*message;
  int code = CALL("MPI_Imrecv", (void *, int, int, int *, int *), memory_of(buffer, count), count, type_of(type), &found,
                  &made);
  if (code == 0) give(request, made);
  return code;
}

EXPORT int MPI_Get_count(const void *status, handle type, int *count) {
  return CALL("MPI_Get_count", (const void *, int, int *), status, type_of(type), count);
}

EXPORT int MPI_Test(handle *request, int *flag, void *status) {
  int tested = request_of(*request), before = tested;
  int code = CALL("MPI_Test", (int *, int *, void *), &tested, flag, status);
  if (code != 0) return code;
  give(request, tested);
  for (size_t i = 0; *flag && i < 64; i++) {
    if (!making[i].result || making[i].request != before) continue;
    *making[i].result = mark(making[i].comm);
    making[i].result = NULL;
  }
  return code;
}

EXPORT int MPI_Cancel(handle *request) {
  int cancelled = request_of(*request);
  return CALL("MPI_Cancel", (int *), &cancelled);
}

EXPORT int MPIX_Query_cuda_support(void) {
  return getenv("FST_SIM_MPI_CUDA") != NULL;
}
