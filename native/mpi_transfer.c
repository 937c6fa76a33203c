/*
 * Bytes between ranks, in pieces that all ranks cut alike: a few are under way at once, so that one can be prepared
 * while another moves, and a stall shows. Pipes of different roots move at the same time: while bytes of one come to a
 * rank, those of another leave it.
 *
 * Device memory that MPI does not take goes through pinned host memory: each piece is copied to a slot and sent from
 * there, or received into a slot, sent on from there, and copied to the device.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"
#include "mpi.h"

enum { WINDOW = 3, CUDA_NOT_READY = 600 };

/* Pinned memory of a group, kept from call to call. A call takes it out of the group, and puts it back. */
struct fst_mpi_staging {
  int device;
  size_t piece_bytes;
  char *slots;
  void *stream;
  void *copied[WINDOW]; /* events */
};

/* Where the next piece of a pipe begins. */
typedef struct place {
  size_t block;
  uint64_t offset;
} place;

/* What happens to the pieces of a pipe, one after another: how many it has begun with, and how many are done. */
typedef struct stage {
  uint64_t begun, done;
  place place;
  fst_mpi_handle requests[WINDOW];
} stage;

typedef struct transfer {
  fst_mpi_pipe pipe;
  fst_mpi_staging *staging; /* NULL: the library takes the memory as it is */
  uint64_t piece_bytes, pieces;
  stage receive, send, copy;
  int finished;
} transfer;

/*
 * The transfers of a call: at once, but those through the same slots one after another. To hold any other one back
 * would be a deadlock where ranks cut a broadcast into different parts: each has blocks in it that the other waits for.
 */
typedef struct work {
  fst_mpi_group *group;
  int one_peer; /* the only rank concerned, or -1 */
  int cancelled, suspended;
  fst_mpi_staging *staging; /* the group's while the work lasts */
  fst_group_block *blocks;
  size_t count, finished;
  transfer transfers[];
} work;

