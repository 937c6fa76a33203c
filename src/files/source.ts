/**
 * The interface of a source, which opens files by name and reads ranges of bytes.
 */

/** The way of bytes that are not those of a local file: over the network, or from the cache of such files. */
export type RemoteWay = "http" | "cache";

/** An opened file. It stays the same file even if its path names another file later. */
export interface SourceFile {
  /** Its path, as the user passed it. */
  readonly path: string;
  /** Bytes of the file at opening. */
  readonly size: number;
  /** Its first bytes, read at opening; {@linkcode releaseHead} frees them. */
  readonly head: Uint8Array;
  /** The way of a range's bytes, for statistics; null for that of the engine, as without this function. */
  way?(offset: number, length: number): "http" | "cache" | null;
  /** Reads at once that are useful, if `maxThreads` is not set. Default 4. */
  readonly readers?: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   *
   * @param signal ends the read early, for reads that can take long
   * @throws {ReadError} if the file does not have these bytes, or the system reports an error
   */
  read(offset: number, target: Uint8Array<ArrayBuffer>, signal?: AbortSignal): Promise<void>;
  /** Returns the notes for the user on the reads since the last call. */
  takeNotes?(): readonly string[];
  /**
   * Throws if the file has changed since it was opened. A load calls it after each read, before it returns the tensors of
   * the read. Without this function the file is assumed not to change.
   *
   * @throws {ReadError}
   */
  verify?(): Promise<void>;
  /** Frees the head after the header has been read. */
  releaseHead(): void;
  /**
   * Rejects further reads, and closes the file after the reads in progress have ended. A second call has no effect.
   *
   * @returns nothing, or a promise that resolves after the file is closed
   */
  close(): void | Promise<void>;
}

/** Closes all files, also if some fail to close; rejects with the first failure. */
export async function closeAll(files: Iterable<SourceFile | undefined>): Promise<void> {
  const closed = await Promise.allSettled(Array.from(files, async (file) => await file?.close()));
  for (const result of closed) if (result.status === "rejected") throw result.reason;
}

/**
 * A source of files. You can pass a source of your own as the option `source`: it then opens the names in `files`, and the
 * load calls {@linkcode SourceFile.read} for several ranges at once.
 */
export interface Source<F extends SourceFile = SourceFile> {
  /** Its name in statistics. */
  readonly name: string;
  /** Notes for the user on the reads of its files; complete after the files are open. */
  readonly notes?: readonly string[];
  /** Whether its files are for the lanes of the native library. Not for sources of users. */
  readonly isForLanes?: boolean;
  /**
   * Opens a file and reads its head.
   *
   * @param folder the folder of relative paths; default is the working folder. A source whose names are not local paths
   * ignores it.
   * @param isLookedAt whether a check has just found that the path is a regular, readable file, so that the source can
   * skip this check. Default false
   * @throws {ReadError} if the system reports an error; with `errno` 2 if the file does not exist
   */
  open(path: string, folder?: string, isLookedAt?: boolean): Promise<F>;
}

/** Where a file is. */
export interface FileAddress {
  /** Its URL, `https:` or `http:`; it can carry a signature, and is not shown. */
  readonly url: string | URL;
  /** Headers for every request to the host of the URL, such as `authorization`; they are not sent to other hosts. */
  readonly headers?: Readonly<Record<string, string>>;
}

/**
 * A source of files that have URLs, such as those of a store that signs them: it says where a file is, and the package
 * reads it, as it reads `https://` names.
 */
export interface UrlSource {
  /** Its name in messages. */
  readonly name: string;
  /**
   * Returns the address of a file; called again if the server refuses the address, because its signature has expired.
   *
   * @param path a name of the user, or of a shard beside an index
   */
  locate(path: string): FileAddress | Promise<FileAddress>;
}

/** What a local file of a cache shows instead of its own path, and what happens after it is closed. */
export interface CachedAs {
  /** The name of the remote file. */
  readonly path: string;
  /** Called once the file is closed. */
  release(): void;
}

/** A source of local files, which can also be those of a cache. */
export interface LocalSource<F extends SourceFile = SourceFile> extends Source<F> {
  /** @param cached set for a file of a cache; its owner calls `release` if the file cannot be opened */
  open(path: string, folder?: string, isLookedAt?: boolean, cached?: CachedAs): Promise<F>;
}

/** Bytes of the head that are read at opening: more than the header of nearly every shard. */
export const HEAD_BYTES = 96 * 1024;
