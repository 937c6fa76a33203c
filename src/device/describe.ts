/**
 * Short descriptions of tensors, for people and for logs.
 */
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

/** The method that `console.log` calls. */
export const INSPECT: unique symbol = Symbol.for("nodejs.util.inspect.custom") as never;

/** A tensor without its elements. */
export interface DescribedTensor {
  /** Its name. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /** Its device. */
  readonly device: string;
}

/** Returns the properties of a tensor without its elements. */
export function describeTensor(
  { name, dtype, shape, byteLength }: Omit<DescribedTensor, "device">,
  device: string,
): DescribedTensor {
  return { name, dtype, shape, byteLength, device };
}

/** Returns a line such as `HostTensor "w": F32 [2, 3], 24 bytes`. */
export function tensorLine(
  type: string,
  { name, dtype, shape, byteLength }: Omit<DescribedTensor, "device">,
): string {
  return `${type} ${quote(name)}: ${dtype} [${shape.join(", ")}], ${byteLength} bytes`;
}
