/* The calls of a group over MPI: what each moves, and from where to where. */
#include <stdlib.h>
#include <string.h>

#include "mpi.h"

enum { RELAYED_BYTES = 1 << 20 }; /* of a broadcast, passed on at once */

typedef struct memory {
  char *address;
  int device;
} memory;

/* ---- Groups ---- */

/* What is done at once, on the MPI thread. */
typedef struct action {
  fst_mpi_group *group;
  int32_t rank;
  const char *text;
} action;

static void nothing(void *state) {
  (void)state;
}

static int drop_nothing(void *state, fst_group_call *call) {
  (void)state, (void)call;
  return 0;
}

static void act(enum fst_mpi_outcome (*step)(void *state, fst_group_call *call), action *state) {
  fst_group_call *call = calloc(1, sizeof *call);
  fst_mpi_command *command = calloc(1, sizeof *command);
  if (call && command) {
    *command = (fst_mpi_command){.call = call, .count = 1};
    command->parts[0] = (fst_mpi_part){step, drop_nothing, nothing, state, -1, FST_MPI_MEETING};
    fst_mpi_do(command);
  }
  free(command);
  free(call);
}

static enum fst_mpi_outcome enlist(void *state, fst_group_call *call) {
  (void)call;
  fst_mpi_enlist(((const action *)state)->group);
  return FST_MPI_FINISHED;
}

fst_mpi_group *fst_mpi_group_make(fst_mpi_group *parent, uint64_t id, const int32_t *ranks, int32_t size, int32_t rank) {
  fst_mpi_group *group = calloc(1, sizeof *group);
  int32_t *world = parent ? calloc((size_t)size, sizeof *world) : NULL;
  if (!group || (parent && !world)) {
    free(group);
    free(world);
    return NULL;
  }
  *group = (fst_mpi_group){.rank = fst_mpi.rank, .size = fst_mpi.size, .id = id, .tags = UINT64_MAX};
  if (parent) {
    group->rank = rank;
    group->size = size;
    group->tags = parent->next_tags;
    for (int i = 0; i < size; i++) world[i] = parent->members[ranks[i]].world;
  }
  if (fst_mpi_know(group, world) == 0) {
    act(enlist, &(action){group, 0, NULL});
  } else {
    fst_mpi_forget(group);
    group = NULL;
  }
  free(world);
  return group;
}

static enum fst_mpi_outcome leave(void *state, fst_group_call *call) {
  (void)call;
  fst_mpi_group *group = ((const action *)state)->group;
  fst_mpi_tell(group, FST_MPI_LEFT, -1, group->rank, "");
  group->left = 1;
  if (group->broken) return FST_MPI_FINISHED; /* what others still send it is to be received */
  fst_mpi_delist(group);
  fst_mpi_forget(group);
  return FST_MPI_FINISHED;
}

int32_t fst_mpi_leave(fst_mpi_group *group) {
  fst_mpi_staging *staging = group->staging;
  group->staging = NULL;
  act(leave, &(action){group, 0, NULL});
  fst_mpi_staging_free(staging);
  return 0;
}

static enum fst_mpi_outcome fail(void *state, fst_group_call *call) {
  (void)call;
  const action *action = state;
  fst_mpi_group *group = action->group;
  group->broken = 1;
  fst_mpi_note(group, group->rank, group->completed, action->rank, action->text);
  fst_mpi_tell(group, FST_MPI_FAILED, -1, action->rank, action->text);
  return FST_MPI_FINISHED;
}

int32_t fst_mpi_fail(fst_mpi_group *group, int32_t rank, const char *text) {
  act(fail, &(action){group, rank, text});
  return 0;
}

/* ---- Calls ---- */

typedef struct pipes {
  size_t count;
  fst_group_block *blocks;
  fst_mpi_pipe *pipes;
} pipes;

