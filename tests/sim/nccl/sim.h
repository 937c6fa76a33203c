/*
 * A stand-in for libnccl over shared memory between processes of one machine, in one library with the stand-ins for
 * CUDA (tests/sim/cuda/sim.h): both must see the same device memory and streams. It is not NCCL, and says nothing about
 * speed.
 *
 *   FASTSAFETENSORS_NCCL_LIB, FASTSAFETENSORS_CUDART_LIB = .../libfst_sim_nccl.so
 *
 * As in NCCL, calls only enqueue, the bytes move when the stream gets there, a rank that does not come is waited for,
 * and ncclCommAbort ends the waiting. Stricter than NCCL: two ranks that enqueue different amounts for one another are
 * a violation ("nccl-mismatch"), as is memory that is not on the communicator's device.
 *
 * Environment
 *   FST_SIM_NCCL_FAIL=N     the Nth group of calls of this process fails once it runs: ncclCommGetAsyncError gives
 *                           ncclRemoteError, and the stream never gets past it until ncclCommAbort
 */
#ifndef FST_SIM_NCCL_H
#define FST_SIM_NCCL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_NCCL_RANKS = 16 };

typedef struct sim_nccl_id {
  char bytes[128];
} sim_nccl_id;

/* One direction between two ranks. */
typedef struct sim_channel sim_channel;

/* What the ranks of a communicator share. */
typedef struct sim_meeting sim_meeting;

/* channel.c */
sim_meeting *sim_meeting_join(const sim_nccl_id *id, int size);
bool sim_meeting_complete(const sim_meeting *meeting);
void sim_meeting_leave(sim_meeting *meeting);

/* One block on its way to or from a peer. */
typedef struct sim_transfer {
  sim_channel *channel;
  bool sends;
  char *bytes;
  size_t length, moved;
  bool mismatch;
} sim_transfer;

sim_channel *sim_channel_of(sim_meeting *meeting, int from, int to);

/* Moves what can be moved; whether it is done. */
bool sim_transfer_step(sim_transfer *transfer);

#endif
