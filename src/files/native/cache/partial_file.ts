/**
 * A file of the cache before it is whole: its bytes so far, and a map of them (src/files/cache/map.ts).
 *
 * Several processes can fill one partial file, also on file systems without locks: each byte has one right value, each
 * process has its own map, and the file gets its final name only after all bytes are there, by all maps together. A
 * locked map shows that its process lives; nothing else depends on locks.
 */
import { SafeTensorsError } from "../../../base/errors.ts";
import { quote } from "../../../base/text.ts";
import type { CacheFile } from "../../cache/cache_file.ts";
import { firstLine, parseMap, type PartialMap, rangeLine, syncedLine } from "../../cache/map.ts";
import { type ByteRange, Ranges } from "../../cache/ranges.ts";
import { systemReason } from "../errno.ts";
import { removeQuietly, syncFolder } from "../folder.ts";
import { bootId } from "./boot.ts";
import { fileSha256 } from "./hash.ts";
import { newMapName, partialsIn, partName, randomDigits } from "./partial_names.ts";

/** Bytes after which a partial file is synced to storage while it is filled. */
const SYNC_BYTES = 512 * 2 ** 20;

/** The file that a partial file becomes. */
export interface WholeFile {
  /** The folder of partial files, on the file system of `destination`. */
  readonly folder: string;
  /** The name of partial files; the same only for the same bytes. */
  readonly name: string;
  /** Bytes of the whole file. */
  readonly size: number;
  /** Its SHA-256 in hexadecimal digits; null if unknown. */
  readonly sha256: string | null;
  /** The final path. Its folder exists. */
  readonly destination: string;
  /** Called after the file has its final name. */
  readonly placed?: () => Promise<void>;
  /** The name of the file in messages. */
  readonly path: string;
}

/** Opens descriptors for lanes. */
export interface LaneFiles {
  /** Opens an existing file for reads at positions, and for writes too. */
  open(path: string, writes: boolean): Promise<number>;
  close(fd: number): void;
}

/** Options for opening a partial file. */
export interface PartialOptions {
  /** Whether bytes will be written. If not, only an existing partial file is opened. */
  readonly fills: boolean;
  /** Opens the descriptor for lanes; null without lanes. */
  readonly lanes: LaneFiles | null;
  /** Receives a note for the user if the filling ends early. */
  readonly note: (note: string) => void;
}

/** A partial file that is open. */
export class PartialFile implements CacheFile {
  readonly #whole: WholeFile;
  readonly #part: string;
  readonly #token: string;
  readonly #data: Deno.FsFile;
  /** Null if the file is only read. */
  readonly #map: Deno.FsFile | null;
  readonly #ranges: Ranges;
  readonly #lanes: LaneFiles | null;
  readonly #note: (note: string) => void;
  #fd: number | null;
  /** The actions on the two files, one after another: a file of Deno has one position. */
  #queue: Promise<void> = Promise.resolve();
  /** Lines of the map that are not written yet, and the number of ranges in all lines. */
  #lines = "";
  #count: number;
  #unsynced = 0;
  #syncing: Promise<void> | null = null;
  #isStopped = false;
  #completing: Promise<void> | null = null;
  #isClosed = false;
  readonly #abandoned = new AbortController();

  private constructor(
    whole: WholeFile,
    opened: {
      token: string;
      data: Deno.FsFile;
      map: Deno.FsFile | null;
      ranges: Ranges;
      count: number;
      fd: number | null;
    } & PartialOptions,
  ) {
    this.#whole = whole;
    this.#token = opened.token;
    this.#part = `${whole.folder}/${partName(whole.name, opened.token)}`;
    this.#data = opened.data;
    this.#map = opened.map;
    this.#ranges = opened.ranges;
    this.#count = opened.count;
    this.#fd = opened.fd;
    this.#lanes = opened.lanes;
    this.#note = opened.note;
  }

  /**
   * Opens the partial file of a file; creates it if there is none, or if the existing one is not valid.
   *
   * @returns null if there is none and bytes will not be written
   * @throws {Error} of Deno if the system refuses
   */
  static async open(
    whole: WholeFile,
    options: PartialOptions,
  ): Promise<PartialFile | null> {
    const { folder } = whole;
    if (options.fills) await Deno.mkdir(folder, { recursive: true });
    for (let tries = 1;; tries++) {
      try {
        return await PartialFile.#open(whole, options);
      } catch (error) {
        // Another process has completed or removed the partial file meanwhile.
        if (!(error instanceof Deno.errors.NotFound) || tries === 3) throw error;
      }
    }
  }

