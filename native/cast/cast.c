/*
 * Casts: selects the kernel, and has the portable one, which defines the result of all.
 *
 * The portable cast makes two passes over a piece that stays in the first-level cache: widen to pivots, narrow from
 * them (convert.h), so that nine dtypes need eighteen loops instead of seventy-two. The common pairs of loads have
 * single-pass kernels in x86.h.
 */
#include "cast/cast.h"

#include <errno.h>
#include <string.h>

#include "cast/convert.h"

#define F8_FIRST FST_F8_E5M2
#define F8_COUNT (FST_F8_E5M2FNUZ - FST_F8_E5M2 + 1)

/* The pivot of every F8 code, without its lower half, which is zero: an F8 is exact as a BF16. */
static uint16_t f8_pivots[F8_COUNT][256];

/* Casts as many elements as its steps allow, and returns their number. */
typedef size_t fst_cast_kernel(uint8_t *destination, const uint8_t *source, size_t count);

/* The compilers that have names for all instruction sets below. */
#if defined(__x86_64__) && (defined(__clang__) ? __clang_major__ >= 8 : defined(__GNUC__) && __GNUC__ >= 8)
#include "cast/x86.h"
#else
static int best_isa(void) { return FST_CAST_PLAIN; }
static fst_cast_kernel *x86_kernel(int isa, uint32_t to, uint32_t from) {
  (void)isa, (void)to, (void)from;
  return NULL;
}
#endif

static int isa;

/* Runs when the library is loaded; the tables are constant afterwards. */
__attribute__((constructor)) static void prepare(void) {
  for (uint32_t code = 0; code < 256; code++) {
    const uint8_t x = (uint8_t)code;
    f8_pivots[FST_F8_E5M2 - F8_FIRST][code] = (uint16_t)(fst_widen_f8_e5m2(x) >> 16);
    f8_pivots[FST_F8_E4M3 - F8_FIRST][code] = (uint16_t)(fst_widen_f8_e4m3(x) >> 16);
    f8_pivots[FST_F8_E8M0 - F8_FIRST][code] = (uint16_t)(fst_widen_f8_e8m0(x) >> 16);
    f8_pivots[FST_F8_E4M3FNUZ - F8_FIRST][code] = (uint16_t)(fst_widen_f8_e4m3fnuz(x) >> 16);
    f8_pivots[FST_F8_E5M2FNUZ - F8_FIRST][code] = (uint16_t)(fst_widen_f8_e5m2fnuz(x) >> 16);
  }
  isa = best_isa();
}

/* ---- The portable kernel ---- */

typedef void widen_fn(uint32_t *pivots, const uint8_t *source, size_t count);
typedef void narrow_fn(uint8_t *destination, const uint32_t *pivots, size_t count);

#define WIDEN(dtype, element)                                                                                \
  static void widen_##dtype(uint32_t *restrict pivots, const uint8_t *restrict source, size_t count) {       \
    for (size_t i = 0; i < count; i++) {                                                                     \
      element x;                                                                                             \
      memcpy(&x, source + i * sizeof x, sizeof x);                                                           \
      pivots[i] = fst_widen_##dtype(x);                                                                      \
    }                                                                                                        \
  }

#define WIDEN_F8(name, dtype)                                                                                \
  static void widen_##name(uint32_t *restrict pivots, const uint8_t *restrict source, size_t count) {        \
    const uint16_t *table = f8_pivots[dtype - F8_FIRST];                                                     \
    for (size_t i = 0; i < count; i++) pivots[i] = (uint32_t)table[source[i]] << 16;                         \
  }

#define NARROW(dtype, element)                                                                               \
  static void narrow_##dtype(uint8_t *restrict destination, const uint32_t *restrict pivots, size_t count) { \
    for (size_t i = 0; i < count; i++) {                                                                     \
      const element x = fst_narrow_##dtype(pivots[i]);                                                       \
      memcpy(destination + i * sizeof x, &x, sizeof x);                                                      \
    }                                                                                                        \
  }

