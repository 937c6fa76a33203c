/* What a call of a group over MPI moves, and from where to where. */
#include <stdlib.h>

#include "mpi.h"

enum { RELAYED_BYTES = 1 << 20 }; /* of a broadcast, passed on at once */

typedef struct memory {
  char *address;
  int device;
} memory;

/* What a scatter moves from or to this rank, from room for a block and a stream a rank; how many streams. */
static size_t scatter_streams(const fst_mpi_group *group, const fst_group_call *call, memory send, memory receive,
                              const uint64_t *lengths, fst_group_block *blocks, fst_mpi_stream *streams) {
  const int root = call->own.root;
  if (root != group->rank) {
    *blocks = (fst_group_block){(uintptr_t)receive.address, call->receive_bytes, root, 0};
    *streams = (fst_mpi_stream){FST_MPI_RECEIVE, root, root, blocks, 1, receive.device, 0, 0};
    return call->receive_bytes > 0 ? 1 : 0;
  }
  size_t count = 0;
  uint64_t offset = 0;
  for (int rank = 0; rank < group->size; offset += lengths[rank++]) {
    if (rank == root || lengths[rank] == 0) continue;
    blocks[count] = (fst_group_block){(uintptr_t)(send.address + offset), lengths[rank], root, 0};
    streams[count] = (fst_mpi_stream){FST_MPI_SEND, rank, root, &blocks[count], 1, send.device, 0, 0};
    count++;
  }
  return count;
}

static int scatter(fst_mpi_group *group, fst_group_call *call, memory send, memory receive, const uint64_t *lengths,
                   int staged) {
  const int root = call->own.root;
  fst_group_block *blocks = calloc((size_t)group->size, sizeof *blocks);
  fst_mpi_stream *streams = calloc((size_t)group->size, sizeof *streams);
  if (blocks && streams) {
    const size_t count = scatter_streams(group, call, send, receive, lengths, blocks, streams);
    fst_mpi_move(group, call, root == group->rank ? -1 : root, streams, count, staged);
  } else {
    call->status = FST_GROUP_MEMORY;
  }
  free(blocks);
  free(streams);
  if (root != group->rank || call->status != FST_GROUP_DONE) return call->status;
  uint64_t offset = 0;
  for (int rank = 0; rank < root; rank++) offset += lengths[rank];
  return fst_mpi_copy(call, receive.address, receive.device, send.address + offset, send.device, lengths[root]);
}

/* Whether a broadcast has bytes from a rank. */
static int has_bytes_from(int root, const fst_group_block *blocks, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (blocks[i].root == root && blocks[i].bytes > 0) return 1;
  }
  return 0;
}

/* From the root each rank passes the blocks on to the next. */
static size_t relay_streams(const fst_mpi_group *group, const fst_group_block *blocks, size_t block_count, int device,
                            int root, fst_mpi_stream *streams) {
  const int size = group->size, place = (group->rank - root + size) % size;
  const int next = (group->rank + 1) % size, previous = (group->rank + size - 1) % size;
  size_t count = 0;
  if (place > 0) {
    streams[count++] =
      (fst_mpi_stream){FST_MPI_RECEIVE, previous, root, blocks, block_count, device, 0, RELAYED_BYTES};
  }
  if (place < size - 1) {
    streams[count] =
      (fst_mpi_stream){FST_MPI_SEND, next, root, blocks, block_count, device, count > 0, RELAYED_BYTES};
    count++;
  }
  return count;
}

/*
 * Blocks from all their roots at once: each rank receives from one while it sends to another, where a broadcast after
 * another keeps but one rank busy at a time.
 *
 * They are passed on from rank to rank, in pieces small enough to be in the processor's cache still: a rank sends and
 * receives every byte once, however many ranks there are. MPI_Bcast could not be ended when a rank fails, and MPI_Ibcast
 * takes twice the time with MPICH, and no less with Open MPI. What goes through staging memory is left to it: there is
 * one set of slots, not one for each direction.
 */
