/**
 * What writes files: the shim, or Deno alone.
 */
import { openLibrary } from "../../ffi/library.ts";
import type { DType } from "../format/dtype.ts";
import { NativeWriteEngine } from "./native_write_engine.ts";
import { PortableWriteEngine } from "./portable_write_engine.ts";

/** A file that is being written, under a temporary name. */
export interface OpenOutput {
  /** Its temporary path. */
  readonly path: string;
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
   */
  write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void>;
  /** Waits until all of it is on storage. */
  sync(): Promise<void>;
  /** Gives the descriptor back; nothing may be writing. */
  close(): void;
}

/** Creates, fills and renames files. */
export interface WriteEngine {
  /** How many writes are worth having in flight. */
  readonly writers: number;
  /**
   * Creates a file that must not exist, locked for as long as it is open.
   *
   * @param direct whether its pages should go past the page cache
   * @throws {WriteError} if the system refuses
   */
  create(path: string, direct: boolean): Promise<OpenOutput>;
  /**
   * Renames a file.
   *
   * @throws {SafeTensorsError} "FileExists" if the new path exists and is not to be replaced
   * @throws {WriteError} if the system refuses
   */
  rename(from: string, to: string, replace: boolean): Promise<void>;
  /** Waits until the names in a folder are on storage. */
  syncFolder(path: string): Promise<void>;
  /** Whether the process that created this temporary file is gone. */
  isAbandoned(path: string): Promise<boolean>;
}

/** The engine over the shim where there is one, else over Deno. */
export async function selectWriteEngine(): Promise<WriteEngine> {
  const { shim } = await openLibrary();
  return shim ? new NativeWriteEngine(shim) : new PortableWriteEngine();
}
