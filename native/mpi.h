/* MPI, opened at run time: inside the shim only. */
#ifndef FST_MPI_H
#define FST_MPI_H

#include "fst_group.h"

/* A communicator, datatype, request or error handler: a pointer in Open MPI, an int in MPICH, passed alike. */
typedef uintptr_t fst_mpi_handle;

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
  int (*MPI_Comm_idup)(fst_mpi_handle comm, fst_mpi_handle *copy, fst_mpi_handle *request);
  int (*MPI_Comm_split)(fst_mpi_handle comm, int color, int key, fst_mpi_handle *part);
  int (*MPI_Comm_free)(fst_mpi_handle *comm);
  int (*MPI_Isend)(const void *buffer, int count, fst_mpi_handle type, int peer, int tag, fst_mpi_handle comm,
                   fst_mpi_handle *request);
  int (*MPI_Irecv)(void *buffer, int count, fst_mpi_handle type, int peer, int tag, fst_mpi_handle comm,
                   fst_mpi_handle *request);
  int (*MPI_Ibcast)(void *buffer, int count, fst_mpi_handle type, int root, fst_mpi_handle comm,
                    fst_mpi_handle *request);
  int (*MPI_Iallgather)(const void *send, int send_count, fst_mpi_handle send_type, void *receive, int receive_count,
                        fst_mpi_handle receive_type, fst_mpi_handle comm, fst_mpi_handle *request);
  int (*MPI_Iprobe)(int peer, int tag, fst_mpi_handle comm, int *flag, void *status);
  int (*MPI_Test)(fst_mpi_handle *request, int *flag, void *status);
  int (*MPI_Cancel)(fst_mpi_handle *request);
  int (*MPIX_Query_cuda_support)(void); /* NULL where the library lacks it */
  /* What mpi.h would define. */
  fst_mpi_handle world, byte;
  int any_source, thread_serialized, thread_multiple;
  const char *family;
} fst_mpi_library;

/* Opens libmpi; NULL with what was tried in `message`, which otherwise gets the library's path. */
const fst_mpi_library *fst_mpi_library_open(char *message, size_t size);

/* ---- The process (mpi_process.c) ---- */

typedef struct fst_mpi_staging fst_mpi_staging;

struct fst_mpi_group {
  struct fst_mpi_group *next;
  fst_mpi_handle comm;
  int rank, size;
  uint64_t id;         /* the same on all ranks */
  uint64_t completed;  /* calls of all ranks that are done */
  int32_t *members;    /* their ranks in the world */
  uint64_t *left;      /* by rank: how many calls it had done when it left or failed; UINT64_MAX: it is here */
  char **reasons;      /* by rank: what it said of its failure; NULL: nothing */
  int32_t *blamed;     /* by rank: whose fault that is, as it said */
  int32_t *departures; /* ranks in the order in which they left or failed */
  int departed;
  uint64_t hurried;    /* another rank's time is up in call number `hurried` - 1; 0: none */
  fst_mpi_staging *staging;
};

/* What the shim knows of MPI in this process. The lock guards it, and every call into the library. */
typedef struct fst_mpi_process {
  const fst_mpi_library *library;
  int rank, size;
  int stuck; /* a message of an abandoned call is under way: MPI cannot be finalised */
  uint64_t groups_made;
  fst_mpi_group *groups;
} fst_mpi_process;
extern fst_mpi_process fst_mpi;

void fst_mpi_lock(void);
void fst_mpi_unlock(void);

/* ---- Notices (mpi_notice.c) ---- */

extern fst_mpi_group fst_mpi_everyone; /* all ranks of the world, for notices only */

/* Memory for what the group knows of its ranks, all of them here; 0, or -1 without memory. */
int fst_mpi_know(fst_mpi_group *group);
void fst_mpi_forget(fst_mpi_group *group);

/* Notes that a rank has failed or left, once; `reason` NULL or empty: it does not say why. Locked. */
void fst_mpi_note(fst_mpi_group *group, int rank, uint64_t completed, int blamed, const char *reason);

/* Takes in a new group of which the others may already have said something. Locked. */
void fst_mpi_enlist(fst_mpi_group *group);
void fst_mpi_delist(fst_mpi_group *group);

enum fst_mpi_notice_kind { FST_MPI_LEFT = 1, FST_MPI_FAILED = 2, FST_MPI_HURRY = 3, FST_MPI_EXIT = 4 };

