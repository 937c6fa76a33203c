/**
 * One load: brings requests to a device and tracks their progress.
 */
import { type AssembledRequest, Assembly } from "./assembly.ts";
import type { Assemble, CatalogTensor } from "../files/catalog.ts";
import type { Device, DeviceLoad } from "./device.ts";
import { DeviceError, OutOfMemoryError } from "../base/errors.ts";
import { castTarget } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import type { Level } from "../base/levels.ts";
import { inSteps, type Steps } from "../base/steps.ts";
import type { ShardRules } from "../format/shard_plan.ts";
import type { SliceLayout } from "../format/slices.ts";
import { BufferTransferredError, type LoadWay, type RunReport } from "./engine.ts";
import { hostOperations } from "./host_operations.ts";
import { finishInTurns, Turn, TurnQueue } from "../base/turn.ts";
import type { ProgressWatch, Work } from "../base/progress.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import type { LoadCounter } from "./progress.ts";
import { requestBytes, RequestTable, type TensorRequest } from "./request.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** The options of a model that its loads use, checked and with defaults. */
export interface LoadOptions extends ProgressWatch {
  /** The element type that floating tensors are cast to. */
  readonly dtype: DType | undefined;
  /** Lanes to use; default depends on the machine and on the cached files. */
  readonly maxThreads: number | undefined;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** The rank of this process, and the number of ranks. */
  readonly group: Pick<ProcessGroup, "rank" | "size">;
  /** The part of each tensor that a rank loads. */
  readonly shardPlan: ShardRules | undefined;
  /** Aborts the loads. */
  readonly signal: AbortSignal | undefined;
  /** Logs the decisions of a load. */
  readonly log: (line: string) => void;
}

/** The files, device and options that all loads of one model share. */
export interface LoadContext<T extends Tensor> {
  /** Opened files; requests refer to them by index. */
  readonly files: readonly SourceFile[];
  /** The device of the tensors. */
  readonly device: Device<T>;
  /** Checked options. */
  readonly options: LoadOptions;
  /** Aborts every load of the model. */
  readonly signal: AbortSignal;
  /** Counts the bytes and tensors that have landed. */
  readonly counter: LoadCounter;
  /** Largest allocation in host memory that tensors of a load share, in bytes; default depends on the device. */
  readonly maxAllocationBytes?: number;
  /** Whether the loads read over short gaps between tensors; default false. */
  readonly joinsGaps?: boolean;
}

/** A request for a tensor or a part of it, with an alias or a function that assembles it. */
export interface LoadRequest extends TensorRequest {
  /** Name of the tensor of which this one is an alias: both share memory if both are loaded. */
  readonly aliasOf?: string;
  /** Assembles it, if its elements have another order in the file, or are quantized there. */
  readonly assemble?: Assemble;
  /** Bytes that it reads from the file, if they are not those of the result before a cast. */
  readonly storedBytes?: number;
  /** Whether it is a slice, which shares no byte with another one. */
  readonly isSlice?: true;
}

/** Requests by name. */
export interface NamedRequests {
  get(name: string): LoadRequest | undefined;
  keys(): Iterable<string>;
  /** All requests, in the order of the names. */
  values(): Iterable<LoadRequest>;
  /** All requests as columns; null if some of them are aliases, assembled, or files of other ranks. */
  tableSteps(): Steps<RequestTable | null>;
}

/** The levels of a contiguous range: one array for all requests. */
const NO_LEVELS: readonly Level[] = [];

/** The element type of a tensor after loading: `wanted`, if the device can cast this tensor to it. */
export function targetOf(dtype: DType, wanted: DType | undefined, device: Device<Tensor>): DType {
  return castTarget(dtype, wanted, device.castsSubByte);
}

/** Makes the request for a whole tensor, with a cast to `dtype` if the device can cast this tensor. */
function wholeTensor(
  tensor: CatalogTensor,
  dtype: DType | undefined,
  device: Device<Tensor>,
): LoadRequest {
  const { aliasOf, assemble, stored } = tensor;
  const request = {
    name: tensor.name,
    shape: tensor.shape,
    dtype: tensor.dtype,
    target: targetOf(tensor.dtype, dtype ?? (stored && "BF16"), device),
    file: tensor.file,
    fileOffset: tensor.fileOffset,
    run: tensor.byteLength,
    levels: NO_LEVELS,
  };
  if (aliasOf === undefined && !assemble) return request; // the usual case, for very many tensors
  return {
    ...request,
    ...aliasOf !== undefined && { aliasOf },
    ...assemble && { assemble },
    ...stored && { storedBytes: stored.byteLength },
  };
}

