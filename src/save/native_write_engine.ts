/**
 * Writing through the shim: positional writes from several threads, past the page cache where that pays.
 */
import type { Shim } from "../../ffi/symbols.ts";
import {
  allocateFile,
  createFile,
  isAbandoned,
  openDirectWrite,
  renamePath,
  syncFile,
  syncFolder,
  writeRange,
} from "../../ffi/writes.ts";
import { type DType, dtypeBits } from "../format/dtype.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { writeError } from "./write_error.ts";

/** Non-blocking calls into the shim. */
export class NativeWriteEngine implements WriteEngine {
  readonly writers = 4;
  readonly #shim: Shim;

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  async create(path: string, direct: boolean): Promise<OpenOutput> {
    try {
      const fd = await createFile(this.#shim, path);
      return new NativeOutput(this.#shim, path, fd, direct ? openDirectWrite(this.#shim, fd) : -1);
    } catch (error) {
      throw writeError(error, "create", path);
    }
  }

  async rename(from: string, to: string, replace: boolean): Promise<void> {
    try {
      await renamePath(this.#shim, from, to, replace);
    } catch (error) {
      throw writeError(error, "save", to);
    }
  }

  async syncFolder(path: string): Promise<void> {
    try {
      await syncFolder(this.#shim, path);
    } catch (error) {
      throw writeError(error, "sync", path);
    }
  }

  async isAbandoned(path: string): Promise<boolean> {
    return await isAbandoned(this.#shim, path).catch(() => false);
  }
}

class NativeOutput implements OpenOutput {
  readonly path: string;
  readonly #shim: Shim;
  #fd: number;
  #fdDirect: number;

  constructor(shim: Shim, path: string, fd: number, fdDirect: number) {
    this.#shim = shim;
    this.path = path;
    this.#fd = fd;
    this.#fdDirect = fdDirect;
  }

  async allocate(size: number): Promise<void> {
    await this.#try("reserve space for", allocateFile(this.#shim, this.#fd, size));
  }

  async write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void> {
    if (bytes.byteLength === 0) return;
    const count = from === to ? bytes.byteLength : bytes.byteLength / (dtypeBits(from) / 8);
    const range = { fd: this.#fd, fdDirect: this.#fdDirect, count, offset, from, to };
    await this.#try("write", writeRange(this.#shim, bytes, range));
  }

  async sync(): Promise<void> {
    await this.#try("sync", syncFile(this.#shim, this.#fd));
  }

  close(): void {
    if (this.#fdDirect >= 0) this.#shim.fst_file_close(this.#fdDirect);
    if (this.#fd >= 0) this.#shim.fst_file_close(this.#fd);
    this.#fd = this.#fdDirect = -1;
  }

  async #try(action: string, call: Promise<void>): Promise<void> {
    try {
      await call;
    } catch (error) {
      throw writeError(error, action, this.path);
    }
  }
}
