/**
 * Files on 3FS: ordinary files, which lanes read through rings shared with the 3FS daemon.
 *
 * Each file is checked separately. If a file cannot be read through 3FS, that is an error if 3FS is required, and
 * else a note: the file is then read with ordinary reads.
 */
import type { Descriptors } from "../../ffi/files.ts";
import { systemErrorText } from "../../ffi/status.ts";
import type { Shim } from "../../ffi/symbols.ts";
import {
  isOn3fs,
  mountPointOf,
  openMount,
  registerFile,
  type RingOptions,
  USRBIO_READER,
} from "../../ffi/usrbio.ts";
import { quote } from "../base/text.ts";
import { libraryMissing, no3fs, openUsrbio } from "./backend.ts";
import type { LaneReader, LaneReaders, NativeFile } from "../files/native/native_file.ts";

/** Options for reading files through 3FS. */
export interface UsrbioReaderOptions {
  /** Whether it is an error if a file cannot be read through 3FS. */
  readonly required: boolean;
  /** Rings of each mount. */
  readonly rings: RingOptions;
  /** The number of lanes with rings. */
  readonly lanes: number;
  /** The only mount to use; default any. */
  readonly mountPoint: string | undefined;
}

/** Resolves the links of a path; the path itself if that fails. */
async function resolved(path: string): Promise<string> {
  try {
    return await Deno.realPath(path);
  } catch {
    return path;
  }
}

/** The rings that files on 3FS are read through. */
export class UsrbioReaders implements LaneReaders {
  readonly #shim: Shim;
  readonly #options: UsrbioReaderOptions;
  readonly #notes = new Set<string>();

  constructor(shim: Shim, options: UsrbioReaderOptions) {
    this.#shim = shim;
    this.#options = options;
  }

  /** The reasons why files on 3FS use ordinary reads; grows while files are opened. */
  get notes(): readonly string[] {
    return [...this.#notes];
  }

  /** The rings for a file on 3FS; null if it is not on 3FS, or cannot be read through it. */
  async readerOf(file: NativeFile, absolute: string): Promise<LaneReader | null> {
    return await file.use("open", (descriptors) => this.#readerOf(file.path, absolute, descriptors));
  }

  async #readerOf(path: string, absolute: string, descriptors: Descriptors): Promise<LaneReader | null> {
    const shim = this.#shim;
    const { rings, lanes, mountPoint: wanted } = this.#options;
    const library = await openUsrbio(shim);
    if (library.handle === null) return this.#refuse(libraryMissing(library.reason));
    if (!await isOn3fs(shim, library.handle, descriptors.fd)) return this.#pass(path, "it is not on 3FS");
    const mountPoint = await mountPointOf(shim, library.handle, absolute);
    if (mountPoint === null) return this.#pass(path, "it is not below a mount point of 3FS");
    if (wanted !== undefined && wanted !== mountPoint && await resolved(wanted) !== mountPoint) {
      return this.#pass(path, `it is on the mount ${quote(mountPoint)}, not on ${quote(wanted)}`);
    }
    const opened = await openMount(shim, library.handle, mountPoint, rings);
    if (opened.mount === null) {
      return this.#refuse(`the mount ${quote(mountPoint)} does not answer: ${opened.reason}`, opened.errno);
    }
    const errno = await registerFile(shim, library.handle, descriptors);
    if (errno === 0) return { kind: USRBIO_READER, mount: opened.mount, lanes };
    await opened.mount.close();
    return this.#refuse(`registering ${quote(path)} failed: ${systemErrorText(errno)}`, errno);
  }

  /** A file outside 3FS: an error only if 3FS is required. */
  #pass(path: string, reason: string): null {
    if (this.#options.required) throw no3fs(`${quote(path)}: ${reason}`);
    return null;
  }

  /** A file on 3FS that cannot be read through it. */
  #refuse(reason: string, errno = 0): null {
    if (this.#options.required) throw no3fs(reason, errno);
    this.#notes.add(`Files on 3FS use ordinary reads: ${reason}`);
    return null;
  }
}
