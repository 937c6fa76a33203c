/* What the stand-in's files share. One lock (sim.lock) guards all of it; bytes are moved without it. */
#ifndef FST_SIM_3FS_INTERNAL_H
#define FST_SIM_3FS_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../shared/shared.h"
#include "hf3fs_abi.h"
#include "sim.h"

enum { SIM_WORKERS = 64, SIM_POISON = 0xDB };

typedef struct sim_configuration {
  unsigned workers, delay_us, latency_us, early;
  double gbps;
  uint64_t seed;
  bool checks;
  char report[4096];
} sim_configuration;

/* A registered file. It outlives its registration while reads of it are in flight. */
typedef struct sim_file {
  int fd;   /* as it was registered */
  int copy; /* the duplicate, which is read from */
  bool writes_only;
  unsigned holders;
} sim_file;

typedef struct sim_iov {
  struct sim_iov *next;
  char *program, *own; /* the same memory, mapped for the program and for the workers */
  size_t bytes;
  char name[64], link[512];
  unsigned holders; /* the program, and each read in flight */
} sim_iov;

typedef enum sim_state {
  SIM_FREE,
  SIM_PREPARED, /* not to start before submit_ios */
  SIM_READY,
  SIM_RUNNING,
  SIM_DONE,
  SIM_LOST,     /* never completes */
} sim_state;

typedef struct sim_read {
  sim_state state;
  sim_file *file;
  sim_iov *iov;
  size_t at; /* in the iov */
  uint64_t offset, bytes, order;
  int64_t result;
  const void *userdata;
} sim_read;

typedef struct sim_ring {
  struct sim_ring *next;
  pthread_cond_t completed;
  int entries, io_depth;
  bool for_read, destroyed, preparing, waiting;
  pthread_t owner; /* the thread that prepared the reads in the ring */
  int used;        /* reads without a wait */
  int running;
  uint64_t order;
  sim_read *reads;
  int *done; /* indices in order of completion; a circle of `entries` */
  int done_first, done_count;
} sim_ring;

typedef struct sim_counts {
  uint64_t reads, bytes, most_in_flight, out_of_order, rings, abandoned;
} sim_counts;

extern struct sim {
  pthread_mutex_t lock;
  pthread_cond_t work, idle;
  sim_configuration config;
  sim_counts counts;
  sim_file **files; /* by descriptor */
  size_t file_limit;
  uint64_t file_count;
  sim_iov *iovs;
  sim_ring *rings;
  unsigned workers, running;
  uint64_t random;
  int64_t link_free; /* nanoseconds, monotonic */
  _Atomic bool gone; /* the mount */
  bool held;         /* no read starts */
} sim;

/* core.c */
void sim_configure(void);
uint64_t sim_random(void); /* locked */
const char *sim_mount(char *path, size_t size); /* without a slash at its end; NULL: there is none */

/* files.c; locked */
sim_file *sim_file_of(int fd);
void sim_file_drop(sim_file *file);

/* iov.c; locked */
sim_iov *sim_iov_of(const struct hf3fs_iov *iov);
void sim_iov_drop(sim_iov *iov);

/* worker.c; locked */
void sim_workers_start(void);
void sim_wake_workers(int reads);

/* ring.c; locked */
void sim_ring_free(sim_ring *ring);

#endif
