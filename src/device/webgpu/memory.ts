/**
 * Buffers with a count of their references: tensor handles and loads.
 */
import { ceilTo, type Gpu } from "./gpu.ts";

/** A buffer and its reference count. */
export class GpuMemory {
  /** The device of the buffer. */
  readonly gpu: Gpu;
  /** The buffer; destroyed after its last reference is released. */
  readonly buffer: GPUBuffer;
  #holds = 1;

  /** Makes it with one reference, which the caller owns. */
  constructor(gpu: Gpu, buffer: GPUBuffer) {
    this.gpu = gpu;
    this.buffer = buffer;
  }

  /**
   * Allocates all buffers, or none. Each has one reference and is filled with zeros.
   *
   * @param action the action for messages: "Cannot …"
   * @param usage usage flags in addition to the required ones
   * @param around called for each buffer; calls its argument, which makes the buffer
   * @throws {OutOfMemoryError} if they do not fit
   * @throws {DeviceError} if the device rejects a call
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
          size: Math.max(4, ceilTo(length, 4)), // an empty buffer or one with an odd length cannot be bound
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

  /** Adds a reference. */
  hold(): void {
    this.#holds++;
  }

  /** Releases a reference; the last one destroys the buffer after the device no longer uses it. */
  drop(): void {
    if (--this.#holds === 0) this.buffer.destroy();
  }
}
