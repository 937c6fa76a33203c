/**
 * The interface of tensor handles on every device.
 */
import type { DeviceOption } from "../base/device_name.ts";
import type { DType } from "../base/dtype.ts";

/** A tensor: elements of one type in row-major order, on some device. */
export interface Tensor extends Disposable {
  /** Its name in the file. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension; empty for a scalar. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /**
   * Returns the tensor with another element type, on another device, or both: a new handle, which shares the memory if
   * nothing changes.
   */
  to(options: { dtype?: DType; device?: DeviceOption; saturate?: boolean }): Promise<Tensor>;
  /** Copies the tensor to separate memory of its device. */
  copy(): Promise<Tensor>;
  /** Returns the tensor in host memory: from a GPU a copy, on the CPU another handle of the same memory. */
  copyToHost(): Promise<Tensor & HostElements>;
  /** Returns another handle of the same memory, with another name. */
  named(name: string): Tensor;
  /** Releases this handle, which throws when it is used afterwards; a second call has no effect. */
  [Symbol.dispose](): void;
}

/** A tensor whose elements are in host memory, contiguous and little-endian. */
export interface HostElements {
  /** Its name. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension; empty for a scalar. */
  readonly shape: readonly number[];
  /** The elements. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}