WIDEN(f32, uint32_t)
WIDEN(f16, uint16_t)
WIDEN(bf16, uint16_t)
WIDEN(f64, uint64_t)
WIDEN_F8(f8_e5m2, FST_F8_E5M2)
WIDEN_F8(f8_e4m3, FST_F8_E4M3)
WIDEN_F8(f8_e8m0, FST_F8_E8M0)
WIDEN_F8(f8_e4m3fnuz, FST_F8_E4M3FNUZ)
WIDEN_F8(f8_e5m2fnuz, FST_F8_E5M2FNUZ)

NARROW(f32, uint32_t)
NARROW(f16, uint16_t)
NARROW(bf16, uint16_t)
NARROW(f64, uint64_t)
NARROW(f8_e5m2, uint8_t)
NARROW(f8_e4m3, uint8_t)
NARROW(f8_e8m0, uint8_t)
NARROW(f8_e4m3fnuz, uint8_t)
NARROW(f8_e5m2fnuz, uint8_t)

static widen_fn *const widen[FST_DTYPE_COUNT] = {
  [FST_F32] = widen_f32,
  [FST_F16] = widen_f16,
  [FST_BF16] = widen_bf16,
  [FST_F64] = widen_f64,
  [FST_F8_E5M2] = widen_f8_e5m2,
  [FST_F8_E4M3] = widen_f8_e4m3,
  [FST_F8_E8M0] = widen_f8_e8m0,
  [FST_F8_E4M3FNUZ] = widen_f8_e4m3fnuz,
  [FST_F8_E5M2FNUZ] = widen_f8_e5m2fnuz,
};

static narrow_fn *const narrow[FST_DTYPE_COUNT] = {
  [FST_F32] = narrow_f32,
  [FST_F16] = narrow_f16,
  [FST_BF16] = narrow_bf16,
  [FST_F64] = narrow_f64,
  [FST_F8_E5M2] = narrow_f8_e5m2,
  [FST_F8_E4M3] = narrow_f8_e4m3,
  [FST_F8_E8M0] = narrow_f8_e8m0,
  [FST_F8_E4M3FNUZ] = narrow_f8_e4m3fnuz,
  [FST_F8_E5M2FNUZ] = narrow_f8_e5m2fnuz,
};

/* F64 to F32 does not use a pivot: it rounds directly. */
static void f64_to_f32(uint8_t *destination, const uint8_t *source, size_t count) {
  for (size_t i = 0; i < count; i++) {
    uint64_t x;
    memcpy(&x, source + i * sizeof x, sizeof x);
    const uint32_t y = fst_f64_to_f32(x);
    memcpy(destination + i * sizeof y, &y, sizeof y);
  }
}

static void cast_plain(uint8_t *destination, const uint8_t *source, size_t count, uint32_t to,
                       uint32_t from) {
  if (to == FST_F32 && from == FST_F64) {
    f64_to_f32(destination, source, count);
    return;
  }
  uint32_t pivots[1024];
  const size_t piece = sizeof pivots / sizeof *pivots;
  const size_t source_step = fst_dtype_bits(from) / 8, destination_step = fst_dtype_bits(to) / 8;
  for (size_t i = 0; i < count; i += piece) {
    const size_t length = count - i < piece ? count - i : piece;
    widen[from](pivots, source + i * source_step, length);
    narrow[to](destination + i * destination_step, pivots, length);
  }
}

/* ---- Dispatch ---- */

int fst_cast_supported(uint32_t to, uint32_t from) {
  if (to >= FST_DTYPE_COUNT || from >= FST_DTYPE_COUNT) return 0;
  return to == from || (narrow[to] != NULL && widen[from] != NULL);
}

int fst_cast(void *destination, const void *source, size_t count, uint32_t to, uint32_t from) {
  uint8_t *out = destination;
  const uint8_t *in = source;
  if (!fst_cast_supported(to, from)) return -ENOTSUP;
  const size_t to_bits = fst_dtype_bits(to);
  if (count > SIZE_MAX / 64 || count * to_bits % 8 != 0) return -EINVAL;
  if (count == 0) return 0;
  if (to == from) {
    memcpy(out, in, count * to_bits / 8);
    return 0;
  }
  const size_t out_step = to_bits / 8, in_step = fst_dtype_bits(from) / 8;
  fst_cast_kernel *kernel = x86_kernel(isa, to, from);
  const size_t done = kernel != NULL ? kernel(out, in, count) : 0;
  cast_plain(out + done * out_step, in + done * in_step, count - done, to, from);
  return 0;
}
