/**
 * The model that {@linkcode fastsafeOpen} gives: names, tensors, slices, iteration.
 */
import { type Catalog, type CatalogTensor, pathOf } from "../files/catalog.ts";
import { checkKeys, keysOf } from "../base/check.ts";
import type { Device } from "../load/device.ts";
import type { DeviceOption, TensorOn } from "../device/option.ts";
import { DeviceMoves, type FindDevice } from "./device_moves.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { castSupported } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import { FileSlices } from "../load/file_slices.ts";
import { quote } from "../base/text.ts";
import { handled, handledGenerator } from "../base/handled.ts";
import { rankSlices, type SliceIndex, type SliceLayout, sliceLayout } from "../format/slices.ts";
import { finishInTurns } from "../base/turn.ts";
import { LazyLoads } from "../load/lazy_loads.ts";
import { type Load, type LoadRequest, ownTensor, tensorSlice } from "../load/load.ts";
import type { CheckedOptions } from "./options.ts";
import { ownSteps, type SharedTensors, type ShareTensors } from "./shared_tensors.ts";
import { type LoadStats, Session } from "../load/session.ts";
import { isFromFile, type ShardOptions } from "../files/shard_options.ts";
import { streamBatches } from "../load/stream.ts";
import type { HostTensor } from "../device/cpu/tensor.ts";
import type { Tensor } from "../load/tensor.ts";
import { WantedTensors } from "./wanted.ts";

/** What is known of a tensor before its bytes are read. */
export interface TensorSummary {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension, in the file. */
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly byteLength: number;
  /** The file that it is in. */
  readonly path: string;
  /** Another tensor of the model that it is the same as, and shares its memory with; missing if there is none. */
  readonly aliasOf?: string;
  /** Element type after loading, where the model's option `dtype` casts this tensor; missing if it stays as in the file. */
  readonly targetDtype?: DType;
  /** Elements along each dimension that this rank loads, where the option `shardPlan` cuts this tensor; missing if whole. */
  readonly targetShape?: readonly number[];
}

/** Options of {@linkcode SafeTensorsModel.getTensor}, for the device `D`. */
export interface GetTensorOptions<D extends DeviceOption | undefined = undefined> {
  /**
   * Casts the tensor from what it is in the file: one that was loaded with another dtype is read from its file again.
   * Default: the dtype that the model was opened with.
   */
  dtype?: DType;
  /** Brings the tensor to this device once it has landed. Default: it stays where the model was opened to. */
  device?: D;
}

const GET_TENSOR_KEYS = keysOf<GetTensorOptions>({ dtype: true, device: true });

/** Bytes of tensors that iterating a lazy model has in memory itself. */
const LAZY_ITERATION_BYTES = 256 * 2 ** 20;

/** What a model is made of. */
export interface StartedModel<T extends Tensor> {
  readonly session: Session<T>;
  readonly wanted: WantedTensors;
  readonly options: CheckedOptions;
  /** The load of all wanted tensors that this process reads; a lazy model has none. */
  readonly load: Load<T> | undefined;
  /** Finds the device that a tensor is asked for on, where that is another than the model's. */
  readonly findDevice: FindDevice;
  /** Shares its tensors, where several ranks have opened the files together. */
  readonly share?: ShareTensors | undefined;
}

/** What a model is loaded with. */
export interface ModelEquipment<T extends Tensor> {
  /** Where its tensors go. */
  readonly device: Device<T>;
  /** Finds other devices. */
  readonly findDevice: FindDevice;
  /** What a user should know about the choice. */
  readonly notes: readonly string[];
  /** Shares its tensors, where several ranks have opened the files together. */
  readonly share?: ShareTensors;
}

