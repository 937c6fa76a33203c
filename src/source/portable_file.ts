/**
 * Local files through Deno alone, for machines without a C compiler and runs without FFI permission.
 */
import { ReadError } from "../errors.ts";
import { readError, refuseSpecial } from "./native_file.ts";
import { HEAD_BYTES, type Source, type SourceFile } from "./source.ts";

/** A local file that is opened once for each reader: a Deno file has one position, which two readers would mix up. */
export class PortableFile implements SourceFile {
  readonly path: string;
  readonly size: number;
  readonly #info: Deno.FileInfo;
  readonly #idle: Deno.FsFile[];
  #head: Uint8Array;
  #closed = false;

  constructor(path: string, file: Deno.FsFile, info: Deno.FileInfo, head: Uint8Array) {
    this.path = path;
    this.size = info.size;
    this.#info = info;
    this.#idle = [file];
    this.#head = head;
  }

  get head(): Uint8Array {
    return this.#head;
  }

  releaseHead(): void {
    this.#head = new Uint8Array();
  }

  async read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void> {
    let file: Deno.FsFile | undefined;
    let actual = 0;
    const expected = target.byteLength;
    try {
      file = this.#idle.pop() ?? await this.#openAgain();
      await file.seek(offset, Deno.SeekMode.Start);
      actual = await fill(file, target);
    } catch (error) {
      throw readError(error, "read", this.path, { offset, expected });
    } finally {
      if (file) this.#giveBack(file);
    }
    if (actual < expected) {
      const message =
        `Cannot read "${this.path}": ${expected} bytes expected at offset ${offset}, ${actual} found: was it truncated?`;
      throw new ReadError(message, { path: this.path, offset, expected, actual });
    }
  }

  /** Throws a {@linkcode ReadError} if the file is no longer what it was when its header was read. */
  async verify(): Promise<void> {
    const file = this.#idle.pop() ?? await this.#openAgain();
    try {
      await this.#check(file);
    } finally {
      this.#giveBack(file);
    }
  }

  close(): void {
    this.#closed = true;
    for (const file of this.#idle.splice(0)) file.close();
  }

  async #openAgain(): Promise<Deno.FsFile> {
    const file = await Deno.open(this.path);
    try {
      await this.#check(file);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  async #check(file: Deno.FsFile): Promise<void> {
    const { size, mtime, dev, ino } = await file.stat();
    const was = this.#info;
    const same = size === was.size && mtime?.getTime() === was.mtime?.getTime();
    if (same && dev === was.dev && ino === was.ino) return;
    const message = `Cannot read "${this.path}": the file was changed after its header was read`;
    throw new ReadError(message, { path: this.path, expected: this.size, actual: size });
  }

  #giveBack(file: Deno.FsFile): void {
    if (this.#closed) file.close();
    else this.#idle.push(file);
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

/** Local files through Deno alone. */
export class PortableFileSource implements Source<PortableFile> {
  readonly name = "file";

  async open(path: string): Promise<PortableFile> {
    let file: Deno.FsFile | undefined;
    try {
      const info = await Deno.stat(path);
      refuseSpecial(path, info);
      file = await Deno.open(path);
      const head = new Uint8Array(Math.min(HEAD_BYTES, info.size));
      const got = await fill(file, head);
      return new PortableFile(path, file, await file.stat(), head.subarray(0, got));
    } catch (error) {
      file?.close();
      throw readError(error, "open", path);
    }
  }
}
