/**
 * Tensors in ordinary JavaScript memory.
 */
import { castBytes, castSupported } from "../../format/cast.ts";
import { type DType, tensorBytes } from "../../base/dtype.ts";
import { SafeTensorsError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { hostOperations } from "../../load/host_operations.ts";
import { type DLPackOptions, exportHost } from "../dlpack.ts";
import type { Tensor } from "../../load/tensor.ts";

/** The type of {@linkcode HostTensor.data}: the typed array for the dtype. */
export type TensorData =
  | Uint8Array<ArrayBuffer>
  | Int8Array<ArrayBuffer>
  | Int16Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Float16Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Float32Array<ArrayBuffer>
  | Float64Array<ArrayBuffer>
  | BigInt64Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>;

type TypedArrayClass = {
  new (buffer: ArrayBuffer, byteOffset: number, length: number): TensorData;
  readonly BYTES_PER_ELEMENT: number;
  readonly name: string;
};

const ARRAYS: Readonly<Record<DType, TypedArrayClass>> = {
  BOOL: Uint8Array,
  F4: Uint8Array,
  F6_E2M3: Uint8Array,
  F6_E3M2: Uint8Array,
  U8: Uint8Array,
  I8: Int8Array,
  F8_E5M2: Uint8Array,
  F8_E4M3: Uint8Array,
  F8_E8M0: Uint8Array,
  F8_E4M3FNUZ: Uint8Array,
  F8_E5M2FNUZ: Uint8Array,
  I16: Int16Array,
  U16: Uint16Array,
  F16: Float16Array,
  BF16: Uint16Array,
  I32: Int32Array,
  U32: Uint32Array,
  F32: Float32Array,
  C64: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  U64: BigUint64Array,
};

/** The name of the typed array for elements of a dtype. */
export function arrayNameOf(dtype: DType): string {
  return ARRAYS[dtype].name;
}

/**
 * A tensor in JavaScript memory.
 *
 * Its bytes are an ordinary part of an ArrayBuffer, which it usually shares with other tensors of its file. They stay
 * valid after the file is closed; the garbage collector frees the buffer after all of its tensors are unused. Tensors
 * below 64 KiB share buffers of at most 1 MiB. {@linkcode copy} copies a tensor to a separate buffer. Writes to the bytes
 * change this memory only, not the file.
 *
 * @example Use
 * ```ts
 * import { deserialize, serialize } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const file = serialize({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } });
 * const x = deserialize(file).get("x")!;
 * assertEquals(x.shape, [2]);
 * assertEquals(x.data, new Float32Array([1, 2]));
 * ```
 */
export class HostTensor implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** The elements as bytes, little-endian; sub-byte elements packed as in the file. */
  readonly bytes: Uint8Array<ArrayBuffer>;

  /**
   * Makes a tensor over memory of the caller.
   *
   * @param bytes the elements, little-endian; their offset in the buffer must be a multiple of the element size
   * @throws {RangeError} if the length of `bytes` does not match the dtype and the shape
   */
  constructor(name: string, dtype: DType, shape: readonly number[], bytes: Uint8Array<ArrayBuffer>) {
    const expected = tensorBytes(dtype, shape);
    if (bytes.byteLength !== expected) {
      throw new RangeError(
        `Cannot make tensor ${
          quote(name)
        }: ${dtype} of shape [${shape}] is ${expected} bytes, got ${bytes.byteLength}`,
      );
    }
    this.name = name;
    this.dtype = dtype;
    this.shape = Object.isFrozen(shape) ? shape : Object.freeze([...shape]);
    this.bytes = bytes;
  }

  /** Bytes of the elements. */
  get byteLength(): number {
    return this.bytes.byteLength;
  }

  /**
   * The elements as the typed array for their dtype, over the same memory: Float16Array for F16, BigInt64Array for
   * I64 and so on; BF16 as Uint16Array, all 8-bit and smaller floats as Uint8Array, C64 as Float32Array of pairs.
   */
  get data(): TensorData {
    const type = ARRAYS[this.dtype];
    const { buffer, byteOffset, byteLength } = this.bytes;
    if (byteLength === 0) return new type(new ArrayBuffer(0), 0, 0); // its offset can be unaligned
    return new type(buffer, byteOffset, byteLength / type.BYTES_PER_ELEMENT);
  }

  /**
   * Returns the elements as 32-bit floats: a view if they are F32, else a copy.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if the dtype is not a floating type of 8 bits or more
   */
  toFloat32(): Float32Array<ArrayBuffer> {
    if (this.dtype === "F32") return this.data as Float32Array<ArrayBuffer>;
    const target = this.#castTarget("F32", (byteLength) => new Uint8Array(byteLength));
    castBytes(this.bytes, this.dtype, target.bytes, "F32");
    return target.data as Float32Array<ArrayBuffer>;
  }

  /**
   * Casts the tensor to another floating element type, rounded to nearest even; returns itself if it has this type
   * already. Does not block the event loop; do not write to the bytes until the promise settles.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   */
  async to(options: { dtype: DType }): Promise<HostTensor> {
    const { dtype } = options;
    if (dtype === this.dtype) return this;
    const operations = hostOperations();
    const target = this.#castTarget(dtype, (byteLength) => operations.allocate(byteLength));
    await operations.cast(this.bytes, this.dtype, target.bytes, dtype);
    return target;
  }

  /**
   * Copies the tensor to a separate buffer: it keeps no other tensors in memory, and writes to it do not change them. To
   * send a tensor to a Worker, send the `data` of a copy: `postMessage` sends the whole buffer of a typed array.
   */
  async copy(): Promise<HostTensor> {
    const operations = hostOperations();
    const target = operations.allocate(this.byteLength);
    await operations.cast(this.bytes, "U8", target, "U8");
    return new HostTensor(this.name, this.dtype, this.shape, target);
  }

  /** Returns another handle of the same memory, with another name. */
  named(name: string): HostTensor {
    return new HostTensor(name, this.dtype, this.shape, this.bytes);
  }

  /**
   * Exports the tensor to another library of this process by DLPack, without a copy.
   *
   * The memory stays valid until the consumer calls the deleter, on any thread. Do not transfer the buffer before that:
   * the consumer would use freed memory. In a Worker the consumer gets a copy, because the memory of a Worker is freed
   * when it ends.
   *
   * @returns the address of a DLManagedTensor, or with `versioned` of a DLManagedTensorVersioned; the consumer must
   *   call its deleter once
   * @throws {TypeError} if DLPack does not know the dtype (F4, F6)
   * @throws {DeviceError} if the native library is not available
   */
  toDLPack(options: DLPackOptions = {}): Promise<bigint> {
    return exportHost(this, options);
  }

  /** Makes a tensor for the elements of a cast. */
  #castTarget(dtype: DType, allocate: (byteLength: number) => Uint8Array<ArrayBuffer>): HostTensor {
    if (castSupported(this.dtype, dtype)) {
      return new HostTensor(this.name, dtype, this.shape, allocate(tensorBytes(dtype, this.shape)));
    }
    const message = `Cannot cast tensor ${quote(this.name)} from ${this.dtype} to ${dtype}`;
    throw new SafeTensorsError("UnsupportedCast", message, { tensor: this.name });
  }
}
