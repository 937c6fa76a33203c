/**
 * Local files that Deno opens and reads, for machines without a C compiler and programs without FFI permission.
 */
import { Handle } from "../../../ffi/handle.ts";
import { ReadError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { absolutePath, readError, refuseSpecial, tooShort } from "./local_path.ts";
import { type CachedAs, HEAD_BYTES, type LocalSource, type SourceFile } from "../source.ts";

/** Most Deno files of one path, which can be read at once; more are not faster. */
const READERS = 4;

/** Properties that identify a version of a file. */
type Version = Pick<Deno.FileInfo, "size" | "mtime">;

/**
 * The Deno files of a path. A Deno file has one position, so only one reader can use it at a time. All except the first
 * are opened on demand, if the path still names the same file.
 */
class Openings {
  readonly #path: string;
  readonly #info: Deno.FileInfo;
  readonly #all: Deno.FsFile[];
  readonly #idle: Deno.FsFile[];
  readonly #waiting: ((file: Deno.FsFile) => void)[] = [];
  #mayOpen = true;

  constructor(path: string, info: Deno.FileInfo, first: Deno.FsFile) {
    this.#path = path;
    this.#info = info;
    this.#all = [first];
    this.#idle = [first];
  }

  /** Calls `body` with a file that no other reader uses. */
  async use<R>(body: (file: Deno.FsFile) => Promise<R>): Promise<R> {
    const file = this.#idle.pop() ?? await this.#another() ??
      await new Promise<Deno.FsFile>((resolve) => this.#next(resolve));
    try {
      return await body(file);
    } finally {
      const next = this.#waiting.shift();
      if (next) next(file);
      else this.#idle.push(file);
    }
  }

  /** Returns the version of the open file. */
  async version(file: Deno.FsFile): Promise<Version> {
    try {
      return await file.stat();
    } catch (error) {
      // For a link to a path without read permission, Deno reads the file but does not return its times.
      if (!(error instanceof Deno.errors.NotCapable)) throw error;
      const named = await this.#named();
      return { size: await file.seek(0, Deno.SeekMode.End), mtime: (named ?? this.#info).mtime };
    }
  }

  close(): void {
    for (const file of this.#all) file.close();
  }

  /** Waits for a free file; a file can have become free meanwhile. */
  #next(resolve: (file: Deno.FsFile) => void): void {
    const idle = this.#idle.pop();
    if (idle) resolve(idle);
    else this.#waiting.push(resolve);
  }

  /** Opens one more file; null if there are enough, or if the path can name another file now. */
  async #another(): Promise<Deno.FsFile | null> {
    if (!this.#mayOpen) return null;
    this.#mayOpen = false;
    let file: Deno.FsFile | undefined;
    try {
      if (!await this.#named()) return null;
      file = await Deno.open(this.#path);
      if (!await this.#named()) return null; // the file was replaced meanwhile
      this.#all.push(file);
      this.#mayOpen = this.#all.length < READERS;
      const opened = file;
      file = undefined;
      return opened;
    } catch {
      return null; // continue with the open files
    } finally {
      file?.close();
    }
  }

  /** Returns the version that the path names now; null if it is another file or unknown. */
  async #named(): Promise<Deno.FileInfo | null> {
    const info = await Deno.stat(this.#path).catch(() => null);
    return info && info.dev === this.#info.dev && info.ino === this.#info.ino ? info : null;
  }
}

/** A local file. It stays the opened file even if its path names another file later. */
export class PortableFile implements SourceFile {
  readonly path: string;
  readonly size: number;
  readonly #version: Version;
  readonly #cached: CachedAs | undefined;
  readonly #openings: Handle<Openings>;
  #head: Uint8Array;

  constructor(path: string, openings: Openings, version: Version, head: Uint8Array, cached?: CachedAs) {
    this.path = cached?.path ?? path;
    this.#cached = cached;
    this.size = version.size;
    this.#version = version;
    this.#openings = new Handle("the file", openings, (openings) => {
      openings.close();
      cached?.release();
    });
    this.#head = head;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  way(): "cache" | null {
    return this.#cached ? "cache" : null;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    const expected = target.byteLength;
    const actual = await this.#use(async (file) => {
      await file.seek(offset, Deno.SeekMode.Start);
      return await fill(file, target);
    }, { offset, expected });
    if (actual < expected) throw tooShort(this.path, offset, expected, actual);
  }

  /** Throws a {@linkcode ReadError} if the file has changed since its header was read. */
  async verify(): Promise<void> {
    const { size, mtime } = await this.#use((file, openings) => openings.version(file));
    if (size === this.size && mtime?.getTime() === this.#version.mtime?.getTime()) return;
    const message = `Cannot read ${quote(this.path)}: the file was changed after its header was read`;
    throw new ReadError(message, { path: this.path, expected: this.size, actual: size });
  }

  close(): Promise<void> {
    return this.#openings.close();
  }

  async #use<R>(
    body: (file: Deno.FsFile, openings: Openings) => Promise<R>,
    range: { offset?: number; expected?: number } = {},
  ): Promise<R> {
    try {
      return await this.#openings.use(
        `read ${quote(this.path)}`,
        (openings) => openings.use((file) => body(file, openings)),
      );
    } catch (error) {
      throw readError(error, "read", this.path, range);
    }
  }
}

async function fill(file: Deno.FsFile, target: Uint8Array): Promise<number> {
  let done = 0;
  while (done < target.byteLength) {
    const got = await file.read(target.subarray(done, done + 2 ** 30));
    if (got === null) break;
    done += got;
  }
  return done;
}

/** The source of local files that Deno opens. */
export class PortableFileSource implements LocalSource<PortableFile> {
  readonly name = "file";

  async open(path: string, folder?: string, _isLookedAt?: boolean, cached?: CachedAs): Promise<PortableFile> {
    const absolute = absolutePath(path, folder);
    let file: Deno.FsFile | undefined;
    try {
      const info = await Deno.stat(absolute);
      refuseSpecial(path, info);
      file = await Deno.open(absolute);
      const openings = new Openings(absolute, info, file);
      const version = await openings.version(file);
      const head = new Uint8Array(Math.min(HEAD_BYTES, version.size));
      await file.seek(0, Deno.SeekMode.Start);
      const got = await fill(file, head);
      return new PortableFile(path, openings, version, head.subarray(0, got), cached);
    } catch (error) {
      file?.close();
      throw readError(error, "open", path);
    }
  }
}
