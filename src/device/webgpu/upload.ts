/**
 * Running a load to a GPU: while one chunk is handed to the device's queue, the lanes read the next ones into the other
 * blocks of a small ring. No more than the ring is ever in host memory.
 */
import { OutOfMemoryError } from "../../errors.ts";
import type { Engine, HostBlock, RunReport } from "../../lanes/engine.ts";
import type { LoadPlan } from "../../plan/plan.ts";
import { PAGE } from "../../plan/layout.ts";
import { Readiness } from "../../plan/readiness.ts";
import type { SourceFile } from "../../source/source.ts";
import type { LoadSettings } from "../device.ts";
import { Backlog } from "./backlog.ts";
import { castDispatches } from "./cast_kernel.ts";
import { type Chunk, CHUNK_MARGIN, type ChunkCast, type Upload } from "./chunks.ts";
import { type Dispatch, Dispatcher } from "./dispatch.ts";
import { floorTo, type Gpu } from "./gpu.ts";
import type { GpuMemory } from "./memory.ts";
import { PIECE, turn } from "./pieces.ts";

/** Blocks of the ring: one is uploaded while two are read, so that lanes go on when one chunk comes to its end. */
const BLOCKS = 3;

/** Largest chunk: enough for storage to be busy with two of them, and little enough to stay in a processor's cache. */
const MAX_CHUNK = 8 * 2 ** 20;

/** Segments of a chunk at least, for as many lanes. */
const SEGMENTS = 4;

/** How much staging memory there is for what. */
export interface Staging {
  /** Data bytes of a chunk. */
  readonly chunkBytes: number;
  /** Data bytes of a segment. */
  readonly blockBytes: number;
  /** What each of the runs at once may use for itself. */
  readonly laneBytes: number;
}

/** Divides staging memory: at most a quarter for each block of the ring, and the rest for the lanes. */
export function divideStaging({ stagingBytes, blockBytes }: LoadSettings): Staging {
  const chunkBytes = Math.min(MAX_CHUNK, floorTo(Math.floor(stagingBytes / (BLOCKS + 1)), PAGE));
  const rest = stagingBytes - BLOCKS * (chunkBytes + CHUNK_MARGIN);
  return {
    chunkBytes,
    blockBytes: Math.min(blockBytes, Math.max(PAGE, floorTo(Math.floor(chunkBytes / SEGMENTS), PAGE))),
    laneBytes: Math.max(4 * PAGE, Math.floor(rest / (BLOCKS - 1))),
  };
}

/** A load to a GPU with all that it needs to run. */
export interface UploadJob {
  /** The device. */
  readonly gpu: Gpu;
  /** What reads. */
  readonly engine: Engine;
  /** The whole load. */
  readonly plan: LoadPlan;
  /** It in chunks. */
  readonly chunks: readonly Chunk[];
  /** The files that the plan names by index. */
  readonly files: readonly SourceFile[];
  /** One for each of the plan's allocations. */
  readonly memories: readonly GpuMemory[];
  /** Is told of every segment whose bytes have been handed to the queue. */
  readonly readiness: Readiness;
  /** How it is to run. */
  readonly settings: LoadSettings;
  /** How staging memory is divided. */
  readonly staging: Staging;
}

/**
 * Runs a load to its end: all of it in the device's memory, failed or aborted. By then nothing reads any more.
 *
 * @throws {ReadError} if a file does not have the bytes that its header promised
 * @throws {OutOfMemoryError} if the host or the device has no memory for the transfer
 * @throws {DeviceError} if the device refuses or is lost
 */
export async function runUpload(job: UploadJob): Promise<RunReport> {
  const { gpu, settings, chunks } = job;
  const stop = new AbortController();
  const signal = AbortSignal.any([settings.signal, gpu.lost, stop.signal]);
  signal.throwIfAborted();
  const reader = new ChunkReader(job, signal);
  try {
    using uploader = await Uploader.create(job);
    for (const chunk of chunks) {
      const filled = await reader.next();
      await uploader.upload(chunk, filled, signal);
      reader.giveBack(filled.block);
    }
    return await uploader.finish();
  } catch (error) {
    stop.abort(error);
    throw error;
  } finally {
    await reader.settled();
  }
}

/** A chunk that has been read. */
interface Filled {
  /** Where it is. */
  readonly block: HostBlock;
  /** How that went. */
  readonly report: RunReport;
}

/** Reads chunks ahead, in order, as far as there are blocks. */
class ChunkReader {
  readonly #job: UploadJob;
  readonly #signal: AbortSignal;
  readonly #free: HostBlock[];
  /** Runs at once, and the lanes of each. */
  readonly #runs: number;
  readonly #threads: number | undefined;
  readonly #reading: Promise<Filled>[] = [];
  #running = 0;
  #next = 0;

