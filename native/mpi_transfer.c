/*
 * Bytes between ranks, in pieces that all ranks cut alike: a few are under way at once, so that one can be prepared
 * while another moves, and a stall shows. Streams from different roots move at the same time: while one is copied to a
 * rank, another is copied from it.
 *
 * Device memory that MPI does not take goes through pinned host memory: each piece is copied to a slot and sent from
 * there, or received into a slot and copied from there, both at once for different pieces.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudart.h"
#include "mpi.h"

enum { WINDOW = 3, CUDA_NOT_READY = 600 };

/* Pinned memory of a group, kept from call to call. */
struct fst_mpi_staging {
  int device;
  size_t piece_bytes;
  char *slots;
  void *stream;
  void *copied[WINDOW]; /* events */
};

/* Where the next piece of a stream begins. */
typedef struct place {
  size_t block;
  uint64_t offset;
} place;

typedef struct transfer {
  const fst_mpi_stream *stream; /* NULL: all has been moved */
  const fst_mpi_group *group;
  const struct transfer *source; /* what it passes on; NULL: what is here already */
  fst_mpi_staging *staging; /* NULL: the library takes the memory as it is */
  uint64_t piece_bytes, pieces;
  uint64_t moving, moved;   /* pieces given to MPI, and back from it */
  uint64_t copying, copied; /* pieces on their way between slot and device, and there */
  place to_move, to_copy;
  fst_mpi_handle requests[WINDOW];
} transfer;

static uint64_t least(uint64_t a, uint64_t b) {
  return a < b ? a : b;
}

