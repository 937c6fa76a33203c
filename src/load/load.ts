/**
 * One load: requests on their way to a device, and how far they are.
 */
import { type AssembledRequest, Assembly } from "./assembly.ts";
import type { Assemble, CatalogTensor } from "../files/catalog.ts";
import type { Device, DeviceLoad } from "./device.ts";
import { DeviceError, OutOfMemoryError } from "../base/errors.ts";
import { castTarget } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import { STEP, type Steps } from "../base/steps.ts";
import type { ShardRules } from "../format/shard_plan.ts";
import type { SliceLayout } from "../format/slices.ts";
import { BufferTransferredError, type LoadWay, type RunReport } from "./engine.ts";
import { hostOperations } from "./host_operations.ts";
import { finishInTurns, Turn, TurnQueue } from "../base/turn.ts";
import type { ProgressWatch, Work } from "../base/progress.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import type { Tally } from "./progress.ts";
import { requestBytes, type TensorRequest } from "./request.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** What loads need of a model's options, checked and with defaults filled in. */
export interface LoadOptions extends ProgressWatch {
  /** The element type that floating tensors are cast to. */
  readonly dtype: DType | undefined;
  /** Lanes wanted; default by the machine and by what is cached. */
  readonly maxThreads: number | undefined;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Which of how many ranks that load together this process is. */
  readonly group: Pick<ProcessGroup, "rank" | "size">;
  /** Which part of each tensor a rank loads. */
  readonly shardPlan: ShardRules | undefined;
  /** Ends the loads. */
  readonly signal: AbortSignal | undefined;
  /** Writes what a load decides. */
  readonly log: (line: string) => void;
}

/** What the loads of one model have in common. */
export interface LoadContext<T extends Tensor> {
  /** Opened files; requests name them by index. */
  readonly files: readonly SourceFile[];
  /** Where the tensors go. */
  readonly device: Device<T>;
  /** Checked options. */
  readonly options: LoadOptions;
  /** Ends every load of the model. */
  readonly signal: AbortSignal;
  /** What has been loaded so far. */
  readonly tally: Tally;
  /** Bytes of host memory that tensors of a load share at most; default by the device. */
  readonly maxAllocationBytes?: number;
}

/** What a load is asked for: a range of a file, perhaps with more to do than to read it. */
export interface LoadRequest extends TensorRequest {
  /** The name of another tensor that it is the same as: if that is loaded too, they share memory. */
  readonly aliasOf?: string;
  /** How it is put together, where it does not lie in the file as it is wanted. */
  readonly assemble?: Assemble;
}

/** Requests by name. */
export interface NamedRequests {
  /** The request of that name. */
  get(name: string): LoadRequest | undefined;
  /** The names. */
  keys(): Iterable<string>;
  /** All requests, in the order of the names. */
  values(): Iterable<LoadRequest>;
}

