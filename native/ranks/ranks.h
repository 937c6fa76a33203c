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

/* A communicator, datatype, request or error handler: a pointer in Open MPI, an int in MPICH, passed alike. */
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
  int (*MPI_Iprobe)(int peer, int tag, fst_mpi_handle comm, int *flag, fst_mpi_status *status);
  int (*MPI_Get_count)(const fst_mpi_status *status, fst_mpi_handle type, int *count);
  int (*MPI_Test)(fst_mpi_handle *request, int *flag, fst_mpi_status *status);
  int (*MPI_Cancel)(fst_mpi_handle *request);
  int (*MPIX_Query_cuda_support)(void); /* NULL where the library lacks it */
  /* What mpi.h would define. */
  fst_mpi_handle world, byte;
  int any_source, thread_funneled, thread_serialized, tag_ub;
  const char *family;
} fst_mpi_library;

/* Opens libmpi, and says where it is; NULL with what was tried in `reason`, which is empty otherwise. */
const fst_mpi_library *fst_mpi_library_open(const char **path, char *reason, size_t size);

/* Set by the MPI thread before fst_mpi_open() returns. */
typedef struct fst_mpi_process {
  const fst_mpi_library *library;
  fst_mpi_handle comm;    /* a copy of the world's; 0: not yet */
  fst_mpi_handle opening; /* the request that makes it; 0: done */
  int rank, size;
  int tags;    /* for bytes, from FST_MPI_TAG_DATA on */
  int is_ours; /* MPI was started here, and is finalised here */
} fst_mpi_process;
extern fst_mpi_process fst_mpi;

enum { FST_MPI_TAG_MESSAGE = 1, FST_MPI_TAG_DATA = 2 };

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

/* Fills in the call with an error of the library. */
void fst_mpi_trouble(fst_group_call *call, const char *function, int code);

/* Tests requests, setting those that are done to 0, after cancelling them if `cancel`; 1 if one is still under way. */
int fst_mpi_take_back(fst_mpi_handle *requests, int count, int cancel);

/* ---- Start of the library, on the MPI thread (mpi_process.c) ---- */

/* Waits for the other ranks. The reason why MPI cannot be used; empty if all is well. */
const char *fst_mpi_start(uint64_t timeout_us);

/* ---- Moving bytes (mpi_transfer.c) ---- */

enum fst_mpi_outcome { FST_MPI_IDLE, FST_MPI_MOVED, FST_MPI_FINISHED, FST_MPI_FAILURE };

typedef struct fst_mpi_transfer fst_mpi_transfer;

/* Transfers at the same time. On the heap: it outlives a call whose memory is in use. */
typedef struct fst_mpi_transfers {
  struct fst_mpi_transfers *next;
  fst_group_call *call;          /* NULL: the process ends, and its memory may be freed */
  uint64_t moved_at, dropped_at; /* microseconds; 0: not yet */
  fst_mpi_staging *staging;      /* NULL: the library takes the memory as it is */
  int device, cancelled;
  uint64_t piece_bytes;
  uint32_t count, finished;
  fst_mpi_transfer *all;
} fst_mpi_transfers;

/* NULL without memory. */
fst_mpi_transfers *fst_mpi_plan(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count,
                                const fst_group_block *blocks, fst_mpi_staging *staging);

/* Does what can be done, and does not wait. FST_MPI_FAILURE: the call says why. */
enum fst_mpi_outcome fst_mpi_step(fst_mpi_transfers *work);

/* Whether it receives or sends with one of these tags. */
int fst_mpi_uses(const fst_mpi_transfers *work, int first, int count);

/* After a failure: takes back what can be taken back; 1 as long as the library may touch the memory. */
int fst_mpi_drop(fst_mpi_transfers *work);
void fst_mpi_release(fst_mpi_transfers *work);

#endif
