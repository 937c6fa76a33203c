/**
 * The interface of a file of the cache that is filled while its bytes are loaded.
 */
import type { ByteRange } from "./ranges.ts";

/** A file of the cache that has some of its bytes. */
export interface CacheFile {
  /** Descriptor for lanes; null if there is none. They read bytes that the file has, and write others if it is filled. */
  readonly fd: number | null;
  /** Whether bytes are written to it. */
  readonly isFilled: boolean;
  /** Whether the file has every byte of a range. */
  has(offset: number, length: number): boolean;
  /** Yields the pieces of a range, in order, with whether the file has them. */
  pieces(offset: number, length: number): Iterable<ByteRange & { readonly has: boolean }>;
  /**
   * Fills `target` with bytes that the file has.
   *
   * @throws {Error} if the system reports an error, or the file was truncated
   */
  read(offset: number, target: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Records that the bytes of a range have been written to {@linkcode fd}. */
  landed(offset: number, length: number): void;
  /** Writes bytes. The caller must not change them before the result resolves. A failure ends the filling, with a note. */
  write(offset: number, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /**
   * Ends the filling because of an error, which becomes a note: the file stays as it is, and no more bytes are written.
   */
  stop(error: unknown): void;
  /**
   * Closes the file. If all bytes are there, it first compares their checksum and gives the file its final name.
   *
   * @throws {SafeTensorsError} "ChecksumMismatch" if the checksum differs; the partial file is removed
   */
  finish(): Promise<void>;
  /** Closes the file after an abort; its bytes stay for the next load. */
  abandon(): Promise<void>;
}
