/*
 * What the stand-ins' files share. One lock (sim.lock) guards every table and all bookkeeping; bytes are moved
 * without it. Functions that say "locked" are called with the lock and may release it while they wait.
 */
#ifndef FST_SIM_INTERNAL_H
#define FST_SIM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../shared/shared.h"
#include "cuda_abi.h"
#include "sim.h"

enum {
  SIM_DEVICES = 16,
  SIM_PARAMETERS = 16, /* of one kernel */
  SIM_PAGE = 4096,
  SIM_POISON = 0xDB,
};

/* Error codes that the runtime and the driver share, and the runtime's own. */
enum {
  SIM_INVALID_VALUE = 1,
  SIM_OUT_OF_MEMORY = 2,
  SIM_NOT_INITIALIZED = 3,
  SIM_INVALID_DIRECTION = 21,
  SIM_DRIVER_TOO_OLD = 35,
  SIM_NO_DEVICE = 100,
  SIM_INVALID_DEVICE = 101,
  SIM_INVALID_IMAGE = 200,
  SIM_INVALID_CONTEXT = 201,
  SIM_NO_BINARY = 209,
  SIM_INVALID_PTX = 218,
  SIM_UNSUPPORTED_PTX = 222,
  SIM_INVALID_HANDLE = 400,
  SIM_NOT_FOUND = 500,
  SIM_NOT_READY = 600,
  SIM_ILLEGAL_ADDRESS = 700,
  SIM_ALREADY_REGISTERED = 712,
  SIM_NOT_REGISTERED = 713,
  SIM_NOT_SUPPORTED = 801,
};

typedef enum sim_gds { SIM_GDS_REAL, SIM_GDS_COMPAT, SIM_GDS_ABSENT } sim_gds;

typedef struct sim_configuration {
  int devices, version, runtime_version, capability;
  enum { SIM_STDIN_STAYS, SIM_STDIN_CLOSED, SIM_STDIN_TAKEN } cufile_stdin;
  enum { SIM_CUFILE_FREE, SIM_CUFILE_COMPATIBLE, SIM_CUFILE_STRICT } cufile_taken;
  bool old_driver, pools, peer, checks, cufile_strict, cufile_errno;
  size_t device_bytes, cufile_window_bytes, cufile_pinned_bytes;
  unsigned delay_us, unload_us;
  double copy_gbps;
  uint64_t seed;
  sim_gds gds;
  char kernels[4096], report[4096];
} sim_configuration;

/* Device memory. The struct outlives the memory, so that a stale pointer can be named. */
typedef struct sim_allocation {
  uint64_t id;
  uintptr_t address; /* what the program sees */
  size_t bytes, charged;
  int device;
  char *backing; /* where the bytes are */
  void *mapping;
  size_t mapping_bytes;
  enum { SIM_LIVE, SIM_FREEING, SIM_FREED } state;
  unsigned pending;    /* operations and cuFile reads that hold it */
  unsigned registered; /* cuFile buffers in it */
  struct sim_stream *ready_stream; /* cudaMallocAsync: usable once this stream has reached the ticket */
  uint64_t ready_ticket;
} sim_allocation;

/* Pinned host memory. */
typedef struct sim_pin {
  char *base;
  size_t bytes;
  bool registered; /* by cudaHostRegister; otherwise ours */
  bool closing;    /* being freed or unregistered */
  unsigned pending;
} sim_pin;

/* Where a pointer of the program leads: device memory (allocation), pinned (pin) or pageable host memory. */
typedef struct sim_place {
  char *bytes;
  sim_allocation *allocation;
  sim_pin *pin;
} sim_place;

typedef enum sim_work { SIM_MARK, SIM_WAIT, SIM_COPY, SIM_FILL, SIM_KERNEL, SIM_FREE } sim_work;
typedef enum sim_direction { SIM_H2H, SIM_H2D, SIM_D2H, SIM_D2D, SIM_PEER, SIM_FILLED, SIM_DIRECTIONS } sim_direction;
typedef void (*sim_host_kernel)(void **parameters, unsigned grid_x, unsigned block_x);

