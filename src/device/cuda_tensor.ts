/**
 * Tensors in the memory of a CUDA device.
 *
 * This file calls no library: the memory of a tensor (`cuda/memory.ts`) implements all operations on its bytes.
 */
import { checkKeys } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import type { HostTensor } from "./cpu/tensor.ts";
import type { DLPackOptions } from "./dlpack.ts";
import { cudaIndex, type CudaName } from "./cuda_name.ts";
import type { Tensor } from "../load/tensor.ts";
import { type PlacedTensor, type SharedMemory, TensorHandle } from "./tensor_handle.ts";

/** Memory of a CUDA device, and operations on a tensor in it. A new tensor owns one reference to its memory. */
export interface CudaTensorMemory extends SharedMemory {
  /** Index of the device. */
  readonly device: number;
  /** Address of its first byte. */
  readonly address: bigint;
  /** Copies a tensor to JavaScript memory. */
  read(tensor: PlacedTensor): Promise<HostTensor>;
  /**
   * Casts a tensor.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   */
  cast(tensor: PlacedTensor, dtype: DType): Promise<NewCudaTensor>;
  /** Copies a tensor to another device. */
  copyTo(tensor: PlacedTensor, device: number): Promise<NewCudaTensor>;
  /** Exports a tensor to another library; returns the address of a DLPack tensor. */
  exportDLPack(tensor: PlacedTensor, options: DLPackOptions): bigint;
}

/** The result of an operation. */
export type NewCudaTensor = [memory: CudaTensorMemory, tensor: PlacedTensor];

/** A place in the memory of a device. */
interface CudaPlace {
  readonly device: number;
  readonly address: bigint;
}

/** Makes a tensor that takes one reference to the memory. */
export let newCudaTensor: (...made: NewCudaTensor) => CudaTensor;

/** Calls a function with the memory of a tensor, which stays valid until the function has ended. */
export let useCudaTensor: <R>(
  tensor: CudaTensor,
  action: string,
  use: (place: CudaPlace) => R | Promise<R>,
) => Promise<R>;

/**
 * A tensor in the memory of a CUDA device, as an address that any CUDA library of this process can use.
 *
 * It is a handle that keeps the memory valid, usually together with the other tensors of its file. The memory stays valid
 * after the model is closed, and is freed after the last of its handles is disposed: in the background, after the device
 * has finished the work submitted before. A disposed handle throws when it is used; a second disposal has no effect.
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, serialize } from "@x/fastsafetensors";
 * import { doctor } from "@x/fastsafetensors/doctor";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }));
 *
 * if ((await doctor()).cuda.devices.length > 0) {
 *   await using model = await fastsafeOpen(path, { device: "cuda" });
 *   using x = await model.getTensor("x");
 *   using half = await x.to({ dtype: "F16" });
 *   assertEquals(half.devicePointer % 16n, 0n);
 *   assertEquals((await half.copyToHost()).data, new Float16Array([1, 2]));
 * }
 * ```
 */
export class CudaTensor implements Tensor, Disposable {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The device of the tensor. */
  readonly device: CudaName;
  readonly #handle: TensorHandle<CudaTensorMemory>;

  /** Takes one reference to the memory. Models make tensors; do not call this yourself. */
  private constructor(...[memory, tensor]: NewCudaTensor) {
    this.name = tensor.name;
    this.dtype = tensor.dtype;
    this.shape = tensor.shape;
    this.byteLength = tensor.byteLength;
    this.device = `cuda:${memory.device}`;
    this.#handle = new TensorHandle(memory, tensor);
  }

  static {
    newCudaTensor = (...made) => new CudaTensor(...made);
    useCudaTensor = (tensor, action, use) =>
      tensor.#handle.use(action, ({ device }) => use({ device, address: tensor.#address }));
  }

  /**
   * The address of its first element on the device: a multiple of 16 and of the element's size; 0 if it has no
   * elements. Valid until this handle is disposed.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  get devicePointer(): bigint {
    this.#handle.check("use");
    return this.#address;
  }

  /**
   * Casts the tensor to another floating element type, rounded to nearest even, or copies it to another device. The result
   * is a new handle; dispose it too. It shares the memory if neither dtype nor device changes.
   *
   * @throws {TypeError} if an option is unknown, or `device` is not the name of a CUDA device
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {DeviceError} if a device fails, or this machine does not have it
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  async to(options: { dtype: DType } | { device: CudaName }): Promise<CudaTensor> {
    checkKeys("CudaTensor.to()", options, ["dtype", "device"]);
    if ("dtype" in options) return await this.#cast(options.dtype);
    return await this.#move(cudaIndex(options.device));
  }

  /**
   * Returns another handle of the same memory, with another name.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  named(name: string): CudaTensor {
    return new CudaTensor(...this.#handle.share("name", name));
  }

  /**
   * Copies the tensor to JavaScript memory.
   *
   * @throws {DeviceError} if the device fails
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  copyToHost(): Promise<HostTensor> {
    return this.#handle.use("copy", (memory) => memory.read(this.#handle.tensor));
  }

  /**
   * Exports the tensor to another library of this process by DLPack, without a copy.
   *
   * @returns the address of a DLManagedTensor, or with `versioned` of a DLManagedTensorVersioned. It keeps the memory
   *   valid until its deleter is called. The consumer must call the deleter once, on any thread
   * @throws {TypeError} if DLPack does not know the dtype (F4, F6)
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  toDLPack(options: DLPackOptions = {}): Promise<bigint> {
    return this.#handle.use("give", (memory) => memory.exportDLPack(this.#handle.tensor, options));
  }

  /**
   * Releases the handle without a wait. After the last handle is released, another thread frees the memory as soon as the
   * device has finished the work submitted before.
   */
  [Symbol.dispose](): void {
    this.#handle.dispose();
  }

  get #address(): bigint {
    const { memory, tensor } = this.#handle;
    return tensor.byteLength === 0 ? 0n : memory.address + BigInt(tensor.offset);
  }

  async #cast(dtype: DType): Promise<CudaTensor> {
    if (dtype === this.dtype) return new CudaTensor(...this.#handle.share("cast"));
    return await this.#handle.use(
      "cast",
      async (memory) => new CudaTensor(...await memory.cast(this.#handle.tensor, dtype)),
    );
  }

  async #move(device: number): Promise<CudaTensor> {
    if (device === this.#handle.memory.device) return new CudaTensor(...this.#handle.share("copy"));
    return await this.#handle.use(
      "copy",
      async (memory) => new CudaTensor(...await memory.copyTo(this.#handle.tensor, device)),
    );
  }
}
