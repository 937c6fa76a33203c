/* DLPack tensors, and their deleters. */
#include <stdlib.h>
#include <string.h>

#include "cuda/cuda.h"

typedef struct dl_tensor {
  void *data;
  int32_t device_type, device;
  int32_t rank;
  uint8_t code, bits;
  uint16_t lanes;
  int64_t *shape, *strides; /* strides in elements */
  uint64_t byte_offset;
} dl_tensor;
static_assert(sizeof(dl_tensor) == 48 && offsetof(dl_tensor, code) == 20, "DLTensor");

typedef struct dl_managed {
  dl_tensor tensor;
  void *context;
  void (*deleter)(struct dl_managed *self);
} dl_managed;
static_assert(sizeof(dl_managed) == 64, "DLManagedTensor");

typedef struct dl_versioned {
  uint32_t major, minor;
  void *context;
  void (*deleter)(struct dl_versioned *self);
  uint64_t flags;
  dl_tensor tensor;
} dl_versioned;
static_assert(sizeof(dl_versioned) == 80, "DLManagedTensorVersioned");

struct fst_dlpack_lease {
  _Atomic int is_over;
};

/* A DLPack tensor in one piece of memory: shape and strides follow. */
typedef struct package {
  union {
    dl_managed managed;
    dl_versioned versioned;
  } as;
  fst_cuda_block *block;
  fst_dlpack_lease *lease;
  void *copy;
  int64_t numbers[];
} package;

static void drop(package *given) {
  fst_cuda_block *block = given->block;
  fst_dlpack_lease *lease = given->lease;
  free(given->copy);
  free(given);
  if (block) fst_cuda_release(block);
  if (lease) atomic_store(&lease->is_over, 1);
}

static void delete_managed(dl_managed *self) {
  drop(self->context);
}

static void delete_versioned(dl_versioned *self) {
  drop(self->context);
}

static dl_tensor describe(const fst_dlpack_source *source, const int64_t *shape, int64_t *numbers) {
  const size_t rank = (size_t)source->rank;
  int64_t *strides = numbers + rank, stride = 1;
  if (rank > 0) memcpy(numbers, shape, rank * sizeof *shape); /* a scalar has no shape to point to */
  for (size_t i = rank; i-- > 0;) {
    strides[i] = stride;
    stride *= shape[i] > 0 ? shape[i] : 1;
  }
  return (dl_tensor){
    .data = (void *)(uintptr_t)source->data,
    .device_type = source->device_type,
    .device = source->device,
    .rank = source->rank,
    .code = source->code,
    .bits = source->bits,
    .lanes = source->lanes,
    .shape = numbers,
    .strides = strides,
  };
}

/* Float types of 8 bits came with DLPack 1.1. */
#define LAST_CODE_OF_1_0 6

static package *give(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned) {
  package *given = calloc(1, sizeof *given + 2 * (size_t)source->rank * sizeof *given->numbers);
  if (!given) return NULL;
  dl_tensor tensor = describe(source, shape, given->numbers);
  if (versioned) {
    const uint32_t minor = source->code > LAST_CODE_OF_1_0;
    given->as.versioned = (dl_versioned){1, minor, given, delete_versioned, 0, tensor};
  } else {
    given->as.managed = (dl_managed){tensor, given, delete_managed};
  }
  return given;
}

void *fst_dlpack_new(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                     fst_dlpack_lease **lease) {
  *lease = source->block ? NULL : calloc(1, sizeof **lease);
  package *given = source->block || *lease ? give(source, shape, versioned) : NULL;
  if (!given) {
    free(*lease);
    *lease = NULL;
    return NULL;
  }
  given->block = source->block;
  given->lease = *lease;
  if (given->block) fst_cuda_retain(given->block);
  return given;
}

void *fst_dlpack_copy(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned, const void *bytes,
                      uint64_t length) {
  const uint64_t line = 64; /* the alignment that consumers expect */
  void *copy = aligned_alloc(line, (length + line) & ~(line - 1));
  fst_dlpack_source copied = *source;
  copied.data = length > 0 ? (uint64_t)(uintptr_t)copy : 0;
  package *given = copy ? give(&copied, shape, versioned) : NULL;
  if (!given) {
    free(copy);
    return NULL;
  }
  if (length > 0) memcpy(copy, bytes, length);
  given->copy = copy;
  return given;
}

int32_t fst_dlpack_is_over(fst_dlpack_lease *lease) {
  if (!atomic_load(&lease->is_over)) return 0;
  free(lease);
  return 1;
}