  static async #open(
    whole: WholeFile,
    options: PartialOptions,
  ): Promise<PartialFile | null> {
    const { folder, name, size } = whole;
    using stack = new DisposableStack();
    const found = await findPartial(whole);
    if (!found && !options.fills) return null;
    const token = found?.token ?? randomDigits();
    const part = `${folder}/${partName(name, token)}`;
    const data = stack.use(
      await Deno.open(part, { read: true, write: options.fills, createNew: !found }),
    );
    if (!found) await data.truncate(size);
    let map: Deno.FsFile | null = null;
    let count = 0;
    const ranges = found?.map.ranges ?? new Ranges();
    if (options.fills) {
      map = stack.use(
        await Deno.open(`${folder}/${newMapName(name, token)}`, { write: true, createNew: true }),
      );
      await map.tryLock(true).catch(() => {}); // a sign for "prune"; some file systems have no locks
      const { text, lines } = mapText(size, found?.map);
      count = lines;
      await writeAll(map, text);
      if (found) {
        await map.syncData();
        for (const old of found.maps) await removeIfUnused(`${folder}/${old}`);
      }
    }
    const fd = await options.lanes?.open(part, options.fills) ?? null;
    stack.move();
    const file = new PartialFile(whole, { token, data, map, ranges, count, fd, ...options });
    // A process that had written the last byte was ended before the file had its final name.
    if (options.fills && ranges.has(0, size)) file.#startCompleting();
    return file;
  }

  /** Bytes of the whole file. */
  get size(): number {
    return this.#whole.size;
  }

  get fd(): number | null {
    return this.#fd;
  }

  get isFilled(): boolean {
    return this.#map !== null && !this.#isStopped;
  }

  has(offset: number, length: number): boolean {
    return this.#ranges.has(offset, offset + length);
  }

  pieces(offset: number, length: number): Iterable<ByteRange & { readonly has: boolean }> {
    return this.#ranges.split(offset, offset + length);
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    const read = this.#queue.then(async () => {
      await this.#data.seek(offset, Deno.SeekMode.Start);
      for (let done = 0; done < target.byteLength;) {
        const got = await this.#data.read(target.subarray(done));
        if (got === null) {
          throw new Error(
            `Cannot read ${quote(this.#part)}: ${target.byteLength} bytes expected at offset ${offset}, ` +
              `${done} found: was it truncated?`,
          );
        }
        done += got;
      }
    });
    this.#queue = read.catch(() => {});
    await read;
  }

  landed(offset: number, length: number): void {
    if (!this.isFilled || length === 0 || this.has(offset, length)) return;
    this.#ranges.add(offset, offset + length);
    const isFirst = this.#lines === "";
    this.#lines += rangeLine(offset, offset + length);
    this.#count++;
    if (isFirst) this.#enqueue(() => this.#writeLines());
    this.#unsynced += length;
    if (this.#unsynced >= SYNC_BYTES) this.#startSync();
    if (this.#ranges.has(0, this.#whole.size)) this.#startCompleting();
  }

  async write(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    if (!this.isFilled || this.has(offset, bytes.byteLength)) return;
    await this.#enqueue(async () => {
      await this.#data.seek(offset, Deno.SeekMode.Start);
      await writeAll(this.#data, bytes);
      this.landed(offset, bytes.byteLength);
    });
  }

  stop(error: unknown): void {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#note(`The cache of ${quote(this.#whole.path)} was not filled further: ${systemReason(error)}`);
  }

  async finish(): Promise<void> {
    try {
      await this.#queue;
      await this.#syncing;
      if (!this.#map || this.#isStopped) return;
      await (this.#completing ?? this.#completeByAllMaps());
      await this.#keep();
    } catch (error) {
      if (error instanceof SafeTensorsError) throw error;
      this.stop(error);
    } finally {
      this.#close();
    }
  }

  async abandon(): Promise<void> {
    this.#abandoned.abort();
    await this.#queue;
    await this.#syncing;
    await this.#completing?.catch(() => {});
    await this.#keep();
    this.#close();
  }

  /** Where the system does not say when it was started, only bytes on storage stay for the next load. */
  async #keep(): Promise<void> {
    if (!this.#map || this.#isStopped || this.#completing || bootId() !== null) return;
    await this.#sync().catch((error) => this.stop(error));
  }

  /** Adds an action on the files; an error ends the filling. */
  #enqueue(action: () => Promise<void>): Promise<void> {
    return this.#queue = this.#queue.then(async () => {
      if (this.#isStopped) return;
      try {
        await action();
      } catch (error) {
        this.stop(error);
      }
    });
  }

  async #writeLines(): Promise<void> {
    const lines = this.#lines;
    this.#lines = "";
    await writeAll(this.#map!, lines);
  }

  #startSync(): void {
    this.#unsynced = 0;
    if (this.#syncing) return;
    this.#syncing = this.#sync().catch((error) => this.stop(error)).then(() => {
      this.#syncing = null;
    });
  }

  /** Syncs the bytes so far to storage, and then says so in the map. */
  async #sync(): Promise<void> {
    const count = this.#count;
    using data = await Deno.open(this.#part, { read: true, write: true }); // writes go on meanwhile by the other one
    await data.syncData();
    await this.#enqueue(async () => {
      await this.#writeLines();
      await writeAll(this.#map!, syncedLine(count));
    });
  }

  #startCompleting(): void {
    if (this.#completing) return;
    this.#completing = (async () => {
      await this.#queue;
      await this.#syncing;
      if (!this.#isStopped) await this.#complete();
    })();
    this.#completing.catch(() => {}); // finish() reports it
  }

  /** Completes the file if all processes together have written all bytes. */
  async #completeByAllMaps(): Promise<void> {
    const all = new Ranges();
    for (const { start, stop } of this.#ranges) all.add(start, stop);
    const partials = await partialsIn(this.#whole.folder);
    for (const { name, token, maps } of partials) {
      if (name !== this.#whole.name || token !== this.#token) continue;
      for (const map of maps) {
        const others = await readMap(`${this.#whole.folder}/${map}`, this.#whole.size);
        for (const { start, stop } of others?.ranges ?? []) all.add(start, stop);
      }
    }
    if (all.has(0, this.#whole.size)) await this.#complete();
  }

  /** Gives the file its final name, if its checksum is right. */
  async #complete(): Promise<void> {
    const { sha256, destination, path, size, placed } = this.#whole;
    const info = await Deno.stat(this.#part).catch(() => null);
    // Without the partial file another process has completed or removed it.
    if (info && !await isWhole(destination, size)) {
      await this.#data.sync(); // before the final name, so that a power failure cannot leave the name without the bytes
      const actual = sha256 === null ? null : await fileSha256(this.#part, this.#abandoned.signal);
      if (info.size !== size || actual !== sha256) {
        await this.#removeAll();
        const difference = info.size === size
          ? `SHA-256 ${sha256} expected, ${actual} found`
          : `${size} bytes expected, ${info.size} found`;
        throw new SafeTensorsError(
          "ChecksumMismatch",
          `Cannot keep ${quote(path)} in the cache: ${difference}`,
          {
            path,
            advice: "its bytes were removed from the cache, fetch it again",
          },
        );
      }
      await Deno.rename(this.#part, destination).catch(async (error) => {
        if (!await isWhole(destination, size)) throw error; // else another process has renamed it
      });
      await syncFolder(destination.slice(0, destination.lastIndexOf("/")));
    }
    if (!await isWhole(destination, size)) return;
    await placed?.();
    await this.#removeAll();
  }

  /** Removes all partial files of this file. Other processes that still write to one write to a file without a name. */
  async #removeAll(): Promise<void> {
    const { folder, name } = this.#whole;
    for (const partial of await partialsIn(folder)) {
      if (partial.name !== name) continue;
      for (const map of partial.maps) await removeQuietly(`${folder}/${map}`);
      await removeQuietly(`${folder}/${partName(name, partial.token)}`);
    }
  }

  #close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#fd !== null) this.#lanes!.close(this.#fd);
    this.#fd = null;
    this.#data.close();
    this.#map?.close();
  }
}

/** Finds the partial file of a file that has the most bytes, and merges its maps. */
async function findPartial(
  { folder, name, size }: WholeFile,
): Promise<{ token: string; maps: readonly string[]; map: PartialMap } | null> {
  let best: { token: string; maps: readonly string[]; map: PartialMap } | null = null;
  for (const partial of await partialsIn(folder)) {
    const { token, maps } = partial;
    if (partial.name !== name || !partial.part) continue;
    const info = await Deno.stat(`${folder}/${partName(name, token)}`).catch(() => null);
    if (info?.size !== size) continue; // truncated, or not complete at its creation
    const map = { ranges: new Ranges(), synced: new Ranges() };
    for (const path of maps) {
      const read = await readMap(`${folder}/${path}`, size);
      for (const { start, stop } of read?.ranges ?? []) map.ranges.add(start, stop);
      for (const { start, stop } of read?.synced ?? []) map.synced.add(start, stop);
    }
    if (!best || map.ranges.bytes > best.map.ranges.bytes) best = { token, maps, map };
  }
  return best;
}

async function readMap(path: string, size: number): Promise<PartialMap | null> {
  try {
    return parseMap(await Deno.readTextFile(path), size, bootId());
  } catch {
    return null; // removed meanwhile
  }
}

/** Returns the content of a new map with the ranges of old ones. */
function mapText(size: number, old: PartialMap | undefined): { text: string; lines: number } {
  const lineOf = ({ start, stop }: ByteRange) => rangeLine(start, stop);
  const synced = Array.from(old?.synced ?? [], lineOf);
  const all = [...synced, ...Array.from(old?.ranges ?? [], lineOf)];
  return {
    text: firstLine(size, bootId()) + all.join("") + syncedLine(synced.length),
    lines: all.length,
  };
}

/** Removes a map whose process has ended; its ranges are in a new map. Without locks only ranges can get lost. */
async function removeIfUnused(path: string): Promise<void> {
  try {
    using file = await Deno.open(path, { read: true, write: true });
    if (await file.tryLock(true).catch(() => true)) await Deno.remove(path);
  } catch {
    // removed meanwhile, or of another user
  }
}

async function writeAll(file: Deno.FsFile, content: string | Uint8Array): Promise<void> {
  const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
  for (let done = 0; done < bytes.byteLength;) done += await file.write(bytes.subarray(done));
}

/** Whether a path is a file with all its bytes. */
export async function isWhole(path: string, size: number): Promise<boolean> {
  const info = await Deno.stat(path).catch(() => null);
  return info !== null && info.isFile && info.size === size;
}