/** Makes the request for a slice of a tensor. */
export function tensorSlice(
  tensor: CatalogTensor,
  dtype: DType | undefined,
  device: Device<Tensor>,
  layout: SliceLayout,
): LoadRequest {
  const { aliasOf: _whole, assemble, ...whole } = wholeTensor(tensor, dtype, device);
  const request = { ...whole, isSlice: true } as const;
  const { shape, byteLength } = layout;
  if (assemble) {
    const { stored } = tensor;
    const [begin, end] = stored ? extentOf(layout) : [0, tensor.byteLength];
    return {
      ...request,
      shape,
      run: byteLength,
      assemble: async (file, target, signal) => {
        const part = new Uint8Array(end - begin);
        await (stored ? stored.assemblePart(file, begin, part, signal) : assemble(file, part, signal));
        await hostOperations().gather(part, { ...layout, offset: layout.offset - begin }, target);
      },
      ...stored && { storedBytes: stored.byteLength / tensor.byteLength * (end - begin) },
    };
  }
  return {
    ...request,
    shape,
    fileOffset: tensor.fileOffset + layout.offset,
    run: byteLength === 0 ? 0 : layout.run,
    levels: byteLength === 0 ? NO_LEVELS : layout.levels,
  };
}

/** Makes the request for the part of a tensor that this process loads: the whole tensor, or its part by the shard plan. */
export function ownTensor(
  tensor: CatalogTensor,
  { dtype, shardPlan, group }: Pick<LoadOptions, "dtype" | "shardPlan" | "group">,
  device: Device<Tensor>,
): LoadRequest {
  if (!shardPlan) return wholeTensor(tensor, dtype, device);
  const partOf = (name: string) => shardPlan.partOf({ ...tensor, name }, group.rank, group.size);
  const part = partOf(tensor.name);
  const { aliasOf, isSlice: _slice, ...request } = part
    ? { ...tensorSlice(tensor, dtype, device, part), aliasOf: tensor.aliasOf }
    : { ...wholeTensor(tensor, dtype, device), isSlice: true };
  // An alias shares memory only if the plan cuts both names in the same way.
  const shares = aliasOf !== undefined && JSON.stringify(partOf(aliasOf)) === JSON.stringify(part);
  return shares ? { ...request, aliasOf } : request;
}

/** The bytes of a tensor from the first one of a slice to its last one. */
function extentOf({ offset, run, levels, byteLength }: SliceLayout): [begin: number, end: number] {
  if (byteLength === 0) return [offset, offset];
  return [offset, levels.reduce((end, { count, stride }) => end + (count - 1) * stride, offset + run)];
}

/** Tensors that an iteration yields between two pauses. */
const YIELDED_PER_TURN = 64;

/** A running load. */
export class Load<T extends Tensor> {
  readonly #context: LoadContext<T>;
  readonly #load: DeviceLoad<T>;
  readonly #assembly: Assembly<T>;
  readonly #requests: SortedRequests;
  readonly #givingOut = new TurnQueue();
  readonly #stop: AbortController;
  readonly #finished: Promise<void>;
  /** Settles after the last separate read that was requested. */
  #last: Promise<void> = Promise.resolve();

  private constructor(
    context: LoadContext<T>,
    load: DeviceLoad<T>,
    assembly: Assembly<T>,
    requests: SortedRequests,
    stop: AbortController,
    finished: Promise<void>,
  ) {
    this.#context = context;
    this.#load = load;
    this.#assembly = assembly;
    this.#requests = requests;
    this.#stop = stop;
    this.#finished = finished;
  }

