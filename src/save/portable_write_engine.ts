/** Writes through Deno's file functions, without the native library. */
import { castBytes } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import { quote } from "../base/text.ts";
import { castLength } from "../load/request.ts";
import { lookAt, removeQuietly, syncFolder } from "../files/native/folder.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { checkThere, writeError } from "../files/native/write_error.ts";

/** The errors of file systems without hard links, such as exFAT, SMB and many FUSE mounts. */
const NO_HARD_LINKS: ReadonlySet<string> = new Set([
  "EPERM",
  "ENOTSUP",
  "EOPNOTSUPP",
  "ENOSYS",
  "EMLINK",
  "EINVAL",
]);

/** Writes with Deno's own file functions. */
export class PortableWriteEngine implements WriteEngine {
  /** One write that runs, and one that waits. */
  readonly writers = 2;

  memory(byteLength: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(byteLength);
  }

  prefersDirect(): boolean {
    return false; // Deno has no direct writes
  }

  async create(path: string, target: string, _direct: boolean, mode: number): Promise<OpenOutput> {
    try {
      const file = await Deno.open(path, { createNew: true, read: true, write: true, mode });
      await file.tryLock(true).catch(() => {}); // without locks in the file system, other saves do not check them either
      return new PortableOutput(path, target, file);
    } catch (error) {
      throw writeError(error, "create", target);
    }
  }

  async rename(from: string, to: string, replace: boolean, subject = to): Promise<void> {
    try {
      if (replace) return await Deno.rename(from, to);
      try {
        await Deno.link(from, to); // never replaces anything
      } catch (error) {
        if (!NO_HARD_LINKS.has((error as { code?: string }).code ?? "")) throw error;
        // The folder is locked, so no other save can take the name meanwhile.
        if (await lookAt(to)) throw new Deno.errors.AlreadyExists(`${quote(to)} exists`);
        return await Deno.rename(from, to);
      }
      await removeQuietly(from); // the file has its final name; the temporary one is not needed
    } catch (error) {
      throw writeError(error, "save", subject);
    }
  }

  syncFolder(path: string): Promise<void> {
    return syncFolder(path);
  }
}

class PortableOutput implements OpenOutput {
  readonly path: string;
  readonly target: string;
  readonly #file: Deno.FsFile;
  /** A Deno file has one position, so writes run one after another. */
  #last: Promise<void> = Promise.resolve();

  constructor(path: string, target: string, file: Deno.FsFile) {
    this.path = path;
    this.target = target;
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
    const { byteLength } = cast;
    const write = this.#last.then(() => this.#writeAll(cast, byteLength, offset));
    this.#last = write.catch(() => {});
    await this.#try("write", write);
  }

  async sync(): Promise<void> {
    await this.#try("sync", this.#file.sync());
  }

  close(): void {
    this.#file.close();
  }

  async #writeAll(bytes: Uint8Array, byteLength: number, offset: number): Promise<void> {
    await this.#file.seek(offset, Deno.SeekMode.Start);
    for (let done = 0; done < byteLength;) {
      checkThere(bytes, byteLength);
      done += await this.#file.write(bytes.subarray(done));
    }
  }

  async #try(action: string, call: Promise<unknown>): Promise<void> {
    try {
      await call;
    } catch (error) {
      throw writeError(error, action, this.target);
    }
  }
}