  constructor(job: UploadJob, signal: AbortSignal) {
    const { chunks, settings: { maxThreads } } = job;
    this.#job = job;
    this.#signal = signal;
    this.#runs = maxThreads === 1 ? 1 : BLOCKS - 1;
    this.#threads = maxThreads && Math.floor(maxThreads / this.#runs);
    const byteLength = chunks.reduce((most, { plan }) => Math.max(most, plan.allocations[0]!), 0);
    const blocks = Math.min(this.#runs + 1, chunks.length);
    this.#free = Array.from({ length: blocks }, () => allocate(job.engine, byteLength));
    this.#advance();
  }

  /** The next chunk, once it has been read. */
  async next(): Promise<Filled> {
    const filled = await this.#reading[0]!;
    this.#reading.shift();
    return filled;
  }

  /** Takes back a block whose bytes are no longer needed. */
  giveBack(block: HostBlock): void {
    this.#free.push(block);
    this.#advance();
  }

  /** Resolves once nothing is being read any more. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#reading);
  }

  #advance(): void {
    const { chunks } = this.#job;
    while (this.#running < this.#runs && this.#free.length > 0 && this.#next < chunks.length) {
      const reading = this.#read(chunks[this.#next++]!, this.#free.pop()!);
      reading.catch(() => {}); // told when its turn comes
      this.#reading.push(reading);
    }
  }

  async #read({ plan }: Chunk, block: HostBlock): Promise<Filled> {
    const { engine, files, settings, staging } = this.#job;
    this.#running++;
    try {
      const report = await engine.run({
        plan,
        files,
        blocks: [block],
        readiness: new Readiness(plan),
        maxThreads: this.#threads,
        cachedThreads: 1,
        blockBytes: staging.blockBytes,
        stagingBytes: staging.laneBytes,
        signal: this.#signal,
      });
      return { block, report };
    } finally {
      this.#running--;
      if (!this.#signal.aborted) this.#advance();
    }
  }
}

function allocate(engine: Engine, byteLength: number): HostBlock {
  try {
    return engine.allocate(byteLength);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    const message = `Cannot load: ${byteLength} bytes of host memory are needed to pass the tensors through`;
    throw new OutOfMemoryError(message, byteLength, engine.availableMemory(), { cause: error });
  }
}

/** One call of `writeBuffer`. */
interface Write {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly staging: number;
  readonly byteLength: number;
}

/** Hands chunks to the queue, in order. */
class Uploader implements Disposable {
  readonly #job: UploadJob;
  readonly #backlog: Backlog;
  /** What the GPU casts from, if it casts anything. */
  readonly #scratch: GPUBuffer | null;
  readonly #dispatcher: Dispatcher | null;
  /** What of the two is to be freed in the end. */
  readonly #owned: Disposable | null;
  /** The last word of the last upload. */
  readonly #tail = new Uint8Array(4);
  /** Path → bytes that went that way. */
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
    const { gpu, chunks } = job;
    const size = chunks.reduce((most, { scratchBytes }) => Math.max(most, scratchBytes), 0);
    if (size === 0) return new Uploader(job, null, null, null);
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

  /** Hands a chunk to the queue. When this resolves its block is free again, and its tensors can be used. */
  async upload(
    chunk: Chunk,
    { block: { buffer, base }, report }: Filled,
    signal: AbortSignal,
  ): Promise<void> {
    const { readiness, settings } = this.#job;
    const bytes = new Uint8Array(buffer, base, chunk.plan.allocations[0]!);
    for (const [start, stop] of chunk.gaps) bytes.fill(0, start, stop);
    for (const { staging, byteLength, carried } of chunk.uploads) {
      bytes.set(this.#tail.subarray(0, carried), staging);
      this.#tail.set(bytes.subarray(staging + byteLength - 4, staging + byteLength));
    }
    for (const writes of this.#cut(chunk.uploads)) {
      await this.#write(writes, bytes);
      await turn();
      signal.throwIfAborted();
    }
    await this.#cast(chunk.casts, signal);
    for (let index = chunk.segments[0]; index < chunk.segments[1]; index++) readiness.segmentLanded(index);
    this.#landed += chunk.plan.bytes;
    settings.onLanded?.(this.#landed);
    this.#note(report, chunk.plan.bytes);
  }

  /** Resolves once the device has carried out all of it. */
  async finish(): Promise<RunReport> {
    await this.#backlog.settled();
    this.#job.gpu.lost.throwIfAborted();
    const [way] = [...this.#ways].sort(([, a], [, b]) => b - a);
    const path = way?.[0] ?? (this.#job.engine.name === "native" ? "buffered" : "portable");
    return { path, threads: this.#threads, notes: [...this.#notes] };
  }

  [Symbol.dispose](): void {
    this.#owned?.[Symbol.dispose]();
  }

  /** Uploads as writes of together at most one piece. */
  *#cut(uploads: readonly Upload[]): Generator<Write[]> {
    let writes: Write[] = [];
    let room = PIECE;
    for (const { allocation, offset, staging, byteLength } of uploads) {
      const buffer = allocation === null ? this.#scratch! : this.#job.memories[allocation]!.buffer;
      for (let at = 0; at < byteLength;) {
        const length = Math.min(room, byteLength - at);
        writes.push({ buffer, offset: offset + at, staging: staging + at, byteLength: length });
        at += length;
        room -= length;
        if (room > 0) continue;
        yield writes;
        writes = [];
        room = PIECE;
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
      queue.submit([]); // frees what writeBuffer copied through, where one for all would be as large as the model
    });
    this.#backlog.add(total);
  }

  async #cast(casts: readonly ChunkCast[], signal: AbortSignal): Promise<void> {
    const { gpu } = this.#job;
    let batch: Dispatch[] = [];
    let bytes = 0;
    const submit = async () => {
      await gpu.attempt("load", 0, () => this.#dispatcher!.run(batch));
      this.#backlog.add(bytes);
      batch = [];
      bytes = 0;
      await turn();
      signal.throwIfAborted();
    };
    for (const dispatch of casts.flatMap((cast) => this.#dispatches(cast))) {
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
