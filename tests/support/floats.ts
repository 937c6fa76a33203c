/**
 * The values of the codes of float dtypes, and the code nearest to a number: by table and search, not by bit shifts as
 * in the package.
 */
import type { DType } from "../../src/base/dtype.ts";

/** The floating dtypes that can be cast. */
export type FloatDType = "F64" | "F32" | "F16" | "BF16" | SmallFloat;

/** The 8-bit ones. */
export type SmallFloat = "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ";

/** Every floating dtype that can be cast. */
export const FLOATS: readonly FloatDType[] = [
  "F64",
  "F32",
  "F16",
  "BF16",
  "F8_E5M2",
  "F8_E4M3",
  "F8_E8M0",
  "F8_E4M3FNUZ",
  "F8_E5M2FNUZ",
];

/** The values of the 256 codes of each 8-bit dtype, as the reference data has them. */
const SMALL: ReadonlyMap<string, readonly number[]> = new Map(
  Object.entries(readJson("reference/f8_to_f32_bits.json") as Record<string, (number | "nan")[]>).map((
    [dtype, bits],
  ) => [dtype, bits.map((value) => value === "nan" ? NaN : fromBits(value))]),
);

/** A file of tests/data. */
export function readJson(name: string): unknown {
  return JSON.parse(Deno.readTextFileSync(new URL(`../data/${name}`, import.meta.url)));
}

/** The number of 32 bits. */
export function fromBits(bits: number): number {
  return new Float32Array(new Uint32Array([bits]).buffer)[0]!;
}

/** Bytes of an element. */
export function floatBytes(dtype: FloatDType): number {
  return dtype === "F64" ? 8 : dtype === "F32" ? 4 : dtype.startsWith("F8") ? 1 : 2;
}

/** The values of little-endian elements. */
export function decode(bytes: Uint8Array, dtype: FloatDType): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = floatBytes(dtype);
  return Array.from({ length: bytes.byteLength / size }, (_, index) => {
    const at = index * size;
    if (dtype === "F64") return view.getFloat64(at, true);
    if (dtype === "F32") return view.getFloat32(at, true);
    if (dtype === "F16") return view.getFloat16(at, true);
    if (dtype === "BF16") return fromBits(view.getUint16(at, true) * 0x10000);
    return SMALL.get(dtype)![bytes[at]!]!;
  });
}

/** Converts finite numbers within the range of a dtype: to the nearest code, ties to even. */
export function encode(values: readonly number[], dtype: FloatDType): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(values.length * floatBytes(dtype));
  const view = new DataView(bytes.buffer);
  for (const [index, value] of values.entries()) {
    if (dtype === "F64") view.setFloat64(index * 8, value, true);
    else if (dtype === "F32") view.setFloat32(index * 4, value, true);
    else if (dtype === "F16") view.setFloat16(index * 2, value, true);
    else if (dtype === "BF16") view.setUint16(index * 2, nearestBf16(value), true);
    else bytes[index] = nearestSmall(value, dtype);
  }
  return bytes;
}

/** BF16 is the upper half of F32: one of the two adjacent halves is the nearest. */
function nearestBf16(value: number): number {
  const bits = new Uint32Array(new Float32Array([Math.abs(value)]).buffer)[0]! >>> 16;
  const candidates = [bits - 1, bits, bits + 1].filter((code) => code >= 0);
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  return sign | nearest(Math.abs(value), candidates.map((code) => [code, fromBits(code * 0x10000)]));
}

function nearestSmall(value: number, dtype: SmallFloat): number {
  const values = SMALL.get(dtype)!;
  if (dtype === "F8_E8M0") return nearestPower(value);
  const codes = Array.from(
    { length: 128 },
    (_, code): [number, number] => [code, values[code]!],
  );
  const code = nearest(Math.abs(value), codes.filter(([, meaning]) => Number.isFinite(meaning)));
  const fnuz = dtype.endsWith("FNUZ"); // FNUZ dtypes have no negative zero
  return (value < 0 || Object.is(value, -0)) && !(fnuz && code === 0) ? code | 0x80 : code;
}

/** F8_E8M0 has only powers of two: the midpoint is 1.5, and its even neighbour is 2. */
function nearestPower(value: number): number {
  const exponent = Math.floor(Math.log2(value));
  return 127 + exponent + (value / 2 ** exponent >= 1.5 ? 1 : 0);
}

function nearest(value: number, candidates: readonly (readonly [code: number, meaning: number])[]): number {
  let best = candidates[0]!;
  for (const candidate of candidates) {
    const distance = Math.abs(candidate[1] - value), least = Math.abs(best[1] - value);
    if (distance < least || (distance === least && candidate[0] % 2 === 0)) best = candidate;
  }
  return best[0];
}

/** Whether a dtype is cast. */
export function isFloat(dtype: DType): dtype is FloatDType {
  return (FLOATS as readonly string[]).includes(dtype);
}
