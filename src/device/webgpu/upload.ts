/**
 * Runs a load to a GPU: while one chunk is submitted to the device's queue, the lanes read the next ones into the other
 * blocks of a small ring. The load needs host memory for the ring only.
 */
import type { RunReport } from "../../load/engine.ts";
import type { Readiness } from "../../load/readiness.ts";
import { Backlog } from "./backlog.ts";
import { castDispatches } from "./casts.ts";
import { ChunkReader, type Filled, type ReadJob } from "./chunk_reader.ts";
import { castsOnGpu, type ChunkCast, maxChunkBytes, type Upload } from "./chunks.ts";
import { type Dispatch, Dispatcher } from "./dispatch.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuMemory } from "./memory.ts";
import { nextTurn } from "../../base/turn.ts";
import { PIECE } from "./pieces.ts";

/** A load to a GPU with its device, memory and settings. */
export interface UploadJob extends ReadJob {
  /** The device. */
  readonly gpu: Gpu;
  /** One buffer for each allocation of the load. */
  readonly memories: readonly GpuMemory[];
  /** Records every segment of the load whose bytes were submitted to the queue. */
  readonly readiness: Readiness;
}

/**
 * Runs a load to its end: complete in the device's memory, failed or aborted. All reads have ended when this settles.
 *
 * @throws {ReadError} if a file does not have the bytes that its header promised
 * @throws {OutOfMemoryError} if the host or the device has no memory for the transfer
 * @throws {DeviceError} if the device rejects a call or is lost
 */
export async function runUpload(job: UploadJob): Promise<RunReport> {
  const { gpu, settings } = job;
  const stop = new AbortController();
  const signal = AbortSignal.any([settings.signal, gpu.lost, stop.signal]);
  signal.throwIfAborted();
  const reader = new ChunkReader(job, signal);
  try {
    await using uploader = await Uploader.create(job);
    for (let filled = await reader.next(); filled; filled = await reader.next()) {
      await uploader.upload(filled, signal);
      reader.releaseBlock(filled.block);
    }
    const report = await uploader.finish();
    return { ...report, threads: report.threads * reader.mostRunning };
  } catch (error) {
    stop.abort(error);
    throw error;
  } finally {
    await reader.settled();
  }
}

/** One call of `writeBuffer`. */
interface Write {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly staging: number;
  readonly byteLength: number;
}

/** Submits chunks to the queue, in order. */
class Uploader implements AsyncDisposable {
  readonly #job: UploadJob;
  readonly #backlog: Backlog;
  /** The scratch buffer, from which the GPU casts; null without casts. */
  readonly #scratch: GPUBuffer | null;
  readonly #dispatcher: Dispatcher | null;
  /** Frees the scratch buffer and the parameters at the end. */
  readonly #owned: Disposable | null;
  /** The last word of the last upload. */
  readonly #tail = new Uint8Array(4);
  /** Path → its bytes. */
  readonly #ways = new Map<RunReport["path"], number>();
  readonly #notes = new Set<string>();
  #threads = 0;
  #landed = 0;

  private constructor(
    job: UploadJob,
    scratch: GPUBuffer | null,
    dispatcher: Dispatcher | null,
    owned: Disposable | null,
  ) {
    this.#job = job;
    this.#backlog = new Backlog(job.gpu.device.queue);
    this.#scratch = scratch;
    this.#dispatcher = dispatcher;
    this.#owned = owned;
  }

  static async create(job: UploadJob): Promise<Uploader> {
    const { gpu, plan, staging } = job;
    if (!plan.segments.some(({ from, to }) => castsOnGpu(from, to))) {
      return new Uploader(job, null, null, null);
    }
    const size = maxChunkBytes(plan, staging.chunkBytes);
    const stack = new DisposableStack();
    try {
      return await gpu.attempt("load", size, () => {
        const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST;
        const scratch = gpu.device.createBuffer({ size, usage });
        stack.defer(() => scratch.destroy());
        return new Uploader(job, scratch, stack.use(new Dispatcher(gpu)), stack);
      });
    } catch (error) {
      stack.dispose();
      throw error;
    }
  }

