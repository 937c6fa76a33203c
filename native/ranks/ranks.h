/*
 * MPI, opened at run time: inside the shim only.
 *
 * One thread (mpi_thread.c) makes every call into the library, from MPI_Init_thread to MPI_Finalize. Other threads give it
 * messages to send and bytes to move; no lock is held while MPI is called. It knows nothing of groups.
 */
#ifndef FST_RANKS_H
#define FST_RANKS_H

#include "core/core.h"
#include "fst_group.h"

/* A communicator, datatype, request, message or error handler: a pointer in Open MPI, an int in MPICH, passed alike. */
typedef uintptr_t fst_mpi_handle;

/* Room for an MPI_Status of any library. */
typedef struct fst_mpi_status {
  _Alignas(16) char bytes[64];
} fst_mpi_status;

typedef struct fst_mpi_library {
  int (*MPI_Initialized)(int *flag);
  int (*MPI_Init_thread)(int *argc, char ***argv, int required, int *provided);
  int (*MPI_Query_thread)(int *provided);
  int (*MPI_Finalized)(int *flag);
  int (*MPI_Finalize)(void);
  int (*MPI_Abort)(fst_mpi_handle comm, int code);
  int (*MPI_Error_string)(int code, char *text, int *length);
  int (*MPI_Comm_rank)(fst_mpi_handle comm, int *rank);
  int (*MPI_Comm_size)(fst_mpi_handle comm, int *size);
  int (*MPI_Comm_create_errhandler)(void (*handler)(fst_mpi_handle *, int *, ...), fst_mpi_handle *errhandler);
  int (*MPI_Comm_set_errhandler)(fst_mpi_handle comm, fst_mpi_handle errhandler);
  int (*MPI_Comm_get_attr)(fst_mpi_handle comm, int key, void *value, int *flag);
  int (*MPI_Comm_idup)(fst_mpi_handle comm, fst_mpi_handle *copy, fst_mpi_handle *request);
  int (*MPI_Isend)(const void *buffer, int count, fst_mpi_handle type, int peer, int tag, fst_mpi_handle comm,
                   fst_mpi_handle *request);
  int (*MPI_Irecv)(void *buffer, int count, fst_mpi_handle type, int peer, int tag, fst_mpi_handle comm,
                   fst_mpi_handle *request);
  int (*MPI_Improbe)(int peer, int tag, fst_mpi_handle comm, int *flag, fst_mpi_handle *message, fst_mpi_status *status);
  int (*MPI_Imrecv)(void *buffer, int count, fst_mpi_handle type, fst_mpi_handle *message, fst_mpi_handle *request);
  int (*MPI_Get_count)(const fst_mpi_status *status, fst_mpi_handle type, int *count);
  int (*MPI_Test)(fst_mpi_handle *request, int *flag, fst_mpi_status *status);
  int (*MPI_Cancel)(fst_mpi_handle *request);
  int (*MPIX_Query_cuda_support)(void); /* NULL where the library lacks it */
  /* What mpi.h would define. */
  fst_mpi_handle world, byte;
  int any_source, thread_funneled, thread_serialized, tag_ub;
  const char *family;
} fst_mpi_library;

/* Set by the MPI thread before fst_mpi_open() returns. */
typedef struct fst_mpi_process {
  const fst_mpi_library *library;
  fst_mpi_handle comm;    /* a copy of the world's; 0: not yet */
  fst_mpi_handle opening; /* the request that makes it; 0: done */
  int rank, size;
  int tags;    /* for bytes */
  int is_ours; /* MPI was started here, and is finalised here */
} fst_mpi_process;
extern fst_mpi_process fst_mpi;

/* The ranks and tags of pipes that only this part knows. */
enum { FST_MPI_NONE = -1, FST_MPI_ANY = -2, FST_MPI_MESSAGES = -1 };

/* What the library gets for the tag of a pipe. */
static inline int fst_mpi_tag(int tag) {
  return tag - FST_MPI_MESSAGES;
}

typedef struct fst_mpi_work fst_mpi_work;

uint64_t fst_mpi_now_us(void);

/* ---- The thread (mpi_thread.c) ---- */

enum fst_mpi_stage { FST_MPI_RUNNING, FST_MPI_FINALIZED, FST_MPI_GAVE_UP };

/* Starts the thread and has it start MPI, once; waits for that. The reason why not, which is empty if all is well. */
const char *fst_mpi_start_thread(uint64_t timeout_us);

/*
 * Ends the thread, and waits for that: MPI is finalised, or cannot be. Calls that are under way never return, so that
 * their memory stays. FST_MPI_RUNNING: the library does not come back.
 */
enum fst_mpi_stage fst_mpi_end_thread(int status);

/* On the MPI thread: whether the process ends. */
int fst_mpi_is_ending(void);

/* Tests requests, setting those that are done to 0, after cancelling them if `cancel`; 1 if one is still under way. */
int fst_mpi_take_back(fst_mpi_handle *requests, int count, int cancel);

/* Describes an error of the library in `text`, which has `size` bytes. */
void fst_mpi_trouble(char *text, size_t size, const char *function, int code);

/* Notes an error of the library, and passes it on to the caller of the call, or to the one who receives messages. */
void fst_mpi_failed(fst_mpi_work *one, const char *function, int code);

/* ---- Start of the library, on the MPI thread (mpi_process.c) ---- */

/* Waits for the other ranks. The reason why MPI cannot be used; empty if all is well. */
const char *fst_mpi_start(uint64_t timeout_us);

/* ---- Moving bytes (mpi_transfer.c) ---- */

typedef struct fst_mpi_transfer fst_mpi_transfer;

/* Transfers at the same time: those of a call, or a message. On the heap: it outlives a call whose memory is in use. */
struct fst_mpi_work {
  fst_mpi_work *next;
  fst_group_call *call;          /* NULL: none, or the process ends, and its memory may be freed */
  uint64_t moved_at, dropped_at; /* microseconds; 0: not yet */
  fst_mpi_handle found;          /* the message that is to be received; 0: the next */
  int device, cancelled, is_finished;
  int has_failed; /* in the library; a message that was not received then has the reason */
  uint32_t count;
  fst_mpi_transfer *all;
  fst_group_block *pieces; /* of all transfers; a message is one, in memory of its own */
};

/* Both are freed with free(); NULL without memory. A message that is to be received has no bytes yet. */
fst_mpi_work *fst_mpi_plan_call(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count,
                                const fst_group_block *pieces);
fst_mpi_work *fst_mpi_plan_message(int from, int to, int tag, const void *bytes, uint64_t length);

/* Does what can be done, and does not wait; 1 if anything has moved. */
int fst_mpi_step(fst_mpi_work *work);

/* After a failure: takes back what can be taken back; 1 as long as the library may touch the memory. */
int fst_mpi_drop(fst_mpi_work *work);

#endif
