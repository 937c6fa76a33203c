/**
 * Where bytes live: what every kind of file source gives.
 */

/** An opened file. It stays the same file even if its path comes to name another. */
export interface SourceFile {
  /** As the user named it. */
  readonly path: string;
  /** Bytes, when it was opened. */
  readonly size: number;
  /** Its first bytes, read when it was opened; dropped by {@linkcode releaseHead}. */
  readonly head: Uint8Array;
  /**
   * Fills `target` from `offset` on.
   *
   * @throws {ReadError} if the file does not have these bytes, or the system refuses
   */
  read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void>;
  /**
   * Throws if the file is no longer what it was when it was opened; asked after each read of a load, before the tensors
   * in it are given out. Without it the file is taken to be one that cannot change.
   *
   * @throws {ReadError}
   */
  verify?(): Promise<void>;
  /** Forgets the head, once the header has been read. */
  releaseHead(): void;
  /**
   * Refuses further reads, and closes the file once those that are under way have ended. Closing twice is harmless.
   *
   * @returns nothing, or a promise that resolves when the file is closed
   */
  close(): void | Promise<void>;
}

/** Closes files, all of them whatever happens; rejects with the first failure. */
export async function closeAll(files: Iterable<SourceFile | undefined>): Promise<void> {
  const closed = await Promise.allSettled(Array.from(files, async (file) => await file?.close()));
  for (const result of closed) if (result.status === "rejected") throw result.reason;
}

/**
 * A kind of place that files are read from. One of your own can be given as the option `source`: files are then what
 * it opens by the names given, and they are read by {@linkcode SourceFile.read}, several ranges at once.
 */
export interface Source<F extends SourceFile = SourceFile> {
  /** Its name in statistics. */
  readonly name: string;
  /** What a user should know about how its files are read; of interest once they are open. */
  readonly notes?: readonly string[];
  /**
   * Opens a file and reads its head.
   *
   * @param folder the folder that relative paths count from, when files are opened later than they were named; default
   * is the working folder. A source whose names are no local paths ignores it.
   * @param isLookedAt whether the path was just found to be that of a regular file which may be read, so that there is no
   * need to look again. Default false
   * @throws {ReadError} if the system refuses; with `errno` 2 if there is no such file
   */
  open(path: string, folder?: string, isLookedAt?: boolean): Promise<F>;
}

/** Bytes of the head that are read with the opening: more than the header of nearly every shard. */
export const HEAD_BYTES = 96 * 1024;
