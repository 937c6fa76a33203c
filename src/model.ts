/**
 * The model that {@linkcode fastsafeOpen} gives: names, tensors, slices, iteration.
 */
import type { Catalog, CatalogTensor } from "./catalog.ts";
import type { Device } from "./device/device.ts";
import { SafeTensorsError } from "./errors.ts";
import { castSupported } from "./format/cast.ts";
import type { DType } from "./format/dtype.ts";
import { type SliceIndex, sliceLayout } from "./format/slices.ts";
import { type Load, type LoadRequest, tensorSlice, wholeTensor } from "./load.ts";
import type { CheckedOptions } from "./options.ts";
import { type LoadStats, rankSlices, Session } from "./session.ts";
import { streamBatches } from "./stream.ts";
import type { HostTensor } from "./tensor/host_tensor.ts";
import type { Tensor } from "./tensor/tensor.ts";

/** What is known of a tensor before its bytes are read. */
export interface TensorSummary {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Bytes in the file. */
  readonly byteLength: number;
  /** The file that it is in. */
  readonly path: string;
}

/** What iterating a lazy model holds in memory at most, in file bytes. */
const LAZY_ITERATION_BYTES = 256 * 2 ** 20;

/**
 * An opened model.
 *
 * Tensors that were given out stay valid after it is closed. Closing it ends what is still being read.
 */
export class SafeTensorsModel<T extends Tensor = HostTensor> implements AsyncDisposable {
  readonly #session: Session<T>;
  readonly #wanted: ReadonlyMap<string, LoadRequest>;
  readonly #lazy: LazyLoads<T>;
  /** The load of all wanted tensors; a lazy model has none. */
  #load: Load<T> | undefined;

  /** Use {@linkcode fastsafeOpen}. */
  constructor(catalog: Catalog, device: Device<T>, options: CheckedOptions, notes: readonly string[]) {
    this.#wanted = wantedTensors(catalog, device, options);
    this.#session = new Session(catalog, device, options, notes);
    this.#lazy = new LazyLoads(this.#session);
  }

