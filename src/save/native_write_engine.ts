/**
 * Writes through the native library: positional writes from several threads, past the page cache if that is
 * faster.
 */
import { availableMemory } from "../../ffi/files.ts";
import type { Shim } from "../../ffi/symbols.ts";
import {
  alignedMemory,
  allocateFile,
  createFile,
  openDirectWrite,
  renamePath,
  syncFile,
  syncFolder,
  writeRange,
} from "../../ffi/writes.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import { returnCalls, takeCalls } from "../load/native/lane_budget.ts";
import type { OpenOutput, WriteEngine } from "./write_engine.ts";
import { checkThere, writeError } from "../files/native/write_error.ts";

/** Bytes of one direct write from staging memory, for unaligned bytes: a huge page. */
const STAGING = 2 * 2 ** 20;

/**
 * The part of free memory that an unsynced save leaves to the page cache: the kernel takes a fifth
 * (vm.dirty_ratio) at the speed of memory, and meanwhile writes some of it. A larger save would be slowed to the
 * speed of storage, and is written past the page cache instead.
 */
const DIRTY = 0.25;

/** Writes by non-blocking calls into the native library. */
export class NativeWriteEngine implements WriteEngine {
  readonly writers = 8;
  readonly #shim: Shim;
  readonly #staging: Uint8Array<ArrayBuffer>[] = [];

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  memory(byteLength: number): Uint8Array<ArrayBuffer> {
    return alignedMemory(this.#shim, byteLength);
  }

  prefersDirect(byteLength: number, sync: boolean): boolean {
    return sync || byteLength > availableMemory(this.#shim) * DIRTY;
  }

  async create(path: string, target: string, direct: boolean, mode: number): Promise<OpenOutput> {
    try {
      const fd = await createFile(this.#shim, path, mode);
      const fdDirect = direct ? openDirectWrite(this.#shim, fd) : -1;
      return new NativeOutput(this.#shim, { path, target, fd, fdDirect, staging: this.#staging });
    } catch (error) {
      throw writeError(error, "create", target);
    }
  }

  async rename(from: string, to: string, replace: boolean, subject = to): Promise<void> {
    try {
      await renamePath(this.#shim, from, to, replace);
    } catch (error) {
      throw writeError(error, "save", subject);
    }
  }

  async syncFolder(path: string): Promise<void> {
    try {
      await syncFolder(this.#shim, path);
    } catch (error) {
      throw writeError(error, "sync", path);
    }
  }
}

interface NativeOutputInit {
  readonly path: string;
  readonly target: string;
  readonly fd: number;
  /** For direct writes, or -1. */
  readonly fdDirect: number;
  /** Free staging memory, shared by all outputs. */
  readonly staging: Uint8Array<ArrayBuffer>[];
}

class NativeOutput implements OpenOutput {
  readonly path: string;
  readonly target: string;
  readonly #shim: Shim;
  readonly #staging: Uint8Array<ArrayBuffer>[];
  #fd: number;
  #fdDirect: number;

  constructor(shim: Shim, { path, target, fd, fdDirect, staging }: NativeOutputInit) {
    this.path = path;
    this.target = target;
    this.#shim = shim;
    this.#staging = staging;
    this.#fd = fd;
    this.#fdDirect = fdDirect;
  }

  allocate(size: number): Promise<void> {
    return this.#call("reserve space for", () => allocateFile(this.#shim, this.#fd, size));
  }

  async write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void> {
    const { byteLength } = bytes;
    if (byteLength === 0) return;
    const count = from === to ? byteLength : byteLength / (dtypeBits(from) / 8);
    await this.#call("write", async () => {
      checkThere(bytes, byteLength);
      const staging = this.#staging.pop() ?? alignedMemory(this.#shim, STAGING);
      const range = { fd: this.#fd, fdDirect: this.#fdDirect, count, offset, from, to };
      await writeRange(this.#shim, bytes, range, staging);
      this.#staging.push(staging);
    });
  }

  sync(): Promise<void> {
    return this.#call("sync", () => syncFile(this.#shim, this.#fd));
  }

  close(): void {
    if (this.#fdDirect >= 0) this.#shim.fst_file_close(this.#fdDirect);
    if (this.#fd >= 0) this.#shim.fst_file_close(this.#fd);
    this.#fd = this.#fdDirect = -1;
  }

  /** Deno runs few non-blocking calls at once, so saves use the lane budget, like loads. */
  async #call(action: string, call: () => Promise<void>): Promise<void> {
    const calls = await takeCalls(1, 1);
    try {
      await call();
    } catch (error) {
      throw writeError(error, action, this.target);
    } finally {
      returnCalls(calls);
    }
  }
}
