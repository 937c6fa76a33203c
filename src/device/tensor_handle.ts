/**
 * Handles of tensors that share memory, on a device whose memory the garbage collector does not free.
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

/** A tensor and its offset in an allocation. */
export interface PlacedTensor extends TensorDescription {
  /** Offset of its first byte in the allocation. */
  readonly offset: number;
}

/** Memory that is freed after its last reference is released. */
export interface SharedMemory {
  /** Adds a reference. */
  hold(): void;
  /** Releases a reference. */
  drop(): void;
}

/** The reference of one tensor to its memory. */
export class TensorHandle<M extends SharedMemory> {
  /** The tensor. */
  readonly tensor: PlacedTensor;
  readonly #memory: M;
  #isDisposed = false;

  /** Takes one reference to the memory. */
  constructor(memory: M, tensor: PlacedTensor) {
    this.#memory = memory;
    this.tensor = tensor;
  }

  /** The memory, also after the handle was disposed, for properties that do not depend on its bytes. */
  get memory(): M {
    return this.#memory;
  }

  /**
   * Throws if the handle was disposed.
   *
   * @param action the caller's action for the message, such as `copy`
   * @throws {UseAfterCloseError}
   */
  check(action: string): void {
    if (!this.#isDisposed) return;
    throw new UseAfterCloseError(
      `Cannot ${action} tensor ${quote(this.tensor.name)}: its handle was disposed`,
    );
  }

  /**
   * Returns the memory with one more reference: it stays valid until the caller releases it, also after this handle is
   * disposed.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  hold(action: string): M {
    this.check(action);
    this.#memory.hold();
    return this.#memory;
  }

  /**
   * Calls a function with the memory, which stays valid until the function has ended, even if the handle is disposed
   * meanwhile.
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

  /** Returns the tensor with another name, for a new handle of the same memory, which takes a reference. */
  share(action: string, name = this.tensor.name): [memory: M, tensor: PlacedTensor] {
    return [this.hold(action), { ...this.tensor, name }];
  }

  /** Releases the reference; a second call has no effect. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#memory.drop();
  }
}