static int room_for(pipes *made, size_t pipes, size_t blocks) {
  made->count = 0;
  made->blocks = calloc(blocks ? blocks : 1, sizeof *made->blocks);
  made->pipes = calloc(pipes ? pipes : 1, sizeof *made->pipes);
  return made->blocks && made->pipes ? 0 : -1;
}

static void add(pipes *made, int from, int to, int root, memory at, uint64_t bytes) {
  if (bytes == 0) return;
  fst_group_block *block = &made->blocks[made->count];
  *block = (fst_group_block){(uintptr_t)at.address, bytes, root, 0};
  made->pipes[made->count++] = (fst_mpi_pipe){from, to, root, block, 1, at.device, 0};
}

/* What a scatter moves from or to this rank. */
static int scatter(pipes *made, const fst_mpi_group *group, const fst_group_call *call, memory send, memory receive,
                   const uint64_t *lengths) {
  const int root = call->own.root, size = group->size;
  if (room_for(made, (size_t)size, (size_t)size) != 0) return -1;
  if (root != group->rank) {
    add(made, root, -1, root, receive, call->receive_bytes);
    return 0;
  }
  for (int rank = 0; rank < size; send.address += lengths[rank++]) {
    if (rank != root) add(made, -1, rank, root, send, lengths[rank]);
  }
  return 0;
}

/* The root's own part of a scatter. */
static int keep_own(const fst_mpi_group *group, fst_group_call *call, memory send, memory receive,
                    const uint64_t *lengths) {
  if (call->own.root != group->rank) return call->status;
  for (int rank = 0; rank < group->rank; rank++) send.address += lengths[rank];
  return fst_mpi_copy(call, receive.address, receive.device, send.address, send.device, lengths[group->rank]);
}

/* Whether a broadcast has bytes from a rank. */
static int has_bytes_from(int root, const fst_group_block *blocks, size_t count) {
  for (size_t i = 0; i < count; i++) {
    if (blocks[i].root == root && blocks[i].bytes > 0) return 1;
  }
  return 0;
}

/*
 * Blocks from all their roots at once: each rank receives from one while it sends to another, where a broadcast after
 * another keeps but one rank busy at a time.
 *
 * They are passed on from rank to rank, in pieces small enough to be in the processor's cache still: a rank sends and
 * receives every byte once, however many ranks there are. MPI_Bcast could not be ended when a rank fails, and MPI_Ibcast
 * takes twice the time with MPICH, and no less with Open MPI.
 */
static int broadcast(pipes *made, const fst_mpi_group *group, const fst_group_block *blocks, size_t count, int device,
                     int staged) {
  const int size = group->size, next = (group->rank + 1) % size, previous = (group->rank + size - 1) % size;
  if (room_for(made, (size_t)size, 0) != 0) return -1;
  for (int root = 0; size > 1 && root < size; root++) {
    if (!has_bytes_from(root, blocks, count)) continue;
    const int place = (group->rank - root + size) % size;
    const uint64_t piece = staged && device >= 0 ? 0 : RELAYED_BYTES;
    made->pipes[made->count++] = (fst_mpi_pipe){
      place > 0 ? previous : -1, place < size - 1 ? next : -1, root, blocks, count, device, piece,
    };
  }
  return 0;
}

/* Every rank broadcasts its bytes to their place in `receive`. */
static int spread(pipes *made, const fst_mpi_group *group, char *receive, const uint64_t *lengths) {
  pipes all;
  if (room_for(&all, 0, (size_t)group->size) != 0) return -1;
  for (int rank = 0; rank < group->size; receive += lengths[rank++]) {
    all.blocks[rank] = (fst_group_block){(uintptr_t)receive, lengths[rank], rank, 0};
  }
  free(all.pipes);
  const int status = broadcast(made, group, all.blocks, (size_t)group->size, -1, 0);
  free(made->blocks);
  made->blocks = all.blocks;
  return status;
}

/* How a call goes: whom it is compared with, and what it then moves. */
typedef struct plan {
  int meets, moves, counts;
  int peer;   /* the one rank that it is compared with; -1: all */
  int mover;  /* the one rank that bytes go to or come from; -1: several */
} plan;

