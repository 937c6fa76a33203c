/**
 * Opened files and the loads that run over them: what the easy and the low-level door share.
 */
import { type Catalog, type CatalogTensor, tensorNotFound } from "../files/catalog.ts";
import { describeValue } from "../base/check.ts";
import { closestWord } from "../base/closest_word.ts";
import type { Device } from "./device.ts";
import { UseAfterCloseError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { Load, type LoadContext, type LoadOptions, type LoadRequest } from "./load.ts";
import { Tally } from "./progress.ts";
import { closeAll } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** How a load went. */
export interface LoadStats {
  /** Files opened. */
  readonly files: number;
  /** Tensors that have landed. */
  readonly tensors: number;
  /** File bytes that have landed. */
  readonly bytes: number;
  /** Seconds from opening to the landing of the last byte; to now while loading. */
  readonly seconds: number;
  /** `bytes / seconds / 1e9`. */
  readonly gigabytesPerSecond: number;
  /** Where the tensors are. */
  readonly device: string;
  /**
   * Which way most bytes went: through the page cache, past it, by GPUDirect Storage, by cuFile in its compatibility
   * mode, through 3FS' rings, or by the portable engine; null before any has.
   */
  readonly path: "buffered" | "direct" | "gds" | "gds-compat" | "3fs" | "portable" | null;
  /** Lanes that ran, or run; 0 before any bytes have landed. */
  readonly threads: number;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** What is worth knowing, such as why a faster way was not taken. */
  readonly notes: readonly string[];
}

/** Bytes of host memory that tensors which are loaded on demand or in batches share at most. */
const SHARED_BYTES = 16 * 2 ** 20;

/** Opened files, a device, and the loads between them. */
export class Session<T extends Tensor> {
  /** The files and what is in them. */
  readonly catalog: Catalog;
  /** What every load of this session is started with. */
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
      tally: new Tally(options, [...notes, ...catalog.notes]),
    };
    for (const note of this.context.tally.notes) options.log(note);
  }

  /**
   * Starts to load a part of the tensors. A tensor that stays in use keeps at most {@linkcode SHARED_BYTES} of others
   * alive. The load holds its memory until {@linkcode end} or {@linkcode close}.
   *
   * @param options.files what the requests name by index; default is the catalog's
   * @param options.isAnnounced whether the progress has been told of these requests
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  async load(
    requests: readonly LoadRequest[],
    { files = this.context.files, isAnnounced = false } = {},
  ): Promise<Load<T>> {
    const context = { ...this.context, files, maxAllocationBytes: SHARED_BYTES };
    return await this.#start(Load.start(context, requests, isAnnounced));
  }

  /**
   * Starts the one load that brings everything: the files are closed once all has landed, and stay open if it fails, so
   * that what is not at fault can still be read.
   *
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  async loadAll(requests: readonly LoadRequest[]): Promise<Load<T>> {
    const load = await this.#start(Load.start(this.context, requests));
    load.finished().then(() => this.closeFiles(), () => {});
    return load;
  }

  async #start(starting: Promise<Load<T>>): Promise<Load<T>> {
    this.#starting.add(starting);
    try {
      const load = await starting;
      this.#loads.add(load);
      return load;
    } finally {
      this.#starting.delete(starting);
    }
  }

  /** Ends a load of this session, if it still runs, and drops its hold on the memory. Never rejects. */
  async end(load: Load<T>, reason: unknown): Promise<void> {
    await load.close(reason);
    this.#loads.delete(load);
  }

  /**
   * A tensor of the files.
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

  /** How the loads went, or go. */
  stats(): LoadStats {
    const { tally, device, options } = this.context;
    const seconds = ((tally.endedAt ?? performance.now()) - options.startedAt) / 1000;
    return {
      files: this.catalog.files.length,
      tensors: tally.tensors,
      bytes: tally.bytes,
      seconds,
      gigabytesPerSecond: tally.bytes / seconds / 1e9,
      device: device.name,
      path: tally.way?.path ?? null,
      threads: tally.way?.threads ?? 0,
      blockBytes: options.blockBytes,
      notes: [...tally.notes],
    };
  }

  /** @throws {UseAfterCloseError} once the session is closed */
  checkOpen(action: string): void {
    if (this.#closing) throw new UseAfterCloseError(`Cannot ${action}: it was closed`);
  }

  /** Closes the files; nothing may be reading from them any more, or will. */
  closeFiles(): Promise<void> {
    return this.#closingFiles ??= closeAll(this.catalog.files);
  }

  /** Ends what is still being read, and closes the files. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const reason = new UseAfterCloseError("Cannot go on loading: it was closed");
    this.#abort.abort(reason);
    await Promise.allSettled(this.#starting);
    for (const load of this.#loads) await this.end(load, reason);
    await this.closeFiles();
  }
}
