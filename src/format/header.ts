/**
 * What a safetensors header says, once it has been read and every claim in it checked.
 *
 * A file is `u64 n, little-endian` · `n bytes of UTF-8 JSON` · tensor data.
 */
import type { DType } from "./dtype.ts";

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

/** What a reader takes before it refuses a header as hostile. */
export interface HeaderLimits {
  /** The longest JSON in bytes; default 100,000,000, the reference implementation's limit. */
  maxHeaderBytes?: number | undefined;
  /** The most tensors, and likewise the most metadata entries; default 1,048,576. */
  maxTensors?: number | undefined;
  /** The most dimensions of one tensor; default 4096. */
  maxRank?: number | undefined;
}

/** The name under which a header keeps its metadata; no tensor can have it. */
export const METADATA_KEY = "__metadata__";

/** The bytes before the JSON: its length as a little-endian u64. */
export const LENGTH_BYTES = 8;

/** The longest header JSON in bytes that the reference implementation reads. */
export const MAX_HEADER_BYTES = 100_000_000;

/** {@linkcode HeaderLimits} with nothing left open. */
export interface CheckedLimits {
  /** The longest JSON in bytes. */
  readonly maxHeaderBytes: number;
  /** The most tensors, and the most metadata entries. */
  readonly maxTensors: number;
  /** The most dimensions of one tensor. */
  readonly maxRank: number;
}

/**
 * The limits, with the defaults for what they leave open.
 *
 * @throws {RangeError} Where one is not a number from 0 on.
 */
export function checkLimits(limits: HeaderLimits): CheckedLimits {
  const { maxHeaderBytes = MAX_HEADER_BYTES, maxTensors = 1_048_576, maxRank = 4096 } = limits;
  for (const [name, value] of Object.entries({ maxHeaderBytes, maxTensors, maxRank })) {
    if (!(value >= 0)) {
      throw new RangeError(`Cannot use ${name}: a number from 0 on expected, ${value} given`);
    }
  }
  return { maxHeaderBytes, maxTensors, maxRank };
}
