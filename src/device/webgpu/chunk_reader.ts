/**
 * Reads the chunks of a load into a small ring of host memory, ahead of their upload.
 */
import { OutOfMemoryError } from "../../base/errors.ts";
import { Blocks, type Engine, type HostBlock, type RunReport } from "../../load/engine.ts";
import { PAGE } from "../../load/layout.ts";
import type { LoadPlan } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { SourceFile } from "../../files/source.ts";
import type { LoadSettings } from "../../load/device.ts";
import { type Chunk, CHUNK_MARGIN, cutChunks, maxChunkBytes } from "./chunks.ts";
import { floorTo } from "./gpu.ts";

/** Blocks of the ring: one is uploaded while two are read, so that lanes continue at the end of a chunk. */
const BLOCKS = 3;

/** Largest chunk in bytes: two of them keep the storage busy, and they fit in a processor's cache. */
const MAX_CHUNK = 8 * 2 ** 20;

/** Least segments of a chunk, so that as many lanes can read it. */
const SEGMENTS = 4;

/** The division of the staging memory. */
export interface Staging {
  /** Data bytes of a chunk. */
  readonly chunkBytes: number;
  /** Data bytes of a segment. */
  readonly blockBytes: number;
  /** Bytes of staging memory for the lanes of each run. */
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

/** The plan to read, with its engine and settings. */
export interface ReadJob {
  /** The engine that reads. */
  readonly engine: Engine;
  /** The plan of the load. */
  readonly plan: LoadPlan;
  /** Alignment of every cast in the scratch buffer, in bytes. */
  readonly alignment: number;
  /** The files; segments refer to them by index. */
  readonly files: readonly SourceFile[];
  /** Settings of the load. */
  readonly settings: LoadSettings;
  /** The division of the staging memory. */
  readonly staging: Staging;
}

/** A chunk that has been read. */
export interface Filled {
  /** The chunk. */
  readonly chunk: Chunk;
  /** The block with its bytes. */
  readonly block: HostBlock;
  /** The report of its run. */
  readonly report: RunReport;
}

/** Reads chunks ahead, in order, while there are free blocks. */
export class ChunkReader {
  readonly #job: ReadJob;
  readonly #signal: AbortSignal;
  readonly #chunks: Iterator<Chunk, void>;
  /** The first chunks, which were made to find out whether there are several. */
  readonly #first: Chunk[];
  /** Most runs at once, and the lanes of each. */
  readonly #runs: number;
  readonly #threads: number | undefined;
  readonly #free: HostBlock[] = [];
  readonly #reading: Promise<Filled>[] = [];
  #blocks = 0;
  #running = 0;
  #mostRunning = 0;

  /** Starts the reads. */
  constructor(job: ReadJob, signal: AbortSignal) {
    const { maxThreads } = job.settings;
    this.#job = job;
    this.#signal = signal;
    this.#chunks = cutChunks(job.plan, job.staging.chunkBytes, job.alignment);
    this.#first = [this.#chunks.next(), this.#chunks.next()].flatMap(({ value }) => value ?? []);
    this.#runs = maxThreads === 1 || this.#first.length === 1 ? 1 : BLOCKS - 1;
    this.#threads = maxThreads && Math.floor(maxThreads / this.#runs);
    this.#advance();
  }

  /** The largest number of chunks that were read at once, each by its own lanes. */
  get mostRunning(): number {
    return this.#mostRunning;
  }

  /**
   * Returns the next chunk after it has been read; null after the last one.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   * @throws {OutOfMemoryError} if there is no memory for the ring
   */
  async next(): Promise<Filled | null> {
    const filled = await this.#reading[0];
    this.#reading.shift();
    return filled ?? null;
  }

  /** Returns a block whose bytes are no longer needed to the ring. */
  releaseBlock(block: HostBlock): void {
    this.#free.push(block);
    this.#advance();
  }

  /** Resolves after all reads have ended. */
  async settled(): Promise<void> {
    await Promise.allSettled(this.#reading);
  }

  #advance(): void {
    while (this.#running < this.#runs && this.#blocks - this.#free.length <= this.#runs) {
      const chunk = this.#first.shift() ?? this.#chunks.next().value;
      if (!chunk) return;
      const reading = this.#read(chunk);
      reading.catch(() => {}); // next() reports the error
      this.#reading.push(reading);
    }
  }

  async #read(chunk: Chunk): Promise<Filled> {
    const { engine, plan, files, staging } = this.#job;
    this.#running++;
    this.#mostRunning = Math.max(this.#mostRunning, this.#running);
    try {
      const block = this.#free.pop() ?? this.#allocate(maxChunkBytes(plan, staging.chunkBytes));
      const report = await engine.run({
        plan: chunk.plan,
        files,
        blocks: Blocks.of([block]),
        readiness: Readiness.of(chunk.plan), // callers wait for whole chunks only
        maxThreads: this.#threads,
        cachedThreads: 1, // one lane copies faster than the queue uploads; more lanes would slow down the queue
        blockBytes: staging.blockBytes,
        stagingBytes: staging.laneBytes,
        signal: this.#signal,
      });
      return { chunk, block, report };
    } finally {
      this.#running--;
      if (!this.#signal.aborted) this.#advance();
    }
  }

  #allocate(byteLength: number): HostBlock {
    const { engine } = this.#job;
    try {
      this.#blocks++;
      return engine.allocate(byteLength);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      const message = `Cannot load: ${byteLength} bytes of host memory are needed as staging memory`;
      throw new OutOfMemoryError(message, byteLength, engine.availableMemory(), { cause: error });
    }
  }
}
