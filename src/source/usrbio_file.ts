/**
 * Files on 3FS: ordinary files, which lanes read through rings that they share with 3FS' daemon.
 *
 * Each file is tried by itself. What stands in the way of reading one through 3FS is an error where that was demanded,
 * and a note otherwise: the file is then read as any other.
 */
import { SystemError } from "../../ffi/files.ts";
import { systemErrorText } from "../../ffi/status.ts";
import type { Shim } from "../../ffi/symbols.ts";
import {
  isOn3fs,
  mountPointOf,
  openMount,
  registerFile,
  type RingOptions,
  USRBIO_READER,
  usrbioHints,
} from "../../ffi/usrbio.ts";
import { libraryMissing, no3fs, openUsrbio } from "../usrbio/backend.ts";
import { type LaneReader, type NativeFile, NativeFileSource, readError } from "./native_file.ts";
import type { Source } from "./source.ts";

/** A 3FS mount with its rings, as long as there are files that use it. */
class Mount implements LaneReader {
  readonly kind = USRBIO_READER;
  readonly handle: bigint;
  readonly lanes: number;
  readonly #shim: Shim;
  readonly #library: bigint;
  readonly #leave: () => void;

  constructor(shim: Shim, library: bigint, handle: bigint, lanes: number, leave: () => void) {
    this.#shim = shim;
    this.#library = library;
    this.handle = handle;
    this.lanes = lanes;
    this.#leave = leave;
  }

  /** Takes a file on; 0, or the system's error number. */
  async register(fd: number): Promise<number> {
    const errno = await registerFile(this.#shim, this.#library, fd);
    if (errno !== 0) this.#leave();
    return errno;
  }

  release(fd: number): void {
    this.#shim.fst_usrbio_deregister(this.#library, fd);
    this.#leave();
  }
}

/** A mount that is being opened, or is open, and how many files use it or are about to. */
interface MountEntry {
  readonly opening: Promise<{ mount: bigint } | { mount: null; errno: number; reason: string }>;
  users: number;
}

/** Which files are read through 3FS, and how. */
export interface UsrbioSourceOptions {
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

/** Local files, those on 3FS through its rings. */
export class UsrbioFileSource implements Source<NativeFile> {
  readonly name = "3fs";
  readonly #shim: Shim;
  readonly #files: NativeFileSource;
  readonly #options: UsrbioSourceOptions;
  readonly #mounts = new Map<string, MountEntry>();
  readonly #notes = new Set<string>();

  constructor(shim: Shim, options: UsrbioSourceOptions) {
    this.#shim = shim;
    this.#files = new NativeFileSource(shim);
    this.#options = options;
  }

  /** Why files on 3FS are read as others are; grows while files are opened. */
  get notes(): readonly string[] {
    return [...this.#notes];
  }

  async open(path: string): Promise<NativeFile> {
    const file = await this.#files.open(path);
    try {
      const reader = await this.#readerOf(file);
      if (reader) file.readBy(reader);
      return file;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  /** What reads a file on 3FS; null where it is not on one, or not to be read through it. */
  async #readerOf(file: NativeFile): Promise<LaneReader | null> {
    const { fd } = file.planFile;
    const hints = usrbioHints(this.#shim, fd);
    if (!this.#options.required && !hints.named && !hints.mounted) return null;
    const library = await openUsrbio(this.#shim);
    if (library.handle === null) {
      return this.#refuse(libraryMissing(library.reason));
    }
    if (!await isOn3fs(this.#shim, library.handle, fd)) return this.#pass(file, "it is not on 3FS");
    const mountPoint = await this.#mountPointOf(library.handle, file.path);
    if (mountPoint === null) return this.#pass(file, "it is not below a mount point of 3FS");
    const wanted = this.#options.mountPoint;
    if (wanted !== undefined && wanted !== mountPoint && await resolved(wanted) !== mountPoint) {
      return this.#pass(file, `it is on the mount "${mountPoint}", not on "${wanted}"`);
    }
    const mount = await this.#mount(library.handle, mountPoint);
    if (!mount) return null;
    const errno = await mount.register(fd);
    if (errno === 0) return mount;
    return this.#refuse(`registering "${file.path}" failed: ${systemErrorText(errno)}`, errno);
  }

  async #mountPointOf(library: bigint, path: string): Promise<string | null> {
    try {
      return await mountPointOf(this.#shim, library, path);
    } catch (error) {
      throw error instanceof SystemError ? readError(error, "open", path) : error;
    }
  }

  /** Opens a mount, or joins those who use it. */
  async #mount(library: bigint, mountPoint: string): Promise<Mount | null> {
    let entry = this.#mounts.get(mountPoint);
    if (!entry) {
      entry = { opening: openMount(this.#shim, library, mountPoint, this.#options.rings), users: 0 };
      this.#mounts.set(mountPoint, entry);
    }
    const joined = entry;
    joined.users++;
    const opened = await joined.opening;
    const leave = () => {
      if (--joined.users > 0) return;
      if (this.#mounts.get(mountPoint) === joined) this.#mounts.delete(mountPoint);
      if (opened.mount !== null) this.#shim.fst_usrbio_close(opened.mount);
    };
    if (opened.mount !== null) {
      return new Mount(this.#shim, library, opened.mount, this.#options.lanes, leave);
    }
    leave();
    return this.#refuse(`the mount "${mountPoint}" does not answer: ${opened.reason}`, opened.errno);
  }

  /** A file that 3FS has nothing to do with: fine, unless it was demanded. */
  #pass(file: NativeFile, reason: string): null {
    if (this.#options.required) throw no3fs(`"${file.path}": ${reason}`);
    return null;
  }

  /** A file on 3FS that is not to be read through it. */
  #refuse(reason: string, errno = 0): null {
    if (this.#options.required) throw no3fs(reason, errno);
    this.#notes.add(`Files on 3FS are read by ordinary reads: ${reason}`);
    return null;
  }
}
