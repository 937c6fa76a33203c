/**
 * What a safetensors header says, once it has been read and every claim in it checked.
 *
 * A file is `u64 n, little-endian` · `n bytes of UTF-8 JSON` · tensor data.
 */
import type { DType } from "../base/dtype.ts";

/** One tensor of a file: what it is, and where its bytes lie. */
export interface TensorInfo {
  /** The tensor's name, unique in its file. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /**
   * Its dimensions, outermost first; empty for a scalar.
   *
   * The format allows dimensions up to 2^64 - 1. One above 2^53 passes the checks only where the tensor has no
   * elements (another dimension is 0), and is given here rounded to the nearest double.
   */
  readonly shape: readonly number[];
  /** Its first byte, counted from the start of the data ({@linkcode Header.dataStart}). */
  readonly begin: number;
  /** The byte after its last, counted likewise. */
  readonly end: number;
}

/** The content of a header. */
export interface Header {
  /** The tensors by name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` of the file; empty where it has none. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The file offset of the first byte of tensor data: 8 plus the length of the JSON. */
  readonly dataStart: number;
  /** How many bytes of tensor data follow. */
  readonly dataLength: number;
}

/** The name under which a header keeps its metadata; no tensor can have it. */
export const METADATA_KEY = "__metadata__";

/** The bytes before the JSON: its length as a little-endian u64. */
export const LENGTH_BYTES = 8;

/** The longest header JSON in bytes that the reference implementation reads. */
export const MAX_HEADER_BYTES = 100_000_000;

/**
 * The most tensors, and likewise the most metadata entries. A header of the longest length has hardly room for more
 * tensors; it has for more metadata entries than a JavaScript map holds.
 */
export const MAX_TENSORS = 2 ** 21;

/** The most dimensions of one tensor. */
export const MAX_RANK = 4096;
