/**
 * Finds the local files that are read through 3FS. The reader is imported for the first of them, because most
 * programs have none.
 */
import type { Shim } from "../../ffi/symbols.ts";
import { isMountedAs3fs } from "../../ffi/usrbio.ts";
import { environmentVariable } from "../../ffi/variables.ts";
import type { LaneReader, LaneReaders, NativeFile } from "../files/native/native_file.ts";
import type { UsrbioReaderOptions, UsrbioReaders } from "./file.ts";

/** Finds the files that are on 3FS; all files, if 3FS is required. */
export class ThreeFsReaders implements LaneReaders {
  readonly #shim: Shim;
  readonly #options: UsrbioReaderOptions;
  readonly #isAskedFor: boolean;
  #readers: UsrbioReaders | undefined;

  constructor(shim: Shim, options: UsrbioReaderOptions) {
    this.#shim = shim;
    this.#options = options;
    this.#isAskedFor = options.required || environmentVariable("HF3FS_LIB_DIR") !== undefined;
  }

  get notes(): readonly string[] {
    return this.#readers?.notes ?? [];
  }

  async readerOf(file: NativeFile, path: string): Promise<LaneReader | null> {
    if (!this.#isAskedFor && !await file.use("open", ({ fd }) => isMountedAs3fs(this.#shim, fd))) return null;
    const { UsrbioReaders } = await import("./file.ts");
    this.#readers ??= new UsrbioReaders(this.#shim, this.#options);
    return await this.#readers.readerOf(file, path);
  }
}
