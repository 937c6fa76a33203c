/*
 * MPI, opened at run time: inside the shim only.
 *
 * One thread (mpi_thread.c) makes every call into the library, from MPI_Init_thread to MPI_Finalize, and owns all groups.
 * Other threads give it commands and wait for their end; no lock is held while MPI is called.
 */
#ifndef FST_MPI_H
#define FST_MPI_H

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

typedef struct fst_mpi_message fst_mpi_message;
typedef struct fst_mpi_staging fst_mpi_staging;

/* What a group knows of one of its ranks. */
typedef struct fst_mpi_member {
  int32_t world; /* its rank in the world */
  int32_t blamed; /* whose fault its failure is, as it said */
  uint64_t left; /* how many calls it had done when it left or failed; UINT64_MAX: it is here */
  char *reason;  /* what it said of its failure; NULL: nothing */
  int empty;     /* its process ends, and nothing of it is under way any more */
} fst_mpi_member;

struct fst_mpi_group {
  struct fst_mpi_group *next;
  int rank, size;
  uint64_t id;        /* the same on all ranks, and of no other group */
  uint64_t tags;      /* number of its first tag for bytes, of as many as it has ranks; UINT64_MAX: not agreed yet */
  uint64_t next_tags; /* what the ranks agreed on for the next part of this group */
  uint64_t completed; /* calls of all ranks that are done */
  fst_mpi_member *members;
  int32_t *departures; /* ranks in the order in which they left or failed */
  int departed;
  int left;         /* and still here, because it is broken */
  int broken;       /* a call failed: bytes that the others still send are received and dropped */
  uint64_t look_at, look_every; /* for that; microseconds */
  uint64_t hurried; /* another rank's time is up in call number `hurried` - 1; 0: none */
  fst_mpi_message *inbox;
  fst_mpi_staging *staging; /* of the calls: one at a time */
  /* For fst_mpi_watch(), guarded by the queue's mutex. */
  int gone;
  int32_t gone_rank;
  char gone_reason[504];
};

/* What the MPI thread knows. It alone reads and writes this, once MPI runs. */
typedef struct fst_mpi_process {
  const fst_mpi_library *library;
  fst_mpi_handle comm; /* a copy of the world's; 0: not yet */
  int rank, size;
  uint64_t tag_limit; /* tags for bytes are FST_MPI_TAG_DATA and so many more */
  uint64_t splits;    /* in which this process was rank 0 */
  fst_mpi_group *groups;
  fst_mpi_group everyone; /* all ranks of the world, for the ends of processes only */
} fst_mpi_process;
extern fst_mpi_process fst_mpi;

enum { FST_MPI_TAG_MESSAGE = 1, FST_MPI_TAG_DATA = 2 };

static inline int fst_mpi_data_tag(const fst_mpi_group *group, int root) {
  return FST_MPI_TAG_DATA + (int)((group->tags + (uint64_t)root) % fst_mpi.tag_limit);
}

/* ---- The thread (mpi_thread.c) ---- */

enum fst_mpi_outcome { FST_MPI_IDLE, FST_MPI_MOVED, FST_MPI_FINISHED, FST_MPI_FAILURE };
enum fst_mpi_phase { FST_MPI_MEETING, FST_MPI_MOVING };

/* A part of a command. Its functions run on the MPI thread, and none waits. */
typedef struct fst_mpi_part {
  /* Does what can be done. FST_MPI_FAILURE: the call says why. */
  enum fst_mpi_outcome (*step)(void *state, fst_group_call *call);
  /*
   * After a failure: takes back what can be taken back; 1 as long as the library may touch the memory. `call` is NULL
   * where the caller does not wait any more.
   */
  int (*drop)(void *state, fst_group_call *call);
  void (*release)(void *state);
  void *state;
  int peer; /* the one rank concerned, or -1 for all */
  enum fst_mpi_phase phase;
} fst_mpi_part;

/* What the MPI thread is to do: parts one after another. On the heap: it outlives a call whose memory is in use. */
typedef struct fst_mpi_command {
  struct fst_mpi_command *next;
  fst_mpi_group *group; /* may be NULL */
  fst_group_call *call; /* the caller's */
  fst_mpi_part parts[2];
  int count, current;
  int counts; /* it is one of the group's completed calls if it ends well */
  /* The thread's own. */
  uint64_t moved_at, hurried_at, gone_at, dropped_at; /* microseconds; 0: not yet */
  uint64_t pending; /* its number among those whose memory the library may still use */
  int *done;        /* the caller's: set when it may go on */
} fst_mpi_command;

/*
 * Has the MPI thread do the command, and waits for its end; enum fst_group_status. Afterwards the command is the caller's
 * to release, unless call->pending says that the library still uses its memory: then the MPI thread does so later.
 */
int fst_mpi_do(fst_mpi_command *command);

/* Frees it and its parts. */
void fst_mpi_release(fst_mpi_command *command);

enum fst_mpi_stage { FST_MPI_RUNNING, FST_MPI_FINALIZED, FST_MPI_GAVE_UP };

int fst_mpi_start_thread(void); /* once; 0, or -1 */

/*
 * Ends the thread, and waits for that: MPI is finalised, or cannot be. Calls that are under way never return, so that
 * their memory stays. FST_MPI_RUNNING: the library does not come back.
 */
enum fst_mpi_stage fst_mpi_end_thread(int status);

/* No call into MPI until the next command, if the library could write to memory of a call that failed. */
void fst_mpi_freeze(void);

/* On the MPI thread: passes messages and looks after what failed calls have left; 1 if a message came. */
int fst_mpi_progress(void);
int fst_mpi_has_pending(void);
int fst_mpi_is_idle(void); /* nothing of this process is under way */

