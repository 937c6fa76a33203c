/*
 * Process groups in the shim: MPI and NCCL, opened at run time by the first call that needs them.
 *
 * MPI has one thread of its own, which the calls of all groups share without waiting for each other; a call of NCCL runs
 * on the thread that makes it. Both return when they are done, have failed, or their time is up. The caller lets the
 * calls of one group follow one another. Whatever a rank waits for, it learns within milliseconds when another rank fails
 * or leaves.
 */
#ifndef FST_GROUP_H
#define FST_GROUP_H

#include "fst.h"

/* What a rank can call. */
enum fst_group_kind {
  FST_GROUP_BROADCAST = 1,
  FST_GROUP_SCATTER = 2,
  FST_GROUP_SEND = 3,
  FST_GROUP_RECEIVE = 4,
  FST_GROUP_BARRIER = 5,
  FST_GROUP_AGREE = 6,
  FST_GROUP_GATHER = 7, /* how many bytes each rank has for all the others */
  FST_GROUP_SPREAD = 8, /* those bytes: follows FST_GROUP_GATHER at once, and is not compared again */
  FST_GROUP_SPLIT = 9,
};

/* How a call ended. */
enum fst_group_status {
  FST_GROUP_DONE = 0,
  FST_GROUP_REFUSED = 1,   /* a rank has said that it failed: `other` */
  FST_GROUP_DIFFERENT = 2, /* two ranks called different things: `reference` and `other` */
  FST_GROUP_GONE = 3,      /* a rank has failed or left: failed_rank; in `message` what to say of it, if known */
  FST_GROUP_TIMED_OUT = 4, /* nothing moved: failed_rank, or -1; in `message` the ranks that did not take part */
  FST_GROUP_CANCELLED = 5, /* by `cancelled`, or because the process ends */
  FST_GROUP_LIBRARY = 6,   /* MPI or NCCL failed: `code` and its text in `message` */
  FST_GROUP_CUDA = 7,      /* libcudart failed: `code` and its text in `message` */
  FST_GROUP_MEMORY = 8,    /* no memory for what the call itself needs */
};

/* What a rank says of its call, to be compared with what the others say. */
typedef struct fst_group_record {
  uint32_t kind;
  int32_t root; /* of SEND and RECEIVE: the rank that sends */
  uint32_t tag;
  uint32_t reserved;
  uint64_t sequence; /* calls of all ranks before this one */
  uint64_t bytes;
  uint64_t label; /* hash of what the call is about */
  /* Up to here all ranks must say the same. */
  uint64_t own_bytes; /* SCATTER: what this rank expects; GATHER: what it has */
  int32_t rank;
  uint32_t failed;
  uint32_t text_bytes;
  char text[452]; /* the label, or why it failed */
} fst_group_record;
static_assert(sizeof(fst_group_record) == 512, "src/group/call_record.ts knows this layout");
#define FST_GROUP_COMPARED offsetof(fst_group_record, own_bytes)

/* A block of BROADCAST: in host memory, or in that of the call's receive_device. */
typedef struct fst_group_block {
  uint64_t address;
  uint64_t bytes;
  int32_t root;
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
  uint32_t piece_bytes; /* of one message, at most 1 GiB; the same on every rank */
  int32_t peer;         /* SEND and RECEIVE */
  _Atomic uint32_t cancelled;
  int32_t status; /* enum fst_group_status; this and all below is written by the shim, but for `own` */
  int32_t failed_rank;
  int32_t code;
  char message[504];
  uint64_t pending; /* MPI may still touch the memory of the call, until fst_mpi_pending() of this says no; 0: not */
  fst_group_record own;
  fst_group_record reference;
  fst_group_record other;
} fst_group_call;
static_assert(sizeof(fst_group_call) == 2120, "ffi/group_call.ts knows this layout");

/* ---- MPI (mpi_*.c) ---- */

typedef struct fst_mpi_info {
  int32_t rank, size; /* in the world */
  int32_t cuda_aware; /* whether the library takes device pointers */
  char family[28];    /* "Open MPI", "MPICH", "MPI ABI" */
} fst_mpi_info;
static_assert(sizeof(fst_mpi_info) == 40, "ffi/mpi.ts knows this layout");

