/**
 * Tensors in the memory of a CUDA device.
 *
 * This file calls no library: what a tensor does with its bytes is done by the memory that it is in (`cuda/memory.ts`).
 */
import { checkKeys } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import type { HostTensor } from "./cpu/tensor.ts";
import type { DLPackOptions } from "./dlpack.ts";
import { cudaIndex, type CudaName } from "./cuda_name.ts";
import type { Tensor } from "../load/tensor.ts";
import { type PlacedTensor, type SharedMemory, TensorHandle } from "./tensor_handle.ts";

/** Memory of a CUDA device, and what can be done with a tensor in it. A new tensor comes with one hold on its memory. */
export interface CudaTensorMemory extends SharedMemory {
  /** Index of the device. */
  readonly device: number;
  /** Its first byte there. */
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
  /** Gives a tensor to another library: the address of a DLPack tensor. */
  exportDLPack(tensor: PlacedTensor, options: DLPackOptions): bigint;
}

/** A tensor that was made. */
export type NewCudaTensor = [memory: CudaTensorMemory, tensor: PlacedTensor];

/** A place in the memory of a device. */
interface CudaPlace {
  readonly device: number;
  readonly address: bigint;
}

/** Makes a tensor that takes over one hold on the memory. */
export let newCudaTensor: (...made: NewCudaTensor) => CudaTensor;

/** Does something with the memory of a tensor, which stays for as long as that takes. */
export let useCudaTensor: <R>(
  tensor: CudaTensor,
  action: string,
  use: (place: CudaPlace) => R | Promise<R>,
) => Promise<R>;

/**
 * A tensor in the memory of a CUDA device, as an address that any CUDA library of this process can use.
 *
 * It is a handle: it holds the memory, usually together with the other tensors of its file. The memory stays valid
 * after the model is closed, and is freed soon after the last handle in it has been disposed: once the device has done
 * the work that it has been given, for which nobody waits. A handle that was disposed throws when it is used; to dispose
 * it again does nothing.
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
  /** Where it is. */
  readonly device: CudaName;
  readonly #handle: TensorHandle<CudaTensorMemory>;

  /** Takes over one hold on the memory. Tensors are made by a model, not by hand. */
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
   * @throws {UseAfterCloseError} if it was disposed
   */
  get devicePointer(): bigint {
    this.#handle.check("use");
    return this.#address;
  }

  /**
   * The tensor with another floating element type, rounded to nearest even, or on another device. The result is a
   * handle of its own, to be disposed like this one; where nothing changes it shares the memory.
   *
   * @throws {TypeError} if an option is unknown, or `device` is not the name of a CUDA device
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {DeviceError} if a device fails, or there is no such device
   * @throws {UseAfterCloseError} if it was disposed
   */
  async to(options: { dtype: DType } | { device: CudaName }): Promise<CudaTensor> {
    checkKeys("CudaTensor.to()", options, ["dtype", "device"]);
    if ("dtype" in options) return await this.#cast(options.dtype);
    return await this.#move(cudaIndex(options.device));
  }

  /**
   * Another handle of the same memory, under another name.
   *
   * @throws {UseAfterCloseError} if it was disposed
   */
  named(name: string): CudaTensor {
    return new CudaTensor(...this.#handle.share("name", name));
  }

  /**
   * Copies the tensor to JavaScript memory.
   *
   * @throws {DeviceError} if the device fails
   * @throws {UseAfterCloseError} if it was disposed
   */
  copyToHost(): Promise<HostTensor> {
    return this.#handle.use("copy", (memory) => memory.read(this.#handle.tensor));
  }

  /**
   * Gives the tensor to another library of this process that knows DLPack, without a copy.
   *
   * @returns the address of a DLManagedTensor, or with `versioned` of a DLManagedTensorVersioned. It holds the memory
   *   until its deleter is called, from whatever thread: whoever takes it must do so, once
   * @throws {TypeError} if DLPack does not know the dtype (F4, F6)
   * @throws {UseAfterCloseError} if it was disposed
   */
  toDLPack(options: DLPackOptions = {}): Promise<bigint> {
    return this.#handle.use("give", (memory) => memory.exportDLPack(this.#handle.tensor, options));
  }

  /**
   * Gives the handle up, without waiting. The memory is freed with the last handle in it: soon, on another thread, once
   * the device has done the work that it has been given.
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
