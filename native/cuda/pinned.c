/*
 * Pinned host memory. Pinning takes about a millisecond for some megabytes, so staging memory is pinned by pieces when
 * lanes first use them, while others already read, and stays pinned for the process's next loads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cuda/cuda.h"

/* Bytes that are pinned at once; no slot is longer. */
#define PIECE ((uint64_t)16 << 20)

/* The most bytes of idle shared memory. */
#define MOST_IDLE ((uint64_t)128 << 20)

enum { UNTRIED, PINNED, REFUSED };

struct fst_cuda_pinned {
  fst_cuda_release_job job;
  struct fst_cuda_pinned *next; /* in the list of idle ones */
  enum fst_cuda_pinning pinning;
  int device;
  char *memory;
  uint64_t bytes, piece_bytes;
  pthread_mutex_t mutex; /* guards the states */
  int refusal;           /* the status of a piece that was refused */
  uint8_t states[];      /* of each piece */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static fst_cuda_pinned *idle; /* shared memory that no load uses */
static uint64_t idle_bytes;

#define PREFER 1 /* MPOL_PREFERRED of mbind(2), which libc does not declare */

/* Advice only: memory of another node also works, but slower. */
static void place_near(const fst_cudart *runtime, int device, void *memory, uint64_t bytes) {
  unsigned long nodes[16] = {0};
  const unsigned bits = 8 * sizeof *nodes;
  int node = fst_cuda_numa_node(runtime, device);
  if (node < 0 || (unsigned)node >= bits * (sizeof nodes / sizeof *nodes)) return;
  nodes[(unsigned)node / bits] = 1ul << ((unsigned)node % bits);
  syscall(SYS_mbind, memory, (unsigned long)bytes, PREFER, nodes, sizeof nodes * 8 + 1, 0ul);
}

static uint64_t piece_count(uint64_t bytes, uint64_t piece_bytes) {
  return (bytes + piece_bytes - 1) / piece_bytes;
}

static int unregister_all(const fst_cudart *runtime, fst_cuda_pinned *pinned) {
  int status = 0;
  for (uint64_t i = 0; i < piece_count(pinned->bytes, pinned->piece_bytes); i++) {
    if (pinned->states[i] != PINNED) continue;
    const int result = runtime->cudaHostUnregister(pinned->memory + i * pinned->piece_bytes);
    if (status == 0) status = fst_cuda_done(runtime, result);
  }
  return status;
}

static int free_pinned(fst_cuda_release_job *job) {
  fst_cuda_pinned *pinned = (fst_cuda_pinned *)job;
  const fst_cudart *runtime;
  int status = fst_cuda_enter(pinned->device, &runtime);
  if (status == 0) {
    status = unregister_all(runtime, pinned);
    fst_cuda_leave();
  }
  fst_staging_unmap(pinned->memory, pinned->bytes);
  pthread_mutex_destroy(&pinned->mutex);
  free(pinned);
  return status;
}

int fst_cuda_pin_piece(const fst_cudart *runtime, fst_cuda_pinned *pinned, uint64_t offset, uint64_t length) {
  const uint64_t piece = offset / pinned->piece_bytes, start = piece * pinned->piece_bytes;
  if (offset + length - start > pinned->piece_bytes) return -EINVAL; /* copies must not cross pieces */
  pthread_mutex_lock(&pinned->mutex);
  if (pinned->states[piece] == UNTRIED) {
    const uint64_t rest = pinned->bytes - start, bytes = rest < pinned->piece_bytes ? rest : pinned->piece_bytes;
    const int status = runtime->cudaHostRegister(pinned->memory + start, bytes, FST_CUDA_HOST_PORTABLE);
    if (status != 0) pinned->refusal = fst_cuda_done(runtime, status);
    pinned->states[piece] = status == 0 ? PINNED : REFUSED;
  }
  const int status = pinned->states[piece] == PINNED ? 0 : pinned->refusal;
  pthread_mutex_unlock(&pinned->mutex);
  return status;
}

static fst_cuda_pinned *make(const fst_cudart *runtime, int device, uint64_t bytes, enum fst_cuda_pinning pinning) {
  const uint64_t piece_bytes = pinning == FST_CUDA_PIN_NOW || bytes < PIECE ? bytes : PIECE;
  fst_cuda_pinned *pinned = calloc(1, sizeof *pinned + piece_count(bytes, piece_bytes));
  if (!pinned) return NULL;
  pinned->job.free = free_pinned;
  pinned->pinning = pinning;
  pinned->device = device;
  pinned->bytes = bytes;
  pinned->piece_bytes = piece_bytes;
  pinned->memory = fst_staging_map(bytes);
  if (!pinned->memory || pthread_mutex_init(&pinned->mutex, NULL) != 0) {
    fst_staging_unmap(pinned->memory, bytes);
    free(pinned);
    return NULL;
  }
  place_near(runtime, device, pinned->memory, bytes);
  return pinned;
}

static fst_cuda_pinned *take_idle(int device, uint64_t bytes) {
  pthread_mutex_lock(&mutex);
  fst_cuda_pinned **place = &idle;
  while (*place && ((*place)->device != device || (*place)->bytes < bytes)) place = &(*place)->next;
  fst_cuda_pinned *pinned = *place;
  if (pinned) {
    *place = pinned->next;
    idle_bytes -= pinned->bytes;
  }
  pthread_mutex_unlock(&mutex);
  return pinned;
}

int32_t fst_cuda_pin(int32_t device, uint64_t bytes, uint32_t pinning, uint64_t *address, fst_cuda_pinned **result) {
  const fst_cudart *runtime;
  fst_cuda_pinned *pinned = pinning == FST_CUDA_PIN_SHARED ? take_idle(device, bytes) : NULL;
  if (!pinned) {
    int status = fst_cuda_enter(device, &runtime);
    if (status != 0) return status;
    pinned = make(runtime, device, bytes, (enum fst_cuda_pinning)pinning);
    if (!pinned) status = -ENOMEM;
    else if (pinning == FST_CUDA_PIN_NOW) status = fst_cuda_pin_piece(runtime, pinned, 0, bytes);
    fst_cuda_leave();
    if (status != 0) {
      if (pinned) free_pinned(&pinned->job);
      return status;
    }
  }
  *address = (uint64_t)(uintptr_t)pinned->memory;
  *result = pinned;
  return 0;
}

void fst_cuda_unpin(fst_cuda_pinned *pinned) {
  if (pinned->pinning == FST_CUDA_PIN_SHARED) {
    pthread_mutex_lock(&mutex);
    const int stays = pinned->refusal == 0 && idle_bytes + pinned->bytes <= MOST_IDLE;
    if (stays) {
      pinned->next = idle;
      idle = pinned;
      idle_bytes += pinned->bytes;
    }
    pthread_mutex_unlock(&mutex);
    if (stays) return;
  }
  fst_cuda_release_later(&pinned->job);
}

char *fst_cuda_pinned_memory(const fst_cuda_pinned *pinned) {
  return pinned->memory;
}
