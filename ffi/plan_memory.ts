/**
 * The memory of a plan, with the layout of native/plan.h. It is written here once; the lanes then update its counters.
 */
import { DTYPE_CODES } from "../src/base/dtype.ts";
import type { FileSegment } from "../src/base/file_segment.ts";

/** A file for the lanes, with values of `fst_file_open`. */
export interface PlanFile {
  /** Descriptor for reads through the page cache. */
  readonly fd: number;
  /** Descriptor for direct reads, or -1. */
  readonly fdDirect: number;
  /** Size in bytes. */
  readonly size: number;
  /** Modification time, whole seconds. */
  readonly mtimeSeconds: bigint;
  /** Nanoseconds of the modification time. */
  readonly mtimeNanoseconds: bigint;
  /** The reader, if it is not the system: `fst_reader_kind` in native/plan.h, and its handle. */
  readonly reader?: LentReader;
  /** Descriptor of a file that gets the bytes of a server too. */
  readonly cacheFd?: number;
  /** Whether it is a file of a cache to which processes write: its time and size can change. */
  readonly isPartial?: boolean;
}

/** A reader of a file, valid while the lanes run. */
export interface LentReader {
  /** `fst_reader_kind` in native/plan.h. */
  readonly kind: number;
  /** Its object. */
  readonly handle: bigint;
  /** Requests of one lane in flight; default: the reader's. */
  readonly depth?: number;
}

/** The reason why the lanes stopped: `fst_failure` in native/plan.h. */
export type PlanFailure = {
  readonly kind: "system" | "truncated" | "changed" | "device" | "http" | "connection" | "answer";
  readonly segment: number;
  readonly errno: number;
  readonly offset: number;
  readonly expected: number;
  readonly actual: number;
};

/** The most bytes of `fst_plan.deep_staging`, whole pages. */
const MOST_DEEP_STAGING = 2 ** 31;

const HEADER_BYTES = 256;
const FILE_BYTES = 64;
const SEGMENT_BYTES = 64;
/** Requests that were repeated, with the last reason, as for a {@linkcode PlanFailure}. */
export interface Retries extends Pick<PlanFailure, "kind" | "errno"> {
  readonly count: number;
}

const FAILURES = [null, "system", "truncated", "changed", "device", "http", "connection", "answer"] as const;

/** Word offsets of the counters. */
const NEXT = 24 / 4, FAILURE = 32 / 4, WAKE = 36 / 4;

/** The memory of one plan; pass `bytes` to the shim's plan functions. */
export class PlanMemory {
  /** The memory of the plan. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** One byte per segment, set after it has landed. */
  readonly done: Uint8Array;
  readonly #view: DataView;
  readonly #words: Int32Array;
  #segments = 0;

  constructor(files: readonly PlanFile[], segmentCount: number, stagingBytes: number) {
    const segmentsAt = HEADER_BYTES + files.length * FILE_BYTES;
    const doneAt = segmentsAt + segmentCount * SEGMENT_BYTES;
    this.bytes = new Uint8Array(doneAt + segmentCount);
    this.done = this.bytes.subarray(doneAt);
    this.#view = new DataView(this.bytes.buffer);
    this.#words = new Int32Array(this.bytes.buffer, 0, HEADER_BYTES / 4);
    this.#view.setUint32(0, segmentCount, true);
    this.#view.setUint32(4, files.length, true);
    this.#view.setUint32(8, stagingBytes, true);
    files.forEach((file, index) => {
      const at = HEADER_BYTES + index * FILE_BYTES;
      this.#view.setInt32(at, file.fd, true);
      this.#view.setInt32(at + 4, file.fdDirect, true);
      this.#setU64(at + 8, file.size);
      this.#view.setBigInt64(at + 16, file.mtimeSeconds, true);
      this.#view.setBigInt64(at + 24, file.mtimeNanoseconds, true);
      this.#view.setUint32(at + 36, file.reader?.kind ?? 0, true);
      this.#view.setBigUint64(at + 40, file.reader?.handle ?? 0n, true);
      this.#view.setUint32(at + 48, file.reader?.depth ?? 0, true);
      this.#view.setUint32(at + 52, file.cacheFd === undefined ? 0 : 1 + file.cacheFd, true);
      this.#view.setUint32(at + 60, file.isPartial ? 1 : 0, true);
    });
    this.#segments = segmentsAt;
  }

