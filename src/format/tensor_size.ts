/** How many bytes a tensor of a dtype and shape has; exact whatever a header claims. */
import { type DType, dtypeBits } from "../base/dtype.ts";

/** Dimensions as they are written: a bigint where a number would round one. */
export type ExactShape = readonly (number | bigint)[];

/** Why there is no such size: more bits than a u64 counts, or an end within a byte. */
export type SizeError = "ValidationOverflow" | "MisalignedSlice";

const U64_LIMIT = 1n << 64n;

/** The bytes of a tensor, or the error code of the shape; a bigint above 2^50 or so. */
export function byteSize(dtype: DType, shape: ExactShape): number | bigint | SizeError {
  let elements = 1;
  for (const dimension of shape) {
    elements *= Number(dimension);
    if (elements > Number.MAX_SAFE_INTEGER) return exactByteSize(dtype, shape);
  }
  const bits = elements * dtypeBits(dtype);
  if (bits > Number.MAX_SAFE_INTEGER) return exactByteSize(dtype, shape);
  return bits % 8 === 0 ? bits / 8 : "MisalignedSlice";
}

/** The bytes of a tensor that is known to have a whole number of them. */
export function tensorBytes(dtype: DType, shape: readonly number[]): number {
  return shape.reduce((elements, length) => elements * length, 1) * dtypeBits(dtype) / 8;
}

/** The same in bigints; from left to right as in the reference, so that a 0 saves what follows it and nothing else. */
function exactByteSize(dtype: DType, shape: ExactShape): bigint | SizeError {
  let bits = 1n;
  for (const factor of [...shape, dtypeBits(dtype)]) {
    bits *= BigInt(factor);
    if (bits >= U64_LIMIT) return "ValidationOverflow";
  }
  return bits % 8n === 0n ? bits / 8n : "MisalignedSlice";
}

/** Dtype and shape for a message, such as `F32 [2, 3]`. */
export function describeTensor(dtype: DType, shape: ExactShape): string {
  return `${dtype} [${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`;
}

/** What a {@linkcode SizeError} means, for a message. */
export function describeSizeError(error: SizeError, dtype: DType, shape: ExactShape): string {
  const tensor = describeTensor(dtype, shape);
  return error === "MisalignedSlice"
    ? `${tensor} does not end with a whole byte`
    : `${tensor} has more bits than a u64 can count`;
}
