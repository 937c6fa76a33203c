/* libnccl: communicators, and groups of calls that run on a stream's thread. */
#include "sim.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "internal.h" /* of tests/sim/cuda */

enum {
  SUCCESS = 0,
  CUDA_ERROR = 1,
  SYSTEM_ERROR = 2,
  INVALID_ARGUMENT = 4,
  INVALID_USAGE = 5,
  REMOTE_ERROR = 6,
  IN_PROGRESS = 7,
};

typedef struct config {
  size_t size;
  unsigned magic, version;
  int blocking;
} config;

typedef struct comm {
  sim_meeting *meeting;
  int rank, size;
  bool blocking;
  int delayed;            /* times that ncclCommGetAsyncError still says IN_PROGRESS */
  atomic_int aborted;     /* by ncclCommAbort */
  atomic_int failed;      /* what ncclCommGetAsyncError gives */
  atomic_int running;     /* groups of calls on streams */
} comm;

/* The calls between ncclGroupStart and ncclGroupEnd, or a single one. */
typedef struct job {
  comm *comm;
  void *stream;
  sim_operation *operation;
  sim_transfer *transfers;
  size_t count, capacity;
  bool fails;
} job;

static __thread job *open_job;
static __thread int depth;
static atomic_int groups_run;

SIM_EXPORT int ncclGetVersion(int *version);
SIM_EXPORT int ncclGetUniqueId(sim_nccl_id *id);
SIM_EXPORT int ncclCommInitRank(void **result, int size, sim_nccl_id id, int rank);
SIM_EXPORT int ncclCommInitRankConfig(void **result, int size, sim_nccl_id id, int rank, const config *wanted);
SIM_EXPORT int ncclCommFinalize(void *handle);
SIM_EXPORT int ncclCommDestroy(void *handle);
SIM_EXPORT int ncclCommAbort(void *handle);
SIM_EXPORT int ncclCommGetAsyncError(void *handle, int *state);
SIM_EXPORT int ncclGroupStart(void);
SIM_EXPORT int ncclGroupEnd(void);
SIM_EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, void *handle, void *stream);
SIM_EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, void *handle, void *stream);
SIM_EXPORT int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root, void *handle,
                             void *stream);
SIM_EXPORT const char *ncclGetErrorString(int code);
SIM_EXPORT const char *fst_sim_nccl_name(void);
SIM_EXPORT void *fst_sim_backing(const void *pointer, size_t bytes);

SIM_EXPORT const char *fst_sim_nccl_name(void) {
  return "fastsafetensors NCCL stand-in";
}

static void pause_us(long us) {
  struct timespec time = {0, us * 1000};
  nanosleep(&time, NULL);
}

SIM_EXPORT const char *ncclGetErrorString(int code) {
  static const char *const texts[] = {"no error", "unhandled cuda error", "unhandled system error", "internal error",
                                      "invalid argument", "invalid usage", "remote process exited or there was a "
                                      "network error", "NCCL operation in progress"};
  return code >= 0 && code <= IN_PROGRESS ? texts[code] : "unknown result code";
}

SIM_EXPORT int ncclGetVersion(int *version) {
  *version = 23007;
  return SUCCESS;
}

SIM_EXPORT int ncclGetUniqueId(sim_nccl_id *id) {
  static atomic_int made;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  memset(id, 0, sizeof *id);
  snprintf(id->bytes, sizeof id->bytes, "fst-sim-nccl-%d-%lld-%ld-%d", (int)getpid(), (long long)now.tv_sec,
           now.tv_nsec, atomic_fetch_add(&made, 1));
  return SUCCESS;
}

/* ---- Communicators ---- */

static int join(void **result, int size, const sim_nccl_id *id, int rank, bool blocking) {
  *result = NULL;
  if (size < 1 || size > SIM_NCCL_RANKS || rank < 0 || rank >= size) return INVALID_ARGUMENT;
  if (sim_runtime_enter(__func__) != 0) return CUDA_ERROR;
  comm *made = sim_zeroed(sizeof *made);
  made->meeting = sim_meeting_join(id, size);
  made->rank = rank;
  made->size = size;
  made->blocking = blocking;
  if (!made->meeting) {
    free(made);
    return SYSTEM_ERROR;
  }
  *result = made;
  while (blocking && !sim_meeting_complete(made->meeting)) pause_us(100);
  return blocking ? SUCCESS : IN_PROGRESS;
}

SIM_EXPORT int ncclCommInitRank(void **result, int size, sim_nccl_id id, int rank) {
  return join(result, size, &id, rank, true);
}

SIM_EXPORT int ncclCommInitRankConfig(void **result, int size, sim_nccl_id id, int rank, const config *wanted) {
  if (wanted->magic != 0xcafebeef || wanted->version < 21400) return INVALID_ARGUMENT;
  return join(result, size, &id, rank, wanted->blocking != 0);
}

SIM_EXPORT int ncclCommGetAsyncError(void *handle, int *state) {
  comm *comm = handle;
  *state = atomic_load(&comm->failed);
  if (*state == SUCCESS && !sim_meeting_complete(comm->meeting)) *state = IN_PROGRESS;
  if (*state == SUCCESS && comm->delayed > 0) {
    comm->delayed--;
    *state = IN_PROGRESS;
  }
  return SUCCESS;
}

SIM_EXPORT int ncclCommFinalize(void *handle) {
  comm *comm = handle;
  while (atomic_load(&comm->running) > 0) pause_us(100);
  return SUCCESS;
}

SIM_EXPORT int ncclCommDestroy(void *handle) {
  comm *comm = handle;
  while (atomic_load(&comm->running) > 0) pause_us(100);
  sim_meeting_leave(comm->meeting);
  free(comm);
  return SUCCESS;
}

