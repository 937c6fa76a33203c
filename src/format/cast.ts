/**
 * Casts between the float dtypes in plain TypeScript, with the same bits as native/cast/convert.h.
 *
 * A cast goes through a pivot, the bits of an F32. Widening to it is exact, except that an F64 is rounded to odd
 * (cut off, with the last bit set if anything was lost), so that narrowing the pivot rounds once: to nearest,
 * ties to even, subnormals included.
 *
 * Every NaN becomes the one quiet NaN of F32 (7fc00000), F16 (7e00), BF16 (7fc0) or F64 (7ff8000000000000).
 * Narrowing to an F8 is what PyTorch 2.13's `.to(dtype)` does: F8_E4M3 saturates at 448, infinities included;
 * F8_E5M2 overflows to infinity; a NaN of either keeps its sign; the FNUZ dtypes turn every too large value into NaN
 * (80); F8_E8M0 drops the sign and turns infinity into NaN (ff).
 */
import { describeValue } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { type DType, dtypeBits, dtypeMeant, type FloatDType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

const INFINITY = 0x7f800000;
const NAN = 0x7fc00000;
const MAGNITUDE = 0x7fffffff;

/** Elements of one piece: small enough that the three buffers of a cast stay in the processor's cache. */
const PIECE = 8192;

/** The bytes of one piece, aligned for every element type. */
interface Piece {
  bytes: Uint8Array;
  u16: Uint16Array;
  /** Signed: V8 is slow for numbers from 2^31 up, which are not small integers. */
  i32: Int32Array;
  f32: Float32Array;
  f64: Float64Array;
}

/** Writes `count` elements of a piece as pivots. */
type Widen = (pivots: Piece, source: Piece, count: number) => void;

/** Writes `count` pivots as elements of a piece. */
type Narrow = (target: Piece, pivots: Piece, count: number) => void;

/** The bits of a finite magnitude of a float format as F32. */
function expand(magnitude: number, mantissa: number, bias: number): number {
  if (magnitude >> mantissa) return (magnitude << (23 - mantissa)) + ((127 - bias) << 23);
  if (magnitude === 0) return 0;
  const top = 31 - Math.clz32(magnitude);
  return ((top - mantissa + 128 - bias) << 23) + ((magnitude ^ (1 << top)) << (23 - top));
}

/** The nearest code, ties to even, of an F32 magnitude in a format with unlimited exponents. */
function round(magnitude: number, mantissa: number, bias: number): number {
  const drop = 23 - mantissa;
  const firstNormal = 128 - bias;
  const exponent = magnitude >> 23;
  if (exponent >= firstNormal) {
    const code = magnitude - ((127 - bias) << 23);
    return (code + (1 << (drop - 1)) - 1 + ((code >> drop) & 1)) >> drop;
  }
  // 24 significant bits shifted by 25 are below one half: further shifts cannot change the answer.
  const shift = Math.min(drop + firstNormal - exponent, 25);
  const significand = (magnitude & 0x7fffff) | 0x800000;
  return (significand + (1 << (shift - 1)) - 1 + ((significand >> shift) & 1)) >> shift;
}

function widenHalf(code: number): number {
  const sign = (code & 0x8000) << 16;
  const magnitude = code & 0x7fff;
  if (magnitude < 0x7c00) return sign | expand(magnitude, 10, 15);
  return sign | (magnitude === 0x7c00 ? INFINITY : NAN);
}

/** A widening by a table of the values of the 256 codes; its first use creates the table. */
function widenByte(meaning: (code: number) => number): Widen {
  let table: Int32Array | undefined;
  return ({ i32: pivots }, { bytes }, count) => {
    const known = table ??= Int32Array.from({ length: 256 }, (_, code) => meaning(code));
    for (let i = 0; i < count; i++) pivots[i] = known[bytes[i]!]!;
  };
}

function widenFnuz(mantissa: number, bias: number): Widen {
  return widenByte((code) => {
    return code === 0x80 ? NAN : ((code & 0x80) << 24) | expand(code & 0x7f, mantissa, bias);
  });
}

/** A narrowing to one byte each; a magnitude that is NaN is above `INFINITY`. */
function narrowByte(code: (sign: number, magnitude: number) => number): Narrow {
  return ({ bytes }, { i32: pivots }, count) => {
    for (let i = 0; i < count; i++) {
      const pivot = pivots[i]!;
      bytes[i] = code(pivot >>> 24 & 0x80, pivot & MAGNITUDE);
    }
  };
}

function narrowFnuz(mantissa: number, bias: number): Narrow {
  return narrowByte((sign, magnitude) => {
    const code = magnitude < INFINITY ? round(magnitude, mantissa, bias) : 0x80;
    if (code > 0x7f) return 0x80;
    return code === 0 ? 0 : sign | code;
  });
}

/** The conversions from one dtype to pivots and back. */
interface Format {
  widen: Widen;
  narrow: Narrow;
}

const FORMATS = {
  F16: {
    widen({ i32: pivots }, { u16 }, count) {
      for (let i = 0; i < count; i++) pivots[i] = widenHalf(u16[i]!);
    },
    narrow({ u16 }, { i32: pivots }, count) {
      for (let i = 0; i < count; i++) {
        const pivot = pivots[i]!;
        const magnitude = pivot & MAGNITUDE;
        u16[i] = magnitude > INFINITY
          ? 0x7e00
          : pivot >>> 16 & 0x8000 | Math.min(round(magnitude, 10, 15), 0x7c00);
      }
    },
  },
  BF16: {
    widen({ i32: pivots }, { u16 }, count) {
      for (let i = 0; i < count; i++) pivots[i] = u16[i]! << 16;
    },
    narrow({ u16 }, { i32: pivots }, count) {
      for (let i = 0; i < count; i++) {
        const pivot = pivots[i]!;
        u16[i] = (pivot & MAGNITUDE) > INFINITY ? 0x7fc0 : (pivot + 0x7fff + (pivot >>> 16 & 1)) >>> 16;
      }
    },
  },
  F32: {
    widen({ i32: pivots }, { i32 }, count) {
      pivots.set(i32.subarray(0, count));
    },
    narrow({ i32 }, { i32: pivots }, count) {
      for (let i = 0; i < count; i++) {
        const pivot = pivots[i]!;
        i32[i] = (pivot & MAGNITUDE) > INFINITY ? NAN : pivot;
      }
    },
  },
  F64: {
    widen({ f32: nearest, i32: pivots }, { f64, i32 }, count) {
      for (let i = 0; i < count; i++) {
        const value = f64[i]!;
        nearest[i] = value;
        const rounded = nearest[i]!;
        if (rounded === value) continue;
        if (Number.isNaN(value)) pivots[i] = i32[2 * i + 1]! & ~MAGNITUDE | NAN;
        else pivots[i] = pivots[i]! - (Math.abs(rounded) > Math.abs(value) ? 1 : 0) | 1;
      }
    },
    narrow({ f64, i32 }, { f32: values }, count) {
      for (let i = 0; i < count; i++) {
        const value = values[i]!;
        f64[i] = value;
        if (Number.isNaN(value)) {
          i32[2 * i] = 0;
          i32[2 * i + 1] = 0x7ff80000;
        }
      }
    },
  },
  F8_E5M2: {
    widen: widenByte((code) => widenHalf(code << 8)),
    narrow: narrowByte((sign, magnitude) => {
      return sign | (magnitude > INFINITY ? 0x7f : Math.min(round(magnitude, 2, 15), 0x7c));
    }),
  },
  F8_E4M3: {
    widen: widenByte((code) => {
      const magnitude = code & 0x7f;
      return (code & 0x80) << 24 | (magnitude === 0x7f ? NAN : expand(magnitude, 3, 7));
    }),
    narrow: narrowByte((sign, magnitude) => {
      return sign | (magnitude > INFINITY ? 0x7f : Math.min(round(magnitude, 3, 7), 0x7e));
    }),
  },
  F8_E8M0: {
    widen: widenByte((code) => code === 0xff ? NAN : code === 0 ? 0x00400000 : code << 23),
    narrow: narrowByte((_sign, magnitude) => {
      // Rounds to the next power of two from the midpoint on; below 2^-126, where 2^-127 is the midpoint, from above
      // it.
      const exponent = magnitude >> 23;
      if (exponent === 0xff) return 0xff;
      return exponent + ((magnitude & 0x7fffff) + (exponent ? 1 : 0) > 0x400000 ? 1 : 0);
    }),
  },
  F8_E4M3FNUZ: { widen: widenFnuz(3, 8), narrow: narrowFnuz(3, 8) },
  F8_E5M2FNUZ: { widen: widenFnuz(2, 16), narrow: narrowFnuz(2, 16) },
} satisfies Record<FloatDType, Format>;

const FLOATS = "F16, BF16, F32, F64, F8_E5M2, F8_E4M3, F8_E8M0, F8_E4M3FNUZ, F8_E5M2FNUZ";

/** F64 to F32 does not use a pivot: it rounds directly. */
function roundToSingle(target: Piece, source: Piece, count: number): void {
  for (let i = 0; i < count; i++) {
    const value = source.f64[i]!;
    target.f32[i] = value;
    if (Number.isNaN(value)) target.i32[i] = NAN;
  }
}

function newPiece(count: number): Piece {
  const buffer = new ArrayBuffer(count * 8);
  return {
    bytes: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    i32: new Int32Array(buffer),
    f32: new Float32Array(buffer),
    f64: new Float64Array(buffer),
  };
}

/** Whether `dtype` is a float that can be cast: F16, BF16, F32, F64 and the F8 dtypes, not F4, F6 and C64. */
export function isFloatDType(dtype: unknown): dtype is FloatDType {
  return typeof dtype === "string" && Object.hasOwn(FORMATS, dtype);
}

/**
 * Whether `dtype` is a float of less than a byte: some devices cast these too, to the dtypes of {@linkcode
 * isFloatDType}.
 */
function isSubByteFloat(dtype: DType): boolean {
  return dtype === "F4" || dtype === "F6_E2M3" || dtype === "F6_E3M2";
}

/**
 * Whether the pair can be cast: a float to any float, and every dtype to itself. {@linkcode castBytes} supports these.
 *
 * @param subByte whether F4 and F6 can be cast as well, as they can on some devices
 */
export function castSupported(from: DType, to: DType, subByte = false): boolean {
  return from === to || (castTarget(from, "F32", subByte) === "F32" && isFloatDType(to));
}

/**
 * The dtype of a tensor of dtype `from` after a request for `wanted`: floats become `wanted`; integers, bools, C64, F4
 * and F6 keep their dtype.
 *
 * @param subByte whether F4 and F6 are cast as well, for devices that support it
 * @throws {TypeError} if `wanted` is not a float that can be cast
 */
export function castTarget(from: DType, wanted: DType | undefined, subByte = false): DType {
  if (wanted === undefined) return from;
  if (!isFloatDType(wanted)) {
    const meant = typeof wanted === "string" ? dtypeMeant(wanted) : undefined;
    const hint = meant && isFloatDType(meant)
      ? `did you mean ${quote(meant)}?`
      : `dtype must be one of ${FLOATS}`;
    throw new TypeError(`Cannot cast to ${describeValue(wanted)}: ${hint}`);
  }
  return isFloatDType(from) || (subByte && isSubByteFloat(from)) ? wanted : from;
}

/**
 * Casts every element of `source` into `target`. Neither needs any alignment; they must not overlap. The same dtype
 * on both sides is a plain copy, in which NaNs keep their bits.
 *
 * @param source little-endian elements of dtype `from`
 * @param target as many elements of dtype `to`; all of them are written
 * @throws {RangeError} if `source` is not a whole number of elements, or `target` has another number of elements
 * @throws {SafeTensorsError} "UnsupportedCast" if the cast is not supported; nothing is written then
 */
export function castBytes(source: Uint8Array, from: DType, target: Uint8Array, to: DType): void {
  if (!castSupported(from, to)) {
    throw new SafeTensorsError("UnsupportedCast", `Cannot cast ${from} to ${to}: only ${FLOATS} can be cast`);
  }
  const count = source.length * 8 / dtypeBits(from);
  if (!Number.isInteger(count)) {
    throw new RangeError(
      `Cannot cast ${from} to ${to}: ${source.length} bytes are not a whole number of elements`,
    );
  }
  const needed = count * dtypeBits(to) / 8;
  if (target.length !== needed) {
    throw new RangeError(
      `Cannot cast ${from} to ${to}: ${needed} bytes expected in the target, ${target.length} found`,
    );
  }
  if (from === to) target.set(source);
  else castPieces(source, from as FloatDType, target, to as FloatDType, count);
}

function castPieces(
  source: Uint8Array,
  from: FloatDType,
  target: Uint8Array,
  to: FloatDType,
  count: number,
): void {
  const fromBytes = dtypeBits(from) / 8;
  const toBytes = dtypeBits(to) / 8;
  const size = Math.min(count, PIECE);
  const input = newPiece(size);
  const output = newPiece(size);
  const pivots = newPiece(size);
  const { widen }: Format = FORMATS[from];
  const { narrow }: Format = FORMATS[to];
  for (let start = 0; start < count; start += size) {
    const length = Math.min(size, count - start);
    input.bytes.set(source.subarray(start * fromBytes, (start + length) * fromBytes));
    if (from === "F64" && to === "F32") {
      roundToSingle(output, input, length);
    } else {
      widen(pivots, input, length);
      narrow(output, pivots, length);
    }
    target.set(output.bytes.subarray(0, length * toBytes), start * toBytes);
  }
}