/** The request for a whole tensor, cast to `dtype` if that applies to it on the device. */
function wholeTensor(
  tensor: CatalogTensor,
  dtype: DType | undefined,
  device: Device<Tensor>,
): LoadRequest {
  return {
    ...tensor.aliasOf === undefined ? {} : { aliasOf: tensor.aliasOf },
    ...tensor.assemble ? { assemble: tensor.assemble } : {},
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
): LoadRequest {
  const { aliasOf: _whole, assemble, ...request } = wholeTensor(tensor, dtype, device);
  const { shape, byteLength } = layout;
  if (assemble) {
    return {
      ...request,
      shape,
      run: byteLength,
      assemble: assembleSlice(assemble, tensor.byteLength, layout),
    };
  }
  return {
    ...request,
    shape,
    fileOffset: tensor.fileOffset + layout.offset,
    run: byteLength === 0 ? 0 : layout.run,
    levels: byteLength === 0 ? [] : layout.levels,
  };
}

/** The request for what this process loads of a tensor: all of it, or its part by the shard plan. */
export function ownTensor(
  tensor: CatalogTensor,
  { dtype, shardPlan, group }: Pick<LoadOptions, "dtype" | "shardPlan" | "group">,
  device: Device<Tensor>,
): LoadRequest {
  if (!shardPlan) return wholeTensor(tensor, dtype, device);
  const partOf = (name: string) => shardPlan.partOf({ ...tensor, name }, group.rank, group.size);
  const part = partOf(tensor.name);
  const { aliasOf, ...request } = part
    ? { ...tensorSlice(tensor, dtype, device, part), aliasOf: tensor.aliasOf }
    : wholeTensor(tensor, dtype, device);
  // Memory is shared only with another name that is cut in the same way.
  const shares = aliasOf !== undefined && JSON.stringify(partOf(aliasOf)) === JSON.stringify(part);
  return shares ? { ...request, aliasOf } : request;
}

function assembleSlice(assemble: Assemble, byteLength: number, layout: SliceLayout): Assemble {
  return async (file, target, signal) => {
    const whole = new Uint8Array(byteLength);
    await assemble(file, whole, signal);
    await hostOperations().gather(whole, layout, target);
  };
}

/** Tensors that an iteration gives between two looks at the clock. */
const GIVEN_PER_TURN = 64;

/** A running load. */
export class Load<T extends Tensor> {
  readonly #context: LoadContext<T>;
  readonly #load: DeviceLoad<T>;
  readonly #assembly: Assembly<T>;
  readonly #requests: SortedRequests;
  readonly #index: ReadonlyMap<TensorRequest, number>;
  readonly #givingOut = new TurnQueue();
  readonly #stop: AbortController;
  readonly #finished: Promise<void>;
  /** Settles when what is read by itself has come, as far as it has been asked for. */
  #last: Promise<void> = Promise.resolve();

  private constructor(
    context: LoadContext<T>,
    load: DeviceLoad<T>,
    assembly: Assembly<T>,
    requests: SortedRequests,
    index: ReadonlyMap<TensorRequest, number>,
    stop: AbortController,
    finished: Promise<void>,
  ) {
    this.#context = context;
    this.#load = load;
    this.#assembly = assembly;
    this.#requests = requests;
    this.#stop = stop;
    this.#finished = finished;
    this.#index = index;
  }

  /**
   * Allocates and starts.
   *
   * @param isAnnounced whether the progress has been told of these requests
   * @throws {OutOfMemoryError} if the tensors do not fit
   */
  static async start<T extends Tensor>(
    context: LoadContext<T>,
    requests: readonly LoadRequest[],
    isAnnounced = false,
  ): Promise<Load<T>> {
    const { options, device, files, tally, maxAllocationBytes } = context;
    const sorted = await finishInTurns(sortSteps(requests));
    const { plain, assembled } = sorted;
    const assembly = await finishInTurns(Assembly.steps<T>(assembled));
    const stop = new AbortController();
    const signal = AbortSignal.any([context.signal, stop.signal]);
    const counted = { tensors: 0, bytes: 0 };
    let started: DeviceLoad<T> | undefined = undefined;
    const onLanded = (bytes: number, way?: LoadWay) => {
      if (way) tally.way = way;
      if (!started) return;
      const tensors = started.readiness.landed.length;
      try {
        tally.add(tensors - counted.tensors, bytes - counted.bytes);
      } catch (error) { // of the caller's onProgress: it ends the load, and nothing is read again
        stop.abort(error);
        throw error;
      }
      Object.assign(counted, { tensors, bytes });
    };
    const { maxThreads, blockBytes, stagingBytes } = options;
    const settings = { maxThreads, blockBytes, stagingBytes, maxAllocationBytes, signal, onLanded };
    started = await device.start(plain, files, settings);
    const { plan } = started;
    if (!isAnnounced) tally.expect(sorted.work);
    tally.begin();
    options.log(
      `${plain.length} tensors, ${plan.bytes} bytes in ${plan.segments.length} segments to ${device.name}`,
    );
    assembly.start(files, device, signal, ({ run }) => tally.add(1, run));
    // One of the two may fail, and the other bring what it can.
    const finished = Promise.allSettled([started.finished, assembly.finished]).then(([plainEnd, end]) => {
      if (plainEnd.status === "fulfilled") {
        onLanded(plan.bytes, plainEnd.value);
        for (const note of plainEnd.value.notes) tally.notes.add(note);
      }
      const failed = plainEnd.status === "rejected" ? plainEnd : end.status === "rejected" ? end : null;
      if (failed) {
        options.log(`Load ended early: ${failed.reason}`);
        throw failed.reason;
      }
      const { path, threads, notes } = (plainEnd as PromiseFulfilledResult<RunReport>).value;
      options.log(`${sorted.work.bytes} bytes landed, ${path}, ${threads} lanes`);
      for (const note of notes) options.log(note);
    }).finally(() => tally.end());
    finished.catch(() => {}); // nobody has to wait for it
    const index = await finishInTurns(indexSteps(plan.requests));
    return new Load({ ...context, signal }, started, assembly, sorted, index, stop, finished);
  }

  /**
   * The tensor of one of the requests that this load was started with, once it has landed. If the load has failed before,
   * it is read by itself, unless it failed for bytes of this tensor: what is wrong with another file, or another tensor,
   * does not concern it.
   */
  async get(request: LoadRequest): Promise<T> {
    const kept = this.#requests.kept.get(request) ?? request;
    if (kept.assemble) return this.#named(await this.#assembly.get(kept), request.name);
    const index = this.#index.get(kept)!;
    const { readiness } = this.#load;
    try {
      await (readiness.isReady(index) ? this.#givingOut.next() : readiness.whenReady(index));
    } catch (error) {
      if (readiness.hasFailed(index) || !this.#concernsOne(error)) throw error;
      return this.#named(await this.#alone(kept), request.name);
    }
    return this.#named(this.#load.tensor(index), request.name);
  }

  /** Every tensor, in the order in which they land; those that have to be put together come last. */
  async *[Symbol.asyncIterator](): AsyncGenerator<[string, T], void, void> {
    const { aliases, assembled } = this.#requests;
    const turn = new Turn();
    let given = 0;
    for await (const index of this.#load.readiness.inLandingOrder()) {
      if (++given % GIVEN_PER_TURN === 0) await turn.pause(); // what has landed is given without a wait
      const request = this.#load.plan.requests[index]!;
      yield [request.name, this.#load.tensor(index)];
      for (const alias of aliases.get(request) ?? []) yield [alias.name, await this.get(alias)];
    }
    for (const request of assembled) {
      for (const each of [request, ...aliases.get(request) ?? []]) yield [each.name, await this.get(each)];
    }
    await this.#finished; // who has got the last tensor finds the load's end in the statistics
  }

  /** Says that these requests, which have landed, will not be asked for again: what only they need can be freed. */
  retire(requests: readonly LoadRequest[]): void {
    const own = requests.filter((request) => !this.#requests.kept.has(request));
    this.#assembly.retire(own.filter(isAssembled));
    this.#load.retire(own.filter(({ assemble }) => !assemble).map((request) => this.#index.get(request)!));
  }

  /** Resolves once all has landed; rejects if the load failed. By then nothing of it runs any more. */
  async finished(): Promise<void> {
    await this.#finished;
  }

  /** Ends the load if it still runs, for this reason, and drops its hold on the memory. Never rejects. */
  async close(reason: unknown): Promise<void> {
    this.#stop.abort(reason);
    await this.#finished.catch(() => {});
    await this.#last;
    this.#load.readiness.fail(reason);
    this.#load.release();
    await this.#assembly.release();
  }

  /** Whether an error may be that of one file or tensor, so that others can still be read. */
  #concernsOne(error: unknown): boolean {
    return this.#load.plan.requests.length > 1 && !this.#context.signal.aborted &&
      !(error instanceof BufferTransferredError || error instanceof DeviceError ||
        error instanceof OutOfMemoryError);
  }

  /** Reads a tensor by itself, one after another: in a model of many, many may have been asked for. */
  #alone(request: LoadRequest): Promise<T> {
    const tensor = this.#last.then(async () => {
      this.#context.signal.throwIfAborted();
      const load = await Load.start(this.#context, [request], true);
      try {
        return await load.get(request);
      } finally {
        await load.close(new Error("This tensor has been given out"));
      }
    });
    this.#last = tensor.then(() => {}, () => {});
    return tensor;
  }

  #named(tensor: T, name: string): T {
    if (tensor.name === name) return tensor;
    const named = tensor.named(name) as T;
    tensor[Symbol.dispose]?.();
    return named;
  }
}

/** Requests by what has to be done for them. */
interface SortedRequests {
  /** To be read as they lie in the file. */
  readonly plain: readonly LoadRequest[];
  /** To be put together. */
  readonly assembled: readonly AssembledRequest[];
  /** Request → those that are the same tensor under another name. */
  readonly aliases: ReadonlyMap<TensorRequest, readonly LoadRequest[]>;
  /** The other way round. */
  readonly kept: ReadonlyMap<TensorRequest, LoadRequest>;
  /** What a load of them is to bring. */
  readonly work: Work;
}

/** Sorts requests, and adds up what a load of them is to bring: tensors, and bytes of files. */
export function* sortSteps(requests: readonly LoadRequest[]): Steps<SortedRequests> {
  const aliased: LoadRequest[] = [];
  for (const [index, request] of requests.entries()) {
    if (index % STEP === 0) yield;
    if (request.aliasOf !== undefined) aliased.push(request);
  }
  yield;
  const byName = new Map<string, LoadRequest>();
  if (aliased.length > 0) {
    for (const request of requests) {
      byName.set(request.name, request);
      if (byName.size % STEP === 0) yield;
    }
  }
  const kept = new Map<TensorRequest, LoadRequest>();
  const aliases = new Map<TensorRequest, LoadRequest[]>();
  for (const [index, alias] of aliased.entries()) {
    if (index % STEP === 0) yield;
    const target = byName.get(alias.aliasOf!);
    if (!target || target.target !== alias.target) continue; // not wanted itself: the alias is read in its stead
    kept.set(alias, target);
    const others = aliases.get(target);
    if (others) others.push(alias);
    else aliases.set(target, [alias]);
  }
  const plain: LoadRequest[] = [];
  const assembled: AssembledRequest[] = [];
  let bytes = 0;
  for (const [index, request] of requests.entries()) {
    if (index % STEP === 0) yield;
    if (kept.has(request)) continue;
    if (isAssembled(request)) assembled.push(request);
    else plain.push(request);
    bytes += requestBytes(request);
  }
  return { plain, assembled, aliases, kept, work: { tensors: plain.length + assembled.length, bytes } };
}

/** Request → its place in the list. */
function* indexSteps(requests: readonly TensorRequest[]): Steps<ReadonlyMap<TensorRequest, number>> {
  const places = new Map<TensorRequest, number>();
  for (const [index, request] of requests.entries()) {
    if (index % STEP === 0) yield;
    places.set(request, index);
  }
  return places;
}

function isAssembled(request: LoadRequest): request is AssembledRequest {
  return request.assemble !== undefined;
}
