/**
 * Writing through Deno alone.
 */
import { castBytes } from "../format/cast.ts";
import { type DType } from "../format/dtype.ts";
import { castLength } from "../plan/request.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { writeError } from "./write_error.ts";

/** Deno's own file functions: one write at a time, for a Deno file has one position. */
export class PortableWriteEngine implements WriteEngine {
  readonly writers = 1;

  async create(path: string): Promise<OpenOutput> {
    try {
      const file = await Deno.open(path, { createNew: true, read: true, write: true });
      await file.lock(true);
      return new PortableOutput(path, file);
    } catch (error) {
      throw writeError(error, "create", path);
    }
  }

  async rename(from: string, to: string, replace: boolean): Promise<void> {
    try {
      if (replace) return await Deno.rename(from, to);
      await Deno.link(from, to); // never replaces anything
      await Deno.remove(from);
    } catch (error) {
      throw writeError(error, "save", to);
    }
  }

  async syncFolder(): Promise<void> {
    // Deno has no way to do this; the files themselves are synced.
  }

  async isAbandoned(path: string): Promise<boolean> {
    using file = await Deno.open(path, { read: true });
    return await file.tryLock(true);
  }
}

class PortableOutput implements OpenOutput {
  readonly path: string;
  readonly #file: Deno.FsFile;

  constructor(path: string, file: Deno.FsFile) {
    this.path = path;
    this.#file = file;
  }

  async allocate(size: number): Promise<void> {
    await this.#try("reserve space for", this.#file.truncate(size));
  }

  async write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void> {
    let cast = bytes;
    if (from !== to) {
      castBytes(bytes, from, cast = new Uint8Array(castLength(bytes.byteLength, from, to)), to);
    }
    await this.#try("write", this.#writeAll(cast, offset));
  }

  async sync(): Promise<void> {
    await this.#try("sync", this.#file.sync());
  }

  close(): void {
    this.#file.close();
  }

  async #writeAll(bytes: Uint8Array, offset: number): Promise<void> {
    await this.#file.seek(offset, Deno.SeekMode.Start);
    for (let done = 0; done < bytes.byteLength;) done += await this.#file.write(bytes.subarray(done));
  }

  async #try(action: string, call: Promise<unknown>): Promise<void> {
    try {
      await call;
    } catch (error) {
      throw writeError(error, action, this.path);
    }
  }
}