static uint64_t least(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static enum fst_mpi_outcome cuda_trouble(fst_group_call *call, const char *function, int code) {
  const fst_cudart *cuda = fst_cudart_get();
  call->status = FST_GROUP_CUDA;
  call->code = code;
  snprintf(call->message, sizeof call->message, "%s: %.300s (%.80s)", function, cuda->cudaGetErrorString(code),
           cuda->cudaGetErrorName(code));
  cuda->cudaGetLastError();
  return FST_MPI_FAILURE;
}

void fst_mpi_staging_free(fst_mpi_staging *staging) {
  const fst_cudart *cuda = staging ? fst_cudart_get() : NULL;
  if (!cuda) return;
  cuda->cudaSetDevice(staging->device);
  if (staging->stream) cuda->cudaStreamSynchronize(staging->stream);
  for (int slot = 0; slot < WINDOW; slot++) {
    if (staging->copied[slot]) cuda->cudaEventDestroy(staging->copied[slot]);
  }
  if (staging->stream) cuda->cudaStreamDestroy(staging->stream);
  if (staging->slots) cuda->cudaFreeHost(staging->slots);
  free(staging);
}

/* Fitting memory instead of `staging`; NULL with the call filled in. */
static fst_mpi_staging *fit_staging(fst_mpi_staging *staging, fst_group_call *call, int device) {
  if (staging && staging->device == device && staging->piece_bytes == call->piece_bytes) return staging;
  fst_mpi_staging_free(staging);
  staging = calloc(1, sizeof *staging);
  const fst_cudart *cuda = fst_cudart_get();
  if (!staging || !cuda) {
    free(staging);
    call->status = FST_GROUP_MEMORY;
    return NULL;
  }
  staging->device = device;
  staging->piece_bytes = call->piece_bytes;
  const char *function = "cudaHostAlloc";
  int code = cuda->cudaHostAlloc((void **)&staging->slots, WINDOW * staging->piece_bytes, FST_CUDA_HOST_PORTABLE);
  if (code == 0) {
    function = "cudaStreamCreateWithFlags";
    code = cuda->cudaStreamCreateWithFlags(&staging->stream, FST_CUDA_STREAM_NON_BLOCKING);
  }
  for (int slot = 0; slot < WINDOW && code == 0; slot++) {
    function = "cudaEventCreateWithFlags";
    code = cuda->cudaEventCreateWithFlags(&staging->copied[slot], FST_CUDA_EVENT_NO_TIMING);
  }
  if (code == 0) return staging;
  cuda_trouble(call, function, code);
  fst_mpi_staging_free(staging);
  return NULL;
}

static uint64_t count_pieces(const fst_mpi_pipe *pipe, uint64_t piece_bytes) {
  uint64_t pieces = 0;
  for (size_t i = 0; i < pipe->count; i++) {
    if (pipe->blocks[i].root == pipe->root) pieces += (pipe->blocks[i].bytes + piece_bytes - 1) / piece_bytes;
  }
  return pieces;
}

/* The next piece of a stage, in the blocks or in its slot. */
static char *next_piece(const transfer *transfer, stage *stage, int in_slot, uint64_t *length) {
  const fst_group_block *block = &transfer->pipe.blocks[stage->place.block];
  while (block->root != transfer->pipe.root || stage->place.offset == block->bytes) {
    stage->place = (struct place){stage->place.block + 1, 0};
    block++;
  }
  char *address = (char *)(uintptr_t)block->address + stage->place.offset;
  *length = least(transfer->piece_bytes, block->bytes - stage->place.offset);
  stage->place.offset += *length;
  return in_slot ? transfer->staging->slots + stage->begun % WINDOW * transfer->piece_bytes : address;
}

static enum fst_mpi_outcome begin(const fst_mpi_group *group, transfer *transfer, stage *stage, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  const fst_mpi_pipe *pipe = &transfer->pipe;
  fst_mpi_handle *request = &stage->requests[stage->begun % WINDOW];
  const int sends = stage == &transfer->send, tag = fst_mpi_data_tag(group, pipe->root);
  const int peer = group->members[sends ? pipe->to : pipe->from].world;
  uint64_t length;
  char *bytes = next_piece(transfer, stage, transfer->staging != NULL, &length);
  const int code = sends ? mpi->MPI_Isend(bytes, (int)length, mpi->byte, peer, tag, fst_mpi.comm, request)
                         : mpi->MPI_Irecv(bytes, (int)length, mpi->byte, peer, tag, fst_mpi.comm, request);
  if (code != 0) {
    *request = 0;
    return fst_mpi_trouble(call, sends ? "MPI_Isend" : "MPI_Irecv", code);
  }
  stage->begun++;
  return FST_MPI_MOVED;
}

/* Begins with pieces up to `limit`, and notes which are done. */
static enum fst_mpi_outcome pass(const fst_mpi_group *group, transfer *transfer, stage *stage, uint64_t limit,
                                 fst_group_call *call) {
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  limit = least(least(limit, stage->done + WINDOW), transfer->pieces);
  while (stage->begun < limit) {
    outcome = begin(group, transfer, stage, call);
    if (outcome == FST_MPI_FAILURE) return outcome;
  }
  while (stage->done < stage->begun) {
    const int done = fst_mpi_test(&stage->requests[stage->done % WINDOW], call);
    if (done < 0) return FST_MPI_FAILURE;
    if (!done) break;
    stage->done++;
    outcome = FST_MPI_MOVED;
  }
  return outcome;
}

static enum fst_mpi_outcome copy(transfer *transfer, uint64_t limit, int to_slot, fst_group_call *call) {
  const fst_cudart *cuda = fst_cudart_get();
  fst_mpi_staging *staging = transfer->staging;
  stage *stage = &transfer->copy;
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  limit = least(limit, transfer->pieces);
  while (stage->begun < limit) {
    uint64_t length;
    char *slot = staging->slots + stage->begun % WINDOW * transfer->piece_bytes;
    char *bytes = next_piece(transfer, stage, 0, &length);
    int code = cuda->cudaMemcpyAsync(to_slot ? slot : bytes, to_slot ? bytes : slot, length,
                                     to_slot ? FST_CUDA_TO_HOST : FST_CUDA_TO_DEVICE, staging->stream);
    if (code != 0) return cuda_trouble(call, "cudaMemcpyAsync", code);
    code = cuda->cudaEventRecord(staging->copied[stage->begun % WINDOW], staging->stream);
    if (code != 0) return cuda_trouble(call, "cudaEventRecord", code);
    stage->begun++;
    outcome = FST_MPI_MOVED;
  }
  while (stage->done < stage->begun) {
    const int code = cuda->cudaEventQuery(staging->copied[stage->done % WINDOW]);
    if (code == CUDA_NOT_READY) {
      cuda->cudaGetLastError();
      break;
    }
    if (code != 0) return cuda_trouble(call, "cudaEventQuery", code);
    stage->done++;
    outcome = FST_MPI_MOVED;
  }
  return outcome;
}

static enum fst_mpi_outcome advance(const fst_mpi_group *group, transfer *transfer, fst_group_call *call) {
  const int receives = transfer->pipe.from >= 0, sends = transfer->pipe.to >= 0, staged = transfer->staging != NULL;
  const uint64_t pieces = transfer->pieces;
  /* A slot is free again when all that is done with its piece has been done. */
  const uint64_t sent = sends ? transfer->send.done : pieces, copied = staged ? transfer->copy.done : pieces;
  enum fst_mpi_outcome outcomes[3] = {FST_MPI_IDLE, FST_MPI_IDLE, FST_MPI_IDLE};
  if (receives) {
    const uint64_t limit = staged ? least(sent, copied) + WINDOW : pieces;
    outcomes[0] = pass(group, transfer, &transfer->receive, limit, call);
  }
  if (staged && outcomes[0] != FST_MPI_FAILURE) {
    const uint64_t limit = receives ? transfer->receive.done : transfer->send.done + WINDOW;
    outcomes[1] = copy(transfer, limit, !receives, call);
  }
  if (sends && outcomes[0] != FST_MPI_FAILURE && outcomes[1] != FST_MPI_FAILURE) {
    const uint64_t limit = receives ? transfer->receive.done : staged ? transfer->copy.done : pieces;
    outcomes[2] = pass(group, transfer, &transfer->send, limit, call);
  }
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  for (int i = 0; i < 3; i++) {
    if (outcomes[i] != FST_MPI_IDLE && outcome != FST_MPI_FAILURE) outcome = outcomes[i];
  }
  if (outcome == FST_MPI_FAILURE) return outcome;
  transfer->finished = (!receives || transfer->receive.done == pieces) && (!sends || transfer->send.done == pieces) &&
                       (!staged || transfer->copy.done == pieces);
  return transfer->finished ? FST_MPI_FINISHED : outcome;
}

static enum fst_mpi_outcome step(void *state, fst_group_call *call) {
  work *work = state;
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  int busy = 0;
  const int device = work->count ? work->transfers->pipe.device : -1;
  const fst_cudart *cuda = device < 0 ? NULL : fst_cudart_get();
  if (cuda) cuda->cudaSetDevice(device); /* also for a library that copies device memory itself */
  for (size_t i = 0; i < work->count; i++) {
    transfer *transfer = &work->transfers[i];
    if (transfer->finished || (transfer->staging && busy)) continue;
    const enum fst_mpi_outcome advanced = advance(work->group, transfer, call);
    if (advanced == FST_MPI_FAILURE) return advanced;
    if (advanced != FST_MPI_IDLE) outcome = FST_MPI_MOVED;
    if (advanced == FST_MPI_FINISHED) work->finished++;
    if (transfer->staging && !transfer->finished) busy = 1;
  }
  return work->finished == work->count ? FST_MPI_FINISHED : outcome;
}

static int drop(void *state, fst_group_call *call) {
  work *work = state;
  if (!call) work->suspended = 1;
  else if (call->status == FST_GROUP_TIMED_OUT) call->failed_rank = work->one_peer;
  int under_way = 0;
  for (size_t i = 0; i < work->count; i++) {
    transfer *transfer = &work->transfers[i];
    under_way |= fst_mpi_take_back(transfer->receive.requests, WINDOW, !work->cancelled);
    under_way |= fst_mpi_take_back(transfer->send.requests, WINDOW, 0);
    if (transfer->copy.done == transfer->copy.begun) continue;
    const fst_cudart *cuda = fst_cudart_get();
    const uint64_t last = (transfer->copy.begun - 1) % WINDOW;
    if (cuda->cudaEventQuery(transfer->staging->copied[last]) == CUDA_NOT_READY) under_way = 1;
    else transfer->copy.done = transfer->copy.begun;
    cuda->cudaGetLastError();
  }
  work->cancelled = 1;
  return under_way;
}

static void release(void *state) {
  work *work = state;
  if (work->suspended) fst_mpi_staging_free(work->staging);
  else if (work->staging) work->group->staging = work->staging;
  free(work->blocks);
  free(work);
}

int fst_mpi_moving(fst_mpi_part *part, fst_mpi_group *group, fst_group_call *call, int peer, const fst_mpi_pipe *pipes,
                   size_t count, int staged) {
  size_t blocks = 0;
  for (size_t i = 0; i < count; i++) blocks += i > 0 && pipes[i].blocks == pipes[i - 1].blocks ? 0 : pipes[i].count;
  work *work = calloc(1, sizeof *work + count * sizeof *work->transfers);
  fst_group_block *copied = calloc(blocks ? blocks : 1, sizeof *copied);
  if (!work || !copied) {
    free(work);
    free(copied);
    call->status = FST_GROUP_MEMORY;
    return -1;
  }
  *work = (struct work){.group = group, .one_peer = peer, .blocks = copied, .count = count};
  work->staging = group->staging;
  group->staging = NULL;
  int ready = 1;
  for (size_t i = 0; i < count && ready; i++) {
    const fst_mpi_pipe *pipe = &pipes[i];
    transfer *transfer = &work->transfers[i];
    transfer->pipe = *pipe;
    if (i > 0 && pipe->blocks == pipes[i - 1].blocks) {
      transfer->pipe.blocks = work->transfers[i - 1].pipe.blocks;
    } else {
      transfer->pipe.blocks = memcpy(copied, pipe->blocks, pipe->count * sizeof *copied);
      copied += pipe->count;
    }
    transfer->piece_bytes = pipe->piece_bytes ? least(call->piece_bytes, pipe->piece_bytes) : call->piece_bytes;
    transfer->pieces = count_pieces(pipe, transfer->piece_bytes);
    if (pipe->device < 0 || transfer->pieces == 0) continue;
    const fst_cudart *cuda = fst_cudart_get();
    const int code = cuda ? cuda->cudaSetDevice(pipe->device) : 0;
    if (!cuda) call->status = FST_GROUP_CUDA;
    else if (code != 0) cuda_trouble(call, "cudaSetDevice", code);
    else if (staged) work->staging = transfer->staging = fit_staging(work->staging, call, pipe->device);
    ready = call->status == FST_GROUP_DONE;
  }
  if (!ready) {
    release(work);
    return -1;
  }
  *part = (fst_mpi_part){step, drop, release, work, peer, FST_MPI_MOVING};
  return 0;
}

int fst_mpi_copy(fst_group_call *call, char *to, int to_device, const char *from, int from_device, uint64_t bytes) {
  if (bytes == 0 || to == from) return call->status;
  if (to_device < 0 && from_device < 0) {
    memmove(to, from, bytes);
    return call->status;
  }
  const fst_cudart *cuda = fst_cudart_get();
  if (!cuda) return call->status = FST_GROUP_CUDA;
  const int kind = to_device < 0 ? FST_CUDA_TO_HOST : from_device < 0 ? FST_CUDA_TO_DEVICE : FST_CUDA_ON_DEVICE;
  void *stream = NULL;
  int code = cuda->cudaSetDevice(to_device < 0 ? from_device : to_device);
  if (code == 0) code = cuda->cudaStreamCreateWithFlags(&stream, FST_CUDA_STREAM_NON_BLOCKING);
  if (code == 0) code = cuda->cudaMemcpyAsync(to, from, bytes, kind, stream);
  if (code == 0) code = cuda->cudaStreamSynchronize(stream);
  if (code != 0) cuda_trouble(call, "cudaMemcpyAsync", code);
  if (stream) cuda->cudaStreamDestroy(stream);
  return call->status;
}
