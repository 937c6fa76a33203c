/*
 * Bytes between ranks, in pieces that all ranks cut alike: a few are under way at once, so that one can be prepared
 * while another moves, and a stall shows. Pipes of different roots move at the same time: while bytes of one come to a
 * rank, those of another leave it.
 *
 * Device memory that MPI does not take goes through pinned host memory: each piece is copied to a slot and sent from
 * there, or received into a slot, sent on from there, and copied to the device.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"
#include "ranks/ranks.h"

enum { WINDOW = 3, CUDA_NOT_READY = 600 };

/* Pinned memory, freed by the last of its users: a group, and transfers that the library is not done with. */
struct fst_mpi_staging {
  atomic_int users;
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

struct fst_mpi_transfer {
  fst_mpi_pipe pipe;
  const fst_group_block *blocks; /* of the pipe */
  uint64_t pieces;
  stage receive, send, copy;
  int finished;
};

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

int32_t fst_mpi_free_staging(fst_mpi_staging *staging) {
  if (!staging || atomic_fetch_sub(&staging->users, 1) > 1) return 0;
  const fst_cudart *cuda = fst_cudart_get();
  cuda->cudaSetDevice(staging->device);
  if (staging->stream) cuda->cudaStreamSynchronize(staging->stream);
  for (int slot = 0; slot < WINDOW; slot++) {
    if (staging->copied[slot]) cuda->cudaEventDestroy(staging->copied[slot]);
  }
  if (staging->stream) cuda->cudaStreamDestroy(staging->stream);
  if (staging->slots) cuda->cudaFreeHost(staging->slots);
  free(staging);
  return 0;
}

int32_t fst_mpi_make_staging(fst_group_call *call, fst_mpi_staging **result) {
  fst_mpi_staging *staging = calloc(1, sizeof *staging);
  const fst_cudart *cuda = fst_cudart_get();
  *result = NULL;
  if (!staging || !cuda) {
    free(staging);
    return call->status = FST_GROUP_MEMORY;
  }
  *staging = (fst_mpi_staging){.users = 1, .device = call->receive_device, .piece_bytes = call->piece_bytes};
  const char *function = "cudaSetDevice";
  int code = cuda->cudaSetDevice(staging->device);
  if (code == 0) {
    function = "cudaHostAlloc";
    code = cuda->cudaHostAlloc((void **)&staging->slots, WINDOW * staging->piece_bytes, FST_CUDA_HOST_PORTABLE);
  }
  if (code == 0) {
    function = "cudaStreamCreateWithFlags";
    code = cuda->cudaStreamCreateWithFlags(&staging->stream, FST_CUDA_STREAM_NON_BLOCKING);
  }
  for (int slot = 0; slot < WINDOW && code == 0; slot++) {
    function = "cudaEventCreateWithFlags";
    code = cuda->cudaEventCreateWithFlags(&staging->copied[slot], FST_CUDA_EVENT_NO_TIMING);
  }
  if (code == 0) {
    *result = staging;
  } else {
    cuda_trouble(call, function, code);
    fst_mpi_free_staging(staging);
  }
  return call->status;
}

/* The next piece of a stage, in the blocks or in its slot. */
static char *next_piece(const fst_mpi_transfers *work, const fst_mpi_transfer *transfer, stage *stage, int in_slot,
                        uint64_t *length) {
  while (stage->place.offset == transfer->blocks[stage->place.block].bytes) {
    stage->place = (place){stage->place.block + 1, 0};
  }
  const fst_group_block *block = &transfer->blocks[stage->place.block];
  char *address = (char *)(uintptr_t)block->address + stage->place.offset;
  *length = least(work->piece_bytes, block->bytes - stage->place.offset);
  stage->place.offset += *length;
  return in_slot ? work->staging->slots + stage->begun % WINDOW * work->piece_bytes : address;
}

static enum fst_mpi_outcome begin(const fst_mpi_transfers *work, fst_mpi_transfer *transfer, stage *stage) {
  const fst_mpi_library *mpi = fst_mpi.library;
  const fst_mpi_pipe *pipe = &transfer->pipe;
  fst_mpi_handle *request = &stage->requests[stage->begun % WINDOW];
  const int sends = stage == &transfer->send, tag = FST_MPI_TAG_DATA + pipe->tag;
  uint64_t length;
  char *bytes = next_piece(work, transfer, stage, work->staging != NULL, &length);
  const int code = sends ? mpi->MPI_Isend(bytes, (int)length, mpi->byte, pipe->to, tag, fst_mpi.comm, request)
                         : mpi->MPI_Irecv(bytes, (int)length, mpi->byte, pipe->from, tag, fst_mpi.comm, request);
  if (code != 0) {
    *request = 0;
    fst_mpi_trouble(work->call, sends ? "MPI_Isend" : "MPI_Irecv", code);
    return FST_MPI_FAILURE;
  }
  stage->begun++;
  return FST_MPI_MOVED;
}

/* Begins with pieces up to `limit`, and notes which are done. */
static enum fst_mpi_outcome pass(const fst_mpi_transfers *work, fst_mpi_transfer *transfer, stage *stage,
                                 uint64_t limit) {
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  limit = least(least(limit, stage->done + WINDOW), transfer->pieces);
  while (stage->begun < limit) {
    outcome = begin(work, transfer, stage);
    if (outcome == FST_MPI_FAILURE) return outcome;
  }
  while (stage->done < stage->begun) {
    fst_mpi_status status;
    fst_mpi_handle *request = &stage->requests[stage->done % WINDOW];
    int done = 0;
    const int code = fst_mpi.library->MPI_Test(request, &done, &status);
    if (code == 0 && !done) break;
    *request = 0;
    if (code != 0) {
      fst_mpi_trouble(work->call, "MPI_Test", code);
      return FST_MPI_FAILURE;
    }
    stage->done++;
    outcome = FST_MPI_MOVED;
  }
  return outcome;
}

static enum fst_mpi_outcome copy(const fst_mpi_transfers *work, fst_mpi_transfer *transfer, uint64_t limit,
                                 int to_slot) {
  const fst_cudart *cuda = fst_cudart_get();
  const fst_mpi_staging *staging = work->staging;
  stage *stage = &transfer->copy;
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  limit = least(limit, transfer->pieces);
  while (stage->begun < limit) {
    uint64_t length;
    char *slot = staging->slots + stage->begun % WINDOW * work->piece_bytes;
    char *bytes = next_piece(work, transfer, stage, 0, &length);
    int code = cuda->cudaMemcpyAsync(to_slot ? slot : bytes, to_slot ? bytes : slot, length,
                                     to_slot ? FST_CUDA_TO_HOST : FST_CUDA_TO_DEVICE, staging->stream);
    if (code != 0) return cuda_trouble(work->call, "cudaMemcpyAsync", code);
    code = cuda->cudaEventRecord(staging->copied[stage->begun % WINDOW], staging->stream);
    if (code != 0) return cuda_trouble(work->call, "cudaEventRecord", code);
    stage->begun++;
    outcome = FST_MPI_MOVED;
  }
  while (stage->done < stage->begun) {
    const int code = cuda->cudaEventQuery(staging->copied[stage->done % WINDOW]);
    if (code == CUDA_NOT_READY) {
      cuda->cudaGetLastError();
      break;
    }
    if (code != 0) return cuda_trouble(work->call, "cudaEventQuery", code);
    stage->done++;
    outcome = FST_MPI_MOVED;
  }
  return outcome;
}

static enum fst_mpi_outcome advance(const fst_mpi_transfers *work, fst_mpi_transfer *transfer) {
  const int receives = transfer->pipe.from >= 0, sends = transfer->pipe.to >= 0, staged = work->staging != NULL;
  const uint64_t pieces = transfer->pieces;
  /* A slot is free again when all that is done with its piece has been done. */
  const uint64_t sent = sends ? transfer->send.done : pieces, copied = staged ? transfer->copy.done : pieces;
  enum fst_mpi_outcome outcomes[3] = {FST_MPI_IDLE, FST_MPI_IDLE, FST_MPI_IDLE};
  if (receives) {
    const uint64_t limit = staged ? least(sent, copied) + WINDOW : pieces;
    outcomes[0] = pass(work, transfer, &transfer->receive, limit);
  }
  if (staged && outcomes[0] != FST_MPI_FAILURE) {
    const uint64_t limit = receives ? transfer->receive.done : transfer->send.done + WINDOW;
    outcomes[1] = copy(work, transfer, limit, !receives);
  }
  if (sends && outcomes[0] != FST_MPI_FAILURE && outcomes[1] != FST_MPI_FAILURE) {
    const uint64_t limit = receives ? transfer->receive.done : staged ? transfer->copy.done : pieces;
    outcomes[2] = pass(work, transfer, &transfer->send, limit);
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

/*
 * The transfers go on at once, but those through the same slots one after another. To hold any other one back would be a
 * deadlock where ranks cut a broadcast into different parts: each has blocks in it that the other waits for.
 */
enum fst_mpi_outcome fst_mpi_step(fst_mpi_transfers *work) {
  enum fst_mpi_outcome outcome = FST_MPI_IDLE;
  const fst_cudart *cuda = work->device < 0 ? NULL : fst_cudart_get();
  if (cuda) cuda->cudaSetDevice(work->device); /* also for a library that copies device memory itself */
  int busy = 0;
  for (uint32_t i = 0; i < work->count && !busy; i++) {
    fst_mpi_transfer *transfer = &work->all[i];
    if (transfer->finished) continue;
    const enum fst_mpi_outcome advanced = advance(work, transfer);
    if (advanced == FST_MPI_FAILURE) return advanced;
    if (advanced != FST_MPI_IDLE) outcome = FST_MPI_MOVED;
    if (advanced == FST_MPI_FINISHED) work->finished++;
    busy = work->staging && !transfer->finished;
  }
  return work->finished == work->count ? FST_MPI_FINISHED : outcome;
}

int fst_mpi_uses(const fst_mpi_transfers *work, int first, int count) {
  for (uint32_t i = 0; i < work->count; i++) {
    const int tag = work->all[i].pipe.tag;
    if (tag >= first && tag < first + count) return 1;
  }
  return 0;
}

int fst_mpi_drop(fst_mpi_transfers *work) {
  int busy = 0;
  for (uint32_t i = 0; i < work->count; i++) {
    fst_mpi_transfer *transfer = &work->all[i];
    busy |= fst_mpi_take_back(transfer->receive.requests, WINDOW, !work->cancelled);
    busy |= fst_mpi_take_back(transfer->send.requests, WINDOW, 0);
    if (transfer->copy.done == transfer->copy.begun) continue;
    const fst_cudart *cuda = fst_cudart_get();
    const uint64_t last = (transfer->copy.begun - 1) % WINDOW;
    if (cuda->cudaEventQuery(work->staging->copied[last]) == CUDA_NOT_READY) busy = 1;
    else transfer->copy.done = transfer->copy.begun;
    cuda->cudaGetLastError();
  }
  work->cancelled = 1;
  return busy;
}

void fst_mpi_release(fst_mpi_transfers *work) {
  fst_mpi_free_staging(work->staging);
  free(work);
}

fst_mpi_transfers *fst_mpi_plan(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count,
                                const fst_group_block *blocks, fst_mpi_staging *staging) {
  size_t block_count = 0;
  for (uint32_t i = 0; i < count; i++) block_count += pipes[i].count;
  const size_t transfers = count * sizeof(fst_mpi_transfer);
  fst_mpi_transfers *work = calloc(1, sizeof *work + transfers + block_count * sizeof *blocks);
  if (!work) return NULL;
  *work = (fst_mpi_transfers){.call = call, .device = call->receive_device, .count = count};
  work->piece_bytes = call->piece_bytes;
  work->all = (fst_mpi_transfer *)(work + 1);
  fst_group_block *own = (fst_group_block *)(work->all + count);
  if (block_count > 0) memcpy(own, blocks, block_count * sizeof *blocks);
  for (uint32_t i = 0; i < count; own += pipes[i++].count) {
    fst_mpi_transfer *transfer = &work->all[i];
    transfer->pipe = pipes[i];
    transfer->blocks = own;
    for (uint32_t block = 0; block < pipes[i].count; block++) {
      transfer->pieces += (own[block].bytes + work->piece_bytes - 1) / work->piece_bytes;
    }
  }
  work->staging = staging;
  if (staging) atomic_fetch_add(&staging->users, 1);
  return work;
}

int32_t fst_mpi_copy(fst_group_call *call, const void *send, void *receive) {
  const int to_device = call->receive_device, from_device = call->send_device;
  const uint64_t bytes = call->send_bytes;
  const void *from = from_device < 0 ? send : (const void *)(uintptr_t)call->send_address;
  void *to = to_device < 0 ? receive : (void *)(uintptr_t)call->receive_address;
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
