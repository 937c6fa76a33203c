/**
 * Device memory as a destination of reads.
 */
import { openLibrary } from "../../ffi/library.ts";
import { CudaMemory } from "../../src/device/cuda/memory.ts";

/** A block on a device. */
export class CudaTarget implements Disposable {
  /** Index of the device. */
  readonly index: number;
  readonly #memory: CudaMemory;

  private constructor(index: number, memory: CudaMemory) {
    this.index = index;
    this.#memory = memory;
  }

  /** Allocates it. */
  static async allocate(index: number, byteLength: number): Promise<CudaTarget> {
    const { shim } = await openLibrary();
    if (!shim) throw new Error("The native library is missing: CUDA is not usable");
    return new CudaTarget(index, await CudaMemory.allocateOne(shim, index, byteLength, "measure"));
  }

  /** Its address. */
  get address(): bigint {
    return this.#memory.address;
  }

  [Symbol.dispose](): void {
    this.#memory.drop();
  }
}
