/*
 * NCCL, opened at run time: device memory between ranks, on a stream of the group's own.
 *
 * A communicator is made non-blocking where the library can (2.14): every step is then asked for its state, so that an
 * absent rank, cancelling and a timeout end the step, and the caller can abort.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cuda/cuda.h"
#include "fst_group.h"

enum { IN_PROGRESS = 7, UINT8 = 1, CUDA_NOT_READY = 600, FINALIZE_US = 2000000, LONGEST_SLEEP_US = 200 };

typedef struct nccl_id {
  char bytes[FST_NCCL_ID_BYTES];
} nccl_id;

/* ncclConfig_t as of 2.14, which says so; newer libraries fill in the rest. */
typedef struct nccl_config {
  size_t size;
  unsigned magic, version;
  int blocking;
} nccl_config;
static_assert(sizeof(nccl_config) == 24, "the layout of NCCL 2.14");

typedef struct nccl_library {
  int (*ncclGetVersion)(int *version);
  int (*ncclGetUniqueId)(nccl_id *id);
  int (*ncclCommInitRank)(void **comm, int size, nccl_id id, int rank);
  int (*ncclCommInitRankConfig)(void **comm, int size, nccl_id id, int rank, nccl_config *config); /* may be NULL */
  int (*ncclCommFinalize)(void *comm);                                                            /* may be NULL */
  int (*ncclCommDestroy)(void *comm);
  int (*ncclCommAbort)(void *comm);
  int (*ncclCommGetAsyncError)(void *comm, int *state);
  int (*ncclBroadcast)(const void *send, void *receive, size_t count, int type, int root, void *comm, void *stream);
  int (*ncclSend)(const void *buffer, size_t count, int type, int peer, void *comm, void *stream);
  int (*ncclRecv)(void *buffer, size_t count, int type, int peer, void *comm, void *stream);
  int (*ncclGroupStart)(void);
  int (*ncclGroupEnd)(void);
  const char *(*ncclGetErrorString)(int code);
} nccl_library;

struct fst_nccl_group {
  void *comm;
  void *stream;
  void *done; /* event */
  int device, rank, size;
};

static nccl_library nccl;
static const fst_cudart *_Atomic cuda; /* set before any other function is called */

#define FUNCTION(name) {#name, offsetof(nccl_library, name), 0}
#define OPTIONAL(name) {#name, offsetof(nccl_library, name), 1}
static const fst_library_symbol SYMBOLS[] = {
  FUNCTION(ncclGetVersion),
  FUNCTION(ncclGetUniqueId),
  FUNCTION(ncclCommInitRank),
  OPTIONAL(ncclCommInitRankConfig),
  OPTIONAL(ncclCommFinalize),
  FUNCTION(ncclCommDestroy),
  FUNCTION(ncclCommAbort),
  FUNCTION(ncclCommGetAsyncError),
  FUNCTION(ncclBroadcast),
  FUNCTION(ncclSend),
  FUNCTION(ncclRecv),
  FUNCTION(ncclGroupStart),
  FUNCTION(ncclGroupEnd),
  FUNCTION(ncclGetErrorString),
};
#undef FUNCTION
#undef OPTIONAL

static fst_library library = {
  .variable = "FASTSAFETENSORS_NCCL_LIB",
  .names = (const char *const[]){"libnccl.so.2", NULL},
  .wheels = (const char *const[]){"nvidia/nccl/lib", NULL},
  .symbols = SYMBOLS,
  .symbol_count = sizeof SYMBOLS / sizeof *SYMBOLS,
  .functions = &nccl,
  .mutex = PTHREAD_MUTEX_INITIALIZER,
};

int32_t fst_nccl_open(int32_t *version, char *path, char *reason, uint64_t size) {
  const fst_cudart *runtime = fst_cudart_open(reason, size);
  if (!runtime || !fst_cuda_driver_open(reason, size) || fst_library_open(&library, reason, size) != 0) return -1;
  atomic_store(&cuda, runtime);
  int number = 0;
  nccl.ncclGetVersion(&number);
  *version = number;
  snprintf(path, size, "%s", library.path);
  return 0;
}

static int nccl_trouble(fst_group_call *call, const char *function, int code) {
  call->code = code;
  snprintf(call->message, sizeof call->message, "%s: %.400s", function, nccl.ncclGetErrorString(code));
  return call->status = FST_GROUP_LIBRARY;
}

static int cuda_trouble(fst_group_call *call, const char *function, int code) {
  call->code = code;
  snprintf(call->message, sizeof call->message, "%s: %.300s (%.80s)", function, cuda->cudaGetErrorString(code),
           cuda->cudaGetErrorName(code));
  cuda->cudaGetLastError();
  return call->status = FST_GROUP_CUDA;
}

/* Makes a device current until fst_cuda_leave. */
static int enter(int device, fst_group_call *call) {
  const fst_cudart *runtime;
  int code = fst_cuda_enter(device, &runtime);
  return code == 0 ? FST_GROUP_DONE : cuda_trouble(call, "cuDevicePrimaryCtxRetain", code);
}

