/**
 * Device memory with a count of its references: tensor handles, loads and calls.
 */
import { allocateBlocks, type CudaBlock } from "../../../ffi/cuda.ts";
import { castDevice, copyDevice, type CudaPlace, readDevice } from "../../../ffi/cuda_tensor.ts";
import type { Handle } from "../../../ffi/handle.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { SafeTensorsError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { castSupported } from "../../format/cast.ts";
import type { CudaTensorMemory, NewCudaTensor } from "../tensors.ts";
import type { DLPackOptions } from "../dlpack.ts";
import type { PlacedTensor } from "../tensor_handle.ts";
import { exportCuda } from "./dlpack.ts";

/** Least bytes of a host buffer that uses huge pages. */
const HUGE = 2 * 2 ** 20;

/** The device memory of this isolate, sorted by address; the addresses of all devices differ. */
const held: CudaMemory[] = [];

/** An allocation on a device. It is freed after its last reference is released and all calls with it have ended. */
export class CudaMemory implements CudaTensorMemory {
  /** The shim. */
  readonly shim: Shim;
  /** Index of the device. */
  readonly device: number;
  /** Address of its first byte; 0 for an allocation without bytes. */
  readonly address: bigint;
  /** Its size in bytes. */
  readonly byteLength: number;
  readonly #handle: Handle | null;
  #holders = 1;

  /** Makes it with one reference, which the caller owns. */
  constructor(shim: Shim, device: number, block: CudaBlock, byteLength: number) {
    this.shim = shim;
    this.device = device;
    this.address = block.address;
    this.byteLength = byteLength;
    this.#handle = block.handle;
    if (this.#handle) held.splice(firstAfter(this.address), 0, this);
  }

  /**
   * Makes several allocations, or none. Each has one reference. If there is too little memory, waits for pending releases
   * and tries again.
   *
   * @param action the action for messages: "Cannot …"
   * @param load a load whose lanes wait for them, see {@linkcode allocateBlocks}
   * @throws {OutOfMemoryError} if they do not fit
   * @throws {DeviceError} if the device fails
   */
  static async allocate(
    shim: Shim,
    device: number,
    byteLengths: readonly number[],
    action: string,
    load?: Parameters<typeof allocateBlocks>[4],
  ): Promise<CudaMemory[]> {
    const blocks = await allocateBlocks(shim, device, byteLengths, action, load);
    return blocks.map((block, index) => new CudaMemory(shim, device, block, byteLengths[index]!));
  }

  /** Makes one allocation with one reference; see {@linkcode allocate}. */
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
   * Makes one allocation with one reference, and fills it; does not call `fill` for an allocation without bytes.
   *
   * @param action the action for messages: "Cannot …"
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

  /** Adds a reference. */
  hold(): void {
    this.#holders++;
  }

  /**
   * Releases a reference. After the last one, the memory is freed in the background as soon as the device no longer uses
   * it. A failed device cannot free memory: its users have the error, and the message of the next failed allocation
   * reports it.
   */
  drop(): void {
    if (--this.#holders > 0 || !this.#handle) return;
    held.splice(held.indexOf(this), 1);
    this.#handle.close();
  }

  async read(tensor: PlacedTensor): Promise<Uint8Array<ArrayBuffer>> {
    const { name, byteLength } = tensor;
    const bytes = new Uint8Array(byteLength);
    if (byteLength >= HUGE) this.shim.fst_memory_advise(bytes, 0n, BigInt(byteLength));
    if (byteLength > 0) {
      await readDevice(this.shim, bytes, this.#placeOf(tensor), `copy tensor ${quote(name)} to the host`);
    }
    return bytes;
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
   * Calls `body` with the shim's pointer to the memory, which stays valid until `body` has returned and its promise has
   * settled; 0 for an allocation without bytes.
   *
   * @param action the caller's action for errors, such as `copy`
   * @throws {UseAfterCloseError} if the memory was released
   */
  use<R>(action: string, body: (block: bigint) => R): R {
    return this.#handle ? this.#handle.use(action, body) : body(0n);
  }
}

/** Returns the index of the first allocation that begins after an address. */
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
 * Adds references to the allocations of this package that contain the addresses, until the result is disposed; ignores
 * other memory. For calls that get only an address.
 */
export function referenceDeviceMemory(addresses: Iterable<bigint>): Disposable {
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
