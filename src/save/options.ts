/** The options and the report of a save. */
import { checkBoolean, checkFunction, checkInteger, checkKeys, checkSignal, keysOf } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import type { Progress } from "../base/progress.ts";
import { castTarget } from "../format/cast.ts";
import type { MetadataInput } from "../format/header_writer.ts";
import type { TensorShape } from "./source.ts";

/** Options of {@linkcode saveFile}. */
export interface SaveOptions {
  /** The `__metadata__` of every file. Default: none. */
  metadata?: MetadataInput;
  /** The most tensor bytes in one file; a larger result is written as shards with an index. Default: one file. */
  maxShardBytes?: number;
  /** Casts floating-point tensors to this dtype, rounded to nearest even. Default: no cast. */
  dtype?: DType;
  /** The names, dtypes (before a cast) and shapes of a stream of tensors; needed unless it is a model. */
  shapes?: Iterable<TensorShape>;
  /**
   * Replaces existing files, including a set of any number of shards; their mode and, if permitted, owner stay.
   * Default false: an existing file is an error.
   */
  overwrite?: boolean;
  /**
   * Waits until the files are on storage before they get their names; writes past the page cache if possible.
   * Default true.
   */
  sync?: boolean;
  /** Writes in flight, 1 to 16. Default 8, without the native library 2. */
  maxThreads?: number;
  /** Cancels the save; the written files are removed. */
  signal?: AbortSignal;
  /** Called about 20 times a second while the save runs, and once at its end. */
  onProgress?: (progress: Progress) => void;
}

/** The result of a save. */
export interface SaveReport {
  /** The files, the index last. */
  readonly paths: readonly string[];
  /** Tensors written. */
  readonly tensors: number;
  /** Bytes of all files. */
  readonly bytes: number;
  /** Seconds in all. */
  readonly seconds: number;
  /** `bytes / seconds / 1e9`. */
  readonly gigabytesPerSecond: number;
  /** Skipped tensors, because they are the same memory as another: name → the written name. */
  readonly aliases: ReadonlyMap<string, string>;
}

const KEYS = keysOf<SaveOptions>({
  metadata: true,
  maxShardBytes: true,
  dtype: true,
  shapes: true,
  overwrite: true,
  sync: true,
  maxThreads: true,
  signal: true,
  onProgress: true,
});

/**
 * Checks the options of a save.
 *
 * @throws {TypeError} if a key is unknown or a value has the wrong type
 * @throws {RangeError} if a number is outside its limits
 */
export function checkSaveOptions(options: SaveOptions): void {
  checkKeys("saveFile()", options, KEYS);
  checkInteger("maxShardBytes", options.maxShardBytes, { byDefault: 1, least: 1 });
  checkInteger("maxThreads", options.maxThreads, { byDefault: 1, least: 1, most: 16 });
  checkBoolean("overwrite", options.overwrite);
  checkBoolean("sync", options.sync);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  castTarget("F32", options.dtype);
}
