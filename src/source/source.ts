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
  /** Gives the descriptor back; nothing may be reading. Closing twice is harmless. */
  close(): void;
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
   * @throws {ReadError} if the system refuses; with `errno` 2 if there is no such file
   */
  open(path: string): Promise<F>;
}

/** Bytes of the head that are read with the opening: more than the header of nearly every shard. */
export const HEAD_BYTES = 96 * 1024;
