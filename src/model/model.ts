/**
 * The model that {@linkcode fastsafeOpen} returns: names, tensors, slices, iteration.
 */
import { type Catalog, type CatalogTensor, pathOf } from "../files/catalog.ts";
import { checkBoolean, checkKeys, isRecord, keysOf } from "../base/check.ts";
import type { Device } from "../load/device.ts";
import type { DeviceOption } from "../base/device_name.ts";
import { INSPECT } from "../device/describe.ts";
import { DeviceMoves } from "./device_moves.ts";
import type { FindDevice } from "../device/moves.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { castSupported, isFloatDType } from "../format/cast.ts";
import { type DType, isIntegerCast } from "../base/dtype.ts";
import { FileSlices } from "../load/file_slices.ts";
import { checkNames, type TensorNames } from "../base/names.ts";
import { quote } from "../base/text.ts";
import { allOrDispose, handled, handledGenerator } from "../base/handled.ts";
import { rankSlices, type SliceIndex, sliceLayout } from "../format/slices.ts";
import { finishInTurns } from "../base/turn.ts";
import { LazyLoads } from "../load/lazy_loads.ts";
import { type Load, type LoadRequest, ownTensor, tensorSlice } from "../load/load.ts";
import type { CheckedOptions } from "./options.ts";
import { ownSteps, type SharedTensors, type ShareTensors } from "./shared_tensors.ts";
import { type LoadStats, Session } from "../load/session.ts";
import { isFromFile, SHARD_KEYS, type ShardOptions } from "../files/shard_options.ts";
import { streamBatches } from "../load/stream.ts";
import type { ChangedTensor, HostTensor } from "../device/tensors.ts";
import type { Tensor } from "../load/tensor.ts";
import { metadataOf, modelLine, recordSteps, rowRanges, selectSteps } from "./selection.ts";
import { WantedTensors } from "./wanted.ts";

/** Properties of a tensor that its header gives, before its bytes are read. */
export interface TensorSummary {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension, in the file. */
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly byteLength: number;
  /** Path of its file. */
  readonly path: string;
  /** Name of the tensor of which this one is an alias; both share their memory. Missing if it is not an alias. */
  readonly aliasOf?: string;
  /** Element type after loading: another one if the model's option `dtype` casts this tensor. */
  readonly targetDtype: DType;
  /** Elements along each dimension that this rank loads: fewer if the option `shardPlan` cuts this tensor. */
  readonly targetShape: readonly number[];
}

/** Options of {@linkcode SafeTensorsModel.getTensor}, for the device `D` and a cast to `Y`. */
export interface GetTensorOptions<
  D extends DeviceOption | undefined = DeviceOption | undefined,
  Y extends DType | undefined = DType | undefined,
> {
  /**
   * Casts the tensor from its dtype in the file: floats to floats, integers and BOOL to each other. If the model loaded it with another dtype, its bytes are read again.
   * Default: the option `dtype` of the model.
   */
  dtype?: Y;
  /** Moves the tensor to this device after it has landed. Default: the device of the model. */
  device?: D;
  /**
   * Of a cast between integers: makes a value that the dtype cannot hold the nearest one that it can. Default false: such
   * a value is a RangeError that names it.
   */
  saturate?: boolean;
}

/** Options of {@linkcode SafeTensorsModel.getSharded}, for the device `D` and a cast to `Y`. */
export interface GetShardedOptions<
  D extends DeviceOption | undefined = DeviceOption | undefined,
  Y extends DType | undefined = DType | undefined,
> extends GetTensorOptions<D, Y>, ShardOptions {}

const GET_TENSOR_KEYS = keysOf<GetTensorOptions>({ dtype: true, device: true, saturate: true });

const GET_SHARDED_KEYS = [...GET_TENSOR_KEYS, ...SHARD_KEYS];

/** Bytes of tensors that the iteration of a lazy model holds in memory. */
const LAZY_ITERATION_BYTES = 256 * 2 ** 20;

/** The parts of a model. */
export interface StartedModel<T extends Tensor> {
  readonly session: Session<T>;
  readonly wanted: WantedTensors;
  readonly options: CheckedOptions;
  /** The load of all wanted tensors that this process reads; null for a lazy model. */
  readonly load: Load<T> | undefined;
  /** Finds the device that a call's option `device` names. */
  readonly findDevice: FindDevice;
  /** Shares its tensors if several ranks have opened the files together. */
  readonly share?: ShareTensors | undefined;
}

