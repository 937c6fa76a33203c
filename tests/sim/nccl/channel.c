/* Shared memory between the ranks: one slot for each direction between two of them. */
#include "sim.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SLOT_BYTES = 65536 };

struct sim_channel {
  _Atomic uint32_t full;
  uint32_t bytes;
  uint64_t length; /* of the whole block */
  char data[SLOT_BYTES];
};

struct sim_meeting {
  _Atomic uint32_t joined;
  uint32_t size;
  sim_channel channels[SIM_NCCL_RANKS * SIM_NCCL_RANKS];
};

sim_meeting *sim_meeting_join(const sim_nccl_id *id, int size) {
  char name[160];
  snprintf(name, sizeof name, "/%.120s", id->bytes);
  int fd = shm_open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (fd < 0 || ftruncate(fd, sizeof(sim_meeting)) != 0) {
    if (fd >= 0) close(fd);
    return NULL;
  }
  sim_meeting *meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (meeting == MAP_FAILED) return NULL;
  meeting->size = (uint32_t)size;
  if (atomic_fetch_add(&meeting->joined, 1) + 1 == (uint32_t)size) shm_unlink(name); /* everyone has it */
  return meeting;
}

bool sim_meeting_complete(const sim_meeting *meeting) {
  return atomic_load(&meeting->joined) == meeting->size;
}

void sim_meeting_leave(sim_meeting *meeting) {
  munmap(meeting, sizeof *meeting);
}

sim_channel *sim_channel_of(sim_meeting *meeting, int from, int to) {
  return &meeting->channels[from * SIM_NCCL_RANKS + to];
}

static bool step_out(sim_transfer *transfer) {
  sim_channel *channel = transfer->channel;
  if (atomic_load(&channel->full)) return false;
  size_t bytes = transfer->length - transfer->moved;
  if (bytes > SLOT_BYTES) bytes = SLOT_BYTES;
  memcpy(channel->data, transfer->bytes + transfer->moved, bytes);
  channel->bytes = (uint32_t)bytes;
  channel->length = transfer->length;
  atomic_store(&channel->full, 1);
  transfer->moved += bytes;
  return true;
}

static bool step_in(sim_transfer *transfer) {
  sim_channel *channel = transfer->channel;
  if (!atomic_load(&channel->full)) return false;
  if (channel->length != transfer->length) {
    transfer->mismatch = true;
    return true;
  }
  memcpy(transfer->bytes + transfer->moved, channel->data, channel->bytes);
  transfer->moved += channel->bytes;
  atomic_store(&channel->full, 0);
  return true;
}

bool sim_transfer_step(sim_transfer *transfer) {
  while (transfer->moved < transfer->length && !transfer->mismatch) {
    if (!(transfer->sends ? step_out(transfer) : step_in(transfer))) return false;
  }
  return true;
}