typedef struct sim_operation {
  struct sim_operation *next;
  uint64_t ticket;
  sim_work work;
  int doomed; /* error it fails with */
  /* copy and fill: `height` rows of `width` bytes */
  sim_direction direction;
  char *to;
  const char *from;
  size_t to_pitch, from_pitch, width, height;
  int value;
  void *snapshot; /* of pageable memory; owned */
  bool summed;
  uint64_t sum;
  /* wait */
  struct sim_stream *target;
  uint64_t until;
  /* kernel */
  sim_host_kernel kernel;
  unsigned grid, block;
  uint64_t parameters[SIM_PARAMETERS];
  /* what it holds until it is done; of SIM_FREE, allocations[0] is what it frees */
  sim_allocation **allocations;
  sim_pin **pins;
  size_t allocation_count, allocation_capacity, pin_count, pin_capacity;
} sim_operation;

/* A stream: a thread with a queue. The struct is never freed, so that events can name it. */
typedef struct sim_stream {
  struct sim_stream *next;
  int device;
  bool blocking;  /* ordered with the default stream */
  bool destroyed; /* ends when its queue is empty */
  bool dead;
  pthread_cond_t arrived;
  sim_operation *head, *tail;
  uint64_t submitted, completed; /* tickets */
  int error;                     /* of the first operation that failed, at ticket failed_at */
  uint64_t failed_at;
  bool surfaced; /* a call has returned it */
  uint64_t random;
} sim_stream;

typedef struct sim_event {
  int device;
  bool spins; /* without cudaEventBlockingSync */
  sim_stream *stream; /* of the latest record; NULL before */
  uint64_t ticket;
} sim_event;

typedef struct sim_device {
  uintptr_t base, next; /* address range and its first unused address */
  sim_allocation **allocations;
  size_t count, capacity;
  size_t used;
  int lost; /* the error that cost the context */
  sim_stream *default_stream;
  uint64_t link_free_ns[2]; /* when the link is idle again, to and from the device */
} sim_device;

typedef struct sim_live {
  uint64_t allocations, pinned, pinned_bytes, registered, registered_bytes, streams, events, modules;
  uint64_t cufile_handles, cufile_buffers, cufile_buffer_bytes, cufile_driver;
  uint64_t contexts; /* not in the total: those of devices in use stay */
} sim_live;

typedef struct sim_counts {
  uint64_t copied[SIM_DIRECTIONS], cufile_bytes; /* bytes */
  uint64_t pageable_async, foreign_device, kernels, spins;
  uint64_t cufile_opens, cufile_logs, cufile_reads, unaligned_reads, unregistered_reads, compat_reads;
  uint64_t past_end_reads, registrations;
  uint64_t copies, launches, records, streams, events, pins, allocations; /* calls */
  uint64_t peak_device_bytes, peak_pinned_bytes;
} sim_counts;

typedef enum sim_kind { SIM_STREAM = 1, SIM_EVENT, SIM_MODULE, SIM_FUNCTION, SIM_FILE, SIM_CONTEXT } sim_kind;

typedef struct sim_state {
  bool initialized; /* the driver: by cuInit or by a runtime call */
  pthread_mutex_t lock;
  pthread_cond_t changed; /* an operation completed, or memory is no longer held */
  sim_configuration config;
  sim_device devices[SIM_DEVICES];
  sim_stream *streams; /* all there ever were */
  sim_pin **pins;
  size_t pin_count, pin_capacity;
  sim_live live;
  sim_counts counts;
} sim_state;
extern sim_state sim;

/* core.c: configuration, handles, the entrance of every call */
void sim_lock(void);
void sim_unlock(void);
void sim_configure(void);                                      /* locked */
int sim_missing(void);                                         /* the error without a driver or device, or 0 */
int sim_runtime_enter(const char *function);                   /* 0, or what the call gives at once */
int sim_plain_enter(const char *function);                     /* the same for calls that need no context */
bool sim_lost(int code);                                       /* code is that of the current device's lost context */
void sim_check_loaded(const char *function);                   /* ends the process if the library is unloaded */
int sim_runtime_result(int code);                              /* remembers it as the thread's last error */
void *sim_handle_new(sim_kind kind, void *object);             /* locked; an address that no one can touch */
void *sim_handle_find(const void *handle, sim_kind kind);      /* locked; NULL if unknown or closed */
void *sim_handle_close(const void *handle, sim_kind kind);     /* locked; the object, or NULL */
void *sim_grown(void *array, size_t count, size_t *capacity, size_t item); /* with space for one more */

