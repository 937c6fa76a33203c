/** The options and the report of a save. */
import { type ByteSize, checkByteSize } from "../base/byte_size.ts";
import { checkBoolean, checkFunction, checkInteger, checkKeys, checkSignal, keysOf } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import type { Progress } from "../base/progress.ts";
import { castTarget } from "../format/cast.ts";
import type { MetadataInput } from "../format/header_writer.ts";
import type { SavableTensor, TensorShape } from "./source.ts";

/**
 * What `map` of {@linkcode SaveOptions} returns for a tensor: a tensor to save in its place, with any dtype and shape; null
 * to leave it out; or a record or map of name and tensor, to save several tensors or another name.
 */
export type MappedTensor =
  | SavableTensor
  | null
  | Readonly<Record<string, SavableTensor>>
  | ReadonlyMap<string, SavableTensor>;

/** Options of {@linkcode saveFile} for tensors of the type `T`. */
export interface SaveOptions<T = SavableTensor> {
  /** The `__metadata__` of every file. Default: none. */
  metadata?: MetadataInput;
  /**
   * The most tensor bytes in one file: a number, or text such as "5GB" (1e9 bytes each) or "5GiB"; a larger result is
   * written as shards with an index. Default: one file.
   */
  maxShardBytes?: ByteSize;
  /** Casts floating-point tensors to this dtype, rounded to nearest even, after `map`. Default: no cast. */
  dtype?: DType;
  /**
   * Changes tensors while they are saved, one after another. Called once for each tensor that is written; tensors that
   * are the same memory are one. The result is copied to a temporary file in the folder of the save before the next
   * call, so its memory can be used again and may be larger than the machine's in all; the save needs space for its
   * tensors twice until it ends. A result on a GPU is disposed after that. A tensor of a record that `map` returns
   * unchanged is not copied. Default: no change.
   */
  map?: (name: string, tensor: T) => MappedTensor | Promise<MappedTensor>;
  /**
   * The names, dtypes (before a cast) and shapes of a stream of tensors; needed unless it is a model, or `map` is given.
   */
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
  map: true,
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
  checkByteSize("maxShardBytes", options.maxShardBytes);
  checkFunction("map", options.map);
  if (options.map && options.shapes !== undefined) {
    throw new TypeError("map and shapes cannot be used together: with map, a stream needs no shapes");
  }
  checkInteger("maxThreads", options.maxThreads, { byDefault: 1, least: 1, most: 16 });
  checkBoolean("overwrite", options.overwrite);
  checkBoolean("sync", options.sync);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  castTarget("F32", options.dtype);
}
