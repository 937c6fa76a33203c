/**
 * Files on 3FS: ordinary files, which lanes read through rings that they share with 3FS' daemon.
 *
 * Each file is tried by itself. What stands in the way of reading one through 3FS is an error where that was demanded,
 * and a note otherwise: the file is then read as any other.
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

/** Which files are read through 3FS, and how. */
export interface UsrbioReaderOptions {
  /** Whether reading them otherwise is an error. */
  readonly required: boolean;
  /** Rings of each mount. */
  readonly rings: RingOptions;
  /** Lanes that there are rings for. */
  readonly lanes: number;
  /** The only mount to use; default any. */
  readonly mountPoint: string | undefined;
}

/** Where a path leads over links; the path itself where that cannot be told. */
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

  /** Why files on 3FS are read as others are; grows while files are opened. */
  get notes(): readonly string[] {
    return [...this.#notes];
  }

  /** The rings for a file on 3FS; null where it is not on one, or not to be read through it. */
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

  /** A file that 3FS has nothing to do with: fine, unless it was demanded. */
  #pass(path: string, reason: string): null {
    if (this.#options.required) throw no3fs(`${quote(path)}: ${reason}`);
    return null;
  }

  /** A file on 3FS that is not to be read through it. */
  #refuse(reason: string, errno = 0): null {
    if (this.#options.required) throw no3fs(reason, errno);
    this.#notes.add(`Files on 3FS use ordinary reads: ${reason}`);
    return null;
  }
}
