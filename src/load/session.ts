/**
 * Opened files and their loads. `SafeTensorsModel` and `ParallelLoader` are built on sessions.
 */
import { type Catalog, type CatalogTensor, tensorNotFound } from "../files/catalog.ts";
import { describeValue } from "../base/check.ts";
import { closestWord } from "../base/closest_word.ts";
import type { Device, SmallTensor } from "./device.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { Load, type LoadContext, type LoadOptions, type LoadRequest } from "./load.ts";
import { LoadCounter } from "./progress.ts";
import { SMALL_TENSOR } from "./layout.ts";
import { closeAll, type SourceFile } from "../files/source.ts";
import type { RequestTable } from "./request.ts";
import type { Tensor } from "./tensor.ts";

/** Statistics of a load. */
export interface LoadStats {
  /** Files opened. */
  readonly files: number;
  /** Tensors that have landed. */
  readonly tensors: number;
  /** File bytes that have landed. */
  readonly bytes: number;
  /** Seconds from opening until the last byte landed, or until now while the load runs. */
  readonly seconds: number;
  /** `bytes / seconds / 1e9`. */
  readonly gigabytesPerSecond: number;
  /** The device of the tensors. */
  readonly device: string;
  /**
   * The path of most bytes: through the page cache, by direct reads, by GPUDirect Storage, by cuFile in its compatibility
   * mode, through the rings of 3FS, over the network, from the cache of such files, or by the portable engine; null before any bytes have landed.
   */
  readonly path: "buffered" | "direct" | "gds" | "gds-compat" | "3fs" | "http" | "cache" | "portable" | null;
  /** Number of lanes; 0 before any bytes have landed. */
  readonly threads: number;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Notes for the user, such as the reason why a faster path was not used. */
  readonly notes: readonly string[];
}

/** Largest allocation in host memory that tensors share if they are loaded on request or in batches, in bytes. */
const SHARED_BYTES = 16 * 2 ** 20;

/** Opened files, a device, and the loads from the files to the device. */
export class Session<T extends Tensor> {
  /** The files and their tensors. */
  readonly catalog: Catalog;
  /** The files, device and options that all loads of this session share. */
  readonly context: LoadContext<T>;
  readonly #abort = new AbortController();
  readonly #loads = new Set<Load<T>>();
  readonly #starting = new Set<Promise<unknown>>();
  #closingFiles: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(catalog: Catalog, device: Device<T>, options: LoadOptions, notes: readonly string[]) {
    this.catalog = catalog;
    this.context = {
      files: catalog.files,
      device,
      options,
      signal: options.signal ? AbortSignal.any([options.signal, this.#abort.signal]) : this.#abort.signal,
      counter: new LoadCounter(options, [...notes, ...catalog.notes]),
    };
    for (const note of this.context.counter.notes) options.log(note);
  }

  /**
   * Starts to load some of the tensors. A tensor that stays in use keeps at most {@linkcode SHARED_BYTES} of other tensors
   * in memory. {@linkcode end} or {@linkcode close} releases the memory of the load.
   *
   * @param options.files the files to which the requests refer by index; default is the catalog's
   * @param options.isAnnounced whether the progress counts these requests already
   * @param options.joinsGaps whether short gaps between tensors are read too
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  async load(
    requests: readonly LoadRequest[],
    { files = this.context.files, isAnnounced = false, joinsGaps = false } = {},
  ): Promise<Load<T>> {
    const context = { ...this.context, files, maxAllocationBytes: SHARED_BYTES, joinsGaps };
    return await this.#start(Load.start(context, requests, isAnnounced));
  }

  /**
   * Loads one small contiguous request in one read, without the preparations of a load. Null if the request or the device
   * needs a load.
   *
   * @param files the files to which the request refers by index
   * @throws {ReadError} if the file does not have the bytes that its header promised
   */
  loadSmall(request: LoadRequest, files: readonly SourceFile[]): Promise<T> | null {
    const { file, run, levels, assemble } = request;
    if (assemble || levels.length > 0 || run === 0 || run >= SMALL_TENSOR) return null;
    const { device, signal } = this.context;
    const loading = device.loadSmall?.(request, files[file]!, signal);
    return loading ? this.#track(this.#countSmall(request, loading)) : null;
  }

  async #countSmall(request: LoadRequest, loading: Promise<SmallTensor<T>>): Promise<T> {
    const { counter, device, options } = this.context;
    const { name, run } = request;
    counter.expect({ tensors: 1, bytes: run });
    counter.begin();
    try {
      const { tensor, way } = await loading;
      counter.way = way;
      counter.add(1, run);
      options.log(`Tensor ${quote(name)}, ${run} bytes in one read to ${device.name}`);
      return tensor;
    } catch (error) {
      options.log(`Read of tensor ${quote(name)} failed: ${error}`);
      throw error;
    } finally {
      counter.end();
    }
  }