  /** Submits a chunk to the queue. After this resolves, its block is free again, and its tensors can be used. */
  async upload({ chunk, block: { buffer, base }, report }: Filled, signal: AbortSignal): Promise<void> {
    const { readiness, settings } = this.#job;
    const bytes = new Uint8Array(buffer, base, chunk.plan.allocations[0]!);
    for (const [start, stop] of chunk.gaps) bytes.fill(0, start, stop);
    for (const { staging, byteLength, carried } of chunk.uploads) {
      bytes.set(this.#tail.subarray(0, carried), staging);
      this.#tail.set(bytes.subarray(staging + byteLength - 4, staging + byteLength));
    }
    for (const writes of this.#cut(chunk.uploads)) {
      await this.#write(writes, bytes);
      await nextTurn();
      signal.throwIfAborted();
    }
    if (chunk.casts.length > 0) await this.#cast(chunk.casts, signal);
    for (let index = chunk.segments[0]; index < chunk.segments[1]; index++) readiness.segmentLanded(index);
    this.#landed += chunk.plan.bytes;
    settings.onLanded?.(this.#landed, { path: report.path, threads: this.#threads });
    this.#note(report, chunk.plan.bytes);
  }

  /** Resolves after the device has finished all work. The report has the lanes of one run. */
  async finish(): Promise<RunReport> {
    await this.#backlog.settled();
    this.#job.gpu.lost.throwIfAborted();
    const [way] = [...this.#ways].sort(([, a], [, b]) => b - a);
    const path = way?.[0] ?? (this.#job.engine.name === "native" ? "buffered" : "portable");
    return { path, threads: this.#threads, notes: [...this.#notes] };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#owned?.[Symbol.dispose]();
    await this.#backlog.ended();
  }

  /** Groups uploads into writes; each group has at most the bytes of one piece. */
  *#cut(uploads: readonly Upload[]): Generator<Write[]> {
    let writes: Write[] = [];
    let left = PIECE;
    for (const { allocation, offset, staging, byteLength } of uploads) {
      const buffer = allocation === null ? this.#scratch! : this.#job.memories[allocation]!.buffer;
      for (let at = 0; at < byteLength;) {
        const length = Math.min(left, byteLength - at);
        writes.push({ buffer, offset: offset + at, staging: staging + at, byteLength: length });
        at += length;
        left -= length;
        if (left > 0) continue;
        yield writes;
        writes = [];
        left = PIECE;
      }
    }
    if (writes.length > 0) yield writes;
  }

  async #write(writes: readonly Write[], bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const { gpu } = this.#job;
    const { queue } = gpu.device;
    const total = writes.reduce((sum, { byteLength }) => sum + byteLength, 0);
    await gpu.attempt("load", total, () => {
      for (const { buffer, offset, staging, byteLength } of writes) {
        queue.writeBuffer(buffer, offset, bytes, staging, byteLength);
      }
      queue.submit([]); // frees the copies of writeBuffer, which would otherwise grow to the size of the model
    });
    await this.#backlog.add(total);
  }

  async #cast(casts: readonly ChunkCast[], signal: AbortSignal): Promise<void> {
    const { gpu } = this.#job;
    let batch: Dispatch[] = [];
    let bytes = 0;
    const submit = async () => {
      await gpu.attempt("load", 0, () => this.#dispatcher!.run(batch));
      await this.#backlog.add(bytes);
      batch = [];
      bytes = 0;
      await nextTurn();
      signal.throwIfAborted();
    };
    // Some dispatches can need a new pipeline.
    const dispatches = await gpu.attempt("load", 0, () => casts.flatMap((cast) => this.#dispatches(cast)));
    for (const dispatch of dispatches) {
      batch.push(dispatch);
      bytes += dispatch.target.size!;
      if (bytes >= PIECE) await submit();
    }
    if (batch.length > 0) await submit();
  }

  #dispatches({ from, to, count, scratch, allocation, offset }: ChunkCast): Dispatch[] {
    const { gpu, memories } = this.#job;
    const target = memories[allocation]!.buffer;
    const range = {
      from,
      to,
      count,
      source: this.#scratch!,
      sourceOffset: scratch,
      target,
      targetOffset: offset,
    };
    return [...castDispatches(gpu, range, PIECE)];
  }

  #note(report: RunReport, bytes: number): void {
    this.#ways.set(report.path, (this.#ways.get(report.path) ?? 0) + bytes);
    this.#threads = Math.max(this.#threads, report.threads);
    for (const note of report.notes) this.#notes.add(note);
  }
}
