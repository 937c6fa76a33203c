/**
 * Local files through the shim.
 */
import { cachedBytes, openDirect, openFile, readFile, SystemError } from "../../ffi/files.ts";
import type { PlanFile } from "../../ffi/plan_memory.ts";
import { systemErrorText } from "../../ffi/status.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { ReadError } from "../errors.ts";
import { HEAD_BYTES, type Source, type SourceFile } from "./source.ts";

/** Bytes of one look at the page cache. */
const WINDOW = 256 * 1024;

/** What lanes read a file by, if not by the system's own calls. */
export interface LaneReader {
  /** `fst_reader_kind` in native/plan.h. */
  readonly kind: number;
  /** Its handle there. */
  readonly handle: bigint;
  /** The lanes that it is made for; more than that cannot use it. */
  readonly lanes: number;
  /** Lets go of a file, before its descriptor is closed. */
  release(fd: number): void;
}

/** A local file with a descriptor that lanes can read from. */
export class NativeFile implements SourceFile {
  readonly path: string;
  readonly size: number;
  readonly #shim: Shim;
  readonly #mtimeSeconds: bigint;
  readonly #mtimeNanoseconds: bigint;
  #fd: number;
  #fdDirect = -1;
  #head: Uint8Array;
  #reader: LaneReader | null = null;

  /** Takes over the descriptor of an opened file. */
  constructor(shim: Shim, path: string, opened: Awaited<ReturnType<typeof openFile>>) {
    this.#shim = shim;
    this.path = path;
    this.size = opened.size;
    this.#fd = opened.fd;
    this.#mtimeSeconds = opened.mtimeSeconds;
    this.#mtimeNanoseconds = opened.mtimeNanoseconds;
    this.#head = opened.head;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
  }

  /** What lanes read the file by; null: by the system's own calls. */
  get reader(): LaneReader | null {
    return this.#reader;
  }

  /** Has lanes read the file by this from now on; it is let go of when the file is closed. */
  readBy(reader: LaneReader): void {
    this.#reader = reader;
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    const expected = target.byteLength;
    let actual: number;
    try {
      actual = await readFile(this.#shim, this.#fd, target, offset);
    } catch (error) {
      throw readError(error, "read", this.path, { offset, expected });
    }
    if (actual < expected) {
      const message =
        `Cannot read "${this.path}": ${expected} bytes expected at offset ${offset}, ${actual} found: was it truncated?`;
      throw new ReadError(message, { path: this.path, offset, expected, actual });
    }
  }

  /**
   * What part of a range, from 0 to 1, the page cache holds, judged by a few windows spread over it (to ask for every
   * page of a large file takes milliseconds); null where the system cannot tell.
   */
  cachedFraction(offset: number, length: number, windows: number): number | null {
    if (this.#reader) return 1; // it does not read past the page cache, nor through it
    const step = Math.max(WINDOW, Math.floor(length / windows));
    let asked = 0, cached = 0;
    for (let at = 0; at < length; at += step) {
      const size = Math.min(WINDOW, length - at);
      const bytes = cachedBytes(this.#shim, this.#fd, offset + at, size);
      if (bytes < 0) return null;
      asked += size;
      cached += bytes;
    }
    return asked === 0 ? 1 : cached / asked;
  }

  /** Opens the file for direct reads too; false where the file system refuses. */
  openDirect(): boolean {
    if (this.#fdDirect < 0) this.#fdDirect = openDirect(this.#shim, this.#fd);
    return this.#fdDirect >= 0;
  }

  /** The file as lanes know it. */
  get planFile(): PlanFile {
    return {
      fd: this.#fd,
      fdDirect: this.#fdDirect,
      size: this.size,
      mtimeSeconds: this.#mtimeSeconds,
      mtimeNanoseconds: this.#mtimeNanoseconds,
      ...this.#reader && { reader: this.#reader },
    };
  }

  close(): void {
    this.#reader?.release(this.#fd);
    this.#reader = null;
    if (this.#fd >= 0) this.#shim.fst_file_close(this.#fd);
    if (this.#fdDirect >= 0) this.#shim.fst_file_close(this.#fdDirect);
    this.#fd = this.#fdDirect = -1;
  }
}

/** Local files through the shim. */
export class NativeFileSource implements Source<NativeFile> {
  readonly name = "file";
  readonly #shim: Shim;

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  async open(path: string): Promise<NativeFile> {
    try {
      // The shim does not ask Deno; this asks for the read permission in Deno's own way.
      refuseSpecial(path, await Deno.stat(path));
      return new NativeFile(this.#shim, path, await openFile(this.#shim, path, HEAD_BYTES));
    } catch (error) {
      throw readError(error, "open", path);
    }
  }
}

/** Throws if a path names a folder, or what is no file at all: a pipe could be waited for without end. */
export function refuseSpecial(path: string, info: Deno.FileInfo): void {
  if (info.isDirectory) throw new Deno.errors.IsADirectory(`Is a directory: "${path}"`);
  if (!info.isFile) throw new ReadError(`Cannot open "${path}": it is not a regular file`, { path });
}

/** A refusal of the system, or of Deno, as a {@linkcode ReadError} that says what was tried. */
export function readError(
  error: unknown,
  action: "open" | "read",
  path: string,
  range: { offset?: number; expected?: number } = {},
): Error {
  if (error instanceof Deno.errors.NotCapable || error instanceof ReadError) return error;
  if (!(error instanceof Error)) return error as Error;
  const errno = error instanceof SystemError ? error.errno : errnoOf(error);
  const reason = errno > 0 ? systemErrorText(errno) : error.message;
  return new ReadError(`Cannot ${action} "${path}": ${reason}`, { path, errno, ...range, cause: error });
}

/** Deno's errors carry the system's code as a name only. */
function errnoOf(error: Error): number {
  if (error instanceof Deno.errors.NotFound) return 2;
  if (error instanceof Deno.errors.PermissionDenied) return 13;
  if (error instanceof Deno.errors.NotADirectory) return 20;
  if (error instanceof Deno.errors.IsADirectory) return 21;
  return 0;
}