/*
 * Opens and initialises MPI, once, on a thread of its own. 0, and `path` gets where the library is; or -1, and `reason`
 * gets why not. The other one is empty; both have `size` bytes. The end of the process finalises MPI.
 */
FST_EXPORT int32_t fst_mpi_open(fst_mpi_info *info, uint64_t timeout_us, char *path, char *reason, uint64_t size);

typedef struct fst_mpi_group fst_mpi_group;

/*
 * Makes a group; NULL without memory. Without a parent: of all ranks of the world; its first call is FST_GROUP_SPLIT. Else
 * of those `size` ranks of the parent, of which this one is `ranks[rank]`, after a call FST_GROUP_SPLIT of the parent.
 * `id` is the same on all of its ranks, and that of no other group. No other rank is waited for.
 */
FST_EXPORT fst_mpi_group *fst_mpi_group_make(fst_mpi_group *parent, uint64_t id, const int32_t *ranks, int32_t size,
                                             int32_t rank);

/* How a call goes about it. */
enum {
  FST_GROUP_STAGED = 1,  /* device memory goes through host memory, even if MPI would take it */
  FST_GROUP_COMPARE = 2, /* the calls are compared, and nothing is moved: something else does that */
  FST_GROUP_LATER = 4,   /* not the first part of a broadcast: nothing is compared again */
  FST_GROUP_MORE = 8,    /* not the last part of a broadcast */
};

/*
 * Makes one call, but for BROADCAST. `lengths` has an entry a rank: of SCATTER the bytes for each, at the root; of
 * GATHER and SPREAD the bytes of each, filled in by GATHER.
 */
FST_EXPORT int32_t fst_mpi_run(fst_mpi_group *group, fst_group_call *call, const void *send, void *receive,
                               uint64_t *lengths, uint32_t flags);

/* Buffers that are not used: naming them in the call keeps their memory alive. */
#define FST_KEEP(n) __attribute__((unused)) const void *keep##n
#define FST_KEEP_16                                                                                        \
  FST_KEEP(0), FST_KEEP(1), FST_KEEP(2), FST_KEEP(3), FST_KEEP(4), FST_KEEP(5), FST_KEEP(6), FST_KEEP(7),  \
    FST_KEEP(8), FST_KEEP(9), FST_KEEP(10), FST_KEEP(11), FST_KEEP(12), FST_KEEP(13), FST_KEEP(14), FST_KEEP(15)

/* Makes a call BROADCAST, or a part of it: the next of its blocks, cut wherever this rank likes. */
FST_EXPORT int32_t fst_mpi_broadcast(fst_mpi_group *group, fst_group_call *call, const fst_group_block *blocks,
                                     uint64_t count, uint32_t flags, FST_KEEP_16);

/* Tells the other ranks that the group is at its end, whose fault that is, and what to say about it. */
FST_EXPORT int32_t fst_mpi_fail(fst_mpi_group *group, int32_t rank, const char *text);

/* Whether another rank has failed or left: 1, with failed_rank and `message` filled in; else 0. Does not wait. */
FST_EXPORT int32_t fst_mpi_watch(fst_mpi_group *group, fst_group_call *call);

/* Leaves the group, and frees it. The other ranks receive a notice. No call may be under way or follow. */
FST_EXPORT int32_t fst_mpi_leave(fst_mpi_group *group);

/* Whether MPI may still touch the memory of a call: `number` is what the call has as `pending`. */
FST_EXPORT int32_t fst_mpi_pending(uint64_t number);

/* Sets the reason that the other ranks receive if the process ends with an error status. */
FST_EXPORT void fst_mpi_last_words(const char *text);

/* Ends MPI before the process frees its memory; 0, or 1 if MPI cannot be finalised. */
FST_EXPORT int32_t fst_mpi_exit(int32_t status);

/* ---- NCCL (nccl.c) ---- */

#define FST_NCCL_ID_BYTES 128

/*
 * Opens libnccl and libcudart. 0, and `path` gets where libnccl is; or -1, and `reason` gets why not, and is empty
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

/* Frees the group, after its work is done (abort 0) or in the midst of it (abort 1). */
FST_EXPORT int32_t fst_nccl_free(fst_nccl_group *group, int32_t abort);

#endif
