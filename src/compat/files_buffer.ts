/**
 * The tensors of a set of files on a device, by name.
 */
import { type Catalog, pathOf } from "../files/catalog.ts";
import type { Device } from "../load/device.ts";
import { FileSlices } from "../load/file_slices.ts";
import { STEP } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import { handled } from "../base/handled.ts";
import { rankSlices, sliceLayout } from "../format/slices.ts";
import { type Load, type LoadRequest, tensorSlice, wholeTensor } from "../load/load.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import type { CheckedOptions } from "../model/options.ts";
import { ownSteps } from "../model/shared_tensors.ts";
import { RankTensors } from "../ranks/rank_tensors.ts";
import { type LoadStats, Session } from "../load/session.ts";
import { isFromFile, type ShardOptions } from "../files/shard_options.ts";
import type { HostTensor } from "../device/cpu/tensor.ts";
import type { Tensor } from "../load/tensor.ts";

/** What a buffer is made of. */
export interface StartedBuffer<T extends Tensor> {
  readonly session: Session<T>;
  /** By name, in file order. */
  readonly requests: ReadonlyMap<string, LoadRequest>;
  /** The load of all tensors that this process reads. */
  readonly load: Load<T>;
}

/** Tensors that are asked for between two looks at the clock. */
const ASKED_PER_TURN = 128;

/** Starts to load all tensors of opened files. */
export async function startBuffer<T extends Tensor>(
  catalog: Catalog,
  device: Device<T>,
  options: CheckedOptions,
  notes: readonly string[],
): Promise<FilesBuffer<T>> {
  const session = new Session(catalog, device, options, notes);
  const requests = new Map<string, LoadRequest>();
  const turn = new Turn();
  for (const tensor of catalog.tensors.values()) {
    requests.set(tensor.name, wholeTensor(tensor, options.dtype, device));
    if (requests.size % STEP === 0) await turn.pause();
  }
  const own = await finishInTurns(ownSteps(requests));
  return new FilesBuffer({ session, requests, load: await session.loadAll(own) });
}

/**
 * All tensors of the files that a {@linkcode SafeTensorsFileLoader} copied to a device. They stream in: each method
 * waits for the bytes that it needs.
 *
 * Where several ranks load together, each has the tensors of its own files, and what one asks for all ask for, in the
 * same order: the owner hands it out. If a rank fails, the others get a {@linkcode GroupError} that names it. Once every
 * tensor of a file has been handed out, its owner's memory is released and none of them can be asked for again.
 */