static uint64_t now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* Sleeps a little, longer with time; a status other than DONE if the call cannot succeed any more. */
static int wait_on(fst_group_call *call, uint64_t start) {
  const uint64_t idle = now_us() - start;
  if (atomic_load(&call->cancelled) || fst_cuda_is_ending()) return call->status = FST_GROUP_CANCELLED;
  if (idle >= call->timeout_us) return call->status = FST_GROUP_TIMED_OUT;
  const uint64_t us = idle / 8 < LONGEST_SLEEP_US ? idle / 8 : LONGEST_SLEEP_US;
  struct timespec pause = {0, (long)us * 1000};
  nanosleep(&pause, NULL);
  return FST_GROUP_DONE;
}

/* Waits until the communicator has accepted the last request. */
static int settle(void *comm, fst_group_call *call, const char *function, int code) {
  const uint64_t start = now_us();
  while (code == IN_PROGRESS) {
    if (wait_on(call, start) != FST_GROUP_DONE) return call->status;
    int asked = nccl.ncclCommGetAsyncError(comm, &code);
    if (asked != 0) return nccl_trouble(call, "ncclCommGetAsyncError", asked);
  }
  return code == 0 ? FST_GROUP_DONE : nccl_trouble(call, function, code);
}

int32_t fst_nccl_make_id(uint8_t *id, fst_group_call *call) {
  nccl_id made;
  int code = nccl.ncclGetUniqueId(&made);
  if (code != 0) return nccl_trouble(call, "ncclGetUniqueId", code);
  memcpy(id, made.bytes, sizeof made.bytes);
  return FST_GROUP_DONE;
}

static int make_comm(fst_nccl_group *group, const uint8_t *bytes, fst_group_call *call) {
  nccl_id id;
  memcpy(id.bytes, bytes, sizeof id.bytes);
  if (!nccl.ncclCommInitRankConfig) {
    int code = nccl.ncclCommInitRank(&group->comm, group->size, id, group->rank);
    return code == 0 ? FST_GROUP_DONE : nccl_trouble(call, "ncclCommInitRank", code);
  }
  nccl_config config = {sizeof config, 0xcafebeef, 21400, 0};
  int code = nccl.ncclCommInitRankConfig(&group->comm, group->size, id, group->rank, &config);
  return settle(group->comm, call, "ncclCommInitRankConfig", code);
}

int32_t fst_nccl_make(const uint8_t *id, int32_t rank, int32_t size, fst_group_call *call, fst_nccl_group **result) {
  fst_nccl_group *group = calloc(1, sizeof *group);
  *result = NULL;
  if (!group) return call->status = FST_GROUP_MEMORY;
  group->device = call->send_device;
  group->rank = rank;
  group->size = size;
  if (enter(group->device, call) != FST_GROUP_DONE) {
    free(group);
    return call->status;
  }
  const char *function = "cudaStreamCreateWithFlags";
  int code = cuda->cudaStreamCreateWithFlags(&group->stream, FST_CUDA_STREAM_NON_BLOCKING);
  if (code == 0) {
    function = "cudaEventCreateWithFlags";
    code = cuda->cudaEventCreateWithFlags(&group->done, FST_CUDA_EVENT_NO_TIMING);
  }
  if (code != 0) cuda_trouble(call, function, code);
  else make_comm(group, id, call);
  fst_cuda_leave();
  if (call->status == FST_GROUP_DONE) *result = group;
  else fst_nccl_free(group, 1);
  return call->status;
}

static int is_trouble(int code) {
  return code != 0 && code != IN_PROGRESS;
}

static int enqueue_broadcasts(const fst_nccl_group *group, const fst_group_block *blocks, uint64_t count) {
  int code = 0;
  for (uint64_t i = 0; i < count && !is_trouble(code); i++) {
    void *block = (void *)(uintptr_t)blocks[i].address;
    if (blocks[i].bytes == 0) continue;
    code = nccl.ncclBroadcast(block, block, blocks[i].bytes, UINT8, blocks[i].root, group->comm, group->stream);
  }
  return code;
}

/* Asks for all other transfers of the call; the first code other than 0 and IN_PROGRESS. */
static int enqueue(const fst_nccl_group *group, const fst_group_call *call, const uint64_t *lengths) {
  char *from = (char *)(uintptr_t)call->send_address, *to = (char *)(uintptr_t)call->receive_address;
  void *const comm = group->comm, *const stream = group->stream;
  const int root = call->root;
  if (call->kind == FST_GROUP_SEND) {
    return call->send_bytes ? nccl.ncclSend(from, call->send_bytes, UINT8, call->peer, comm, stream) : 0;
  }
  if (call->kind == FST_GROUP_RECEIVE || group->rank != root) {
    const int peer = call->kind == FST_GROUP_RECEIVE ? call->peer : root;
    return call->receive_bytes ? nccl.ncclRecv(to, call->receive_bytes, UINT8, peer, comm, stream) : 0;
  }
  int code = 0;
  for (int rank = 0; rank < group->size && !is_trouble(code); from += lengths[rank++]) {
    if (rank == root || lengths[rank] == 0) continue;
    code = nccl.ncclSend(from, lengths[rank], UINT8, rank, comm, stream);
  }
  return code;
}

