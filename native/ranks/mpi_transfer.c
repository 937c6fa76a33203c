/*
 * Bytes between ranks, in pieces that all ranks cut alike: a few are under way at once, so that a library can prepare one
 * while another moves, and a stall shows. Pipes of different roots move at the same time: while bytes of one come to a
 * rank, those of another leave it.
 */
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"
#include "ranks/ranks.h"

enum { WINDOW = 3 };

/* What happens to the pieces of a pipe, one after another: how many it has begun with, and how many are done. */
typedef struct stage {
  uint32_t begun, done;
  fst_mpi_handle requests[WINDOW];
} stage;

struct fst_mpi_transfer {
  fst_mpi_pipe pipe;
  const fst_group_block *pieces; /* of the pipe */
  stage receive, send;
  int is_finished;
};

static void begin(fst_mpi_work *work, const fst_mpi_transfer *transfer, stage *stage) {
  const fst_mpi_library *mpi = fst_mpi.library;
  const fst_mpi_pipe *pipe = &transfer->pipe;
  const fst_group_block *piece = &transfer->pieces[stage->begun];
  fst_mpi_handle *request = &stage->requests[stage->begun % WINDOW];
  const int tag = fst_mpi_tag(pipe->tag), count = (int)piece->bytes;
  void *bytes = (void *)(uintptr_t)piece->address;
  const char *function;
  int code;
  if (stage == &transfer->send) {
    function = "MPI_Isend";
    code = mpi->MPI_Isend(bytes, count, mpi->byte, pipe->to, tag, fst_mpi.comm, request);
  } else if (work->found != 0) {
    function = "MPI_Imrecv";
    code = mpi->MPI_Imrecv(bytes, count, mpi->byte, &work->found, request);
  } else {
    function = "MPI_Irecv";
    const int from = pipe->from == FST_MPI_ANY ? mpi->any_source : pipe->from;
    code = mpi->MPI_Irecv(bytes, count, mpi->byte, from, tag, fst_mpi.comm, request);
  }
  if (code != 0) {
    *request = 0;
    fst_mpi_failed(work, function, code);
    return;
  }
  stage->begun++;
}

/* What comes from any rank may be shorter than its memory. */
static void note_length(const fst_mpi_work *work, const fst_mpi_status *status) {
  int bytes = 0;
  if (fst_mpi.library->MPI_Get_count(status, fst_mpi.library->byte, &bytes) == 0) work->pieces->bytes = (uint64_t)bytes;
}

/* Begins with pieces up to `limit`, and notes which are done; 1 if anything has moved. */
static int pass(fst_mpi_work *work, const fst_mpi_transfer *transfer, stage *stage, uint32_t limit) {
  const uint32_t begun = stage->begun, done = stage->done;
  while (!work->has_failed && stage->begun < limit && stage->begun < stage->done + WINDOW) {
    begin(work, transfer, stage);
  }
  while (!work->has_failed && stage->done < stage->begun) {
    fst_mpi_status status;
    fst_mpi_handle *request = &stage->requests[stage->done % WINDOW];
    int is_done = 0;
    const int code = fst_mpi.library->MPI_Test(request, &is_done, &status);
    if (code == 0 && !is_done) break;
    *request = 0;
    if (code != 0) fst_mpi_failed(work, "MPI_Test", code);
    else stage->done++;
    if (transfer->pipe.from == FST_MPI_ANY) note_length(work, &status);
  }
  return stage->begun != begun || stage->done != done;
}

static int advance(fst_mpi_work *work, fst_mpi_transfer *transfer) {
  const int receives = transfer->pipe.from != FST_MPI_NONE, sends = transfer->pipe.to != FST_MPI_NONE;
  const uint32_t pieces = transfer->pipe.count;
  int moved = 0;
  if (receives) moved |= pass(work, transfer, &transfer->receive, pieces);
  if (sends) moved |= pass(work, transfer, &transfer->send, receives ? transfer->receive.done : pieces);
  transfer->is_finished = (!receives || transfer->receive.done == pieces) && (!sends || transfer->send.done == pieces);
  return moved;
}

/*
 * All transfers go on at once. To hold one back would be a deadlock where ranks cut a broadcast into different parts: each
 * has blocks in it that the other waits for.
 */
int fst_mpi_step(fst_mpi_work *work) {
  const fst_cudart *cuda;
  /* For a library that copies device memory itself. */
  const int has_entered = work->device >= 0 && fst_cuda_enter(work->device, &cuda) == 0;
  int moved = 0;
  uint32_t finished = 0;
  for (uint32_t i = 0; i < work->count; i++) {
    fst_mpi_transfer *transfer = &work->all[i];
    if (!transfer->is_finished) moved |= advance(work, transfer);
    finished += (uint32_t)transfer->is_finished;
  }
  work->is_finished = finished == work->count;
  if (has_entered) fst_cuda_leave();
  return moved;
}

int fst_mpi_drop(fst_mpi_work *work) {
  int busy = 0;
  for (uint32_t i = 0; i < work->count; i++) {
    busy |= fst_mpi_take_back(work->all[i].receive.requests, WINDOW, !work->cancelled);
    busy |= fst_mpi_take_back(work->all[i].send.requests, WINDOW, 0);
  }
  work->cancelled = 1;
  return busy;
}

/* Plans the transfers of all pipes; the same allocation has `bytes` more bytes, after the pieces. */
static fst_mpi_work *plan(const fst_mpi_pipe *pipes, uint32_t count, const fst_group_block *pieces, uint64_t bytes) {
  size_t piece_count = 0;
  for (uint32_t i = 0; i < count; i++) piece_count += pipes[i].count;
  const size_t table = piece_count * sizeof *pieces;
  const size_t head = sizeof(fst_mpi_work) + count * sizeof(fst_mpi_transfer);
  fst_mpi_work *work = malloc(head + table + bytes);
  if (!work) return NULL;
  memset(work, 0, head);
  work->device = -1;
  work->count = count;
  work->all = (fst_mpi_transfer *)(work + 1);
  work->pieces = (fst_group_block *)(work->all + count);
  if (table > 0) memcpy(work->pieces, pieces, table);
  const fst_group_block *own = work->pieces;
  for (uint32_t i = 0; i < count; own += pipes[i++].count) {
    work->all[i].pipe = pipes[i];
    work->all[i].pieces = own;
  }
  return work;
}

fst_mpi_work *fst_mpi_plan_call(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count,
                                const fst_group_block *pieces) {
  fst_mpi_work *work = plan(pipes, count, pieces, 0);
  if (!work) return NULL;
  work->call = call;
  work->device = call->receive_device;
  return work;
}

fst_mpi_work *fst_mpi_plan_message(int from, int to, int tag, const void *bytes, uint64_t length) {
  const fst_mpi_pipe pipe = {from, to, tag, 1};
  const fst_group_block piece = {.bytes = length};
  fst_mpi_work *work = plan(&pipe, 1, &piece, length);
  if (!work) return NULL;
  work->pieces->address = (uintptr_t)(work->pieces + 1);
  if (bytes && length > 0) memcpy(work->pieces + 1, bytes, length);
  return work;
}
