/* DLPack tensors, and their deleters. */
#include "dlpack.h"

#include <stdlib.h>
#include <string.h>

#include "cuda.h"

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

/* What is given, as one piece of memory: shape and strides follow. */
typedef struct package {
  union {
    dl_managed managed;
    dl_versioned versioned;
  } as;
  fst_cuda_block *block;
  fst_dlpack_lease *lease;
  int64_t numbers[];
} package;

static void drop(package *given) {
  fst_cuda_block *block = given->block;
  fst_dlpack_lease *lease = given->lease;
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

void *fst_dlpack_new(const fst_dlpack_source *source, const int64_t *shape, int32_t versioned,
                     fst_dlpack_lease **lease) {
  *lease = NULL;
  package *given = calloc(1, sizeof *given + 2 * (size_t)source->rank * sizeof *given->numbers);
  if (!given) return NULL;
  given->block = source->block;
  if (given->block) {
    fst_cuda_retain(given->block);
  } else {
    given->lease = *lease = calloc(1, sizeof **lease);
    if (!given->lease) {
      free(given);
      return NULL;
    }
  }
  dl_tensor tensor = describe(source, shape, given->numbers);
  if (versioned) {
    given->as.versioned = (dl_versioned){1, 0, given, delete_versioned, 0, tensor};
  } else {
    given->as.managed = (dl_managed){tensor, given, delete_managed};
  }
  return given;
}

int32_t fst_dlpack_is_over(fst_dlpack_lease *lease) {
  if (!atomic_load(&lease->is_over)) return 0;
  free(lease);
  return 1;
}