  /**
   * Allocates memory and starts a load.
   *
   * @param isAnnounced whether the progress counts these requests already
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  static async start<T extends Tensor>(
    context: LoadContext<T>,
    requests: readonly LoadRequest[] | RequestTable,
    isAnnounced = false,
  ): Promise<Load<T>> {
    const { options, device, files, counter, maxAllocationBytes, joinsGaps } = context;
    const sorted = await finishInTurns(
      requests instanceof RequestTable ? plainSteps(requests) : sortSteps(requests),
    );
    const { assembled } = sorted;
    const plain = sorted.plain instanceof RequestTable
      ? sorted.plain
      : await finishInTurns(RequestTable.of(sorted.plain));
    const assembly = await finishInTurns(Assembly.steps<T>(assembled));
    const stop = new AbortController();
    const signal = AbortSignal.any([context.signal, stop.signal]);
    const counted = { tensors: 0, bytes: 0 };
    let started: DeviceLoad<T> | undefined = undefined;
    const onLanded = (read: number, way?: LoadWay) => {
      if (way) counter.way = way;
      if (!started) return;
      const bytes = Math.min(read, started.plan.bytes); // gaps that were read over do not count
      const tensors = started.readiness.landedCount;
      try {
        counter.add(tensors - counted.tensors, bytes - counted.bytes);
      } catch (error) { // an error of onProgress ends the load without another try
        stop.abort(error);
        throw error;
      }
      Object.assign(counted, { tensors, bytes });
    };
    const { maxThreads, blockBytes, stagingBytes } = options;
    const settings = {
      maxThreads,
      blockBytes,
      stagingBytes,
      maxAllocationBytes,
      joinsGaps,
      signal,
      onLanded,
    };
    started = await device.start(plain, files, settings);
    const { plan } = started;
    if (!isAnnounced) counter.expect(sorted.work);
    counter.begin();
    options.log(
      `${plain.size} tensors, ${plan.bytes} bytes in ${plan.segments.length} segments to ${device.name}`,
    );
    assembly.start(files, device, signal, (request) => counter.add(1, bytesRead(request)));
    // If one of the two fails, the other continues.
    const finished = Promise.allSettled([started.finished, assembly.finished]).then(([plainEnd, end]) => {
      if (plainEnd.status === "fulfilled") {
        onLanded(plan.bytes, plainEnd.value);
        for (const note of plainEnd.value.notes) counter.notes.add(note);
      }
      const failed = plainEnd.status === "rejected" ? plainEnd : end.status === "rejected" ? end : null;
      if (failed) {
        options.log(`Load ended early: ${failed.reason}`);
        throw failed.reason;
      }
      const { path, threads, notes } = (plainEnd as PromiseFulfilledResult<RunReport>).value;
      options.log(`${sorted.work.bytes} bytes landed, ${path}, ${threads} lanes`);
      for (const note of notes) options.log(note);
    }).finally(() => counter.end());
    finished.catch(() => {}); // callers do not have to await it
    return new Load({ ...context, signal }, started, assembly, sorted, stop, finished);
  }

  /**
   * Returns the tensor of a request of this load after it has landed. If the load fails before, the tensor is read
   * separately, unless the failure concerns its own bytes: an error of another file or tensor does not affect it.
   */
  get(request: LoadRequest): Promise<T> {
    const { name } = request;
    const kept = this.#requests.kept.get(request) ?? request;
    if (kept.assemble) return this.#assembly.get(kept).then((tensor) => this.#named(tensor, name));
    const { readiness, plan } = this.#load;
    const index = plan.requests.rowOf(kept);
    // No async function: very many callers can wait, and each frame of one takes a kilobyte.
    return new Promise((resolve, reject) => {
      const landed = () => {
        try {
          resolve(this.#load.tensor(index, name));
        } catch (error) {
          reject(error);
        }
      };
      if (readiness.isReady(index)) return this.#givingOut.add(landed);
      const failed = (error: unknown) => {
        if (readiness.hasFailed(index) || !this.#concernsOne(error)) return reject(error);
        resolve(this.#alone(kept).then((tensor) => this.#named(tensor, name)));
      };
      readiness.wait(index, { landed, failed });
    });
  }

  /** Yields every tensor by name in the order in which they land; assembled tensors come last. */
  async *[Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    const { requests } = this.#load.plan;
    for await (const [which, tensor] of this.#landing()) {
      yield [typeof which === "number" ? requests.name(which) : which.name, tensor];
    }
  }

  /** The same with the requests of the tensors. */
  async *landing(): AsyncGenerator<[LoadRequest, T], void, void> {
    const { requests } = this.#load.plan;
    for await (const [which, tensor] of this.#landing()) {
      yield [typeof which === "number" ? requests.at(which) : which, tensor];
    }
  }

  /** Yields the row of a plain request, or the request itself, with its tensor. */
  async *#landing(): AsyncGenerator<[number | LoadRequest, T], void, void> {
    const { aliases, assembled } = this.#requests;
    const turn = new Turn();
    let yielded = 0;
    for await (const index of this.#load.readiness.inLandingOrder()) {
      if (++yielded % YIELDED_PER_TURN === 0) await turn.pause(); // landed tensors are otherwise yielded without a wait
      const { requests } = this.#load.plan;
      yield [index, this.#load.tensor(index, requests.name(index))];
      if (aliases.size === 0) continue;
      for (const alias of aliases.get(requests.at(index)) ?? []) yield [alias, await this.get(alias)];
    }
    for (const request of assembled) {
      for (const each of [request, ...aliases.get(request) ?? []]) yield [each, await this.get(each)];
    }
    await this.#finished; // after the last tensor the statistics are final
  }

  /** Marks landed requests as not needed again, so that the device can free memory that only they use. */
  retire(requests: readonly LoadRequest[]): void {
    const own = requests.filter((request) => !this.#requests.kept.has(request));
    this.#assembly.retire(own.filter(isAssembled));
    const { requests: planned } = this.#load.plan;
    this.#load.retire(own.filter(({ assemble }) => !assemble).map((request) => planned.rowOf(request)));
  }

  /** Resolves after all requests have landed; rejects if the load failed. All its reads and writes have then ended. */
  async finished(): Promise<void> {
    await this.#finished;
  }

  /** Aborts the load with this reason if it still runs, and releases its memory. Never rejects. */
  async close(reason: unknown): Promise<void> {
    this.#stop.abort(reason);
    await this.#finished.catch(() => {});
    await this.#last;
    this.#load.readiness.fail(reason);
    this.#load.release();
    await this.#assembly.release();
  }

  /** Whether an error can concern one file or tensor only, so that others can still be read. */
  #concernsOne(error: unknown): boolean {
    return this.#load.plan.requests.size > 1 && !this.#context.signal.aborted &&
      !(error instanceof BufferTransferredError || error instanceof DeviceError ||
        error instanceof OutOfMemoryError);
  }

  /** Reads a tensor separately. Such reads run one after another, because they can be very many. */
  #alone(request: LoadRequest): Promise<T> {
    const tensor = this.#last.then(async () => {
      this.#context.signal.throwIfAborted();
      const load = await Load.start(this.#context, [request], true);
      try {
        return await load.get(request);
      } finally {
        await load.close(new Error("This tensor has been returned"));
      }
    });
    this.#last = tensor.then(() => {}, () => {});
    return tensor;
  }

  #named(tensor: T, name: string): T {
    if (tensor.name === name) return tensor;
    const named = tensor.named(name) as T;
    tensor[Symbol.dispose]();
    return named;
  }
}

