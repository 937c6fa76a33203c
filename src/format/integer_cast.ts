/**
 * Casts between integer dtypes in plain TypeScript. BOOL is the integers 0 and 1; a byte other than 0 is 1.
 *
 * 64-bit integers are handled as two words of 32 bits, because BigInts are slow.
 */
import { type DType, dtypeBits, type IntegerDType } from "../base/dtype.ts";

/** The smallest and the largest value of each dtype; those of 64 bits are rounded to the nearest float. */
const RANGES: Readonly<Record<IntegerDType, readonly [least: number, most: number]>> = {
  BOOL: [0, 1],
  I8: [-128, 127],
  U8: [0, 255],
  I16: [-32768, 32767],
  U16: [0, 65535],
  I32: [-(2 ** 31), 2 ** 31 - 1],
  U32: [0, 2 ** 32 - 1],
  I64: [-(2 ** 63), 2 ** 63],
  U64: [0, 2 ** 64],
};

type Bytes = Uint8Array<ArrayBuffer>;

/** The elements of the dtypes below 64 bits. */
type Narrow = Uint8Array | Int8Array | Int16Array | Uint16Array | Int32Array | Uint32Array;

const ARRAYS = {
  BOOL: Uint8Array,
  I8: Int8Array,
  U8: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
} as const;

/** The array over the elements, or over the words of 64-bit elements. */
function arrayOf(dtype: IntegerDType, { buffer, byteOffset, byteLength }: Bytes): Narrow {
  const type = dtype === "I64" || dtype === "U64" ? Int32Array : ARRAYS[dtype];
  return new type(buffer, byteOffset, byteLength / type.BYTES_PER_ELEMENT);
}

/** Returns the value of an element, exactly. */
export function integerAt(dtype: IntegerDType, bytes: Bytes, index: number): bigint {
  const array = arrayOf(dtype, bytes);
  if (dtypeBits(dtype) < 64) return BigInt(array[index]!);
  const value = BigInt(array[2 * index + 1]!) << 32n | BigInt(array[2 * index]! >>> 0);
  return dtype === "U64" ? BigInt.asUintN(64, value) : value;
}

/** Returns the smallest and the largest value of a dtype, exactly. */
export function integerRange(dtype: IntegerDType): readonly [least: bigint, most: bigint] {
  const bits = BigInt(dtypeBits(dtype));
  if (dtype === "BOOL") return [0n, 1n];
  return dtype.startsWith("U") ? [0n, (1n << bits) - 1n] : [-(1n << bits - 1n), (1n << bits - 1n) - 1n];
}

/**
 * Casts every element of `source` into `target`, up to the first one that `to` cannot hold. The offsets of both are
 * multiples of the size of their elements.
 *
 * @param saturate whether such an element becomes the nearest value of `to` instead
 * @returns the index of that element; -1 if all are cast
 */
export function castIntegers(
  source: Bytes,
  from: IntegerDType,
  target: Bytes,
  to: IntegerDType,
  saturate: boolean,
): number {
  const input = arrayOf(from, source);
  const output = arrayOf(to, target);
  const isWide = dtypeBits(from) === 64;
  if (isWide && dtypeBits(to) === 64) return castWide(input, from, output, to, saturate);
  const [least, most] = RANGES[to];
  const toWide = dtypeBits(to) === 64;
  const isUnsigned = from === "U64";
  const count = input.length / (isWide ? 2 : 1);
  for (let index = 0; index < count; index++) {
    let value: number;
    if (isWide) {
      // Rounded beyond 2^53, but all of that is outside the narrow dtypes.
      const high = input[2 * index + 1]!;
      value = (isUnsigned ? high >>> 0 : high) * 2 ** 32 + (input[2 * index]! >>> 0);
    } else {
      value = input[index]!;
      if (from === "BOOL" && value !== 0) value = 1;
    }
    if (value < least || value > most) {
      if (!saturate) return index;
      value = value < least ? least : most;
    }
    if (toWide) {
      output[2 * index] = value;
      output[2 * index + 1] = value < 0 ? -1 : 0;
    } else {
      output[index] = value;
    }
  }
  return -1;
}

/** Casts I64 to U64 or back: negative high words are outside of the other dtype. */
function castWide(
  input: Narrow,
  from: DType,
  output: Narrow,
  to: DType,
  saturate: boolean,
): number {
  output.set(input);
  if (from === to) return -1;
  for (let high = 1; high < input.length; high += 2) {
    if (input[high]! >= 0) continue;
    if (!saturate) return (high - 1) / 2;
    output[high - 1] = to === "I64" ? -1 : 0;
    output[high] = to === "I64" ? 0x7fffffff : 0;
  }
  return -1;
}
