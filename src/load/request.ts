/**
 * What a load is asked for: tensors, or slices of them, as ranges of files.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";

/** Repetitions of a run: `count` of them, `stride` bytes apart in the file. */
export interface Level {
  /** How many. */
  readonly count: number;
  /** Bytes from one to the next. */
  readonly stride: number;
}

/** One tensor, or one slice of a tensor, to be brought from a file. */
export interface TensorRequest {
  /** Its name, for messages and handles. */
  readonly name: string;
  /** Shape of the result. */
  readonly shape: readonly number[];
  /** Element type in the file. */
  readonly dtype: DType;
  /** Element type wanted; equal to `dtype` where nothing is cast. */
  readonly target: DType;
  /** Index into the load's files. */
  readonly file: number;
  /** Where its first byte stands in the file. */
  readonly fileOffset: number;
  /** Bytes of one contiguous run in the file. */
  readonly run: number;
  /** Repetitions of the run, outer to inner; empty for a contiguous range. */
  readonly levels: readonly Level[];
}

/** Bytes of the file that a request delivers. */
export function requestBytes(request: TensorRequest): number {
  return request.levels.reduce((bytes, level) => bytes * level.count, request.run);
}

/** Bytes that `bytes` of the file become after the request's cast. */
export function castLength(bytes: number, from: DType, to: DType): number {
  return from === to ? bytes : bytes / dtypeBits(from) * dtypeBits(to);
}
