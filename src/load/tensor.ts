/**
 * What every tensor handle has, wherever its bytes are.
 */
import type { DType } from "../base/dtype.ts";

/** A tensor: elements of one type in row-major order, somewhere. */
export interface Tensor {
  /** Its name in the file. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension; empty for a scalar. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /** The tensor with another floating element type; itself if nothing changes. */
  to(options: { dtype: DType }): Promise<Tensor>;
  /** Another handle of the same memory, under another name. */
  named(name: string): Tensor;
  /** Gives up this handle, where handles are counted to know when memory can be freed: on a GPU, not on the CPU. */
  [Symbol.dispose]?(): void;
}
