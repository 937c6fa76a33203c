/**
 * Joining tensors along a dimension.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/** The facts of a tensor that joining needs. */
export interface JoinSource {
  /** Its name, for messages. */
  readonly name: string;
  /** Its dimensions, outermost first. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
}

/** The layout of joined tensors. */
export interface JoinLayout {
  /** The shape of the result. */
  readonly shape: readonly number[];
  /** The bytes of the result. */
  readonly byteLength: number;
  /** Rows of the result, each made of one row of every tensor, in order. */
  readonly rows: number;
}

/**
 * Computes the layout of joined tensors.
 *
 * @param tensors at least one; all agree in the other dimensions
 * @throws {SafeTensorsError} "MisalignedSlice" if it would cut a byte of a sub-byte dtype
 */
export function joinLayout(tensors: readonly JoinSource[], dimension: number): JoinLayout {
  const first = tensors[0]!;
  const size = tensors.reduce((sum, tensor) => sum + tensor.shape[dimension]!, 0);
  const rows = first.shape.slice(0, dimension).reduce((product, size) => product * size, 1);
  for (const { name, byteLength } of tensors) {
    if (rows === 0 || byteLength % rows === 0) continue;
    const message = `Cannot join tensor ${quote(name)} along dimension ${dimension}: it would cut a byte`;
    throw new SafeTensorsError("MisalignedSlice", message, { tensor: name });
  }
  return {
    shape: first.shape.with(dimension, size),
    byteLength: tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0),
    rows,
  };
}