static int cuda_trouble(fst_group_call *call, const char *function, int code) {
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

static fst_mpi_staging *staging_for(fst_mpi_group *group, fst_group_call *call, int device) {
  fst_mpi_staging *staging = group->staging;
  if (staging && staging->device == device && staging->piece_bytes == call->piece_bytes) return staging;
  fst_mpi_staging_free(staging);
  group->staging = staging = calloc(1, sizeof *staging);
  const fst_cudart *cuda = fst_cudart_get();
  if (!staging || !cuda) {
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
  group->staging = NULL;
  return NULL;
}

static int gives(const transfer *transfer) {
  const fst_mpi_stream *stream = transfer->stream;
  return stream->kind == FST_MPI_SEND || (stream->kind == FST_MPI_BROADCAST && stream->root == transfer->group->rank);
}

static uint64_t count_pieces(const fst_mpi_stream *stream, uint64_t piece_bytes) {
  uint64_t pieces = 0;
  for (size_t i = 0; i < stream->count; i++) {
    if (stream->blocks[i].root == stream->root) pieces += (stream->blocks[i].bytes + piece_bytes - 1) / piece_bytes;
  }
  return pieces;
}

/* The piece at a place, which moves on to the one behind it. */
static char *take_piece(const transfer *transfer, place *place, uint64_t *length) {
  const fst_group_block *block = &transfer->stream->blocks[place->block];
  while (block->root != transfer->stream->root || place->offset == block->bytes) {
    *place = (struct place){place->block + 1, 0};
    block++;
  }
  char *address = (char *)(uintptr_t)block->address + place->offset;
  *length = least(transfer->piece_bytes, block->bytes - place->offset);
  place->offset += *length;
  return address;
}

static char *slot_of(const transfer *transfer, uint64_t piece) {
  return transfer->staging->slots + piece % WINDOW * transfer->piece_bytes;
}

static int start_moving(transfer *transfer, fst_group_call *call) {
  const fst_mpi_library *mpi = fst_mpi.library;
  const fst_mpi_stream *stream = transfer->stream;
  const fst_mpi_handle comm = transfer->group->comm;
  fst_mpi_handle *request = &transfer->requests[transfer->moving % WINDOW];
  uint64_t length;
  char *bytes = take_piece(transfer, &transfer->to_move, &length);
  if (transfer->staging) bytes = slot_of(transfer, transfer->moving);
  const int count = (int)length, tag = FST_MPI_TAG_DATA + stream->root;
  const char *function;
  int code;
  if (stream->kind == FST_MPI_BROADCAST) {
    function = "MPI_Ibcast";
    code = mpi->MPI_Ibcast(bytes, count, mpi->byte, stream->root, comm, request);
  } else if (stream->kind == FST_MPI_SEND) {
    function = "MPI_Isend";
    code = mpi->MPI_Isend(bytes, count, mpi->byte, stream->peer, tag, comm, request);
  } else {
    function = "MPI_Irecv";
    code = mpi->MPI_Irecv(bytes, count, mpi->byte, stream->peer, tag, comm, request);
  }
  if (code != 0) {
    *request = 0;
    return fst_mpi_trouble(call, function, code);
  }
  transfer->moving++;
  return FST_MPI_MOVED;
}

static int start_copying(transfer *transfer, fst_group_call *call) {
  const fst_cudart *cuda = fst_cudart_get();
  fst_mpi_staging *staging = transfer->staging;
  uint64_t length;
  char *slot = slot_of(transfer, transfer->copying), *bytes = take_piece(transfer, &transfer->to_copy, &length);
  const int give = gives(transfer);
  int code = cuda->cudaMemcpyAsync(give ? slot : bytes, give ? bytes : slot, length,
                                   give ? FST_CUDA_TO_HOST : FST_CUDA_TO_DEVICE, staging->stream);
  if (code != 0) return cuda_trouble(call, "cudaMemcpyAsync", code);
  code = cuda->cudaEventRecord(staging->copied[transfer->copying % WINDOW], staging->stream);
  if (code != 0) return cuda_trouble(call, "cudaEventRecord", code);
  transfer->copying++;
  return FST_MPI_MOVED;
}

static int test_copying(transfer *transfer, fst_group_call *call) {
  const fst_cudart *cuda = fst_cudart_get();
  int code = cuda->cudaEventQuery(transfer->staging->copied[transfer->copied % WINDOW]);
  if (code == CUDA_NOT_READY) {
    cuda->cudaGetLastError();
    return FST_MPI_IDLE;
  }
  if (code != 0) return cuda_trouble(call, "cudaEventQuery", code);
  transfer->copied++;
  return FST_MPI_MOVED;
}

/* Locked. */
static int advance(transfer *transfer, fst_group_call *call) {
  const int staged = transfer->staging != NULL, give = gives(transfer);
  int outcome = FST_MPI_IDLE;
  /* A slot is free again when the later of its two steps is done with it. */
  uint64_t limit = least(transfer->moved + WINDOW, staged && give ? transfer->copied : transfer->pieces);
  if (staged && !give) limit = least(limit, transfer->copied + WINDOW);
  if (transfer->source) limit = least(limit, transfer->source->moved);
  while (transfer->moving < limit && transfer->moving < transfer->pieces) {
    outcome = start_moving(transfer, call);
    if (outcome == FST_MPI_FAILURE) return outcome;
  }
  while (transfer->moved < transfer->moving) {
    int done = fst_mpi_test(&transfer->requests[transfer->moved % WINDOW], call);
    if (done < 0) return FST_MPI_FAILURE;
    if (!done) break;
    transfer->moved++;
    outcome = FST_MPI_MOVED;
  }
  const uint64_t copies = !staged ? 0 : give ? least(transfer->pieces, transfer->moved + WINDOW) : transfer->moved;
  while (transfer->copying < copies) {
    outcome = start_copying(transfer, call);
    if (outcome == FST_MPI_FAILURE) return outcome;
  }
  while (transfer->copied < transfer->copying) {
    const int tested = test_copying(transfer, call);
    if (tested == FST_MPI_FAILURE) return tested;
    if (tested == FST_MPI_IDLE) break;
    outcome = FST_MPI_MOVED;
  }
  if (transfer->moved == transfer->pieces && (!staged || transfer->copied == transfer->pieces)) return FST_MPI_FINISHED;
  return outcome;
}

/*
 * The transfers of a call: at once, but those through the same slots one after another. To hold any other one back
 * would be a deadlock where ranks cut a broadcast into different parts: each has blocks in it that the other waits for.
 */
typedef struct work {
  transfer *transfers;
  size_t count, finished;
} work;

static int step(void *state, fst_group_call *call) {
  work *work = state;
  int outcome = FST_MPI_IDLE, busy = 0;
  for (size_t i = 0; i < work->count; i++) {
    transfer *transfer = &work->transfers[i];
    if (!transfer->stream || (transfer->staging && busy)) continue;
    const int advanced = advance(transfer, call);
    if (advanced == FST_MPI_FAILURE) return advanced;
    if (advanced != FST_MPI_IDLE) outcome = FST_MPI_MOVED;
    if (advanced == FST_MPI_FINISHED) {
      transfer->stream = NULL;
      work->finished++;
    }
    if (transfer->staging && transfer->stream) busy = 1;
  }
  return work->finished == work->count ? FST_MPI_FINISHED : outcome;
}

static int prepare(fst_mpi_group *group, fst_group_call *call, transfer *transfer, const fst_mpi_stream *stream,
                   int staged) {
  *transfer = (struct transfer){.stream = stream, .group = group, .piece_bytes = call->piece_bytes};
  if (stream->piece_bytes > 0) transfer->piece_bytes = least(transfer->piece_bytes, stream->piece_bytes);
  if (stream->relays) transfer->source = transfer - 1;
  transfer->pieces = count_pieces(stream, transfer->piece_bytes);
  if (stream->device < 0 || transfer->pieces == 0) return 0;
  const fst_cudart *cuda = fst_cudart_get();
  int code = cuda ? cuda->cudaSetDevice(stream->device) : -1;
  if (code != 0) {
    if (cuda) cuda_trouble(call, "cudaSetDevice", code);
    else call->status = FST_GROUP_CUDA;
    return -1;
  }
  if (!staged) return 0;
  transfer->staging = staging_for(group, call, stream->device);
  return transfer->staging ? 0 : -1;
}

int fst_mpi_move(fst_mpi_group *group, fst_group_call *call, int peer, const fst_mpi_stream *streams, size_t count,
                 int staged) {
  work work = {calloc(count ? count : 1, sizeof(transfer)), count, 0};
  if (!work.transfers) return call->status = FST_GROUP_MEMORY;
  int ready = 1;
  for (size_t i = 0; i < count && ready; i++) {
    ready = prepare(group, call, &work.transfers[i], &streams[i], staged) == 0;
  }
  if (ready) fst_mpi_wait(group, call, peer, FST_MPI_MOVING, step, &work);
  const int one_peer = count == 1 && streams->peer != group->rank && call->own.kind != FST_GROUP_BROADCAST;
  if (call->status == FST_GROUP_TIMED_OUT) call->failed_rank = one_peer ? streams->peer : -1;
  int pending = 0;
  fst_mpi_lock();
  for (size_t i = 0; i < count && call->status != FST_GROUP_DONE; i++) {
    transfer *transfer = &work.transfers[i];
    const int receives = transfer->stream && transfer->stream->kind == FST_MPI_RECEIVE;
    pending |= fst_mpi_take_back(transfer->requests, WINDOW, receives);
  }
  if (pending) fst_mpi.stuck = 1;
  if (pending) group->staging = NULL; /* the library may still write there */
  fst_mpi_unlock();
  free(work.transfers);
  return call->status;
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