export class FilesBuffer<T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #session: Session<T>;
  readonly #requests: ReadonlyMap<string, LoadRequest>;
  readonly #ranks: RankTensors<T> | null;
  readonly #slices: FileSlices<T>;
  readonly #load: Load<T>;

  /** Use {@linkcode SafeTensorsFileLoader.copyFilesToDevice}. */
  constructor({ session, requests, load }: StartedBuffer<T>) {
    this.#session = session;
    this.#requests = requests;
    this.#load = load;
    this.#slices = new FileSlices(session);
    this.#ranks = session.catalog.group
      ? new RankTensors(session, requests, {
        get: (request) => load.get(request),
        retire: (requests) => load.retire(requests),
      })
      : null;
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
    return pathOf(this.#session.catalog, this.#session.find(name));
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
   * A tensor, as soon as its own bytes have landed; where several ranks load together, on every one of them.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or if it was handed out with all others of its file
   */
  getTensor(name: string): Promise<T> {
    return handled(this.#getTensor(name));
  }

  async #getTensor(name: string): Promise<T> {
    this.#session.checkOpen(`get tensor ${quote(name)}`);
    this.#session.find(name);
    if (this.#ranks) return await this.#ranks.getTensor(name);
    return await this.#load.get(this.#requests.get(name)!);
  }

  /**
   * This rank's part of a tensor: the dimension is cut into `ceil(size / ranks)` rows for each rank, the last ranks
   * may get fewer or none. In a group of one that is the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or if it was handed out with all others of its file
   */
  getSharded(name: string, dimension: number, options: ShardOptions = {}): Promise<T> {
    return handled(this.#getSharded(name, dimension, options));
  }

  async #getSharded(name: string, dimension: number, options: ShardOptions): Promise<T> {
    this.#session.checkOpen(`get a part of tensor ${quote(name)}`);
    const { rank, size } = this.#session.context.options.group;
    const tensor = this.#session.find(name);
    const slices = rankSlices(tensor, dimension, rank, size);
    if (isFromFile(options)) {
      const { options, device } = this.#session.context;
      const layout = sliceLayout(tensor, slices);
      return await this.#slices.get(tensor, (found) => tensorSlice(found, options.dtype, device, layout));
    }
    if (this.#ranks) return await this.#ranks.getSharded(name, dimension);
    return await this.getTensor(name);
  }

  /**
   * Sends a tensor to a rank: the tensor there, null on every other rank.
   *
   * @throws {RangeError} if there is no such rank
   * @throws {SafeTensorsError} "TensorNotFound"
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or if it was handed out with all others of its file
   */
  pushTensor(name: string, destination: number): Promise<T | null> {
    return handled(this.#pushTensor(name, destination));
  }

  async #pushTensor(name: string, destination: number): Promise<T | null> {
    const { size } = this.#session.context.options.group;
    if (!Number.isInteger(destination) || destination < 0 || destination >= size) {
      throw new RangeError(
        `Cannot push tensor ${quote(name)} to rank ${destination}: the group has ${size} (from 0)`,
      );
    }
    if (!this.#ranks) return await this.getTensor(name);
    this.#session.checkOpen(`push tensor ${quote(name)}`);
    this.#session.find(name);
    return await this.#ranks.pushTensor(name, destination);
  }

  /**
   * This rank's parts of several tensors, joined along the dimension in the order asked: fused projections.
   *
   * @throws {TypeError} if there is none, or they differ in dtype or in another dimension
   * @throws {RangeError} if a tensor has no such dimension
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}, or if one was handed out with all others of its file
   */
  getMultiCols(names: readonly string[], dimension: number): Promise<T> {
    return handled(this.#getMultiCols(names, dimension));
  }

  async #getMultiCols(names: readonly string[], dimension: number): Promise<T> {
    this.#session.checkOpen("join tensors");
    if (names.length === 0) throw new TypeError("Cannot join tensors: no names were given");
    const first = this.#session.find(names[0]!);
    const turn = new Turn();
    for (const [index, name] of names.entries()) {
      if (index % STEP === 0) await turn.pause();
      const { dtype, shape } = this.#session.find(name);
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
    const parts = this.#ranks
      ? await this.#ranks.getAll(`getMultiCols(${quote(joined)}, ${dimension})`, names, dimension)
      : await this.#getEach(names.map((name) => [name, dimension] as const));
    try {
      return await this.#session.context.device.concatenate(joined, parts, dimension);
    } finally {
      for (const part of parts) part[Symbol.dispose]?.();
    }
  }

  /**
   * Several tensors at once: sharded along the dimension given, or whole where it is -1 or null.
   *
   * @param dimensions name → dimension; default is every tensor whole
   */
  asDict(dimensions?: Readonly<Record<string, number | null>>): Promise<Map<string, T>> {
    return handled(this.#asDict(dimensions));
  }

  async #asDict(dimensions?: Readonly<Record<string, number | null>>): Promise<Map<string, T>> {
    this.#session.checkOpen("get tensors");
    const turn = new Turn();
    const wanted: (readonly [string, number | null])[] = [];
    for (const name of dimensions ? Object.keys(dimensions) : this.getKeys()) {
      if (wanted.length % STEP === 0) await turn.pause();
      this.#session.find(name);
      const dimension = dimensions?.[name] ?? null;
      wanted.push([name, dimension === -1 ? null : dimension]);
    }
    const tensors = this.#ranks ? await this.#ranks.getMany("asDict()", wanted) : await this.#getEach(wanted);
    const dict = new Map<string, T>();
    for (const [index, [name]] of wanted.entries()) {
      if (index % STEP === 0) await turn.pause();
      dict.set(name, tensors[index]!);
    }
    return dict;
  }

  /** Tensors that this process has, each whole or cut; asked for in several turns of the event loop. */
  async #getEach(wanted: readonly (readonly [string, number | null])[]): Promise<T[]> {
    const turn = new Turn();
    const asked: Promise<T>[] = [];
    for (const [name, dimension] of wanted) {
      asked.push(dimension === null ? this.getTensor(name) : this.getSharded(name, dimension));
      if (asked.length % ASKED_PER_TURN === 0) await turn.pause();
    }
    return await Promise.all(asked);
  }

  /** How the load went, or goes. */
  stats(): LoadStats {
    return this.#session.stats();
  }

  /**
   * Ends what is still being read. Tensors that were given out stay valid. With several ranks each closes its own; one
   * that still asks for something from a rank that has closed gets a GroupError.
   */
  async close(): Promise<void> {
    await this.#session.close();
    await this.#slices.close();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
