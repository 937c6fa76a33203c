/**
 * The interface of an engine, which runs plans into host memory: native lanes or portable ones.
 */
import type { LoadPlan } from "./plan.ts";
import type { Readiness } from "./readiness.ts";
import type { TensorRequest } from "./request.ts";
import type { RemoteWay, Source, SourceFile } from "../files/source.ts";
import type { HostOperations } from "./host_operations.ts";

/** Host memory owned by JavaScript. */
export interface HostBlock {
  /** The memory; the garbage collector frees it. */
  readonly buffer: ArrayBuffer;
  /** Byte offset of its first page boundary, which is offset 0 of the plan. */
  readonly base: number;
}

/**
 * The memory of a job, one block for each allocation of its plan. It can be allocated while the job runs, in the order in
 * which it is filled: an allocation of a gigabyte takes milliseconds, in which the first bytes are read already. Its maker
 * must add every block, or call {@linkcode Blocks.fail}; a run waits for that.
 */
export class Blocks {
  readonly #blocks: HostBlock[] = [];
  #failure: { readonly error: unknown } | undefined;
  #change = Promise.withResolvers<void>();

  /** The memory of a job that is allocated already. */
  static of(blocks: readonly HostBlock[]): Blocks {
    const all = new Blocks();
    for (const block of blocks) all.add(block);
    return all;
  }

  /** The block of an allocation; undefined if it is not allocated yet. */
  at(allocation: number): HostBlock | undefined {
    return this.#blocks[allocation];
  }

  /** Adds the block of the next allocation. */
  add(block: HostBlock): void {
    this.#blocks.push(block);
    this.#announce();
  }

  /** Records that no more blocks follow. */
  fail(error: unknown): void {
    this.#failure ??= { error };
    this.#announce();
  }

  /**
   * Waits for the block of an allocation.
   *
   * @throws the error of {@linkcode fail}, if it is not allocated
   */
  async until(allocation: number): Promise<HostBlock> {
    while (allocation >= this.#blocks.length) {
      if (this.#failure) throw this.#failure.error;
      await this.#change.promise;
    }
    return this.#blocks[allocation]!;
  }

  #announce(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

/** A plan with its files, memory and settings. */
export interface Job<F extends SourceFile = SourceFile> {
  /** The segments to read. */
  readonly plan: LoadPlan;
  /** The files; segments refer to them by index. */
  readonly files: readonly F[];
  /** The memory of the plan's allocations. */
  readonly blocks: Blocks;
  /** Records every segment that has landed, and the failure if the run fails. */
  readonly readiness: Readiness;
  /** Lanes to use; default depends on the machine and on the cached files. */
  readonly maxThreads?: number | undefined;
  /** Lanes if `maxThreads` is not set and the page cache has the files; for consumers slower than several lanes. */
  readonly cachedThreads?: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Ends the job early. */
  readonly signal: AbortSignal;
  /** Called several times with the file bytes that have landed since the last call, and their path. */
  readonly onLanded?: (bytes: number, way?: LoadWay) => void;
}

/** The path of the bytes from storage to memory. */
export interface LoadWay {
  /** The path of most of the bytes. */
  readonly path: "buffered" | "direct" | "gds" | "gds-compat" | "3fs" | RemoteWay | "portable";
  /** Lanes that run. */
  readonly threads: number;
}

/** The path of the bytes of a finished run. */
export interface RunReport extends LoadWay {
  /** Notes on the run for the user. */
  readonly notes: readonly string[];
}

/** Opens files, allocates host memory and runs plans into it. */
export interface Engine<F extends SourceFile = SourceFile> {
  /** Its name in statistics. */
  readonly name: "native" | "portable";
  /** The source of its files. */
  readonly source: Source<F>;
  /** Notes for the user on the choice of this engine. */
  readonly notes: readonly string[];
  /** Slices, casts and joins of tensors in host memory. */
  readonly operations: HostOperations;
  /** Bytes that can still be allocated; -1 if unknown. */
  availableMemory(): number;
  /**
   * Allocates host memory.
   *
   * @throws {RangeError} if there is not enough memory
   */
  allocate(byteLength: number): HostBlock;
  /** Runs a function that maps memory of another library, with huge pages for it; missing if the engine cannot. */
  withHugePages?<R>(map: () => R): R;
  /**
   * Runs a job to its end: complete, failed or aborted. All reads and writes have ended when this settles.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   */
  run(job: Job<F>): Promise<RunReport>;
  /**
   * Reads a small contiguous request in one call, as it is in the file, with the checks of `run`; null if this file is only
   * read by `run`. Missing if the engine cannot.
   *
   * @throws {ReadError} if the file does not have the bytes that its header promised
   */
  readSmall?(request: TensorRequest, file: F, signal: AbortSignal): SmallRead | Promise<SmallRead> | null;
}

/** The bytes of a small read, in memory of their own, and their path. */
export interface SmallRead {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly way: LoadWay;
}

/** The error of a run whose destination buffer the user has transferred during the load. */
export class BufferTransferredError extends TypeError {
  constructor() {
    super("Cannot continue loading: the buffer of a tensor was transferred while its file was loading");
  }
}
