/**
 * The low-level reader of files on 3FS, with the names of the Python package fastsafetensor-3fs-reader. Models on
 * 3FS are opened by `fastsafeOpen`, which needs nothing from here.
 *
 * @module
 */
export type { Backend } from "./backend.ts";
export type { FileHeader, RangeReader, ReadChunkedOptions } from "./range_reader.ts";
export {
  createReader,
  extractMountPoint,
  getBackend,
  getHf3fsLibPath,
  isAvailable,
  type ReaderOptions,
} from "./reader.ts";
