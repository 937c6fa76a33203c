/**
 * The element types of the safetensors format: their sizes and their alignment in JavaScript.
 *
 * Names and order are those of the reference implementation's `Dtype` enum (safetensors 0.8.0).
 */

/** Every dtype of the format, in the reference's enum order (the writer sorts by it, descending). */
export const DTYPES = [
  "BOOL",
  "F4",
  "F6_E2M3",
  "F6_E3M2",
  "U8",
  "I8",
  "F8_E5M2",
  "F8_E4M3",
  "F8_E8M0",
  "F8_E4M3FNUZ",
  "F8_E5M2FNUZ",
  "I16",
  "U16",
  "F16",
  "BF16",
  "I32",
  "U32",
  "F32",
  "C64",
  "F64",
  "I64",
  "U64",
] as const;

/** The name of an element type in a safetensors header (case-sensitive). */
export type DType = typeof DTYPES[number];

/** A dtype that other floats can be cast to: the floats of 8 bits and more. */
export type FloatDType = Extract<DType, "F64" | "F32" | "F16" | "BF16" | `F8_${string}`>;

/** A dtype of integers, with BOOL as the integers 0 and 1. */
export type IntegerDType = Extract<DType, "BOOL" | `${"I" | "U"}${number}`>;

const BITS: Readonly<Record<DType, number>> = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E8M0: 8,
  F8_E4M3FNUZ: 8,
  F8_E5M2FNUZ: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
};

/** The code of each dtype, its index in {@linkcode DTYPES}: columns and the shim have codes. */
export const DTYPE_CODES: ReadonlyMap<string, number> = new Map(DTYPES.map((dtype, code) => [dtype, code]));

/** Bits of one element, by the code of the dtype. */
export const CODE_BITS: readonly number[] = DTYPES.map((dtype) => BITS[dtype]);

/** Bits of one element: 4 and 6 for the sub-byte floats, else a multiple of 8. */
export function dtypeBits(dtype: DType): number {
  return BITS[dtype];
}

/** Whether `name` is a dtype of the format; case-sensitive, as in the reference. */
export function isDType(name: unknown): name is DType {
  return typeof name === "string" && Object.hasOwn(BITS, name);
}

/** Whether a cast is between two of {@linkcode IntegerDType}: each can be cast to each. */
export function isIntegerCast(from: DType, to: DType): boolean {
  return [from, to].every((dtype) => isDType(dtype) && /^(BOOL|[IU]\d+)$/.test(dtype));
}

/** Names of dtypes in other libraries, if they differ in more than letter case. */
const OTHER_NAMES: Readonly<Record<string, DType>> = {
  HALF: "F16",
  FLOAT: "F32",
  DOUBLE: "F64",
  BFLOAT: "BF16",
};

/** Returns the dtype for names such as `float32`, `torch.bfloat16` or `int8`; undefined for other names. */
export function dtypeMeant(name: string): DType | undefined {
  if (name.length > 40) return undefined;
  const plain = name.toUpperCase().replace(/^(TORCH|NP|NUMPY)\./, "");
  const own = plain.replace(/^B?(FLOAT|FP)(?=\d)/, (word) => word.startsWith("B") ? "BF" : "F")
    .replace(/^(U?)INT(?=\d)/, (_, unsigned) => unsigned || "I").replace(/FN$/, "");
  return isDType(own) ? own : Object.hasOwn(OTHER_NAMES, plain) ? OTHER_NAMES[plain] : undefined;
}

/**
 * The alignment in bytes that a typed array over this dtype needs: the size of one JavaScript element.
 * Sub-byte and 8-bit dtypes are accessed as bytes, C64 as pairs of 32-bit floats.
 */
export function dtypeAlignment(dtype: DType): number {
  return dtype === "C64" ? 4 : Math.max(1, BITS[dtype] / 8 | 0);
}

/** Returns the bytes of a tensor; the caller has checked that they are a whole number. */
export function tensorBytes(dtype: DType, shape: readonly number[]): number {
  let elements = 1;
  for (const length of shape) elements *= length; // a loop, because a callback takes longer and this runs for each tensor
  return elements * dtypeBits(dtype) / 8;
}
