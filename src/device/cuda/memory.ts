/**
 * Device memory that is held by the handles of the tensors in it.
 */
import { allocateBlocks, type CudaBlock } from "../../../ffi/cuda.ts";
import { castDevice, copyDevice, type CudaPlace, readDevice } from "../../../ffi/cuda_tensor.ts";
import type { Handle } from "../../../ffi/handle.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { SafeTensorsError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { castSupported } from "../../format/cast.ts";
import { HostTensor } from "../cpu/tensor.ts";
import type { CudaTensorMemory, NewCudaTensor } from "../cuda_tensor.ts";
import type { DLPackOptions } from "../dlpack.ts";
import type { PlacedTensor } from "../tensor_handle.ts";
import { exportCuda } from "./dlpack.ts";

/** Bytes from which host memory is worth huge pages. */
const HUGE = 2 * 2 ** 20;

/** The memory that this isolate holds, by rising address; of all devices, whose addresses differ. */
const held: CudaMemory[] = [];

/** A piece of a device's memory. It is given back when the last holder drops it and no call uses it any more. */
export class CudaMemory implements CudaTensorMemory {
  /** What drives the device. */
  readonly shim: Shim;
  /** Index of the device. */
  readonly device: number;
  /** Its first byte there; 0 for a piece of no bytes. */
  readonly address: bigint;
  /** Its bytes. */
  readonly byteLength: number;
  readonly #handle: Handle | null;
  #holders = 1;

  /** Held once, by the caller. */
  constructor(shim: Shim, device: number, block: CudaBlock, byteLength: number) {
    this.shim = shim;
    this.device = device;
    this.address = block.address;
    this.byteLength = byteLength;
    this.#handle = block.handle;
    if (this.#handle) held.splice(firstAfter(this.address), 0, this);
  }

  /**
   * Allocates pieces: all of them, or none. Each is held once. Waits for memory that is about to be freed before it says
   * that there is too little.
   *
   * @param action what for, for messages: "Cannot …"
   * @throws {OutOfMemoryError} if they do not fit
   * @throws {DeviceError} if the device fails
   */
  static async allocate(
    shim: Shim,
    device: number,
    byteLengths: readonly number[],
    action: string,
  ): Promise<CudaMemory[]> {
    const blocks = await allocateBlocks(shim, device, byteLengths, action);
    return blocks.map((block, index) => new CudaMemory(shim, device, block, byteLengths[index]!));
  }

  /** Allocates one piece, held once; see {@linkcode allocate}. */
  static async allocateOne(
    shim: Shim,
    device: number,
    byteLength: number,
    action: string,
  ): Promise<CudaMemory> {
    const [memory] = await CudaMemory.allocate(shim, device, [byteLength], action);
    return memory!;
  }

  /**
   * Allocates one piece, held once, and fills it; nothing is called to fill one of no bytes.
   *
   * @param action what for, for messages: "Cannot …"
   */
  static async filled(
    shim: Shim,
    device: number,
    byteLength: number,
    action: string,
    fill: (target: CudaMemory) => Promise<void>,
  ): Promise<CudaMemory> {
    const memory = await CudaMemory.allocateOne(shim, device, byteLength, action);
    try {
      if (byteLength > 0) await fill(memory);
      return memory;
    } catch (error) {
      memory.drop();
      throw error;
    }
  }

  /** Adds a holder. */
  hold(): void {
    this.#holders++;
  }

  /**
   * Drops a hold. After the last, the memory is freed once the device has done with it; nobody waits for that. A device
   * that has failed refuses even this: who used it has its error, and the next allocation that fails says so.
   */
  drop(): void {
    if (--this.#holders > 0 || !this.#handle) return;
    held.splice(held.indexOf(this), 1);
    this.#handle.close();
  }

  async read(tensor: PlacedTensor): Promise<HostTensor> {
    const { name, dtype, shape, byteLength } = tensor;
    const bytes = new Uint8Array(byteLength);
    if (byteLength >= HUGE) this.shim.fst_memory_advise(bytes, 0n, BigInt(byteLength));
    if (byteLength > 0) {
      await readDevice(this.shim, bytes, this.#placeOf(tensor), `copy tensor ${quote(name)} to the host`);
    }
    return new HostTensor(name, dtype, shape, bytes);
  }

  async cast(tensor: PlacedTensor, dtype: DType): Promise<NewCudaTensor> {
    const { name, dtype: from, shape } = tensor;
    const action = `cast tensor ${quote(name)} from ${from} to ${dtype}`;
    if (!castSupported(from, dtype)) {
      throw new SafeTensorsError("UnsupportedCast", `Cannot ${action}`, { tensor: name });
    }
    const elements = tensor.byteLength * 8 / dtypeBits(from);
    const byteLength = elements * dtypeBits(dtype) / 8;
    const source = this.#placeOf(tensor);
    const fill = (target: CudaMemory) => castDevice(this.shim, target, dtype, source, from, elements, action);
    const memory = await CudaMemory.filled(this.shim, this.device, byteLength, action, fill);
    return [memory, { name, dtype, shape, byteLength, offset: 0 }];
  }

  async copyTo(tensor: PlacedTensor, device: number): Promise<NewCudaTensor> {
    const { name, byteLength } = tensor;
    const action = `copy tensor ${quote(name)} to device "cuda:${device}"`;
    const fill = (target: CudaMemory) =>
      copyDevice(this.shim, target, this.#placeOf(tensor), byteLength, action);
    const memory = await CudaMemory.filled(this.shim, device, byteLength, action, fill);
    return [memory, { ...tensor, offset: 0 }];
  }

  exportDLPack(tensor: PlacedTensor, options: DLPackOptions): bigint {
    const { shim } = this;
    return this.use(
      "give",
      (block) => exportCuda(tensor, { shim, ...this.#placeOf(tensor), block }, options),
    );
  }

  #placeOf({ byteLength, offset }: PlacedTensor): CudaPlace {
    return { device: this.device, address: byteLength === 0 ? 0n : this.address + BigInt(offset) };
  }

  /**
   * Calls `body` with the shim's name for the memory, which stays until `body` has returned and a promise that it
   * returned has settled; 0 for a piece of no bytes.
   *
   * @param action what errors say the caller wanted, such as `copy`
   * @throws {UseAfterCloseError} if nobody holds the memory
   */
  use<R>(action: string, body: (block: bigint) => R): R {
    return this.#handle ? this.#handle.use(action, body) : body(0n);
  }
}

/** The index of the first piece that begins behind an address. */
function firstAfter(address: bigint): number {
  let [low, high] = [0, held.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (held[middle]!.address <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * Holds memory of this package's that addresses lie in, until the result is disposed; other memory is its owner's. For
 * calls that are given no more than an address.
 */
export function holdDeviceMemory(addresses: Iterable<bigint>): Disposable {
  const memories: CudaMemory[] = [];
  for (const address of addresses) {
    const memory = held[firstAfter(address) - 1];
    if (!memory || address >= memory.address + BigInt(memory.byteLength)) continue;
    memory.hold();
    memories.push(memory);
  }
  return {
    [Symbol.dispose]() {
      for (const memory of memories.splice(0)) memory.drop();
    },
  };
}