  /** Starts to load: all wanted tensors, or with `lazy` none yet. Called once, by {@linkcode fastsafeOpen}. */
  async start(): Promise<void> {
    if (this.#session.context.options.lazy) return;
    this.#load = await this.#session.load([...this.#wanted.values()]);
    this.#load.finished().catch(() => {}).finally(() => this.#session.closeFiles());
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
    const { dtype, shape, byteLength, file } = this.#find(name);
    return { name, dtype, shape, byteLength, path: this.#session.catalog.files[file]!.path };
  }

  /** Path → the `__metadata__` of that file, empty where it has none. */
  metadata(): ReadonlyMap<string, ReadonlyMap<string, string>> {
    return this.#session.catalog.metadata;
  }

  /**
   * A tensor, as soon as its own bytes have landed.
   *
   * @param options.dtype casts it; default is the dtype that the model was opened with
   * @throws {SafeTensorsError} "TensorNotFound"; "UnsupportedCast"
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getTensor(name: string, options: { dtype?: DType } = {}): Promise<T> {
    this.#session.checkOpen(`get tensor "${name}"`);
    const tensor = this.#find(name);
    const { dtype } = options;
    const { device } = this.#session.context;
    if (dtype && !castSupported(tensor.dtype, dtype, device.castsSubByte)) {
      throw unsupportedCast(tensor, dtype);
    }
    if (!this.#load) {
      const wanted = dtype === tensor.dtype ? undefined : dtype ?? this.#dtype;
      return await this.#lazy.get(wholeTensor(tensor, wanted, device));
    }
    const landed = await this.#load.get(this.#wanted.get(name)!);
    if (dtype === undefined || dtype === landed.dtype) return landed;
    try {
      return await landed.to({ dtype }) as T;
    } finally {
      landed[Symbol.dispose]?.();
    }
  }

  /**
   * A part of a tensor, with NumPy's rules: `[start, stop, step?]` for a range, a number for one index (the dimension
   * goes away), null for a whole dimension, "..." for as many whole ones as are left. Negative positions count from
   * the end; ranges are clamped. A lazy model reads only the bytes of the slice.
   *
   * @throws {SafeTensorsError} "TensorNotFound"; "SliceOutOfRange"; "TooManySlices"; "MisalignedSlice" if it would
   *   cut a byte of a sub-byte type
   * @throws {ReadError} if its file does not have the bytes that the header promised
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getSlice(name: string, ...slices: SliceIndex[]): Promise<T> {
    this.#session.checkOpen(`get a slice of tensor "${name}"`);
    const tensor = this.#find(name);
    const layout = sliceLayout(tensor, slices);
    const { device } = this.#session.context;
    if (!this.#load && !tensor.assemble) {
      return await this.#lazy.get(tensorSlice(tensor, this.#dtype, device, layout));
    }
    const request = this.#wanted.get(name)!;
    const whole = await (this.#load ? this.#load.get(request) : this.#lazy.get(request));
    try {
      return await device.slice(whole, sliceLayout(whole, slices));
    } finally {
      whole[Symbol.dispose]?.();
    }
  }

  /**
   * This rank's part of a tensor: the dimension is cut into `ceil(size / ranks)` rows for each rank, the last ranks
   * may get fewer or none. In a group of one that is the whole tensor.
   *
   * @throws {RangeError} if the tensor has no such dimension
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async getSharded(name: string, dimension: number): Promise<T> {
    const { rank, size } = this.#session.context.options.group;
    return await this.getSlice(name, ...rankSlices(this.#find(name), dimension, rank, size));
  }

  /**
   * Every tensor as `[name, tensor]`, in the order in which they land. A lazy model reads them as they are asked for,
   * with at most 256 MiB in flight.
   *
   * @throws {UseAfterCloseError} after {@linkcode close}
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    this.#session.checkOpen("iterate");
    if (this.#load) yield* this.#load;
    else yield* streamBatches(this.#session, [...this.#wanted.values()], LAZY_ITERATION_BYTES);
  }

  /**
   * Resolves once all tensors have landed; at once for a lazy model.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   */
  async whenLoaded(): Promise<void> {
    this.#session.checkOpen("wait");
    await this.#load?.finished();
  }

  /** How the load went, or goes. */
  stats(): LoadStats {
    return this.#session.stats();
  }

  /** Ends what is still being read and closes the files. Tensors that were given out stay valid. */
  close(): Promise<void> {
    return this.#session.close();
  }

  /** {@linkcode close}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #dtype(): DType | undefined {
    return this.#session.context.options.dtype;
  }

  #find(name: string): CatalogTensor {
    const tensor = this.#session.find(name);
    if (this.#wanted.has(name)) return tensor;
    const message = `Cannot find tensor "${name}": the option names leaves it out`;
    throw new SafeTensorsError("TensorNotFound", message, { tensor: name });
  }
}

function unsupportedCast({ name, dtype }: CatalogTensor, target: DType): SafeTensorsError {
  const message = `Cannot cast tensor "${name}" from ${dtype} to ${target}`;
  return new SafeTensorsError("UnsupportedCast", message, { tensor: name });
}

/** A request for every tensor that the option `names` leaves. */
function wantedTensors(
  catalog: Catalog,
  device: Device<Tensor>,
  { names, dtype }: CheckedOptions,
): Map<string, LoadRequest> {
  if (names && typeof names !== "function") {
    for (const name of names) {
      if (catalog.tensors.has(name)) continue;
      const message = `Cannot find tensor "${name}": the option names asks for it, and no file has it`;
      throw new SafeTensorsError("TensorNotFound", message, { tensor: name });
    }
  }
  const isWanted = typeof names === "function" ? names : (name: string) => names?.has(name) ?? true;
  const wanted = new Map<string, LoadRequest>();
  for (const tensor of catalog.tensors.values()) {
    if (isWanted(tensor.name)) wanted.set(tensor.name, wholeTensor(tensor, dtype, device));
  }
  return wanted;
}

/** What is read together: the requests, the load, and how many of them are still to be given out. */
interface LazyBatch<T extends Tensor> {
  readonly requests: LoadRequest[];
  readonly load: Promise<Load<T>>;
  waiting: number;
}

/** Loads on demand: what is asked for in one turn of the event loop is read together. */
class LazyLoads<T extends Tensor> {
  readonly #session: Session<T>;
  #batch: LazyBatch<T> | undefined;

  constructor(session: Session<T>) {
    this.#session = session;
  }

  async get(request: LoadRequest): Promise<T> {
    const batch = this.#batch ??= this.#nextBatch();
    batch.requests.push(request);
    batch.waiting++;
    const load = await batch.load;
    try {
      return await load.get(request);
    } finally {
      if (--batch.waiting === 0) this.#retire(load);
    }
  }

  /** Lets go of a load once it is through; its tensors keep their own hold on the memory. */
  #retire(load: Load<T>): void {
    const end = () => this.#session.end(load, new Error("This load has been given out"));
    load.finished().then(end, end);
  }

  #nextBatch(): LazyBatch<T> {
    const requests: LoadRequest[] = [];
    const load = Promise.resolve().then(() => {
      this.#batch = undefined;
      return this.#session.load(requests);
    });
    return { requests, load, waiting: 0 };
  }
}
