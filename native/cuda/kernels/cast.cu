/*
 * The device code of casts and of copies. build_ptx.sh makes cast_ptx.h from it.
 *
 * Every kernel strides over its work by the size of the grid: any one-dimensional launch is correct. Fast: 256
 * threads to a block, and as many blocks as fill the device, but not more than the work needs. Pointers are device
 * addresses of any alignment; source and destination do not overlap. Pointers, counts, bytes and strides are 64 bits
 * wide, dtypes 32.
 */
#include "cast/cast.h"
#include "cast/convert.h"

FST_FN uint64_t thread_index() { return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x; }

FST_FN uint64_t thread_count() { return (uint64_t)gridDim.x * blockDim.x; }

/* Alignments are powers of two. */
FST_FN bool aligned(const void *address, uint64_t alignment) {
  return ((uint64_t)address & (alignment - 1)) == 0;
}

/* ---- Casts ---- */

/* N elements, moved in as few instructions as possible: of at most 16 bytes each. */
template <typename Code, int N>
struct alignas(sizeof(Code) * N < 16 ? sizeof(Code) * N : 16) Pack {
  Code at[N];
};

/* Packs are contiguous; only packs of one element may be unaligned. */
template <typename Code, int N>
static __device__ __forceinline__ Pack<Code, N> load(const uint8_t *source, uint64_t index) {
  source += index * sizeof(Pack<Code, N>);
  if (N > 1 || aligned(source, sizeof(Code))) return *(const Pack<Code, N> *)source;
  Pack<Code, N> pack;
  memcpy(&pack, source, sizeof pack);
  return pack;
}

template <typename Code, int N>
static __device__ __forceinline__ void store(uint8_t *destination, uint64_t index,
                                             const Pack<Code, N> &pack) {
  destination += index * sizeof pack;
  if (N > 1 || aligned(destination, sizeof(Code))) *(Pack<Code, N> *)destination = pack;
  else memcpy(destination, &pack, sizeof pack);
}

/* Pack `index` from one dtype to another. All threads take the same branches of the switches. */
template <int N>
static __device__ __forceinline__ void cast_pack(uint8_t *destination, const uint8_t *source, uint64_t index,
                                                 uint32_t to, uint32_t from) {
  Pack<uint32_t, N> pivots;
#define WIDEN(dtype, integer, pivot)                                                                         \
  case dtype: {                                                                                              \
    const Pack<integer, N> in = load<integer, N>(source, index);                                             \
    for (int k = 0; k < N; k++) {                                                                            \
      const integer x = in.at[k];                                                                            \
      pivots.at[k] = pivot;                                                                                  \
    }                                                                                                        \
    break;                                                                                                   \
  }
  switch (from) {
    WIDEN(FST_F32, uint32_t, fst_widen_f32(x))
    WIDEN(FST_F16, uint16_t, fst_widen_f16(x))
    WIDEN(FST_BF16, uint16_t, fst_widen_bf16(x))
    WIDEN(FST_F64, uint64_t, to == FST_F32 ? fst_f64_to_f32(x) : fst_widen_f64(x))
    WIDEN(FST_F8_E5M2, uint8_t, fst_widen_f8_e5m2(x))
    WIDEN(FST_F8_E4M3, uint8_t, fst_widen_f8_e4m3(x))
    WIDEN(FST_F8_E8M0, uint8_t, fst_widen_f8_e8m0(x))
    WIDEN(FST_F8_E4M3FNUZ, uint8_t, fst_widen_f8_e4m3fnuz(x))
    WIDEN(FST_F8_E5M2FNUZ, uint8_t, fst_widen_f8_e5m2fnuz(x))
    default: return;
  }
#undef WIDEN
#define NARROW(dtype, integer, function)                                                                     \
  case dtype: {                                                                                              \
    Pack<integer, N> out;                                                                                    \
    for (int k = 0; k < N; k++) out.at[k] = function(pivots.at[k]);                                          \
    store<integer, N>(destination, index, out);                                                              \
    break;                                                                                                   \
  }
  switch (to) {
    NARROW(FST_F32, uint32_t, fst_narrow_f32)
    NARROW(FST_F16, uint16_t, fst_narrow_f16)
    NARROW(FST_BF16, uint16_t, fst_narrow_bf16)
    NARROW(FST_F64, uint64_t, fst_narrow_f64)
    NARROW(FST_F8_E5M2, uint8_t, fst_narrow_f8_e5m2)
    NARROW(FST_F8_E4M3, uint8_t, fst_narrow_f8_e4m3)
    NARROW(FST_F8_E8M0, uint8_t, fst_narrow_f8_e8m0)
    NARROW(FST_F8_E4M3FNUZ, uint8_t, fst_narrow_f8_e4m3fnuz)
    NARROW(FST_F8_E5M2FNUZ, uint8_t, fst_narrow_f8_e5m2fnuz)
  }
#undef NARROW
}

/* The alignment of a Pack of four. */
FST_FN uint32_t pack_alignment(uint32_t dtype) {
  if (dtype == FST_F64 || dtype == FST_F32) return 16;
  return dtype == FST_F16 || dtype == FST_BF16 ? 8 : 4;
}

/*
 * Casts `count` elements between two different dtypes, each F32, F16, BF16, F64 or an F8: the caller has checked
 * this. The arithmetic is that of convert.h: see there for rounding and NaNs.
 */
