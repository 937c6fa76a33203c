/**
 * What runs a plan into host memory: the native lanes, or the portable ones.
 */
import type { LoadPlan } from "./plan.ts";
import type { Readiness } from "./readiness.ts";
import type { Source, SourceFile } from "../files/source.ts";
import type { HostOperations } from "./host_operations.ts";

/** Host memory owned by JavaScript. */
export interface HostBlock {
  /** The memory; the garbage collector frees it once nobody holds it. */
  readonly buffer: ArrayBuffer;
  /** Where its first page boundary is: the plan's offset 0. */
  readonly base: number;
}

/** A plan with all that it needs to run. */
export interface Job<F extends SourceFile = SourceFile> {
  /** What to read and where to put it. */
  readonly plan: LoadPlan;
  /** The files that the plan's segments name by index. */
  readonly files: readonly F[];
  /** One block for each of the plan's allocations. */
  readonly blocks: readonly HostBlock[];
  /** Is told of every segment that has landed, and of the failure if there is one. */
  readonly readiness: Readiness;
  /** Lanes wanted; default by the machine and by what is cached. */
  readonly maxThreads?: number | undefined;
  /** Lanes where `maxThreads` is not given and the page cache has the files: for who cannot take what many deliver. */
  readonly cachedThreads?: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Ends the job early. */
  readonly signal: AbortSignal;
  /** Called now and then with the file bytes that have landed, and how. */
  readonly onLanded?: (bytes: number, way?: LoadWay) => void;
}

/** Which way the bytes go. */
export interface LoadWay {
  /** The way of most of the bytes. */
  readonly path: "buffered" | "direct" | "gds" | "gds-compat" | "3fs" | "portable";
  /** Lanes that run. */
  readonly threads: number;
}

/** Which way the bytes went. */
export interface RunReport extends LoadWay {
  /** What a user should know about how it went. */
  readonly notes: readonly string[];
}

/** Opens files, allocates host memory and runs plans into it. */
export interface Engine<F extends SourceFile = SourceFile> {
  /** Its name in statistics. */
  readonly name: "native" | "portable";
  /** Where its files come from. */
  readonly source: Source<F>;
  /** Why it was chosen, where that is worth telling. */
  readonly notes: readonly string[];
  /** Slices, casts and joins of what is in host memory. */
  readonly operations: HostOperations;
  /** Bytes that may still be allocated; -1 where that is not known. */
  availableMemory(): number;
  /**
   * Allocates host memory.
   *
   * @throws {RangeError} if there is none
   */
  allocate(byteLength: number): HostBlock;
  /** Runs what maps memory of somebody else's, and asks for huge pages for that; absent where it cannot be asked. */
  withHugePages?<R>(map: () => R): R;
  /**
   * Runs a job to its end: all landed, failed or aborted. By then nothing reads or writes any more.
   *
   * @throws {ReadError} if a file does not have the bytes that its header promised
   */
  run(job: Job<F>): Promise<RunReport>;
}

/** What ends a run whose destination the user has taken away. */
export class BufferTransferredError extends TypeError {
  constructor() {
    super("Cannot go on loading: the buffer of a tensor was transferred while its file was loading");
  }
}
