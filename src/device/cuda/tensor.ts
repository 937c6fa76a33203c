/**
 * Tensors in the memory of a CUDA device.
 */
import { castDevice, copyDevice, type CudaPlace, readDevice } from "../../../ffi/cuda_tensor.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { CudaMemory } from "./memory.ts";
import { cudaIndex, type CudaName } from "./name.ts";
import { checkKeys } from "../../base/check.ts";
import { SafeTensorsError, UseAfterCloseError } from "../../base/errors.ts";
import { castSupported } from "../../format/cast.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { type DLPackOptions, exportCuda } from "./dlpack.ts";
import { quote } from "../../base/text.ts";
import { HostTensor } from "../cpu/tensor.ts";
import type { Tensor } from "../../load/tensor.ts";

/** What a tensor on a device is, and where. */
export interface CudaTensorInit {
  /** Its name in the file. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /** Its first byte, counted from that of the memory. */
  readonly offset: number;
}

/** Bytes from which host memory is worth huge pages. */
const HUGE = 2 * 2 ** 20;

/** Makes a tensor that takes over one hold on the memory. */
export let newCudaTensor: (memory: CudaMemory, init: CudaTensorInit) => CudaTensor;

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
 * import { doctor, fastsafeOpen, serialize } from "@x/fastsafetensors";
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
  readonly #memory: CudaMemory;
  readonly #offset: number;
  #isDisposed = false;

  /** Takes over one hold on the memory. Tensors are made by a model, not by hand. */
  private constructor(memory: CudaMemory, init: CudaTensorInit) {
    this.name = init.name;
    this.dtype = init.dtype;
    this.shape = init.shape;
    this.byteLength = init.byteLength;
    this.device = `cuda:${memory.device}`;
    this.#memory = memory;
    this.#offset = init.offset;
  }

  static {
    newCudaTensor = (memory, init) => new CudaTensor(memory, init);
    useCudaTensor = (tensor, action, use) => tensor.#use(action, use);
  }

  /**
   * The address of its first element on the device: a multiple of 16 and of the element's size; 0 if it has no
   * elements. Valid until this handle is disposed.
   *
   * @throws {UseAfterCloseError} if it was disposed
   */
  get devicePointer(): bigint {
    this.#check("use");
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
    this.#check("name");
    return this.#share(name);
  }

  /**
   * Copies the tensor to JavaScript memory.
   *
   * @throws {DeviceError} if the device fails
   * @throws {UseAfterCloseError} if it was disposed
   */
  copyToHost(): Promise<HostTensor> {
    return this.#use("copy", async (place) => {
      const { shim } = this.#memory;
      const bytes = new Uint8Array(this.byteLength);
      if (bytes.byteLength >= HUGE) shim.fst_memory_advise(bytes, 0n, BigInt(bytes.byteLength));
      if (bytes.byteLength > 0) {
        await readDevice(shim, bytes, place, `copy tensor ${quote(this.name)} to the host`);
      }
      return new HostTensor(this.name, this.dtype, this.shape, bytes);
    });
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
    return this.#use(
      "give",
      ({ address }, block) => exportCuda(this, { ...this.#memory, address }, block, options),
    );
  }

  /**
   * Gives the handle up, without waiting. The memory is freed with the last handle in it: soon, on another thread, once
   * the device has done the work that it has been given.
   */
  [Symbol.dispose](): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#memory.drop();
  }

  get #address(): bigint {
    return this.byteLength === 0 ? 0n : this.#memory.address + BigInt(this.#offset);
  }

  #check(action: string): void {
    if (!this.#isDisposed) return;
    throw new UseAfterCloseError(`Cannot ${action} tensor ${quote(this.name)}: its handle was disposed`);
  }

  /** Does something with the memory, which stays for as long as that takes even if the handle is disposed meanwhile. */
  async #use<R>(action: string, use: (place: CudaPlace, block: bigint) => R | Promise<R>): Promise<R> {
    this.#check(action);
    const place = { device: this.#memory.device, address: this.#address };
    return await this.#memory.use(`${action} tensor ${quote(this.name)}`, (block) => use(place, block));
  }

  #share(name: string): CudaTensor {
    const { dtype, shape, byteLength } = this;
    this.#memory.hold();
    return new CudaTensor(this.#memory, { name, dtype, shape, byteLength, offset: this.#offset });
  }

  #cast(dtype: DType): Promise<CudaTensor> {
    return this.#use("cast", async (place) => {
      if (dtype === this.dtype) return this.#share(this.name);
      const action = `cast tensor ${quote(this.name)} from ${this.dtype} to ${dtype}`;
      if (!castSupported(this.dtype, dtype)) {
        throw new SafeTensorsError("UnsupportedCast", `Cannot ${action}`, { tensor: this.name });
      }
      const elements = this.byteLength * 8 / dtypeBits(this.dtype);
      const byteLength = elements * dtypeBits(dtype) / 8;
      return await fillTensor(
        this.#memory.shim,
        place.device,
        { name: this.name, dtype, shape: this.shape, byteLength },
        action,
        (target) => castDevice(this.#memory.shim, target, dtype, place, this.dtype, elements, action),
      );
    });
  }

  #move(device: number): Promise<CudaTensor> {
    return this.#use("copy", (place) => {
      if (device === place.device) return this.#share(this.name);
      const { name, dtype, shape, byteLength } = this;
      const action = `copy tensor ${quote(name)} to device "cuda:${device}"`;
      return fillTensor(
        this.#memory.shim,
        device,
        { name, dtype, shape, byteLength },
        action,
        (target) => copyDevice(this.#memory.shim, target, place, byteLength, action),
      );
    });
  }
}

/**
 * A tensor in new memory, once that has been filled.
 *
 * @param action what for, for messages: "Cannot …"
 */
export async function fillTensor(
  shim: Shim,
  device: number,
  init: Omit<CudaTensorInit, "offset">,
  action: string,
  fill: (target: CudaMemory) => Promise<void>,
): Promise<CudaTensor> {
  const memory = await CudaMemory.allocateOne(shim, device, init.byteLength, action);
  try {
    if (init.byteLength > 0) await fill(memory);
  } catch (error) {
    memory.drop();
    throw error;
  }
  return newCudaTensor(memory, { ...init, offset: 0 });
}
