/**
 * Handles of tensors in memory that several of them share, on a device whose memory the garbage collector does not
 * free.
 */
import type { DType } from "../base/dtype.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/** A tensor without its place. */
export interface TensorDescription {
  /** Its name in the file. */
  readonly name: string;
  /** Element type. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
}

/** A tensor and its place in some memory. */
export interface PlacedTensor extends TensorDescription {
  /** Its first byte, counted from that of the memory. */
  readonly offset: number;
}

/** Memory that is freed once its last hold is dropped. */
export interface SharedMemory {
  /** Adds a hold. */
  hold(): void;
  /** Drops a hold. */
  drop(): void;
}

/** One tensor's hold on the memory that it is in. */
export class TensorHandle<M extends SharedMemory> {
  /** The tensor. */
  readonly tensor: PlacedTensor;
  readonly #memory: M;
  #isDisposed = false;

  /** Takes over one hold on the memory. */
  constructor(memory: M, tensor: PlacedTensor) {
    this.#memory = memory;
    this.tensor = tensor;
  }

  /** The memory, also after the handle was disposed: for what does not depend on its bytes. */
  get memory(): M {
    return this.#memory;
  }

  /**
   * Throws if the handle was disposed.
   *
   * @param action what the caller wants, such as `copy`
   * @throws {UseAfterCloseError}
   */
  check(action: string): void {
    if (!this.#isDisposed) return;
    throw new UseAfterCloseError(
      `Cannot ${action} tensor ${quote(this.tensor.name)}: its handle was disposed`,
    );
  }

  /**
   * The memory with one more hold: it stays until that is dropped, even if the handle is disposed before.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  hold(action: string): M {
    this.check(action);
    this.#memory.hold();
    return this.#memory;
  }

  /**
   * Works with the memory, which stays until that is done, even if the handle is disposed meanwhile.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  async use<R>(action: string, work: (memory: M) => R | Promise<R>): Promise<R> {
    const memory = this.hold(action);
    try {
      return await work(memory);
    } finally {
      memory.drop();
    }
  }

  /** The tensor under a name, for another handle of the same memory, which takes over the hold. */
  share(action: string, name = this.tensor.name): [memory: M, tensor: PlacedTensor] {
    return [this.hold(action), { ...this.tensor, name }];
  }

  /** Drops the hold; again does nothing. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#memory.drop();
  }
}