/** Requests by kind. */
interface SortedRequests {
  /** Requests that are read directly. */
  readonly plain: readonly LoadRequest[] | RequestTable;
  /** Requests that are assembled. */
  readonly assembled: readonly AssembledRequest[];
  /** Request → its aliases. */
  readonly aliases: ReadonlyMap<TensorRequest, readonly LoadRequest[]>;
  /** Alias → the request of its tensor. */
  readonly kept: ReadonlyMap<TensorRequest, LoadRequest>;
  /** The bytes and tensors of a load of them. */
  readonly work: Work;
}

/** Sorts requests, and counts their tensors and file bytes. */
export function* sortSteps(requests: readonly LoadRequest[]): Steps<SortedRequests> {
  const aliased: LoadRequest[] = [];
  yield* inSteps(requests, (request) => {
    if (request.aliasOf !== undefined) aliased.push(request);
  });
  yield;
  const byName = new Map<string, LoadRequest>();
  if (aliased.length > 0) yield* inSteps(requests, (request) => void byName.set(request.name, request));
  const kept = new Map<TensorRequest, LoadRequest>();
  const aliases = new Map<TensorRequest, LoadRequest[]>();
  yield* inSteps(aliased, (alias) => {
    const target = byName.get(alias.aliasOf!);
    if (!target || target.target !== alias.target) return; // its tensor is not requested: the alias is read
    kept.set(alias, target);
    const others = aliases.get(target);
    if (others) others.push(alias);
    else aliases.set(target, [alias]);
  });
  const plain: LoadRequest[] = [];
  const assembled: AssembledRequest[] = [];
  let bytes = 0;
  yield* inSteps(requests, (request) => {
    if (kept.has(request)) return;
    if (isAssembled(request)) assembled.push(request);
    else plain.push(request);
    bytes += bytesRead(request);
  });
  return { plain, assembled, aliases, kept, work: { tensors: plain.length + assembled.length, bytes } };
}

/** Bytes of the file that a request reads. */
function bytesRead(request: LoadRequest): number {
  return request.storedBytes ?? requestBytes(request);
}

/** Requests that are all read directly. */
function* plainSteps(plain: RequestTable): Steps<SortedRequests> {
  const bytes = yield* plain.bytesSteps();
  return { plain, assembled: [], aliases: new Map(), kept: new Map(), work: { tensors: plain.size, bytes } };
}

function isAssembled(request: LoadRequest): request is AssembledRequest {
  return request.assemble !== undefined;
}
