/*
 * DLPack: giving tensors to other libraries of the process. The structs are those of DLPack 1.x and, for consumers
 * that know no versions, of 0.x. What is given is freed by its own deleter, in C and from any thread.
 */
#ifndef FST_DLPACK_H
#define FST_DLPACK_H

#include "fst_cuda.h"

/* Where a tensor is, and what it is of. */
typedef struct fst_dlpack_source {
  uint64_t data;       /* address of the first element */
  int32_t device_type; /* 1: CPU; 2: CUDA */
  int32_t device;      /* index of the device */
  int32_t rank;
  uint8_t code, bits; /* of DLDataType */
  uint16_t lanes;
  fst_cuda_block *block; /* memory to hold until the deleter runs; NULL: the caller does, see fst_dlpack_lease */
} fst_dlpack_source;
static_assert(sizeof(fst_dlpack_source) == 32, "ffi/dlpack.ts knows this layout");

/* Says when the deleter of a tensor in the caller's own memory has run. Held by the caller and by the tensor. */
typedef struct fst_dlpack_lease fst_dlpack_lease;

/*
 * A DLManagedTensor (DLManagedTensorVersioned if `versioned`) for a dense tensor; `shape` has `rank` entries and is
 * copied. NULL without memory. `lease` gets one where the source has no block, and NULL where it has.
 */
FST_EXPORT void *fst_dlpack_new(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                                fst_dlpack_lease **lease);

/*
 * As fst_dlpack_new, over a copy of `length` bytes that the tensor owns: `source` has neither data nor a block. For memory
 * that may go before the consumer is done.
 */
FST_EXPORT void *fst_dlpack_copy(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                                 const void *bytes, uint64_t length);

/* Whether the deleter has run. Once this gives 1 the lease is gone, and so must be the caller's pointer to it. */
FST_EXPORT int32_t fst_dlpack_is_over(fst_dlpack_lease *lease);

#endif