  /** Sets a destination other than host memory. Only before the first lane starts. */
  setDestination(kind: number, context: bigint): void {
    this.#view.setUint32(12, kind, true);
    this.#view.setBigUint64(16, context, true);
  }

  /**
   * Lets each lane have many reads in flight where one after the other is slow. Only before the first lane starts.
   *
   * @param stagingBytes bytes of staging memory for them; reads straight to their destination may have 16 times as much
   * @param latency microseconds that a read takes, if that is known to be long; else 0: the lanes find out
   */
  allowDeepReads(stagingBytes: number, latency: number): void {
    this.#view.setUint32(112, Math.min(stagingBytes, MOST_DEEP_STAGING), true);
    this.#view.setUint32(120, latency, true);
  }

  /** Writes segment `index`; `destination` is an address. Only before the first lane starts. */
  setSegment(index: number, segment: FileSegment & { allocation: number }, destination: number): void {
    const at = this.#segments + index * SEGMENT_BYTES;
    this.#setU64(at, segment.fileOffset);
    this.#setU64(at + 8, segment.run);
    this.#setU64(at + 16, destination);
    this.#view.setUint32(at + 24, segment.file, true);
    this.#view.setUint16(at + 28, DTYPE_CODES.get(segment.from)!, true);
    this.#view.setUint16(at + 30, DTYPE_CODES.get(segment.to)!, true);
    this.#view.setUint32(at + 32, segment.outerCount, true);
    this.#view.setUint32(at + 36, segment.innerCount, true);
    this.#setU64(at + 40, segment.outerStride);
    this.#setU64(at + 48, segment.innerStride);
    this.#setU64(at + 56, segment.allocation);
  }

  /** The first segment that no lane has taken. */
  get next(): number {
    return Atomics.load(this.#words, NEXT) >>> 0;
  }

  /** Changes after each event; `fst_plan_wait` waits for a change. */
  get wake(): number {
    return Atomics.load(this.#words, WAKE) >>> 0;
  }

  /** File bytes that have landed. */
  get landedBytes(): number {
    return Number(this.#view.getBigUint64(72, true));
  }

  /** File bytes read through the page cache. */
  get bufferedBytes(): number {
    return Number(this.#view.getBigUint64(80, true));
  }

  /** File bytes of direct reads. */
  get directBytes(): number {
    return Number(this.#view.getBigUint64(88, true));
  }

  /** Direct reads that the file system rejected. */
  get directRefused(): number {
    return this.#view.getUint32(96, true);
  }

  /** File bytes read through the rings of 3FS. */
  get usrbioBytes(): number {
    return Number(this.#view.getBigUint64(104, true));
  }

  /** File bytes that came from HTTP servers. */
  get httpBytes(): number {
    return Number(this.#view.getBigUint64(192, true));
  }

  /** The number of requests to HTTP servers that were repeated, and the reason of the last one; null if none was. */
  get retries(): Retries | null {
    const count = this.#view.getUint32(200, true);
    const kind = FAILURES[this.#view.getUint32(204, true)] ?? null;
    return count === 0 || kind === null ? null : { count, kind, errno: this.#view.getInt32(208, true) };
  }

  /** The errno for which the system does not allow many reads in flight; 0: it was not asked, or allows it. */
  get deepRefused(): number {
    return this.#view.getInt32(128, true);
  }

  /** The error that has ended the writes to the cache of file `index`; 0: none. It is set before a segment is done. */
  cacheErrno(index: number): number {
    return this.#view.getInt32(HEADER_BYTES + index * FILE_BYTES + 56, true);
  }

  /** The first failure, if there was one. */
  get failure(): PlanFailure | null {
    const kind = FAILURES[Atomics.load(this.#words, FAILURE)] ?? null;
    if (kind === null) return null;
    return {
      kind,
      segment: this.#view.getUint32(40, true),
      errno: this.#view.getInt32(44, true),
      offset: Number(this.#view.getBigUint64(48, true)),
      expected: Number(this.#view.getBigUint64(56, true)),
      actual: Number(this.#view.getBigUint64(64, true)),
    };
  }

  #setU64(at: number, value: number): void {
    this.#view.setUint32(at, value >>> 0, true);
    this.#view.setUint32(at + 4, Math.floor(value / 0x1_0000_0000), true);
  }
}