/** Starts to load what an opened model needs: all wanted tensors, or with `lazy` none yet. */
export async function startModel<T extends Tensor>(
  catalog: Catalog,
  { device, findDevice, notes, share }: ModelEquipment<T>,
  options: CheckedOptions,
): Promise<SafeTensorsModel<T>> {
  const wanted = await finishInTurns(WantedTensors.steps(catalog, device, options));
  const session = new Session(catalog, device, options, notes);
  if (options.lazy) {
    return new SafeTensorsModel({ session, wanted, options, load: undefined, findDevice, share });
  }
  const load = await session.loadAll(await finishInTurns(ownSteps(wanted)));
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
 * Tensors that were given out stay valid after it is closed. Closing it ends what is still being read, and drops the
 * model's own hold on the memory of all tensors. A promise that this rejects does not end the process where nobody waits
 * for it; a function that opens a model with `await using` must `return await model.getTensor(…)`, as the model is closed
 * before a promise that it returns has settled.
 *
 * Where several ranks have opened it together, each reads its own files, and what one asks for all ask for, in the same
 * order: the tensor's owner hands it out to all. If a rank fails, the others get a {@linkcode GroupError} that names
 * it. Unless the model is lazy, an owner's memory is released once every tensor of a file has been handed out, and none
 * of them can be asked for again. Opened with a `shardPlan` each rank has parts of its own, and needs no other for them.
 */
export class SafeTensorsModel<T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #session: Session<T>;
  readonly #wanted: WantedTensors;
  readonly #options: CheckedOptions;
  readonly #lazy: LazyLoads<T>;
  readonly #slices: FileSlices<T>;
  readonly #moves: DeviceMoves;
  readonly #ranks: SharedTensors<T> | null;
  /** The load of all wanted tensors that this process reads; a lazy model has none. */
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

  /** The names of the tensors, in file order; only those that `names` left. */
  keys(): string[] {
    return [...this.#wanted.keys()];
  }

  /** Whether there is a tensor of this name. */
  has(name: string): boolean {
    return this.#wanted.has(name);
  }

  /**
   * What is known of a tensor without its bytes.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  info(name: string): TensorSummary {
    const tensor = this.#find(name);
    const { dtype, shape, byteLength } = tensor;
    const { target, shape: part, aliasOf } = this.#wanted.get(name);
    return {
      name,
      dtype,
      shape,
      byteLength,
      path: pathOf(this.#session.catalog, tensor),
      ...aliasOf !== undefined && this.#wanted.has(aliasOf) ? { aliasOf } : {},
      ...target === dtype ? {} : { targetDtype: target },
      ...part.every((size, dimension) => size === shape[dimension]) ? {} : { targetShape: part },
    };
  }

  /** Path → the `__metadata__` of that file, empty where it has none. */
  metadata(): ReadonlyMap<string, ReadonlyMap<string, string>> {
    return this.#session.catalog.metadata;
  }

  /**
   * A tensor, as soon as its own bytes have landed; with a `shardPlan` this rank's part of it. With a `device` that is
   * another than the model's it is a copy there.
   *
   * In host memory it may share its buffer with others, which it keeps alive: below 64 KiB at most 1 MiB; on a lazy model
   * at most 16 MiB; else those of its file. {@linkcode HostTensor.copy} gives it memory of its own.
   *
   * @throws {SafeTensorsError} "TensorNotFound"; "UnsupportedCast"
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {TypeError} if `device` names no device
   * @throws {DeviceError} if this machine does not have the device, or it fails
   * @throws {OutOfMemoryError} if the device has no memory for the copy
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getTensor<D extends DeviceOption | undefined = undefined>(
    name: string,
    options: GetTensorOptions<D> = {},
  ): Promise<D extends DeviceOption ? TensorOn<D> : T> {
    type Result = D extends DeviceOption ? TensorOn<D> : T;
    return handled(this.#getMoved(name, options) as Promise<Result>);
  }

  async #getMoved<D extends DeviceOption | undefined>(
    name: string,
    options: GetTensorOptions<D>,
  ): Promise<Tensor> {
    this.#session.checkOpen(`get tensor ${quote(name)}`);
    checkKeys("getTensor()", options, GET_TENSOR_KEYS);
    const { device, dtype } = options;
    if (device === undefined) return this.#getTensor(name, dtype);
    const move = await this.#moves.to(device); // before anything is read for it
    return await move(await this.#getTensor(name, dtype));
  }

  /** A tensor on the model's own device. */
  #getTensor(name: string, dtype: DType | undefined): Promise<T> {
    const request = this.#request(name, dtype);
    return this.#ranks ? this.#ranks.getTensor(name, request) : this.#own(request);
  }

  /** The request for a tensor with another dtype than the model's, or the model's own. */
  #request(name: string, dtype: DType | undefined): LoadRequest {
    const tensor = this.#find(name);
    const { device } = this.#session.context;
    const own = this.#wanted.get(name);
    if (dtype === undefined || dtype === own.target) return own;
    if (!castSupported(tensor.dtype, dtype, device.castsSubByte)) throw unsupportedCast(tensor, dtype);
    return ownTensor(tensor, { ...this.#options, dtype: dtype === tensor.dtype ? undefined : dtype }, device);
  }

  /**
   * A tensor that this process reads. One that was cast while it landed has lost what the cast rounded off: with another
   * dtype it is read again, so that an eager model gives the same numbers as a lazy one.
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
   * A part of a tensor, with NumPy's rules: `[start, stop, step?]` for a range, a number for one index (the dimension
   * goes away), null for a whole dimension, "..." for as many whole ones as are left. Negative positions count from
   * the end; ranges are clamped. A lazy model reads only the bytes of the slice. Of a model with a `shardPlan` it is a
   * part of this rank's part.
   *
   * @throws {SafeTensorsError} "TensorNotFound"; "SliceOutOfRange"; "TooManySlices"; "MisalignedSlice" if it would
   *   cut a byte of a sub-byte type
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getSlice(name: string, ...slices: SliceIndex[]): Promise<T>;
  /** The same with options, which come last: as those of {@linkcode getTensor}. */
  getSlice<D extends DeviceOption | undefined = undefined>(
    name: string,
    ...slicesAndOptions: [...slices: SliceIndex[], options: GetTensorOptions<D>]
  ): Promise<D extends DeviceOption ? TensorOn<D> : T>;
  getSlice(name: string, ...given: (SliceIndex | GetTensorOptions<DeviceOption>)[]): Promise<Tensor> {
    const last = given.at(-1);
    const hasOptions = typeof last === "object" && last !== null && !Array.isArray(last);
    const options = hasOptions ? last as GetTensorOptions<DeviceOption> : {};
    const slices = (hasOptions ? given.slice(0, -1) : given) as SliceIndex[];
    return handled(this.#getSlice(name, slices, options));
  }

  async #getSlice<D extends DeviceOption | undefined>(
    name: string,
    slices: readonly SliceIndex[],
    options: GetTensorOptions<D>,
  ): Promise<Tensor> {
    checkKeys("getSlice()", options, GET_TENSOR_KEYS);
    this.#session.checkOpen(`get a slice of tensor ${quote(name)}`);
    const { device, dtype } = options;
    const own = this.#wanted.get(this.#find(name).name);
    const layout = sliceLayout({ name, dtype: own.dtype, shape: own.shape }, slices);
    const move = device === undefined ? null : await this.#moves.to(device); // before anything is read for it
    const slice = await this.#ownSlice(this.#request(name, dtype), slices, layout);
    return move ? await move(slice) : slice;
  }

  /** A slice of a tensor on the model's own device. */
  async #ownSlice(request: LoadRequest, slices: readonly SliceIndex[], layout: SliceLayout): Promise<T> {
    const { name, target, dtype } = request;
    const { device } = this.#session.context;
    if (!this.#load && !this.#ranks && !this.#options.shardPlan) {
      const wanted = target === dtype ? undefined : target;
      return await this.#lazy.get(tensorSlice(this.#find(name), wanted, device, layout));
    }
    // What was loaded as it is in the file is cut first: there is less to cast.
    const own = this.#wanted.get(name);
    const source = this.#load && own.target === own.dtype ? own : request;
    const whole = await (this.#ranks ? this.#ranks.lendTensor(name, source) : this.#own(source));
    try {
      return await castTo(await device.slice(whole, sliceLayout(whole, slices)), target);
    } finally {
      whole[Symbol.dispose]?.();
    }
  }

  /**
   * This rank's part of a tensor: the dimension is cut into `ceil(size / ranks)` rows for each rank, the last ranks
   * may get fewer or none. In a group of one that is the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {TypeError} if the model was opened with a `shardPlan`, by which tensors are parts already; parts of the
   *   tensors in the files can be had with `from: "file"`
   * @throws {SafeTensorsError} "TensorNotFound"; "MisalignedSlice" if a part would begin or end within a byte
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  getSharded(name: string, dimension: number, options: ShardOptions = {}): Promise<T> {
    return handled(this.#getSharded(name, dimension, options));
  }

  async #getSharded(name: string, dimension: number, options: ShardOptions): Promise<T> {
    this.#session.checkOpen(`get a part of tensor ${quote(name)}`);
    const { group, shardPlan } = this.#options;
    const tensor = this.#find(name);
    const slices = rankSlices(tensor, dimension, group.rank, group.size);
    if (isFromFile(options)) {
      const { dtype } = this.#options;
      const { device } = this.#session.context;
      const layout = sliceLayout(tensor, slices);
      return await this.#slices.get(tensor, (found) => tensorSlice(found, dtype, device, layout));
    }
    if (shardPlan && group.size > 1) {
      const message =
        `Cannot shard tensor ${quote(name)}: by the shard plan it is this rank's part already; ` +
        `with from: "file" a part is read from the file`;
      throw new TypeError(message);
    }
    return this.#ranks ? await this.#ranks.getSharded(name, dimension) : await this.getTensor(name);
  }

  /**
   * Every tensor as `[name, tensor]`, in the order in which they land. A lazy model reads them as they are asked for: it
   * has at most 256 MiB of them in memory itself, or one tensor that is larger, besides those that you keep. Several ranks iterate together: each gets every tensor, all in the same order, and
   * if one ends the iteration early, the others get a GroupError.
   *
   * @throws {GroupError} if a rank fails, with its own error as the `cause` there
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  [Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    return handledGenerator(this.#iterate());
  }

  async *#iterate(): AsyncGenerator<[string, T], void, void> {
    this.#session.checkOpen("iterate");
    const bounds = { bytesInFlight: LAZY_ITERATION_BYTES, queueSize: 0 };
    if (this.#ranks) yield* this.#ranks.iterate(bounds);
    else if (this.#load) yield* this.#load;
    else yield* streamBatches(this.#session, await finishInTurns(ownSteps(this.#wanted)), bounds);
  }

  /**
   * Resolves once all tensors that this process reads have landed; at once for a lazy model.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   */
  whenLoaded(): Promise<void> {
    return handled(Promise.try(() => {
      this.#session.checkOpen("wait");
      return this.#load?.finished();
    }));
  }

  /** How the load went, or goes. */
  stats(): LoadStats {
    return this.#session.stats();
  }

  /** Ends what is still being read and closes the files. Tensors that were given out stay valid. */
  async close(): Promise<void> {
    await this.#session.close();
    await this.#slices.close();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #find(name: string): CatalogTensor {
    const tensor = this.#session.find(name);
    if (this.#wanted.has(name)) return tensor;
    const message = `Cannot find tensor ${quote(name)}: the option names leaves it out`;
    throw new SafeTensorsError("TensorNotFound", message, { tensor: name });
  }
}

/** A tensor with another dtype; the handle given is used up. */
async function castTo<T extends Tensor>(tensor: T, dtype: DType): Promise<T> {
  if (dtype === tensor.dtype) return tensor;
  try {
    return await tensor.to({ dtype }) as T;
  } finally {
    tensor[Symbol.dispose]?.();
  }
}

function unsupportedCast({ name, dtype }: CatalogTensor, target: DType): SafeTensorsError {
  const message = `Cannot cast tensor ${quote(name)} from ${dtype} to ${target}`;
  return new SafeTensorsError("UnsupportedCast", message, { tensor: name });
}