static int32_t execute(fst_mpi_group *group, fst_group_call *call, const plan *plan, const pipes *made,
                       uint64_t *lengths, int staged) {
  fst_mpi_command *command = calloc(1, sizeof *command);
  if (!command) return call->status = FST_GROUP_MEMORY;
  *command = (fst_mpi_command){.group = group, .call = call, .counts = plan->counts};
  int status = 0;
  if (plan->meets) {
    fst_mpi_part *part = &command->parts[command->count];
    status = plan->peer < 0 ? fst_mpi_meeting(part, group, lengths) : fst_mpi_pairing(part, group, plan->peer);
    if (status == 0) command->count++;
    else call->status = FST_GROUP_MEMORY;
  }
  if (status == 0 && plan->moves) {
    fst_mpi_part *part = &command->parts[command->count];
    status = fst_mpi_moving(part, group, call, plan->mover, made->pipes, made->count, staged);
    if (status == 0) command->count++;
  }
  if (status == 0) fst_mpi_do(command);
  if (!call->pending) fst_mpi_release(command);
  return call->status;
}

int32_t fst_mpi_run(fst_mpi_group *group, fst_group_call *call, const void *send, void *receive, uint64_t *lengths,
                    uint32_t flags) {
  const memory from = {call->send_device < 0 ? (char *)(uintptr_t)send : (char *)(uintptr_t)call->send_address,
                       call->send_device};
  const memory to = {call->receive_device < 0 ? receive : (char *)(uintptr_t)call->receive_address,
                     call->receive_device};
  const int moves = !(flags & FST_GROUP_COMPARE), root = call->own.root;
  pipes made = {0, NULL, NULL};
  plan plan = {.meets = 1, .counts = 1, .peer = -1, .mover = -1};
  int status = 0;
  switch (call->own.kind) {
    case FST_GROUP_SEND:
    case FST_GROUP_RECEIVE:
      plan = (struct plan){1, moves, 0, call->peer, call->peer};
      status = room_for(&made, 1, 1);
      if (status != 0) break;
      if (call->own.kind == FST_GROUP_SEND) add(&made, -1, call->peer, root, from, call->send_bytes);
      else add(&made, call->peer, -1, root, to, call->receive_bytes);
      break;
    case FST_GROUP_GATHER: /* counted when it is SPREAD */
      plan.counts = 0;
      break;
    case FST_GROUP_SPREAD:
      plan.meets = 0;
      plan.moves = 1;
      status = spread(&made, group, receive, lengths);
      break;
    case FST_GROUP_SCATTER:
      plan.moves = moves;
      plan.mover = root == group->rank ? -1 : root;
      if (moves) status = scatter(&made, group, call, from, to, lengths);
      break;
    default:
      break;
  }
  if (status == 0) execute(group, call, &plan, &made, lengths, flags & FST_GROUP_STAGED);
  else call->status = FST_GROUP_MEMORY;
  free(made.blocks);
  free(made.pipes);
  if (call->status != FST_GROUP_DONE || !moves || call->own.kind != FST_GROUP_SCATTER) return call->status;
  return keep_own(group, call, from, to, lengths);
}

int32_t fst_mpi_broadcast(fst_mpi_group *group, fst_group_call *call, const fst_group_block *blocks, uint64_t count,
                          uint32_t flags, FST_KEEP_16) {
  const int staged = flags & FST_GROUP_STAGED;
  const plan plan = {!(flags & FST_GROUP_LATER), 1, !(flags & FST_GROUP_MORE), -1, -1};
  pipes made;
  if (broadcast(&made, group, blocks, (size_t)count, call->receive_device, staged) == 0) {
    execute(group, call, &plan, &made, NULL, staged);
  } else {
    call->status = FST_GROUP_MEMORY;
  }
  free(made.blocks);
  free(made.pipes);
  return call->status;
}