/* context.c */
extern __thread int sim_current; /* device of this thread */
extern __thread int sim_bound;   /* device whose driver context is current; -1: none */
void sim_bind(const char *function); /* locked; makes a context current for a runtime call */
void sim_choose(int device);         /* locked; cudaSetDevice */

/* memory.c */
bool sim_is_device_address(const void *pointer);                                             /* locked */
int sim_allocate(int device, size_t bytes, sim_allocation **allocation);                     /* locked */
void sim_release(sim_allocation *allocation);                                                /* locked */
int sim_find_for_free(const char *function, const void *pointer, sim_allocation **allocation); /* locked */
int sim_place_device(const char *function, const void *pointer, size_t bytes, sim_place *place); /* locked */
int sim_place_host(const char *function, const void *pointer, size_t bytes, sim_place *place);   /* locked */
int sim_pin_memory(const char *function, void *base, size_t bytes, bool registered);         /* locked */
int sim_unpin_memory(const char *function, void *base, bool registered, size_t *bytes);      /* locked */
int sim_host_map(size_t bytes, void **base);
void sim_host_retire(void *base, size_t bytes); /* unmaps it later; until then it faults */
bool sim_is_ready(const sim_allocation *allocation, const sim_stream *stream);               /* locked */

/* stream.c */
sim_stream *sim_stream_new(int device, bool blocking);                           /* locked */
int sim_stream_find(const char *function, void *handle, bool enqueue, sim_stream **stream); /* locked */
sim_operation *sim_operation_new(sim_work work);
void sim_operation_hold(sim_operation *operation, const sim_place *place);       /* locked */
uint64_t sim_stream_submit(sim_stream *stream, sim_operation *operation);        /* locked; takes the operation */
int sim_stream_wait(sim_stream *stream, uint64_t ticket);                        /* locked */
int sim_stream_state(sim_stream *stream, uint64_t ticket);                       /* locked; SIM_NOT_READY or as wait */
int sim_device_wait(int device);                                                 /* locked; -1: all devices */

/* operation.c: what a stream's thread does */
int sim_operation_run(sim_stream *stream, sim_operation *operation);
uint64_t sim_sum(const char *bytes, size_t pitch, size_t width, size_t height);
void sim_link_wait(int device, sim_direction direction, size_t bytes);

/* model.c: what the modelled hardware takes; each does nothing, or gives false, without FST_SIM_MODEL */
typedef enum sim_engine {
  SIM_ENGINE_READ,
  SIM_ENGINE_TO_DEVICE,
  SIM_ENGINE_FROM_DEVICE,
  SIM_ENGINE_COMPUTE,
  SIM_ENGINE_DRIVER,
  SIM_ENGINES
} sim_engine;
bool sim_model_is_on(void);
void sim_model_configure(void);
void sim_model_leave(void);              /* the thread returns from a call */
void sim_model_read(uint64_t bytes);     /* the host's read of the bytes that it is about to copy */
bool sim_model_copy(sim_direction direction, uint64_t bytes); /* true: takes the place of the copy; so do the next two */
bool sim_model_kernel(uint64_t elements);
bool sim_model_gds(uint64_t bytes);
void sim_model_allocate(uint64_t bytes);
void sim_model_free(uint64_t bytes);
void sim_model_pool(int device, uint64_t bytes);
void sim_model_unpool(int device, uint64_t bytes); /* locked */
void sim_model_pin(uint64_t bytes, bool is_registered);

/* errors.c */
bool sim_costs_context(int code);

/* ptx.c */
typedef struct sim_entry {
  char name[128];
  char widths[SIM_PARAMETERS + 1]; /* Q: 8 bytes, I: 4 bytes, ?: anything else */
} sim_entry;
typedef struct sim_ptx {
  int version, target; /* 64 for 6.4, 60 for sm_60 */
  sim_entry *entries;  /* owned */
  size_t entry_count;
  const char *reason; /* why it is not PTX; NULL if it is */
} sim_ptx;
void sim_ptx_parse(const char *text, sim_ptx *ptx);

#endif
