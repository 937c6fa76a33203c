/**
 * Local files that the shim opens and reads.
 */
import {
  cachedBytes,
  type Descriptors,
  openDirect,
  type OpenedFile,
  openFile,
  readCached,
  readFile,
  SystemError,
} from "../../../ffi/files.ts";
import type { Handle } from "../../../ffi/handle.ts";
import type { PlanFailure, PlanFile, Retries } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { quote } from "../../base/text.ts";
import { absolutePath, readError, refuseSpecial, tooShort } from "./local_path.ts";
import type { CacheFile } from "../cache/cache_file.ts";
import { type CachedAs, HEAD_BYTES, type LocalSource, type SourceFile } from "../source.ts";

/** Bytes of one query of the page cache. */
const WINDOW = 256 * 1024;

/** The number of lanes that read a file. */
export interface LaneLimits {
  /** Most useful lanes: more lanes would only wait. */
  readonly lanes: number;
  /** Lanes if the user sets no number; default `lanes`. */
  readonly usualLanes?: number;
}

/** The way in which lanes read a file without the system's read calls. */
export interface LaneReader extends LaneLimits {
  /** `fst_reader_kind` in native/plan.h. */
  readonly kind: number;
  /** The mount with its rings; the file owns and closes it. */
  readonly mount: Handle;
}

/** Finds the lane reader of a file. */
export interface LaneReaders {
  /** Notes for the user on the files opened so far. */
  readonly notes: readonly string[];
  /**
   * Returns the lane reader of an open file; null for the system's read calls.
   *
   * @param path the file's absolute path
   */
  readerOf(file: NativeFile, path: string): Promise<LaneReader | null>;
}

/** A file that lanes can read: a local one, or one of a server. */
export interface LaneFile extends SourceFile {
  /** The way in which lanes read it; null: by the system's read calls. */
  readonly reader: LaneLimits | null;
  /** As {@linkcode NativeFile.cachedFraction}. */
  cachedFraction(offset: number, length: number, windows: number): number | null;
  /** As {@linkcode NativeFile.openDirect}. */
  openDirect(): Promise<boolean>;
  /** The file of a cache through which it is read; missing without one. */
  readonly cache?: CacheFile | undefined;
  /** As {@linkcode NativeFile.lend}. */
  lend(ended: Promise<void>): PlanFile;
  /** How long it took to read the head, in microseconds. Missing if that says nothing about reads of lanes. */
  readonly headMicroseconds?: number;
  /** Renews the file's address if lanes wait for that; null if they do not. Missing if it has none. */
  renew?(): Promise<void> | null;
  /** Whether its first bytes are all of it, and still in memory. */
  readonly isInMemory?: boolean;
  /** Describes requests that were repeated, for a note. */
  describeRetries?(retries: Retries): string;
  /** Describes a failure of lanes that only this kind of file has, for the tensor that it concerns. */
  failure?(failure: PlanFailure, tensor: string): Error;
}

/** A local file with a descriptor that lanes can read from. */
export class NativeFile implements LaneFile {
  readonly path: string;
  readonly size: number;
  readonly #shim: Shim;
  readonly #opened: OpenedFile;
  readonly #cached: CachedAs | null;
  #head: Uint8Array;
  #reader: LaneReader | null = null;
  /** Whether the file could be opened for direct reads; undefined before the first try. */
  #direct: Promise<boolean> | undefined;

  /** Takes the ownership of an opened file. */
  constructor(shim: Shim, path: string, opened: OpenedFile, cached: CachedAs | null = null) {
    this.#shim = shim;
    this.#cached = cached;
    this.path = cached?.path ?? path;
    this.size = opened.size;
    this.#opened = opened;
    this.#head = opened.head;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  way(): "cache" | null {
    return this.#cached ? "cache" : null;
  }

  /** How long it took to read the head, in microseconds. */
  get headMicroseconds(): number {
    return this.#opened.headMicroseconds;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
  }

  /** The lane reader of the file; null for the system's read calls. */
  get reader(): LaneReader | null {
    return this.#reader;
  }

  /** Sets the lane reader of the file; its mount is closed with the file. */
  readBy(reader: LaneReader | null): void {
    this.#reader = reader;
  }