/** The device of a model, and the functions that find other devices and share tensors. */
export interface ModelDevices<T extends Tensor> {
  /** The device of its tensors. */
  readonly device: Device<T>;
  /** Finds other devices. */
  readonly findDevice: FindDevice;
  /** Notes on the choice for the user. */
  readonly notes: readonly string[];
  /** Shares its tensors if several ranks have opened the files together. */
  readonly share?: ShareTensors;
}

/** Makes a model and starts to load all wanted tensors; with `lazy` it loads none yet. */
export async function startModel<T extends Tensor>(
  catalog: Catalog,
  { device, findDevice, notes, share }: ModelDevices<T>,
  options: CheckedOptions,
): Promise<SafeTensorsModel<T>> {
  const wanted = await finishInTurns(WantedTensors.steps(catalog, device, options));
  const session = new Session(catalog, device, options, notes);
  if (options.lazy) {
    return new SafeTensorsModel({ session, wanted, options, load: undefined, findDevice, share });
  }
  const load = await session.loadAll(
    await finishInTurns(wanted.tableSteps()) ?? await finishInTurns(ownSteps(wanted)),
  );
  return new SafeTensorsModel({ session, wanted, options, load, findDevice, share });
}

/** What a model is made of, for this package's own classes over it. */
export let partsOf: <T extends Tensor>(model: SafeTensorsModel<T>) => {
  readonly session: Session<T>;
  /** The tensors of all ranks, where several have opened the files together. */
  readonly shared: SharedTensors<T> | null;
};

/**
 * An opened model.
 *
 * Tensors that the model has returned stay valid after it is closed. {@linkcode close} ends reads in progress and releases
 * the model's references to the memory of all tensors. It rejects promises of tensors that have not landed; such a
 * rejection does not end the process if no code awaits the promise. A function that opens a model with `await using` must
 * `return await model.getTensor(…)`: without `await` the model is closed before the promise settles.
 *
 * If several ranks open the model together, each rank reads its own files, and all ranks make the same calls in the same
 * order: the owner of a tensor sends it to the others. If a rank fails, the others get a {@linkcode GroupError} that names
 * it. Unless the model is lazy, the owner releases the memory of a file after it has sent every tensor of the file; these
 * tensors cannot be requested again. With a `shardPlan` each rank reads its own parts and needs no communication.
 */
