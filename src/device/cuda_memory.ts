/**
 * Device memory that is held by the handles of the tensors in it.
 */
import { allocateBlocks, type CudaBlock } from "../../ffi/cuda.ts";
import type { CudaPlace } from "../../ffi/cuda_tensor.ts";
import type { Shim } from "../../ffi/symbols.ts";

/** A piece of a device's memory. The shim counts who holds it, as consumers of DLPack tensors do so too. */
export class CudaMemory implements CudaPlace {
  /** What drives the device. */
  readonly shim: Shim;
  /** Index of the device. */
  readonly device: number;
  /** Its first byte there; 0 for a piece of no bytes. */
  readonly address: bigint;
  /** The shim's own name for it; 0 for a piece of no bytes. */
  readonly block: bigint;

  /** Takes over one hold on it. */
  constructor(shim: Shim, device: number, block: CudaBlock) {
    this.shim = shim;
    this.device = device;
    this.address = block.address;
    this.block = block.block;
  }

  /**
   * Allocates pieces: all of them, or none. Each is held once.
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
    return blocks.map((block) => new CudaMemory(shim, device, block));
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

  /** Adds a hold. */
  hold(): void {
    if (this.block !== 0n) this.shim.fst_cuda_retain(this.block);
  }

  /** Gives up a hold; the last one frees the memory, once the device has done with it. */
  drop(): void {
    // A device that has failed refuses even this. Whoever used it has been told, and its memory is lost with it.
    if (this.block !== 0n) this.shim.fst_cuda_release(this.block);
  }
}
