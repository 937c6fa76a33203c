/**
 * What an engine that writes files offers.
 */
import type { DType } from "../base/dtype.ts";

/** A file that is being written, under a temporary name. */
export interface OpenOutput {
  /** Its temporary path. */
  readonly path: string;
  /** The path that it is to get, for messages. */
  readonly target: string;
  /**
   * Gives it its size and reserves the space.
   *
   * @throws {WriteError} if there is none
   */
  allocate(size: number): Promise<void>;
  /**
   * Writes bytes at an offset, cast from one element type to another on the way. Several may run at once.
   *
   * @throws {WriteError} if the system refuses
   * @throws {TypeError} if the bytes' buffer is transferred before it is their turn
   */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void>;
  /** Waits until all of it is on storage. */
  sync(): Promise<void>;
  /** Gives the descriptor back, and with it the lock; nothing may be writing. */
  close(): void;
}

/** Creates, fills and renames files. */
export interface WriteEngine {
  /** How many writes are worth having in flight. */
  readonly writers: number;
  /** Memory from which writes go straight to storage where that is possible. */
  memory(byteLength: number): Uint8Array<ArrayBuffer>;
  /** Whether files of so many bytes together should go past the page cache. */
  prefersDirect(byteLength: number, sync: boolean): boolean;
  /**
   * Creates a file that must not exist, locked for as long as it is open.
   *
   * @param path its temporary path
   * @param target the path that it is to get
   * @param direct whether its pages should go past the page cache
   * @param mode who may read and write it, before the process's umask
   * @throws {WriteError} if the system refuses
   */
  create(path: string, target: string, direct: boolean, mode: number): Promise<OpenOutput>;
  /**
   * Renames a file.
   *
   * @param subject the path that a refusal is about; default is the new one
   * @throws {SafeTensorsError} "FileExists" if the new path exists and is not to be replaced
   * @throws {WriteError} if the system refuses
   */
  rename(from: string, to: string, replace: boolean, subject?: string): Promise<void>;
  /** Waits until the names in a folder are on storage. */
  syncFolder(path: string): Promise<void>;
}
