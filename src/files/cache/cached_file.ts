/**
 * A remote file whose bytes come from the cache as far as it has them; the others go to it.
 */
import { messageOf } from "../../base/text.ts";
import type { RemoteAddress, RemoteFile, RemoteLimits } from "../http/remote_file.ts";
import type { CacheFile } from "./cache_file.ts";

/** Options of {@linkcode CachedFile}. */
export interface CachedFileOptions {
  /** Ends the load; after an abort, {@linkcode CachedFile.close} does not wait until the file in the cache is whole. */
  readonly signal?: AbortSignal | undefined;
  /** Whether a wrong checksum is an error of {@linkcode CachedFile.close}. Default false: it is a note. */
  readonly isStrict?: boolean | undefined;
}

/** A remote file that is read through the cache. */
export class CachedFile implements RemoteFile {
  readonly cache: CacheFile;
  readonly #remote: RemoteFile;
  readonly #notes: string[];
  #head: Uint8Array;
  readonly #signal: AbortSignal | undefined;
  readonly #isStrict: boolean;
  #closed: Promise<void> | undefined;

  /**
   * Takes the ownership of both files.
   *
   * @param head the first bytes of the file
   * @param notes notes of the cache for the user, which are taken from it
   */
  constructor(
    remote: RemoteFile,
    cache: CacheFile,
    head: Uint8Array,
    notes: string[],
    { signal, isStrict = false }: CachedFileOptions = {},
  ) {
    this.#remote = remote;
    this.cache = cache;
    this.#head = head;
    this.#notes = notes;
    this.#signal = signal;
    this.#isStrict = isStrict;
  }

  get path(): string {
    return this.#remote.path;
  }

  get size(): number {
    return this.#remote.size;
  }

  get etag(): string | null {
    return this.#remote.etag;
  }

  get sha256(): string | null {
    return this.#remote.sha256;
  }

  get ranges(): boolean {
    return this.#remote.ranges;
  }

  get limits(): RemoteLimits {
    return this.#remote.limits;
  }

  get readers(): number {
    return this.#remote.readers ?? 1;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
    this.#remote.releaseHead();
  }

  way(offset: number, length: number): "http" | "cache" {
    let cached = 0;
    for (const { start, stop, has } of this.cache.pieces(offset, length)) if (has) cached += stop - start;
    return cached > length / 2 ? "cache" : "http";
  }

  takeNotes(): readonly string[] {
    return [...this.#remote.takeNotes?.() ?? [], ...this.#notes.splice(0)];
  }

  address(stale?: RemoteAddress): Promise<RemoteAddress> {
    return this.#remote.address(stale);
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void> {
    for (const { start, stop, has } of [...this.cache.pieces(offset, target.byteLength)]) {
      const part = target.subarray(start - offset, stop - offset);
      if (has && await this.#readCached(start, part)) continue;
      await this.#remote.read(start, part, signal);
      await this.cache.write(start, part); // before the caller has the bytes: it may change them
    }
  }

  /** Reads bytes that the cache has; returns false if they are lost, and ends the filling. */
  async #readCached(offset: number, target: Uint8Array<ArrayBuffer>): Promise<boolean> {
    try {
      await this.cache.read(offset, target);
      return true;
    } catch (error) {
      this.cache.stop(error);
      return false;
    }
  }

  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    try {
      await this.#remote.close();
    } finally {
      await this.#end();
    }
  }

  async #end(): Promise<void> {
    if (this.#signal?.aborted) return await this.cache.abandon();
    try {
      await this.cache.finish();
    } catch (error) {
      if (this.#isStrict) throw error;
      this.#notes.push(messageOf(error));
    }
  }
}