  /**
   * Calls `body` with the descriptors, which stay open until its promise has settled.
   *
   * @throws {UseAfterCloseError} after the file is closed
   */
  use<R>(action: string, body: (descriptors: Descriptors) => R): R {
    return this.#opened.handle.use(`${action} ${quote(this.path)}`, body);
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    const expected = target.byteLength;
    let actual: number;
    try {
      actual = await this.use("read", ({ fd }) => readFile(this.#shim, fd, target, offset));
    } catch (error) {
      throw readError(error, "read", this.path, { offset, expected });
    }
    if (actual < expected) throw tooShort(this.path, offset, expected, actual);
  }

  /**
   * Fills `target` at once if the page cache has the bytes, in microseconds and without waiting for storage; false if it
   * has not, or if the file has changed since it was opened.
   */
  readCached(offset: number, target: Uint8Array<ArrayBuffer>): boolean {
    return this.use(
      "load",
      (descriptors) => readCached(this.#shim, descriptors, this.#opened, target, offset),
    );
  }

  /**
   * Estimates the fraction of a range, from 0 to 1, that the page cache has, from a few samples (a query of every page of
   * a large file takes milliseconds); null if the system cannot query the page cache.
   */
  cachedFraction(offset: number, length: number, windows: number): number | null {
    if (this.#reader) return 1; // a lane reader does not use the page cache
    const step = Math.max(WINDOW, Math.floor(length / windows));
    let asked = 0, cached = 0;
    for (let at = 0; at < length; at += step) {
      const size = Math.min(WINDOW, length - at);
      const bytes = this.use("load", ({ fd }) => cachedBytes(this.#shim, fd, offset + at, size));
      if (bytes < 0) return null;
      asked += size;
      cached += bytes;
    }
    return asked === 0 ? 1 : cached / asked;
  }

  /** Opens the file for direct reads too; returns false if the file system does not support them. */
  openDirect(): Promise<boolean> {
    return this.#direct ??= this.use("load", (descriptors) => openDirect(this.#shim, descriptors));
  }

  /**
   * Returns the descriptors and the reader for lanes; they stay open until `ended` has settled.
   *
   * @throws {UseAfterCloseError} after the file is closed
   */
  lend(ended: Promise<void>): PlanFile {
    const { size, mtimeSeconds, mtimeNanoseconds } = this.#opened;
    let lent!: PlanFile;
    this.use("load", ({ fd, fdDirect }) => {
      lent = { fd, fdDirect, size, mtimeSeconds, mtimeNanoseconds };
      return ended;
    });
    const { kind, mount } = this.#reader ?? {};
    mount?.use("load", (handle) => {
      lent = { ...lent, reader: { kind: kind!, handle } };
      return ended;
    });
    return lent;
  }

  async close(): Promise<void> {
    await this.#opened.handle.close();
    await this.#reader?.mount.close();
    this.#cached?.release();
  }
}

/** The source of local files that the shim opens. */
export class NativeFileSource implements LocalSource<NativeFile> {
  readonly name = "file";
  readonly #shim: Shim;
  readonly #readers: LaneReaders | null;

  /** @param readers finds lane readers; without it lanes use the system's read calls for all files */
  constructor(shim: Shim, readers: LaneReaders | null = null) {
    this.#shim = shim;
    this.#readers = readers;
  }

  get notes(): readonly string[] {
    return this.#readers?.notes ?? [];
  }

  async open(path: string, folder?: string, isLookedAt = false, cached?: CachedAs): Promise<NativeFile> {
    const absolute = absolutePath(path, folder);
    let file: NativeFile;
    try {
      // The shim does not check Deno's read permission; this call does.
      if (!isLookedAt) refuseSpecial(path, await Deno.stat(absolute));
      file = new NativeFile(this.#shim, path, await openFile(this.#shim, absolute, HEAD_BYTES), cached);
    } catch (error) {
      throw readError(error, "open", path);
    }
    try {
      if (this.#readers) file.readBy(await this.#readers.readerOf(file, absolute));
      return file;
    } catch (error) {
      await file.close();
      throw error instanceof SystemError ? readError(error, "open", path) : error;
    }
  }
}
