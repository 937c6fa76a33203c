/** Where a checkpoint's bytes come from, whatever holds them. */

/** Positional reads of a file of known size. */
export interface ByteReader {
  /** The file, for messages. */
  readonly path: string;
  /** Its size in bytes. */
  readonly size: number;
  /**
   * Reads exactly `length` bytes from `offset`; calls may overlap.
   *
   * @throws {ReadError} where the file does not hold them
   */
  read(offset: number, length: number): Promise<Uint8Array>;
}
