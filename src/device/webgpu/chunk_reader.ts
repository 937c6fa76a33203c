/**
 * Reading the chunks of a load into a small ring of host memory, ahead of who uploads them.
 */
import { OutOfMemoryError } from "../../base/errors.ts";
import type { Engine, HostBlock, RunReport } from "../../load/engine.ts";
import { PAGE } from "../../load/layout.ts";
import type { LoadPlan } from "../../load/plan.ts";
import { Readiness } from "../../load/readiness.ts";
import type { SourceFile } from "../../files/source.ts";
import type { LoadSettings } from "../../load/device.ts";
import { type Chunk, CHUNK_MARGIN, chunkRoom, cutChunks } from "./chunks.ts";
import { floorTo } from "./gpu.ts";

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

/** What is to be read, and how. */
export interface ReadJob {
  /** What reads. */
  readonly engine: Engine;
  /** The load. */
  readonly plan: LoadPlan;
  /** What every cast begins at a multiple of, in the scratch buffer. */
  readonly alignment: number;
  /** The files that the plan names by index. */
  readonly files: readonly SourceFile[];
  /** How the load is to run. */
  readonly settings: LoadSettings;
  /** How staging memory is divided. */
  readonly staging: Staging;
}

/** A chunk that has been read. */
export interface Filled {
  /** What it is. */
  readonly chunk: Chunk;
  /** Where it is. */
  readonly block: HostBlock;
  /** How that went. */
  readonly report: RunReport;
}

/** Reads chunks ahead, in order, as far as there are blocks. */
export class ChunkReader {
  readonly #job: ReadJob;
  readonly #signal: AbortSignal;
  readonly #chunks: Iterator<Chunk, void>;
  /** The first chunks, which had to be looked at to know how many there are. */
  readonly #first: Chunk[];
  /** Runs at once at most, and the lanes of each. */
  readonly #runs: number;
  readonly #threads: number | undefined;
  readonly #free: HostBlock[] = [];
  readonly #reading: Promise<Filled>[] = [];
  #blocks = 0;
  #running = 0;
  #mostRunning = 0;

  /** Begins to read. */
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

  /** The most chunks that were read at once, each by lanes of its own. */
  get mostRunning(): number {
    return this.#mostRunning;
  }

  /**
   * The next chunk, once it has been read; null after the last.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   * @throws {OutOfMemoryError} if there is no memory for the ring
   */
  async next(): Promise<Filled | null> {
    const filled = await this.#reading[0];
    this.#reading.shift();
    return filled ?? null;
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
    while (this.#running < this.#runs && this.#blocks - this.#free.length <= this.#runs) {
      const chunk = this.#first.shift() ?? this.#chunks.next().value;
      if (!chunk) return;
      const reading = this.#read(chunk);
      reading.catch(() => {}); // told when its turn comes
      this.#reading.push(reading);
    }
  }

  async #read(chunk: Chunk): Promise<Filled> {
    const { engine, plan, files, staging } = this.#job;
    this.#running++;
    this.#mostRunning = Math.max(this.#mostRunning, this.#running);
    try {
      const block = this.#free.pop() ?? this.#allocate(chunkRoom(plan, staging.chunkBytes));
      const report = await engine.run({
        plan: chunk.plan,
        files,
        blocks: [block],
        readiness: Readiness.of(chunk.plan), // nobody waits for less than a chunk
        maxThreads: this.#threads,
        cachedThreads: 1, // one copies faster than the queue takes, and more would take its processor away
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
      const message =
        `Cannot load: ${byteLength} bytes of host memory are needed to pass the tensors through`;
      throw new OutOfMemoryError(message, byteLength, engine.availableMemory(), { cause: error });
    }
  }
}