/* The last thing that the thread does (mpi_process.c). */
enum fst_mpi_stage fst_mpi_end(int status);

/* Fills in the call with an error of the library; gives FST_MPI_FAILURE. */
enum fst_mpi_outcome fst_mpi_trouble(fst_group_call *call, const char *function, int code);

/* Tests a request, setting it to 0 when done: 1 done, 0 not yet, -1 with the call filled in. */
int fst_mpi_test(fst_mpi_handle *request, fst_group_call *call);

/* Cancels receives, once `cancel` is set, and tests all; 1 if one is still under way. */
int fst_mpi_take_back(fst_mpi_handle *requests, int count, int cancel);

uint64_t fst_mpi_now_us(void);

/* ---- Messages (mpi_message.c) ---- */

enum fst_mpi_message_kind {
  FST_MPI_RECORD = 1,  /* to rank 0: what the sender calls, and the lengths of a scatter */
  FST_MPI_VERDICT = 2, /* from rank 0: whether all call the same; two records, lengths */
  FST_MPI_PAIR = 3,    /* a record, in SEND and RECEIVE */
  FST_MPI_LEFT = 4,    /* this and those below: a text */
  FST_MPI_FAILED = 5,
  FST_MPI_HURRY = 6,
  FST_MPI_EXIT = 7,    /* the process ends */
  FST_MPI_EMPTY = 8,   /* nothing of the process that ends is under way any more */
};

struct fst_mpi_message {
  struct fst_mpi_message *next;
  fst_mpi_handle request;
  /* From here on it is sent. */
  uint64_t group, sequence; /* calls of the group that the sender has done */
  uint32_t kind;
  int32_t from;   /* rank in the group */
  int32_t status; /* of a VERDICT: enum fst_group_status */
  int32_t blamed; /* rank in the group */
  uint64_t bytes;
  char payload[];
};

/* A new message of the group; NULL without memory. */
fst_mpi_message *fst_mpi_compose(const fst_mpi_group *group, enum fst_mpi_message_kind kind, const void *payload,
                                 size_t bytes);

/* Sends it to a rank of the group, and frees it when it is sent; FST_MPI_FAILURE with the call filled in, or MOVED. */
enum fst_mpi_outcome fst_mpi_send(const fst_mpi_group *group, int rank, fst_mpi_message *message,
                                  fst_group_call *call);

/* Tells all other members, or the one with rank `only` (-1: all). */
void fst_mpi_tell(const fst_mpi_group *group, enum fst_mpi_message_kind kind, int only, int32_t blamed,
                  const char *text);

/* Receives what has come, and frees what is sent; 1 if there was anything. */
int fst_mpi_pass_messages(void);

/* An error of the library that keeps messages from being received; 0: none. */
int fst_mpi_message_error(void);

/* Whether a message is not sent yet. */
int fst_mpi_sends(void);

/* Takes back what waits for messages, for the end. */
void fst_mpi_stop_messages(void);

/* The first message of the kind from a rank (-1: any), taken out of the group's inbox; NULL: none. */
fst_mpi_message *fst_mpi_take(fst_mpi_group *group, enum fst_mpi_message_kind kind, int from);

/* Memory for what the group knows of its ranks, all of them here; 0, or -1 without memory. */
int fst_mpi_know(fst_mpi_group *group, const int32_t *world);
void fst_mpi_forget(fst_mpi_group *group);

/* Notes that a rank has failed or left, once; `reason` NULL or empty: it does not say why. */
void fst_mpi_note(fst_mpi_group *group, int rank, uint64_t completed, int blamed, const char *reason);

/* Whether `rank` (-1: any rank) has left or failed before the call that is under way: fills in who and why. */
int fst_mpi_gone(const fst_mpi_group *group, int rank, int32_t *who, char *reason, size_t size);

/* Takes in a new group of which the others may already have said something. */
void fst_mpi_enlist(fst_mpi_group *group);
void fst_mpi_delist(fst_mpi_group *group);

/* Keeps what fst_mpi_watch() reads up to date (mpi_thread.c). */
void fst_mpi_publish(fst_mpi_group *group);

/* ---- Comparing calls (mpi_meet.c) ---- */

/* The part that compares what all ranks call; `lengths` as in fst_mpi_run(). 0, or -1 without memory. */
int fst_mpi_meeting(fst_mpi_part *part, fst_mpi_group *group, uint64_t *lengths);

/* The part that compares what this rank and the one that it sends to or receives from call. */
int fst_mpi_pairing(fst_mpi_part *part, fst_mpi_group *group, int peer);

/* ---- Moving bytes (mpi_transfer.c) ---- */

/* Bytes that come from one rank and go to another, or begin or end here. */
typedef struct fst_mpi_pipe {
  int from, to; /* ranks; -1: none */
  int root;
  const fst_group_block *blocks; /* of these the root's, one after another */
  size_t count;
  int device;           /* -1: host */
  uint64_t piece_bytes; /* at most; 0: those of the call */
} fst_mpi_pipe;

/* The part that moves bytes through pipes. -1 with the call filled in if it cannot be. */
int fst_mpi_moving(fst_mpi_part *part, fst_mpi_group *group, fst_group_call *call, int peer, const fst_mpi_pipe *pipes,
                   size_t count, int staged);

/* Copies within this rank, on any thread. */
int fst_mpi_copy(fst_group_call *call, char *to, int to_device, const char *from, int from_device, uint64_t bytes);

void fst_mpi_staging_free(fst_mpi_staging *staging);

#endif
