/*
 * Process groups in the shim: MPI and NCCL, opened at run time by the first call that needs them.
 *
 * C passes messages and moves bytes. TypeScript knows the groups and compares the calls of ranks
 * (src/ranks/group/control.ts). MPI has one thread of its own, which all groups share without waiting for each other; a call of NCCL runs on
 * the thread that makes it. Both return when they are done, have failed, or their time is up.
 */
#ifndef FST_GROUP_H
#define FST_GROUP_H

#include "fst.h"

/* What is moved. */
enum fst_group_kind {
  FST_GROUP_BROADCAST = 1,
  FST_GROUP_SCATTER = 2,
  FST_GROUP_SEND = 3,
  FST_GROUP_RECEIVE = 4,
};

/* How a call ended. */
enum fst_group_status {
  FST_GROUP_DONE = 0,
  FST_GROUP_TIMED_OUT = 1, /* nothing moved */
  FST_GROUP_CANCELLED = 2, /* by `cancelled`, or by the end of the process */
  FST_GROUP_LIBRARY = 3,   /* MPI or NCCL failed: `code` and its text in `message` */
  FST_GROUP_CUDA = 4,      /* libcudart failed: `code` and its text in `message` */
  FST_GROUP_MEMORY = 5,    /* no memory for the call itself */
};

/* A block: in host memory, or in that of the call's receive_device. */
typedef struct fst_group_block {
  uint64_t address;
  uint64_t bytes;
  int32_t root; /* of a broadcast of NCCL */
  uint32_t reserved;
} fst_group_block;
static_assert(sizeof(fst_group_block) == 24, "ffi/group_call.ts knows this layout");

typedef struct fst_group_call {
  uint64_t send_address; /* on a device; 0: the host buffer that the call names */
  uint64_t send_bytes;
  uint64_t receive_address;
  uint64_t receive_bytes;
  int32_t send_device; /* -1: host */
  int32_t receive_device;
  uint64_t timeout_us;  /* without any movement */
  int32_t kind;         /* enum fst_group_kind */
  int32_t root;
  int32_t peer; /* SEND and RECEIVE */
  _Atomic uint32_t cancelled;
  int32_t status; /* enum fst_group_status; this and all below is written by the shim */
  int32_t code;
  uint32_t running;         /* of MPI: the call has not ended */
  _Atomic uint32_t pending; /* MPI may still touch the memory of the call, until this is 0 again, and this struct */
  char message[504];
} fst_group_call;
static_assert(sizeof(fst_group_call) == 584, "ffi/group_call.ts knows this layout");

/* ---- MPI (ranks/mpi_*.c) ---- */

typedef struct fst_mpi_info {
  int32_t rank, size; /* in the world */
  int32_t cuda_aware; /* whether the library takes device pointers */
  int32_t tags;       /* how many there are for bytes */
  char family[24];    /* "Open MPI", "MPICH", "MPI ABI" */
} fst_mpi_info;
static_assert(sizeof(fst_mpi_info) == 40, "ffi/mpi.ts knows this layout");

/*
 * Opens and initialises MPI, once, on a thread of its own. 0, and `path` gets the path of the library; or -1, and `reason`
 * gets the reason. The other one is empty; both have `size` bytes. The end of the process finalises MPI. Where both
 * families are installed, `mpich_first` says which one is used.
 */
FST_EXPORT int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, int32_t mpich_first, char *path, char *reason,
                                uint64_t size);

/* Messages between processes, of any content, with at least one byte and at most this many. */
#define FST_MPI_MESSAGE_BYTES 65536

/* Sends a copy of the message to a rank of the world, and does not wait for it; 0, or -1 without memory. */
FST_EXPORT int32_t fst_mpi_send(int32_t rank, const void *message, uint64_t bytes);

/*
 * Receives the next message of any rank, in the order in which they were sent; its length. 0: there is none. -1: MPI has
 * failed, and messages are lost; `buffer`, of FST_MPI_MESSAGE_BYTES, gets the text, with a zero at its end.
 */
FST_EXPORT int64_t fst_mpi_receive(void *buffer);

