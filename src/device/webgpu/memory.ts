/**
 * Buffers that are held by the handles of the tensors in them.
 */
import { ceilTo, type Gpu } from "./gpu.ts";

/** A buffer and how many hold it. */
export class GpuMemory {
  /** The device that it is of. */
  readonly gpu: Gpu;
  /** The buffer; destroyed once nobody holds it. */
  readonly buffer: GPUBuffer;
  #holds = 1;

  /** Takes over one hold. */
  constructor(gpu: Gpu, buffer: GPUBuffer) {
    this.gpu = gpu;
    this.buffer = buffer;
  }

  /**
   * Allocates buffers: all of them, or none. Each is held once, and begins as zeros.
   *
   * @param action what for, for messages: "Cannot …"
   * @param usage flags besides those that every tensor needs
   * @param around is called for each buffer and calls what makes it
   * @throws {OutOfMemoryError} if they do not fit
   * @throws {DeviceError} if the device refuses
   */
  static async allocate(
    gpu: Gpu,
    byteLengths: readonly number[],
    action: string,
    usage: number,
    around: <R>(create: () => R) => R = (create) => create(),
  ): Promise<GpuMemory[]> {
    const requested = byteLengths.reduce((sum, length) => sum + length, 0);
    const memories: GpuMemory[] = [];
    const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
    try {
      for (const length of byteLengths) {
        const descriptor = {
          size: Math.max(4, ceilTo(length, 4)), // a buffer of no bytes cannot be bound, nor one of odd length
          usage: STORAGE | COPY_SRC | COPY_DST | usage,
        };
        await gpu.attempt(action, requested, () => {
          const buffer = around(() => gpu.device.createBuffer(descriptor));
          memories.push(new GpuMemory(gpu, buffer));
        });
      }
      return memories;
    } catch (error) {
      for (const memory of memories) memory.drop();
      throw error;
    }
  }

  /** Adds a hold. */
  hold(): void {
    this.#holds++;
  }

  /** Gives up a hold; the last one destroys the buffer, which the device does once it has done with it. */
  drop(): void {
    if (--this.#holds === 0) this.buffer.destroy();
  }
}