static int broadcast(fst_mpi_group *group, fst_group_call *call, const fst_group_block *blocks, size_t block_count,
                     int staged) {
  const int device = call->receive_device;
  fst_mpi_stream *streams = calloc(2 * (size_t)group->size, sizeof *streams);
  if (!streams) return call->status = FST_GROUP_MEMORY;
  size_t count = 0;
  for (int root = 0; root < group->size; root++) {
    if (!has_bytes_from(root, blocks, block_count)) continue;
    if (staged && device >= 0) {
      streams[count++] = (fst_mpi_stream){FST_MPI_BROADCAST, root, root, blocks, block_count, device, 0, 0};
    } else {
      count += relay_streams(group, blocks, block_count, device, root, &streams[count]);
    }
  }
  fst_mpi_move(group, call, -1, streams, count, staged);
  free(streams);
  return call->status;
}

/* Every rank broadcasts its bytes to their place in `receive`. */
static int spread(fst_mpi_group *group, fst_group_call *call, char *receive, const uint64_t *lengths) {
  fst_group_block *blocks = calloc((size_t)group->size, sizeof *blocks);
  if (!blocks) return call->status = FST_GROUP_MEMORY;
  uint64_t offset = 0;
  for (int rank = 0; rank < group->size; offset += lengths[rank++]) {
    blocks[rank] = (fst_group_block){(uintptr_t)(receive + offset), lengths[rank], rank, 0};
  }
  broadcast(group, call, blocks, (size_t)group->size, 0);
  free(blocks);
  return call->status;
}

static int between_two(fst_mpi_group *group, fst_group_call *call, memory place, uint64_t bytes, uint32_t flags) {
  const int peer = call->peer, sends = call->own.kind == FST_GROUP_SEND, root = call->own.root;
  const fst_group_block block = {(uintptr_t)place.address, bytes, root, 0};
  const fst_mpi_stream stream = {sends ? FST_MPI_SEND : FST_MPI_RECEIVE, peer, root, &block, 1, place.device, 0, 0};
  if (fst_mpi_pair(group, call, peer) != FST_GROUP_DONE || flags & FST_GROUP_COMPARE) return call->status;
  return fst_mpi_move(group, call, peer, &stream, 1, flags & FST_GROUP_STAGED);
}

/* Counts a call that all ranks have met for, also where a rank said that it failed. */
static int32_t end_call(fst_mpi_group *group, const fst_group_call *call) {
  if (call->status == FST_GROUP_DONE || call->status == FST_GROUP_REFUSED) {
    fst_mpi_lock();
    group->completed++;
    fst_mpi_unlock();
  }
  return call->status;
}

static int meet(fst_mpi_group *group, fst_group_call *call, uint64_t *lengths) {
  call->own.sequence = group->completed;
  return fst_mpi_exchange(group, call, lengths);
}

int32_t fst_mpi_run(fst_mpi_group *group, fst_group_call *call, const void *send, void *receive, uint64_t *lengths,
                    uint32_t flags) {
  const memory from = {call->send_device < 0 ? (char *)(uintptr_t)send : (char *)(uintptr_t)call->send_address,
                       call->send_device};
  const memory to = {call->receive_device < 0 ? receive : (char *)(uintptr_t)call->receive_address,
                     call->receive_device};
  switch (call->own.kind) {
    case FST_GROUP_SEND:
      return between_two(group, call, from, call->send_bytes, flags);
    case FST_GROUP_RECEIVE:
      return between_two(group, call, to, call->receive_bytes, flags);
    case FST_GROUP_GATHER: /* counted when it is SPREAD */
      return meet(group, call, lengths);
    case FST_GROUP_SPREAD:
      spread(group, call, receive, lengths);
      return end_call(group, call);
    case FST_GROUP_SCATTER:
      if (meet(group, call, lengths) == FST_GROUP_DONE && !(flags & FST_GROUP_COMPARE)) {
        scatter(group, call, from, to, lengths, flags & FST_GROUP_STAGED);
      }
      return end_call(group, call);
    default:
      meet(group, call, lengths);
      return end_call(group, call);
  }
}

int32_t fst_mpi_broadcast(fst_mpi_group *group, fst_group_call *call, const fst_group_block *blocks, uint64_t count,
                          uint32_t flags, FST_KEEP_16) {
  if (!(flags & FST_GROUP_LATER)) meet(group, call, NULL);
  if (call->status == FST_GROUP_DONE) broadcast(group, call, blocks, (size_t)count, flags & FST_GROUP_STAGED);
  if (call->status == FST_GROUP_DONE && flags & FST_GROUP_MORE) return call->status;
  return end_call(group, call);
}
