/** The interface of an engine that writes files. */
import type { DType } from "../base/dtype.ts";

/** A file under a temporary name, open for writing. */
export interface OpenOutput {
  /** Its temporary path. */
  readonly path: string;
  /** Its path after the commit, for messages. */
  readonly target: string;
  /**
   * Sets the size and reserves the space.
   *
   * @throws {WriteError} if there is not enough space
   */
  allocate(size: number): Promise<void>;
  /**
   * Writes bytes at an offset, cast from one element type to another. Several writes may run at once.
   *
   * @throws {WriteError} if the system refuses
   * @throws {TypeError} if the bytes' buffer is transferred before they are written
   */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void>;
  /** Waits until the whole file is on storage. */
  sync(): Promise<void>;
  /** Closes the descriptor, which releases the lock; no write may be running. */
  close(): void;
}

/** Creates, fills and renames files. */
export interface WriteEngine {
  /** The most useful number of writes in flight. */
  readonly writers: number;
  /** Memory from which writes go straight to storage if possible. */
  memory(byteLength: number): Uint8Array<ArrayBuffer>;
  /** Whether files of `byteLength` bytes together should be written past the page cache. */
  prefersDirect(byteLength: number, sync: boolean): boolean;
  /**
   * Creates a file that must not exist, locked for as long as it is open.
   *
   * @param path its temporary path
   * @param target its path after the commit
   * @param direct whether to write past the page cache
   * @param mode its access mode, before the process's umask
   * @throws {WriteError} if the system refuses
   */
  create(path: string, target: string, direct: boolean, mode: number): Promise<OpenOutput>;
  /**
   * Renames a file.
   *
   * @param subject the path that an error names; default is the new one
   * @throws {SafeTensorsError} "FileExists" if the new path exists and may not be replaced
   * @throws {WriteError} if the system refuses
   */
  rename(from: string, to: string, replace: boolean, subject?: string): Promise<void>;
  /** Waits until the names in a folder are on storage. */
  syncFolder(path: string): Promise<void>;
}
