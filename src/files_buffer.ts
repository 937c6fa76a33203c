/**
 * The tensors of a set of files on a device, by name.
 */
import type { Catalog } from "./catalog.ts";
import type { Device } from "./device/device.ts";
import { sliceLayout } from "./format/slices.ts";
import { type Load, type LoadRequest, wholeTensor } from "./load.ts";
import type { CheckedOptions } from "./options.ts";
import { type LoadStats, rankSlices, Session } from "./session.ts";
import type { HostTensor } from "./tensor/host_tensor.ts";
import type { Tensor } from "./tensor/tensor.ts";

/**
 * All tensors of the files that a {@linkcode SafeTensorsFileLoader} copied to a device. They stream in: each method
 * waits for the bytes that it needs.
 */
export class FilesBuffer<T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #session: Session<T>;
  readonly #requests = new Map<string, LoadRequest>();
  #load: Load<T> | undefined;

  /** Use {@linkcode SafeTensorsFileLoader.copyFilesToDevice}. */
  constructor(catalog: Catalog, device: Device<T>, options: CheckedOptions, notes: readonly string[]) {
    this.#session = new Session(catalog, device, options, notes);
    for (const tensor of catalog.tensors.values()) {
      this.#requests.set(tensor.name, wholeTensor(tensor, options.dtype, device));
    }
  }

  /** Starts to load. Called once, by the loader. */
  async start(): Promise<void> {
    this.#load = await this.#session.load([...this.#requests.values()]);
    this.#load.finished().catch(() => {}).finally(() => this.#session.closeFiles());
  }

  /** The names of the tensors, in file order. */
  getKeys(): string[] {
    return [...this.#requests.keys()];
  }

  /**
   * The file that a tensor is in.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  getFilename(name: string): string {
    return this.#session.catalog.files[this.#session.find(name).file]!.path;
  }

  /**
   * The shape of a tensor.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  getShape(name: string): readonly number[] {
    return this.#session.find(name).shape;
  }

  /**
   * A tensor, as soon as its own bytes have landed.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getTensor(name: string): Promise<T> {
    this.#session.checkOpen(`get tensor "${name}"`);
    this.#session.find(name);
    return await this.#load!.get(this.#requests.get(name)!);
  }

  /**
   * This rank's part of a tensor along a dimension; in a group of one the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getSharded(name: string, dimension: number): Promise<T> {
    const { rank, size } = this.#session.context.options.group;
    const slices = rankSlices(this.#session.find(name), dimension, rank, size);
    const whole = await this.getTensor(name);
    if (size === 1) return whole;
    try {
      return await this.#session.context.device.slice(whole, sliceLayout(whole, slices));
    } finally {
      whole[Symbol.dispose]?.();
    }
  }

  /**
   * Sends a tensor to a rank: the tensor there, null on every other rank.
   *
   * @throws {RangeError} if there is no such rank
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async pushTensor(name: string, destination: number): Promise<T | null> {
    const { rank, size } = this.#session.context.options.group;
    if (!Number.isInteger(destination) || destination < 0 || destination >= size) {
      throw new RangeError(
        `Cannot push tensor "${name}" to rank ${destination}: the group has ${size} (from 0)`,
      );
    }
    return destination === rank ? await this.getTensor(name) : null;
  }

  /**
   * This rank's parts of several tensors, joined along the dimension in the order asked: fused projections.
   *
   * @throws {TypeError} if there is none, or they differ in dtype or in another dimension
   * @throws {RangeError} if a tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getMultiCols(names: readonly string[], dimension: number): Promise<T> {
    if (names.length === 0) throw new TypeError("Cannot join tensors: no names were given");
    const first = this.#session.find(names[0]!);
    for (const name of names) {
      const { dtype, shape } = this.#session.find(name);
      const fits = shape.length === first.shape.length &&
        shape.every((size, index) => index === dimension || size === first.shape[index]);
      if (dtype === first.dtype && fits) continue;
      throw new TypeError(
        `Cannot join "${first.name}" (${first.dtype} [${first.shape}]) and "${name}" (${dtype} [${shape}]) along ` +
          `dimension ${dimension}: dtype and other dimensions must agree`,
      );
    }
    const parts = await Promise.all(names.map((name) => this.getSharded(name, dimension)));
    try {
      return await this.#session.context.device.concatenate(names.join("+"), parts, dimension);
    } finally {
      for (const part of parts) part[Symbol.dispose]?.();
    }
  }

  /**
   * Several tensors at once: sharded along the dimension given, or whole where it is -1 or null.
   *
   * @param dimensions name → dimension; default is every tensor whole
   */
  async asDict(dimensions?: Readonly<Record<string, number | null>>): Promise<Map<string, T>> {
    const wanted = dimensions
      ? Object.entries(dimensions)
      : this.getKeys().map((name) => [name, null] as const);
    const tensors = await Promise.all(wanted.map(async ([name, dimension]) => {
      const whole = dimension === null || dimension === -1;
      return [name, whole ? await this.getTensor(name) : await this.getSharded(name, dimension)] as const;
    }));
    return new Map(tensors);
  }

  /** How the load went, or goes. */
  stats(): LoadStats {
    return this.#session.stats();
  }

  /** Ends what is still being read. Tensors that were given out stay valid. */
  close(): Promise<void> {
    return this.#session.close();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
