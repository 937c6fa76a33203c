/**
 * One load: requests on their way to a device, and how far they are.
 */
import type { CatalogTensor } from "./catalog.ts";
import type { Device, DeviceLoad } from "./device/device.ts";
import { castTarget } from "./format/cast.ts";
import type { DType } from "./format/dtype.ts";
import type { SliceLayout } from "./format/slices.ts";
import type { RunReport } from "./lanes/engine.ts";
import type { CheckedOptions } from "./options.ts";
import type { TensorRequest } from "./plan/request.ts";
import type { SourceFile } from "./source/source.ts";
import type { Tensor } from "./tensor/tensor.ts";

/** What the loads of one model have in common. */
export interface LoadContext<T extends Tensor> {
  /** Opened files; requests name them by index. */
  readonly files: readonly SourceFile[];
  /** Where the tensors go. */
  readonly device: Device<T>;
  /** Checked options. */
  readonly options: CheckedOptions;
  /** Ends every load of the model. */
  readonly signal: AbortSignal;
  /** What has been loaded so far. */
  readonly tally: Tally;
}

/** What the loads of one model have done so far, for its statistics. */
export class Tally {
  /** When the last load ended, in milliseconds; null before the first one has, and while one runs. */
  endedAt: number | null = null;
  /** Tensors that have landed. */
  tensors = 0;
  /** File bytes that have landed. */
  bytes = 0;
  /** Lanes of the last load. */
  threads = 0;
  /** The way of the last load's bytes. */
  path: RunReport["path"] | null = null;
  /** What was worth telling, each line once. */
  readonly notes: Set<string>;

  constructor(notes: Iterable<string>) {
    this.notes = new Set(notes);
  }

  /** Notes how a load went that has ended well. */
  add(report: RunReport): void {
    this.threads = report.threads;
    this.path = report.path;
    for (const note of report.notes) this.notes.add(note);
  }
}

/** The request for a whole tensor, cast to `dtype` if that applies to it on the device. */
export function wholeTensor(
  tensor: CatalogTensor,
  dtype: DType | undefined,
  device: Device<Tensor>,
): TensorRequest {
  return {
    name: tensor.name,
    shape: tensor.shape,
    dtype: tensor.dtype,
    target: castTarget(tensor.dtype, dtype, device.castsSubByte),
    file: tensor.file,
    fileOffset: tensor.fileOffset,
    run: tensor.byteLength,
    levels: [],
  };
}

/** The request for a slice of a tensor. */
export function tensorSlice(
  tensor: CatalogTensor,
  dtype: DType | undefined,
  device: Device<Tensor>,
  layout: SliceLayout,
): TensorRequest {
  return {
    ...wholeTensor(tensor, dtype, device),
    shape: layout.shape,
    fileOffset: tensor.fileOffset + layout.offset,
    run: layout.byteLength === 0 ? 0 : layout.run,
    levels: layout.byteLength === 0 ? [] : layout.levels,
  };
}

/** How often progress is told, in milliseconds. */
const PROGRESS_INTERVAL = 50;

/** A running load. */
export class Load<T extends Tensor> {
  readonly #load: DeviceLoad<T>;
  readonly #index = new Map<TensorRequest, number>();
  readonly #stop: AbortController;
  readonly #finished: Promise<void>;

  private constructor(load: DeviceLoad<T>, stop: AbortController, finished: Promise<void>) {
    this.#load = load;
    this.#stop = stop;
    this.#finished = finished;
    for (const [index, request] of load.plan.requests.entries()) this.#index.set(request, index);
  }

  /**
   * Allocates and starts.
   *
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  static async start<T extends Tensor>(
    context: LoadContext<T>,
    requests: readonly TensorRequest[],
  ): Promise<Load<T>> {
    const { options, device, files, tally } = context;
    const { startedAt } = options;
    const stop = new AbortController();
    let toldAt = performance.now();
    let started: DeviceLoad<T> | undefined = undefined;
    const counted = { tensors: 0, bytes: 0 };
    const count = (bytes: number) => {
      if (!started) return;
      const tensors = started.readiness.landed.length;
      tally.tensors += tensors - counted.tensors;
      tally.bytes += bytes - counted.bytes;
      Object.assign(counted, { tensors, bytes });
    };
    const tell = (bytes: number) => {
      if (!started) return;
      const { plan, readiness } = started;
      options.onProgress?.({
        bytes,
        totalBytes: plan.bytes,
        tensors: readiness.landed.length,
        totalTensors: plan.requests.length,
        seconds: (performance.now() - startedAt) / 1000,
      });
    };
    started = await device.start(requests, files, {
      maxThreads: options.maxThreads,
      blockBytes: options.blockBytes,
      stagingBytes: options.stagingBytes,
      signal: AbortSignal.any([context.signal, stop.signal]),
      onLanded(bytes) {
        count(bytes);
        const now = performance.now();
        if (now - toldAt < PROGRESS_INTERVAL) return;
        toldAt = now;
        tell(bytes);
      },
    });
    tally.endedAt = null;
    const { plan, finished } = started;
    options.log(
      `${plan.requests.length} tensors, ${plan.bytes} bytes in ${plan.segments.length} segments to ${device.name}`,
    );
    const told = finished.finally(() => tally.endedAt = performance.now()).then((report) => {
      count(plan.bytes);
      tally.add(report);
      options.log(`${plan.bytes} bytes landed, ${report.path}, ${report.threads} lanes`);
      for (const note of report.notes) options.log(note);
      tell(plan.bytes);
    }, (error) => {
      options.log(`Load ended early: ${error}`);
      throw error;
    });
    told.catch(() => {}); // nobody has to wait for it
    return new Load(started, stop, told);
  }

  /** The tensor of one of the requests that this load was started with, once it has landed. */
  async get(request: TensorRequest): Promise<T> {
    const index = this.#index.get(request)!;
    await this.#load.readiness.whenReady(index);
    return this.#load.tensor(index);
  }

  /** Every tensor, in the order in which they land. */
  async *[Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    for await (const index of this.#load.readiness.inLandingOrder()) {
      const tensor = this.#load.tensor(index);
      yield [tensor.name, tensor];
    }
  }

  /** Resolves once all has landed; rejects if the load failed. By then nothing of it runs any more. */
  async finished(): Promise<void> {
    await this.#finished;
  }

  /** Ends the load if it still runs, for this reason, and drops its hold on the memory. Never rejects. */
  async close(reason: unknown): Promise<void> {
    this.#stop.abort(reason);
    await this.#finished.catch(() => {});
    this.#load.readiness.fail(reason);
    this.#load.release();
  }
}