  /**
   * Starts the one load of all tensors. The files are closed after everything has landed. They stay open if the load
   * fails, so that intact tensors can still be read.
   *
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  async loadAll(requests: readonly LoadRequest[] | RequestTable): Promise<Load<T>> {
    const load = await this.#start(Load.start(this.context, requests));
    load.finished().then(() => this.closeFiles(), () => {});
    return load;
  }

  async #start(starting: Promise<Load<T>>): Promise<Load<T>> {
    return await this.#track(starting.then((load) => {
      this.#loads.add(load);
      return load;
    }));
  }

  /** Makes {@linkcode close} wait for the end of work. */
  async #track<R>(work: Promise<R>): Promise<R> {
    this.#starting.add(work);
    try {
      return await work;
    } finally {
      this.#starting.delete(work);
    }
  }

  /** Aborts a load of this session if it still runs, and releases its memory. Never rejects. */
  async end(load: Load<T>, reason: unknown): Promise<void> {
    await load.close(reason);
    this.#loads.delete(load);
  }

  /**
   * Returns a tensor of the catalog.
   *
   * @throws {SafeTensorsError} "TensorNotFound"
   */
  find(name: string): CatalogTensor {
    const tensor = this.catalog.tensors.get(name);
    if (tensor) return tensor;
    if (typeof name !== "string") {
      throw new TypeError(`The name of a tensor must be a string, got ${describeValue(name)}`);
    }
    const { tensors } = this.catalog;
    const nearest = closestWord(name, tensors.keys());
    const hint = nearest === undefined ? "" : `: did you mean ${quote(nearest)}?`;
    throw tensorNotFound(this.catalog, name, `none of the ${tensors.size} has this name${hint}`);
  }

  /** Statistics of the loads, also while they run. */
  stats(): LoadStats {
    const { counter, device, options } = this.context;
    for (const file of this.catalog.files) {
      for (const note of file.takeNotes?.() ?? []) counter.notes.add(note); // a cache is completed after its load
    }
    const seconds = ((counter.endedAt ?? performance.now()) - options.startedAt) / 1000;
    return {
      files: this.catalog.files.length,
      tensors: counter.tensors,
      bytes: counter.bytes,
      seconds,
      gigabytesPerSecond: counter.bytes / seconds / 1e9,
      device: device.name,
      path: counter.way?.path ?? null,
      threads: counter.way?.threads ?? 0,
      blockBytes: options.blockBytes,
      notes: [...counter.notes],
    };
  }

  /**
   * @param tensor the name of the tensor that the action concerns, for the message
   * @throws {UseAfterCloseError} after the session is closed
   */
  checkOpen(action: string, tensor?: string): void {
    if (!this.#closing) return;
    const what = tensor === undefined ? action : `${action} ${quote(tensor)}`;
    throw new UseAfterCloseError(`Cannot ${what}: it was closed`);
  }

  /** Closes the files. All reads from them must have ended. */
  closeFiles(): Promise<void> {
    return this.#closingFiles ??= closeAll(this.catalog.files);
  }

  /** Ends reads in progress and closes the files. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const reason = new UseAfterCloseError("Cannot continue loading: it was closed");
    this.#abort.abort(reason);
    await Promise.allSettled(this.#starting);
    for (const load of this.#loads) await this.end(load, reason);
    await this.closeFiles();
  }
}