extern "C" __global__ void fst_cast_elements(uint8_t *destination, const uint8_t *source, uint64_t count,
                                             uint32_t to, uint32_t from) {
  uint64_t done = 0;
  if (aligned(source, pack_alignment(from)) && aligned(destination, pack_alignment(to))) {
    for (uint64_t i = thread_index(); i < count / 4; i += thread_count()) {
      cast_pack<4>(destination, source, i, to, from);
    }
    done = count / 4 * 4;
  }
  for (uint64_t i = done + thread_index(); i < count; i += thread_count()) {
    cast_pack<1>(destination, source, i, to, from);
  }
}

/* ---- Moves ---- */

struct alignas(16) Vector {
  uint32_t word[4];
};

template <typename Unit>
static __device__ __forceinline__ void copy_units(uint8_t *destination, const uint8_t *source,
                                                  uint64_t count) {
  for (uint64_t i = thread_index(); i < count; i += thread_count()) {
    ((Unit *)destination)[i] = ((const Unit *)source)[i];
  }
}

/*
 * Writes whole words at the destination, each from the two words of the source that hold its bytes. Reads the aligned
 * words from the one that holds source[0] on, count + 1 of them. A thread processes four words at a time, because one
 * is not enough to hide the latency of memory.
 */
static __device__ __forceinline__ void copy_shifted(uint8_t *destination, const uint8_t *source,
                                                    uint64_t count) {
  const int shift = (int)((uint64_t)source % 4) * 8;
  const uint32_t *from = (const uint32_t *)(source - (uint64_t)source % 4);
  uint32_t *to = (uint32_t *)destination;
  const uint64_t step = thread_count();
  for (uint64_t i = thread_index(); i < count; i += 4 * step) {
    uint32_t words[4];
    for (int k = 0; k < 4; k++) {
      const uint64_t at = i + k * step;
      if (at < count) words[k] = (uint32_t)(((uint64_t)from[at + 1] << 32 | from[at]) >> shift);
    }
    for (int k = 0; k < 4; k++) {
      const uint64_t at = i + k * step;
      if (at < count) to[at] = words[k];
    }
  }
}

/* Copies bytes between any two alignments, in words if those differ. */
extern "C" __global__ void fst_copy_unaligned(uint8_t *destination, const uint8_t *source, uint64_t bytes) {
  if (bytes < 64) {
    copy_units<uint8_t>(destination, source, bytes);
    return;
  }
  uint64_t head = (0 - (uint64_t)destination) % 16;
  uint64_t body;
  if (aligned(source + head, 16)) {
    body = (bytes - head) / 16 * 16;
    copy_units<Vector>(destination + head, source + head, body / 16);
  } else {
    if (head < 3) head += 16; /* the first aligned word may begin 3 bytes before source + head */
    body = (bytes - head - 4) / 4 * 4; /* and the last one end 4 bytes after it */
    copy_shifted(destination + head, source + head, body / 4);
  }
  copy_units<uint8_t>(destination, source, head);
  copy_units<uint8_t>(destination + head + body, source + head + body, bytes - head - body);
}

/* Divides by Index, since a division of 64 bits takes many times as long as one of 32. */
template <typename Unit, typename Index>
static __device__ __forceinline__ void copy_indexed(uint8_t *destination, const uint8_t *source, Index run,
                                                    Index total, uint64_t outer_stride, Index inner_count,
                                                    uint64_t inner_stride) {
  for (uint64_t i = thread_index(); i < total; i += thread_count()) {
    const Index at = (Index)i, row = at / run, outer = row / inner_count;
    const uint8_t *from = source + outer * outer_stride + (row - outer * inner_count) * inner_stride;
    ((Unit *)destination)[i] = ((const Unit *)from)[at - row * run];
  }
}

template <typename Unit>
static __device__ __forceinline__ void copy_runs(uint8_t *destination, const uint8_t *source,
                                                 uint64_t run_bytes, uint64_t outer_count,
                                                 uint64_t outer_stride, uint64_t inner_count,
                                                 uint64_t inner_stride) {
  const uint64_t run = run_bytes / sizeof(Unit), total = outer_count * inner_count * run;
  if (total >> 32 == 0) {
    copy_indexed<Unit, uint32_t>(destination, source, (uint32_t)run, (uint32_t)total, outer_stride,
                                 (uint32_t)inner_count, inner_stride);
  } else {
    copy_indexed<Unit, uint64_t>(destination, source, run, total, outer_stride, inner_count, inner_stride);
  }
}

/* Copies outer_count x inner_count runs, at strides in the source, to contiguous memory. */
extern "C" __global__ void fst_copy_strided(uint8_t *destination, const uint8_t *source, uint64_t run_bytes,
                                            uint64_t outer_count, uint64_t outer_stride, uint64_t inner_count,
                                            uint64_t inner_stride) {
  /* A power of two that divides them all divides their union of bits: the lowest set bit is the widest unit. */
  uint64_t bits = (uint64_t)destination | (uint64_t)source | run_bytes;
  if (outer_count > 1) bits |= outer_stride;
  if (inner_count > 1) bits |= inner_stride;
#define RUNS(Unit) \
  copy_runs<Unit>(destination, source, run_bytes, outer_count, outer_stride, inner_count, inner_stride)
  if (bits % 16 == 0) RUNS(Vector);
  else if (bits % 8 == 0) RUNS(uint64_t);
  else if (bits % 4 == 0) RUNS(uint32_t);
  else if (bits % 2 == 0) RUNS(uint16_t);
  else RUNS(uint8_t);
#undef RUNS
}