SIM_EXPORT int ncclCommAbort(void *handle) {
  comm *comm = handle;
  atomic_store(&comm->aborted, 1);
  return ncclCommDestroy(handle);
}

/* ---- Calls ---- */

/* Whether an earlier transfer goes the same way and is under way still: they follow one another. */
static bool has_to_wait(const job *job, size_t index) {
  const sim_transfer *transfer = &job->transfers[index];
  for (size_t i = 0; i < index; i++) {
    const sim_transfer *earlier = &job->transfers[i];
    if (earlier->channel == transfer->channel && earlier->moved < earlier->length && !earlier->mismatch) return true;
  }
  return false;
}

static void run(void **parameters, unsigned grid, unsigned block) {
  (void)grid, (void)block;
  job *job = *(void **)parameters[0];
  comm *comm = job->comm;
  for (bool done = false; !done && !atomic_load(&comm->aborted);) {
    done = !job->fails;
    if (job->fails) atomic_store(&comm->failed, REMOTE_ERROR);
    for (size_t i = 0; i < job->count && !job->fails; i++) {
      if (has_to_wait(job, i) || !sim_transfer_step(&job->transfers[i])) done = false;
    }
    if (!done) pause_us(20);
  }
  for (size_t i = 0; i < job->count; i++) {
    if (job->transfers[i].mismatch) {
      sim_violation("nccl-mismatch", "rank %d expects %zu bytes, which is not what its peer sends", comm->rank,
                    job->transfers[i].length);
    }
  }
  free(job->transfers);
  free(job);
  atomic_fetch_sub(&comm->running, 1);
}

static int launch(job *job) {
  comm *comm = job->comm;
  const char *fail = getenv("FST_SIM_NCCL_FAIL");
  job->fails = atomic_fetch_add(&groups_run, 1) + 1 == (fail ? atoi(fail) : -1);
  sim_stream *stream = NULL;
  sim_lock();
  int code = sim_stream_find(__func__, job->stream, true, &stream);
  if (code == 0) {
    job->operation->kernel = run;
    job->operation->parameters[0] = (uint64_t)(uintptr_t)job;
    atomic_fetch_add(&comm->running, 1);
    comm->delayed = comm->blocking ? 0 : 1;
    const bool blocking = comm->blocking;
    sim_stream_submit(stream, job->operation);
    sim_unlock();
    return blocking ? SUCCESS : IN_PROGRESS;
  }
  sim_unlock();
  return CUDA_ERROR;
}

SIM_EXPORT int ncclGroupStart(void) {
  depth++;
  return SUCCESS;
}

SIM_EXPORT int ncclGroupEnd(void) {
  if (depth == 0) return INVALID_USAGE;
  if (--depth > 0 || !open_job) return SUCCESS;
  job *job = open_job;
  open_job = NULL;
  return launch(job);
}

/* Adds one block to the group of calls that is open. */
static int add(const char *function, comm *comm, void *stream, const void *buffer, size_t bytes, int type, int peer,
               bool sends) {
  if (type != 0 && type != 1) return INVALID_ARGUMENT; /* int8 and uint8 */
  if (peer < 0 || peer >= comm->size || peer == comm->rank) return INVALID_ARGUMENT;
  if (!open_job) {
    open_job = sim_zeroed(sizeof *open_job);
    open_job->comm = comm;
    open_job->stream = stream;
    open_job->operation = sim_operation_new(SIM_KERNEL);
  }
  if (open_job->comm != comm || open_job->stream != stream) return INVALID_USAGE;
  sim_place place = {0};
  sim_lock();
  int code = sim_place_device(function, buffer, bytes, &place);
  if (code == 0) sim_operation_hold(open_job->operation, &place);
  sim_unlock();
  if (code != 0) return INVALID_ARGUMENT;
  const int from = sends ? comm->rank : peer, to = sends ? peer : comm->rank;
  open_job->transfers =
    sim_grown(open_job->transfers, open_job->count, &open_job->capacity, sizeof *open_job->transfers);
  open_job->transfers[open_job->count++] = (sim_transfer){
    .channel = sim_channel_of(comm->meeting, from, to), .sends = sends, .bytes = place.bytes, .length = bytes};
  return SUCCESS;
}

SIM_EXPORT int ncclSend(const void *buffer, size_t count, int type, int peer, void *handle, void *stream) {
  ncclGroupStart();
  int code = add(__func__, handle, stream, buffer, count, type, peer, true);
  int ended = ncclGroupEnd();
  return code ? code : ended;
}

SIM_EXPORT int ncclRecv(void *buffer, size_t count, int type, int peer, void *handle, void *stream) {
  ncclGroupStart();
  int code = add(__func__, handle, stream, buffer, count, type, peer, false);
  int ended = ncclGroupEnd();
  return code ? code : ended;
}

SIM_EXPORT int ncclBroadcast(const void *send, void *receive, size_t count, int type, int root, void *handle,
                             void *stream) {
  comm *comm = handle;
  int code = SUCCESS;
  ncclGroupStart();
  if (comm->rank != root) code = add(__func__, comm, stream, receive, count, type, root, false);
  for (int peer = 0; peer < comm->size && comm->rank == root && code == SUCCESS; peer++) {
    if (peer != root) code = add(__func__, comm, stream, send, count, type, peer, true);
  }
  int ended = ncclGroupEnd();
  return code ? code : ended;
}

/* For another library that takes device memory as it is (tests/sim/mpi): where its bytes are, NULL for host memory. */
SIM_EXPORT void *fst_sim_backing(const void *pointer, size_t bytes) {
  sim_place place = {0};
  sim_lock();
  if (sim_is_device_address(pointer)) sim_place_device(__func__, pointer, bytes, &place);
  sim_unlock();
  return place.bytes;
}