/* Waits until the call has ended, or for a message if it is NULL: 1; 0 if that has not happened within the time. */
FST_EXPORT int32_t fst_mpi_wait(const fst_group_call *call, uint64_t wait_us);

/* Bytes that arrive from one rank of the world and are sent to another, or begin or end at this rank. */
typedef struct fst_mpi_pipe {
  int32_t from, to; /* -1: none */
  int32_t tag;      /* from 0 to less than fst_mpi_info.tags */
  uint32_t count;   /* pieces, which follow those of earlier pipes in the table of the call */
} fst_mpi_pipe;
static_assert(sizeof(fst_mpi_pipe) == 16, "ffi/mpi.ts knows this layout");

/*
 * Begins to move the bytes of all pipes; 0, or -1 without memory, and then nothing has begun. A piece is one message, of
 * at most 1 GiB and of the same length on both ranks. No memory of the pieces may be freed before fst_mpi_wait() says
 * that the call has ended.
 */
FST_EXPORT int32_t fst_mpi_move(fst_group_call *call, const fst_mpi_pipe *pipes, uint32_t count,
                                const fst_group_block *pieces);

#define FST_KEEP_16                                                                                        \
  FST_KEEP_8, FST_KEEP(8), FST_KEEP(9), FST_KEEP(10), FST_KEEP(11), FST_KEEP(12), FST_KEEP(13),            \
    FST_KEEP(14), FST_KEEP(15)

/* Holds the memory of a call until it has ended. */
FST_EXPORT int32_t fst_mpi_hold(const fst_group_call *call, FST_KEEP_16);

/* Tags of a group. */
typedef struct fst_mpi_tags {
  int32_t first, count;
  int32_t dropped; /* bytes with these tags are received and dropped, so that the sender's memory is released */
} fst_mpi_tags;
static_assert(sizeof(fst_mpi_tags) == 12, "ffi/mpi.ts knows this layout");

/* Sets the tags that the groups use; 0, or -1 without memory. At the end of the process all are dropped. */
FST_EXPORT int32_t fst_mpi_set_tags(const fst_mpi_tags *all, uint32_t count);

/*
 * Sets a message that all ranks of the world receive when the process ends; none if it has no bytes. With `freeze` MPI is
 * not called until the next message or move, as the process may free memory that is pending.
 */
FST_EXPORT void fst_mpi_last_words(const void *message, uint64_t bytes, int32_t freeze);

/* Ends MPI before the process frees its memory; 0, or 1 if MPI cannot be finalised. */
FST_EXPORT int32_t fst_mpi_exit(int32_t status);

/* ---- NCCL (ranks/nccl.c) ---- */

#define FST_NCCL_ID_BYTES 128

/*
 * Opens libnccl and libcudart. 0, and `path` gets the path of libnccl; or -1, and `reason` gets the reason, and is empty
 * otherwise. Both have `size` bytes.
 */
FST_EXPORT int32_t fst_nccl_open(int32_t *version, char *path, char *reason, uint64_t size);

/* Makes the id that all ranks of a new communicator share. Statuses here and below: enum fst_group_status. */
FST_EXPORT int32_t fst_nccl_make_id(uint8_t *id, fst_group_call *call);

typedef struct fst_nccl_group fst_nccl_group;

/* Makes a communicator on the device call->send_device, together with the other ranks; *group is 0 if it failed. */
FST_EXPORT int32_t fst_nccl_make(const uint8_t *id, int32_t rank, int32_t size, fst_group_call *call,
                                 fst_nccl_group **group);

/*
 * BROADCAST, SCATTER, SEND or RECEIVE of device memory; the rest as for MPI. Nothing is compared here. A call that fails
 * aborts the communicator before it returns: its memory is not in use any more, and no further call goes through.
 */
FST_EXPORT int32_t fst_nccl_run(fst_nccl_group *group, fst_group_call *call, const fst_group_block *blocks,
                                uint64_t block_count, const uint64_t *lengths);

/* Frees the group, after its work is done (abort 0) or during it (abort 1). */
FST_EXPORT int32_t fst_nccl_free(fst_nccl_group *group, int32_t abort);

#endif