/* The root's own part of a scatter. */
static int keep_own(const fst_nccl_group *group, fst_group_call *call, const uint64_t *lengths) {
  const char *from = (const char *)(uintptr_t)call->send_address;
  void *to = (void *)(uintptr_t)call->receive_address;
  if (call->kind != FST_GROUP_SCATTER || group->rank != call->root) return FST_GROUP_DONE;
  for (int rank = 0; rank < group->rank; rank++) from += lengths[rank];
  if (lengths[group->rank] == 0 || from == to) return FST_GROUP_DONE;
  int code = cuda->cudaMemcpyAsync(to, from, lengths[group->rank], FST_CUDA_ON_DEVICE, group->stream);
  return code == 0 ? FST_GROUP_DONE : cuda_trouble(call, "cudaMemcpyAsync", code);
}

static int run(const fst_nccl_group *group, fst_group_call *call, const fst_group_block *blocks, uint64_t block_count,
               const uint64_t *lengths) {
  int code = nccl.ncclGroupStart();
  if (code != 0) return nccl_trouble(call, "ncclGroupStart", code);
  const int enqueued = call->kind == FST_GROUP_BROADCAST ? enqueue_broadcasts(group, blocks, block_count)
                                                             : enqueue(group, call, lengths);
  code = nccl.ncclGroupEnd();
  if (is_trouble(enqueued)) return nccl_trouble(call, "ncclSend or ncclBroadcast", enqueued);
  if (settle(group->comm, call, "ncclGroupEnd", code) != FST_GROUP_DONE) return call->status;
  if (keep_own(group, call, lengths) != FST_GROUP_DONE) return call->status;
  code = cuda->cudaEventRecord(group->done, group->stream);
  if (code != 0) return cuda_trouble(call, "cudaEventRecord", code);
  const uint64_t start = now_us();
  while ((code = cuda->cudaEventQuery(group->done)) == CUDA_NOT_READY) {
    cuda->cudaGetLastError();
    int state = 0, asked = nccl.ncclCommGetAsyncError(group->comm, &state);
    if (asked != 0 || (state != 0 && state != IN_PROGRESS)) {
      return nccl_trouble(call, "ncclCommGetAsyncError", asked ? asked : state);
    }
    if (wait_on(call, start) != FST_GROUP_DONE) return call->status;
  }
  return code == 0 ? call->status : cuda_trouble(call, "cudaEventQuery", code);
}

/* Aborts a communicator. Its work does not touch memory any more afterwards. */
static void abort_comm(fst_nccl_group *group) {
  nccl.ncclCommAbort(group->comm);
  group->comm = NULL;
  fst_group_call call = {.timeout_us = FINALIZE_US};
  const uint64_t start = now_us();
  if (cuda->cudaEventRecord(group->done, group->stream) != 0) return;
  while (cuda->cudaEventQuery(group->done) == CUDA_NOT_READY && wait_on(&call, start) == FST_GROUP_DONE) {
    cuda->cudaGetLastError();
  }
}

int32_t fst_nccl_run(fst_nccl_group *group, fst_group_call *call, const fst_group_block *blocks, uint64_t block_count,
                     const uint64_t *lengths) {
  if (!group->comm) return call->status = FST_GROUP_CANCELLED;
  if (enter(group->device, call) != FST_GROUP_DONE) return call->status;
  if (run(group, call, blocks, block_count, lengths) != FST_GROUP_DONE) abort_comm(group);
  fst_cuda_leave();
  return call->status;
}

/* Ends a communicator whose work is done. The other ranks may have ended, so after a while it is aborted. */
static void end_comm(void *comm) {
  fst_group_call call = {.timeout_us = FINALIZE_US};
  const int finalized = nccl.ncclCommFinalize != NULL &&
                        settle(comm, &call, "ncclCommFinalize", nccl.ncclCommFinalize(comm)) == FST_GROUP_DONE;
  if (finalized || !nccl.ncclCommFinalize) nccl.ncclCommDestroy(comm);
  else nccl.ncclCommAbort(comm);
}

int32_t fst_nccl_free(fst_nccl_group *group, int32_t abort) {
  const fst_cudart *runtime;
  if (fst_cuda_enter(group->device, &runtime) == 0) {
    if (group->comm && abort) nccl.ncclCommAbort(group->comm);
    else if (group->comm) end_comm(group->comm);
    if (group->done) cuda->cudaEventDestroy(group->done);
    if (group->stream) cuda->cudaStreamDestroy(group->stream);
    fst_cuda_leave();
  }
  free(group);
  return 0;
}
