/** Gives access by name to the tensors of a set of files on a device. */
import { handled } from "../base/handled.ts";
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { Turn } from "../base/turn.ts";
import type { HostTensor } from "../device/tensors.ts";
import type { ShardOptions } from "../files/shard_options.ts";
import type { LoadStats } from "../load/session.ts";
import type { Tensor } from "../load/tensor.ts";
import { partsOf, type SafeTensorsModel } from "../model/model.ts";

/** The event loop gets a turn after this many requests. */
const REQUESTS_PER_TURN = 128;

/**
 * All tensors of the files that a {@linkcode SafeTensorsFileLoader} copied to a device. They stream in: each
 * method waits for the bytes that it needs.
 *
 * If several ranks load together, each reads the tensors of its own files, and all ranks must request the same
 * tensors in the same order: the owner sends them. If a rank fails, the others get a {@linkcode GroupError} that
 * names it. After every tensor of a file was requested, its owner's memory is released and its tensors cannot be
 * requested again.
 */
export class FilesBuffer<T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #model: SafeTensorsModel<T>;

  /** Use {@linkcode SafeTensorsFileLoader.copyFilesToDevice}. */
  constructor(model: SafeTensorsModel<T>) {
    this.#model = model;
  }

  /** The names of the tensors, in file order. */
  getKeys(): string[] {
    return this.#model.keys();
  }

  /**
   * The file of a tensor.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  getFilename(name: string): string {
    return this.#model.info(name).path;
  }

  /**
   * The shape of a tensor.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  getShape(name: string): readonly number[] {
    return this.#model.info(name).shape;
  }

  /**
   * A tensor, as soon as its own bytes have landed; if several ranks load together, on every rank.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {ReadError} if its file is shorter than its header says
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or after all tensors of its file were requested
   */
  getTensor(name: string): Promise<T> {
    return this.#model.getTensor(name);
  }

  /**
   * This rank's part of a tensor: the dimension is divided into `ceil(size / ranks)` rows for each rank; the last
   * ranks may get fewer or none. In a group of one, the result is the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {ReadError} if its file is shorter than its header says
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or after all tensors of its file were requested
   */
  getSharded(name: string, dimension: number, options: ShardOptions = {}): Promise<T> {
    return this.#model.getSharded(name, dimension, options);
  }

  /**
   * Sends a tensor to a rank. Returns the tensor on that rank, null on every other.
   *
   * @throws {RangeError} if the rank does not exist
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or after all tensors of its file were requested
   */
  pushTensor(name: string, destination: number): Promise<T | null> {
    return handled(this.#pushTensor(name, destination));
  }

  async #pushTensor(name: string, destination: number): Promise<T | null> {
    const { session, shared } = partsOf(this.#model);
    const { size } = session.context.options.group;
    if (!Number.isInteger(destination) || destination < 0 || destination >= size) {
      throw new RangeError(
        `Cannot push tensor ${quote(name)} to rank ${destination}: the group has ${size} (from 0)`,
      );
    }
    if (!shared) return await this.getTensor(name);
    session.checkOpen("push tensor", name);
    session.find(name);
    return await shared.pushTensor(name, destination);
  }

  /**
   * This rank's parts of several tensors, joined along the dimension in the order of `names`, as for fused
   * projections.
   *
   * @throws {TypeError} if there is none, or they differ in dtype or in another dimension
   * @throws {RangeError} if a tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or after all tensors of a file were requested
   */
  getMultiCols(names: readonly string[], dimension: number): Promise<T> {
    return handled(this.#getMultiCols(names, dimension));
  }

  async #getMultiCols(names: readonly string[], dimension: number): Promise<T> {
    const { session, shared } = partsOf(this.#model);
    session.checkOpen("join tensors");
    if (names.length === 0) throw new TypeError("Cannot join tensors: no names were given");
    const first = session.find(names[0]!);
    const turn = new Turn();
    for (const [index, name] of names.entries()) {
      if (index % STEP === 0) await turn.pause();
      const { dtype, shape } = session.find(name);
      const fits = shape.length === first.shape.length &&
        shape.every((size, index) => index === dimension || size === first.shape[index]);
      if (dtype === first.dtype && fits) continue;
      throw new TypeError(
        `Cannot join ${quote(first.name)} (${first.dtype} [${first.shape}]) and ${
          quote(name)
        } (${dtype} [${shape}]) along ` +
          `dimension ${dimension}: dtype and other dimensions must agree`,
      );
    }
    const joined = names.join("+");
    const parts = shared
      ? await shared.getAll(`getMultiCols(${quote(joined)}, ${dimension})`, names, dimension)
      : await this.#getEach(names.map((name) => [name, dimension] as const));
    try {
      return await session.context.device.concatenate(joined, parts, dimension);
    } finally {
      for (const part of parts) part[Symbol.dispose]();
    }
  }

  /**
   * Several tensors at once: sharded along the dimension given, or whole if it is -1 or null.
   *
   * @param dimensions name → dimension; default is every tensor whole
   */
  asDict(dimensions?: Readonly<Record<string, number | null>>): Promise<Map<string, T>> {
    return handled(this.#asDict(dimensions));
  }

  async #asDict(dimensions?: Readonly<Record<string, number | null>>): Promise<Map<string, T>> {
    const { session, shared } = partsOf(this.#model);
    session.checkOpen("get tensors");
    const turn = new Turn();
    const wanted: (readonly [string, number | null])[] = [];
    for (const name of dimensions ? Object.keys(dimensions) : this.getKeys()) {
      if (wanted.length % STEP === 0) await turn.pause();
      session.find(name);
      const dimension = dimensions?.[name] ?? null;
      wanted.push([name, dimension === -1 ? null : dimension]);
    }
    const tensors = shared ? await shared.getMany("asDict()", wanted) : await this.#getEach(wanted);
    const dict = new Map<string, T>();
    for (const [index, [name]] of wanted.entries()) {
      if (index % STEP === 0) await turn.pause();
      dict.set(name, tensors[index]!);
    }
    return dict;
  }

  /** Gets tensors of this process, each whole or divided, in several turns of the event loop. */
  async #getEach(wanted: readonly (readonly [string, number | null])[]): Promise<T[]> {
    const turn = new Turn();
    const asked: Promise<T>[] = [];
    for (const [name, dimension] of wanted) {
      asked.push(dimension === null ? this.getTensor(name) : this.getSharded(name, dimension));
      if (asked.length % REQUESTS_PER_TURN === 0) await turn.pause();
    }
    return await Promise.all(asked);
  }

  /** How the load went, or goes. */
  stats(): LoadStats {
    return this.#model.stats();
  }

  /**
   * Cancels the pending reads. Returned tensors stay valid. With several ranks, each closes its own;
   * a request to a rank that has closed fails with a GroupError.
   */
  close(): Promise<void> {
    return this.#model.close();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