export class SafeTensorsModel<out T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #session: Session<T>;
  readonly #wanted: WantedTensors;
  readonly #options: CheckedOptions;
  readonly #lazy: LazyLoads<T>;
  readonly #slices: FileSlices<T>;
  readonly #moves: DeviceMoves;
  readonly #ranks: SharedTensors<T> | null;
  /** The load of all wanted tensors that this process reads; null for a lazy model. */
  readonly #load: Load<T> | undefined;

  /** Use {@linkcode fastsafeOpen}. */
  constructor({ session, wanted, options, load, findDevice, share }: StartedModel<T>) {
    this.#session = session;
    this.#wanted = wanted;
    this.#options = options;
    this.#load = load;
    this.#lazy = new LazyLoads(session);
    this.#slices = new FileSlices(session);
    this.#moves = new DeviceMoves({ option: options.device, device: session.context.device }, findDevice);
    this.#ranks = share?.(session, wanted, {
      get: (request) => this.#own(request),
      ...load && { retire: (requests) => load.retire(requests) },
    }) ?? null;
  }

  static {
    partsOf = (model) => ({ session: model.#session, shared: model.#ranks });
  }

  /** The names of the tensors that the option `names` selects, in file order. */
  keys(): string[] {
    return [...this.#wanted.keys()];
  }

  /** Whether there is a tensor of this name. */
  has(name: string): boolean {
    return this.#wanted.has(name);
  }

  /**
   * Returns the properties of a tensor that its header gives; reads no bytes of it.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  info(name: string): TensorSummary {
    const tensor = this.#find(name);
    const { dtype, byteLength } = tensor.stored ?? tensor;
    const { shape } = tensor;
    const { target, shape: part, aliasOf } = this.#wanted.get(name);
    return {
      name,
      dtype,
      shape,
      byteLength,
      path: pathOf(this.#session.catalog, tensor),
      ...aliasOf !== undefined && this.#wanted.has(aliasOf) ? { aliasOf } : {},
      targetDtype: target,
      targetShape: part,
    };
  }

  /** The paths of its files, in the order in which they were opened. */
  files(): string[] {
    return [...this.#session.catalog.metadata.keys()];
  }

  /**
   * Returns the `__metadata__` of a file, or of all files together if no two files have different values for one key.
   *
   * @param path the path of a file, or its end
   * @throws {TypeError} if no file or several have this path, or the files differ and no path is given
   */
  metadata(path?: string): Record<string, string> {
    return metadataOf(this.#session.catalog.metadata, path);
  }

  /**
   * Returns a tensor after its own bytes have landed; with a `shardPlan`, this rank's part of it. If `device` is not the
   * model's device, the tensor is a copy on `device`.
   *
   * A tensor in host memory can share its buffer with other tensors and keeps their memory alive: at most 1 MiB if it is
   * smaller than 64 KiB, at most 16 MiB on a lazy model, else the tensors of its file. {@linkcode HostTensor.copy} copies
   * it to separate memory.
   *
   * @throws {SafeTensorsError} "TensorNotFound"; "UnsupportedCast"
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {TypeError} if `device` is not the name of a device
   * @throws {DeviceError} if this machine does not have the device, or it fails
   * @throws {OutOfMemoryError} if the device has no memory for the copy
   * @throws {GroupError} if a rank fails, on that rank its `cause` is the original error
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getTensor(name: string): Promise<T>;
  /** The same with options. */
  getTensor<D extends DeviceOption | undefined = undefined, Y extends DType | undefined = undefined>(
    name: string,
    options: GetTensorOptions<D, Y>,
  ): Promise<ChangedTensor<T, D, Y>>;
  getTensor(name: string, options?: GetTensorOptions): Promise<Tensor> {
    return handled(
      options !== undefined || this.#ranks ? this.#getMoved(name, options ?? {}) : this.#getWhole(name),
    );
  }

  /** A tensor as the model loads it, with one promise: very many can be requested at once. */
  #getWhole(name: string): Promise<T> {
    try {
      this.#session.checkOpen("get tensor", name);
      if (!this.#wanted.has(name)) this.#find(name); // throws
      return this.#own(this.#wanted.get(name));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  async #getMoved(name: string, options: GetTensorOptions): Promise<Tensor> {
    this.#session.checkOpen("get tensor", name);
    checkKeys("getTensor()", options, GET_TENSOR_KEYS);
    const { device } = options;
    const { request, cast } = this.#castRequest(name, options);
    const move = device === undefined ? null : await this.#moves.to(device); // before any read
    let tensor: Tensor = await (this.#ranks ? this.#ranks.getTensor(name, request) : this.#own(request));
    if (cast) tensor = await cast(tensor);
    return move ? await move(tensor) : tensor;
  }

  /**
   * The request for a tensor with the dtype of a call, and the cast of its result, if there is one: floats are cast while
   * they land, integers after that.
   */
  #castRequest(
    name: string,
    { dtype, saturate }: GetTensorOptions,
  ): { readonly request: LoadRequest; readonly cast: (<U extends Tensor>(tensor: U) => Promise<U>) | null } {
    checkBoolean("saturate", saturate);
    if (dtype === undefined || !isIntegerCast(this.#find(name).dtype, dtype)) {
      return { request: this.#request(name, dtype), cast: null };
    }
    return { request: this.#request(name, undefined), cast: (tensor) => castTo(tensor, dtype, saturate) };
  }

  /** The request for a tensor with the dtype of the call, or the request of the model. */
  #request(name: string, dtype: DType | undefined): LoadRequest {
    const tensor = this.#find(name);
    const { device } = this.#session.context;
    const own = this.#wanted.get(name);
    if (dtype === undefined || dtype === own.target) return own;
    if (!castSupported(tensor.dtype, dtype, device.castsSubByte)) throw unsupportedCast(tensor, dtype);
    return ownTensor(tensor, { ...this.#options, dtype: floatOf(dtype) }, device);
  }

  /**
   * Returns a tensor that this process reads. A cast at landing rounds the elements; a request with another dtype
   * therefore reads the file again, so that an eager model returns the same numbers as a lazy one.
   */
  #own(request: LoadRequest): Promise<T> {
    if (!this.#load) return this.#lazy.get(request);
    const { name, target: dtype } = request;
    const own = this.#wanted.get(name);
    if (dtype === own.target) return this.#load.get(own);
    if (own.target === own.dtype) return this.#load.get(own).then((tensor) => castTo(tensor, dtype));
    return this.#slices.get(this.#find(name), ({ file }) => ({ ...request, file }));
  }

  /**
   * Returns several tensors as a record: `const { a, b } = await model.getTensors(["a", "b"])`. A lazy model reads them
   * together.
   *
   * @param names names, patterns with `*`, RegExps, or a function; each name and pattern must select a tensor
   * @throws as {@linkcode getTensor}; {TypeError} if `names` does not select names
   */
  getTensors<
    const N extends string,
    D extends DeviceOption | undefined = undefined,
    Y extends DType | undefined = undefined,
  >(
    names: TensorNames | readonly N[],
    options: GetTensorOptions<D, Y> = {},
  ): Promise<Record<N, ChangedTensor<T, D, Y>>> {
    return handled(this.#getTensors(names, options)) as Promise<Record<N, ChangedTensor<T, D, Y>>>;
  }

  async #getTensors(names: TensorNames, options: GetTensorOptions): Promise<Record<string, Tensor>> {
    this.#session.checkOpen("get tensors");
    checkKeys("getTensors()", options, GET_TENSOR_KEYS);
    const selection = checkNames("names", names);
    const missing = (name: string, isName: boolean) => this.#missing(name, isName);
    const selected = await finishInTurns(selectSteps(selection, this.#wanted, missing));
    const tensors = await allOrDispose(selected.map((name) => this.#getMoved(name, options)));
    return await finishInTurns(recordSteps(selected.map((name, index) => [name, tensors[index]!] as const)));
  }

  /**
   * Returns some rows of a tensor, positions along its first dimension, in the given order: the lookup of an embedding.
   * A lazy model reads only these rows, together.
   *
   * @param indexes positions; negative ones count from the end, and a position may be given several times
   * @throws {SafeTensorsError} "SliceOutOfRange" if a position is outside of the tensor, or it is a scalar;
   *   "MisalignedSlice" if a row would begin or end within a byte
   * @throws {TypeError} if a position is not an integer
   * @throws as {@linkcode getSlice}
   */
  getRows<D extends DeviceOption | undefined = undefined, Y extends DType | undefined = undefined>(
    name: string,
    indexes: Iterable<number>,
    options: GetTensorOptions<D, Y> = {},
  ): Promise<ChangedTensor<T, D, Y>> {
    return handled(this.#getRows(name, indexes, options)) as Promise<ChangedTensor<T, D, Y>>;
  }

  async #getRows(name: string, indexes: Iterable<number>, options: GetTensorOptions): Promise<Tensor> {
    this.#session.checkOpen("get rows of tensor", name);
    checkKeys("getRows()", options, GET_TENSOR_KEYS);
    const { device } = options;
    const { shape } = this.#wanted.get(this.#find(name).name);
    const ranges = rowRanges(name, shape, indexes);
    const { request, cast } = this.#castRequest(name, options);
    const move = device === undefined ? null : await this.#moves.to(device); // before any read
    const unique = new Map(ranges.map((range) => [range.join(), range]));
    const parts = await this.#ownSlices(request, unique.values().map((range) => [range]).toArray());
    let rows = parts[0]!;
    if (ranges.length > 1) {
      const byRange = new Map(unique.keys().map((range, index) => [range, parts[index]!]));
      try {
        const all = ranges.map((range) => byRange.get(range.join())!);
        rows = await this.#session.context.device.concatenate(name, all, 0);
      } finally {
        for (const part of parts) part[Symbol.dispose]();
      }
    }
    if (cast) rows = await cast(rows);
    return move ? await move(rows) : rows;
  }

  /**
   * Returns a slice of a tensor, with NumPy's rules: `[start, stop, step?]` for a range, a number for one index (this
   * removes the dimension), null for a whole dimension, "..." for all remaining dimensions. Negative positions count from
   * the end; ranges are clamped. A lazy model reads only the bytes of the slice. With a `shardPlan` the positions count
   * within this rank's part.
   *
   * @throws {SafeTensorsError} "TensorNotFound"; "SliceOutOfRange"; "TooManySlices"; "MisalignedSlice" if it would
   *   cut a byte of a sub-byte type
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getSlice(name: string, ...slices: SliceIndex[]): Promise<T>;
  /** The same with options as the last argument; they are those of {@linkcode getTensor}. */
  getSlice<D extends DeviceOption | undefined = undefined, Y extends DType | undefined = undefined>(
    name: string,
    ...slicesAndOptions: [...slices: SliceIndex[], options: GetTensorOptions<D, Y>]
  ): Promise<ChangedTensor<T, D, Y>>;
  getSlice(name: string, ...given: (SliceIndex | GetTensorOptions)[]): Promise<Tensor> {
    const last = given.at(-1);
    const hasOptions = isRecord(last);
    const options = hasOptions ? last as GetTensorOptions : {};
    const slices = (hasOptions ? given.slice(0, -1) : given) as SliceIndex[];
    return handled(this.#getSlice(name, slices, options));
  }

  async #getSlice(
    name: string,
    slices: readonly SliceIndex[],
    options: GetTensorOptions,
  ): Promise<Tensor> {
    checkKeys("getSlice()", options, GET_TENSOR_KEYS);
    this.#session.checkOpen("get a slice of tensor", name);
    const { device } = options;
    const { dtype: from, shape } = this.#wanted.get(this.#find(name).name);
    sliceLayout({ name, dtype: from, shape }, slices); // throws if it is not valid
    const { request, cast } = this.#castRequest(name, options);
    const move = device === undefined ? null : await this.#moves.to(device); // before any read
    const [own] = await this.#ownSlices(request, [slices]);
    const slice = cast ? await cast(own!) : own!;
    return move ? await move(slice) : slice;
  }

  /**
   * Slices of a tensor on the model's own device.
   *
   * @param lists the slices of each result
   */
  async #ownSlices(request: LoadRequest, lists: readonly (readonly SliceIndex[])[]): Promise<T[]> {
    const { name, target, dtype } = request;
    const { device } = this.#session.context;
    const own = this.#wanted.get(name);
    const layouts = lists.map((slices) => sliceLayout({ name, dtype, shape: own.shape }, slices));
    if (!this.#load && !this.#ranks && !this.#options.shardPlan) {
      const wanted = floatOf(target);
      const tensor = this.#find(name);
      return await allOrDispose(
        layouts.map((layout) => this.#lazy.get(tensorSlice(tensor, wanted, device, layout))),
      );
    }
    // A tensor that was loaded without a cast is sliced first: the cast then has fewer elements.
    const source = this.#load && own.target === own.dtype ? own : request;
    using whole = await (this.#ranks ? this.#ranks.lendTensor(name, source) : this.#own(source));
    return await allOrDispose(lists.map(async (slices) => {
      return await castTo(await device.slice(whole, sliceLayout(whole, slices)), target);
    }));
  }

  /**
   * Returns this rank's part of a tensor: each rank gets `ceil(size / ranks)` rows of the dimension; the last ranks can
   * get fewer or none. In a group of one rank the part is the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {TypeError} if the model was opened with a `shardPlan`, whose tensors are parts already; `from: "file"`
   *   reads a part of the tensor in the file
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {GroupError} if a rank fails, on that rank its `cause` is the original error
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getSharded(name: string, dimension: number, options?: ShardOptions): Promise<T>;
  /** The same with a cast, or on another device. */
  getSharded<D extends DeviceOption | undefined = undefined, Y extends DType | undefined = undefined>(
    name: string,
    dimension: number,
    options: GetShardedOptions<D, Y>,
  ): Promise<ChangedTensor<T, D, Y>>;
  getSharded(name: string, dimension: number, options: GetShardedOptions = {}): Promise<Tensor> {
    return handled(this.#getSharded(name, dimension, options));
  }

  async #getSharded(name: string, dimension: number, options: GetShardedOptions): Promise<Tensor> {
    this.#session.checkOpen("get a part of tensor", name);
    const { device } = options;
    const fromFile = isFromFile(options, GET_SHARDED_KEYS);
    const { request: { target }, cast } = this.#castRequest(name, options);
    const move = device === undefined ? null : await this.#moves.to(device); // before any read
    let part = fromFile
      ? await this.#partOfFile(name, dimension, target)
      : await castTo(await this.#partOfGroup(name, dimension), target);
    if (cast) part = await cast(part);
    return move ? await move(part) : part;
  }

  /** This rank's part of a tensor, read from its file. */
  #partOfFile(name: string, dimension: number, dtype: DType): Promise<T> {
    const { group } = this.#options;
    const { device } = this.#session.context;
    const tensor = this.#find(name);
    const layout = sliceLayout(tensor, rankSlices(tensor, dimension, group.rank, group.size));
    return this.#slices.get(tensor, (found) => tensorSlice(found, floatOf(dtype), device, layout));
  }

  /** This rank's part of a tensor, which the rank that has read it sends. */
  async #partOfGroup(name: string, dimension: number): Promise<T> {
    const { group, shardPlan } = this.#options;
    const tensor = this.#find(name);
    rankSlices(tensor, dimension, group.rank, group.size); // throws if the tensor has no such dimension
    if (shardPlan && group.size > 1) {
      const message = `Cannot shard tensor ${quote(name)}: the model's shardPlan has cut it already; ` +
        `use from: "file" to read a part of the tensor in the file`;
      throw new TypeError(message);
    }
    return this.#ranks
      ? await this.#ranks.getSharded(name, dimension)
      : await this.#own(this.#request(name, undefined));
  }

  /**
   * Yields every tensor as `[name, tensor]`, in the order in which they land. A lazy model reads them on demand: it
   * has at most 256 MiB of them in memory itself, or one tensor that is larger, besides those that you keep. Several ranks iterate together: each gets every tensor, all in the same order, and
   * if one ends the iteration early, the others get a GroupError.
   *
   * @throws {GroupError} if a rank fails, on that rank its `cause` is the original error
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  [Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    return handledGenerator(this.#iterate());
  }

  /** The same iteration by name: `for await (const [name, tensor] of model.entries())`. */
  entries(): AsyncGenerator<[string, T], void, void> {
    return this[Symbol.asyncIterator]();
  }

  async *#iterate(): AsyncGenerator<[string, T], void, void> {
    this.#session.checkOpen("iterate");
    const bounds = { bytesInFlight: LAZY_ITERATION_BYTES, queueSize: 0 };
    if (this.#ranks) yield* this.#ranks.iterate(bounds);
    else if (this.#load) yield* this.#load;
    else yield* streamBatches(this.#session, await finishInTurns(ownSteps(this.#wanted)), bounds);
  }

  /**
   * Resolves after all tensors that this process reads have landed; at once for a lazy model.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   */
  whenLoaded(): Promise<void> {
    return handled(Promise.try(() => {
      this.#session.checkOpen("wait");
      return this.#load?.finished();
    }));
  }

  /** Statistics of the load, also while it runs. */
  stats(): LoadStats {
    return this.#session.stats();
  }

  /** Ends reads in progress and closes the files. Tensors that the model has returned stay valid. */
  async close(): Promise<void> {
    try {
      await this.#session.close();
    } finally {
      await this.#slices.close(); // also after a file could not be closed
    }
  }

  /** The text that `console.log` writes: the number of tensors and files, their bytes, and the device. */
  [INSPECT](): string {
    return modelLine(this.#session.catalog, this.#wanted.size, this.#session.context.device.name);
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #find(name: string): CatalogTensor {
    const tensor = this.#session.find(name);
    if (this.#wanted.has(name)) return tensor;
    throw this.#missing(name, false, "the option names does not select it");
  }

  /** The error for a name that no tensor has, or for a pattern that no name matches. */
  #missing(name: string, isName: boolean, why = "no name matches it"): Error {
    if (isName) this.#find(name); // throws with a better message
    const message = `Cannot find tensor ${quote(name)}: ${why}`;
    return new SafeTensorsError("TensorNotFound", message, { tensor: name });
  }
}

/** The dtype of a request that casts to it; undefined for a dtype that nothing is cast to while it lands. */
function floatOf(dtype: DType): DType | undefined {
  return isFloatDType(dtype) ? dtype : undefined;
}

/** Returns a tensor with another dtype; consumes the handle that it gets. */
async function castTo<T extends Tensor>(tensor: T, dtype: DType, saturate = false): Promise<T> {
  if (dtype === tensor.dtype) return tensor;
  try {
    return await tensor.to({ dtype, saturate }) as T;
  } finally {
    tensor[Symbol.dispose]();
  }
}

function unsupportedCast({ name, dtype }: CatalogTensor, target: DType): SafeTensorsError {
  const message = `Cannot cast tensor ${quote(name)} from ${dtype} to ${target}`;
  return new SafeTensorsError("UnsupportedCast", message, { tensor: name });
}
