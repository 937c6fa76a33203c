/**
 * The interface of tensor handles on every device.
 */
import type { DType } from "../base/dtype.ts";

/** A tensor: elements of one type in row-major order, on some device. */
export interface Tensor {
  /** Its name in the file. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension; empty for a scalar. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /** Returns the tensor with another floating element type; itself if it has this type already. */
  to(options: { dtype: DType }): Promise<Tensor>;
  /** Returns another handle of the same memory, with another name. */
  named(name: string): Tensor;
  /** Releases this handle. A GPU frees memory after all of its handles are released; on the CPU this has no effect. */
  [Symbol.dispose]?(): void;
}