/* Tells all other members, or the one with rank `only` (-1: all). Locked. */
void fst_mpi_tell(const fst_mpi_group *group, enum fst_mpi_notice_kind kind, int only, int32_t blamed,
                  const char *text);

/* Takes in what others have told. Locked. */
void fst_mpi_listen(void);
void fst_mpi_stop_listening(void);

/* Whether `rank` (-1: any rank) has left or failed before the call that is under way. Fills in the call. Locked. */
int fst_mpi_gone(const fst_mpi_group *group, int rank, fst_group_call *call);

/* ---- Waiting (mpi_wait.c) ---- */

/* Does what can be done: FST_MPI_IDLE, FST_MPI_MOVED, FST_MPI_FINISHED, or FST_MPI_FAILURE with the call filled in. */
typedef int (*fst_mpi_step)(void *state, fst_group_call *call);
enum { FST_MPI_IDLE, FST_MPI_MOVED, FST_MPI_FINISHED, FST_MPI_FAILURE };

enum fst_mpi_phase { FST_MPI_MEETING, FST_MPI_MOVING };

/* Steps until finished; enum fst_group_status, also in the call. `peer` is the one rank concerned, or -1 for all. */
int fst_mpi_wait(fst_mpi_group *group, fst_group_call *call, int peer, enum fst_mpi_phase phase, fst_mpi_step step,
                 void *state);

void fst_mpi_set_ending(void); /* the process ends: calls that wait return at once */

/* Fills in the call with an error of the library; gives FST_MPI_FAILURE. Locked. */
int fst_mpi_trouble(fst_group_call *call, const char *function, int code);

/* Tests a request, setting it to 0 when done: 1 done, 0 not yet, -1 with the call filled in. Locked. */
int fst_mpi_test(fst_mpi_handle *request, fst_group_call *call);

/* Takes back receives that nothing has arrived for; 0, or 1 if a request is still under way. Locked. */
int fst_mpi_take_back(fst_mpi_handle *requests, int count, int receives);

/* ---- Calls ---- */

enum {
  FST_MPI_TAG_RECORD = 1,
  FST_MPI_TAG_VERDICT = 2,
  FST_MPI_TAG_NOTICE = 5,
  FST_MPI_TAG_PAIR = 16,   /* the first of FST_MPI_PAIR_TAGS */
  FST_MPI_TAG_DATA = 8208, /* and one more for each root */
};
enum { FST_MPI_PAIR_TAGS = 8192 }; /* every library has tags up to 32767, those that we know far more */

/*
 * What two ranks tell each other in SEND and RECEIVE is told apart by the calls of all ranks before it: from a rank that
 * has one more behind it than this one, it is meant for later.
 */
static inline int fst_mpi_pair_tag(const fst_mpi_group *group) {
  return FST_MPI_TAG_PAIR + (int)(group->completed % FST_MPI_PAIR_TAGS);
}

/* Compares what all ranks call (mpi_exchange.c). */
int fst_mpi_exchange(fst_mpi_group *group, fst_group_call *call, uint64_t *lengths);

/* Compares what this rank and the one that it sends to or receives from call. */
int fst_mpi_pair(fst_mpi_group *group, fst_group_call *call, int peer);

/* Moves the bytes (mpi_transfer.c). */
enum fst_mpi_stream_kind { FST_MPI_BROADCAST, FST_MPI_SEND, FST_MPI_RECEIVE };
typedef struct fst_mpi_stream {
  enum fst_mpi_stream_kind kind;
  int peer; /* of BROADCAST the root */
  int root;
  const fst_group_block *blocks; /* of these the root's, one after another */
  size_t count;
  int device;           /* -1: host */
  int relays;           /* SEND: passes on, piece by piece, what the stream before this one receives */
  uint64_t piece_bytes; /* at most; 0: those of the call */
} fst_mpi_stream;

int fst_mpi_move(fst_mpi_group *group, fst_group_call *call, int peer, const fst_mpi_stream *streams, size_t count,
                 int staged);

/* Copies within this rank. */
int fst_mpi_copy(fst_group_call *call, char *to, int to_device, const char *from, int from_device, uint64_t bytes);

void fst_mpi_staging_free(fst_mpi_staging *staging);

#endif
