/**
 * Requests of a load: tensors or slices of them, as ranges of files.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { Level } from "../base/levels.ts";

/** One tensor, or one slice of a tensor, to load from a file. */
export interface TensorRequest {
  /** Its name, for messages and handles. */
  readonly name: string;
  /** Shape of the result. */
  readonly shape: readonly number[];
  /** Element type in the file. */
  readonly dtype: DType;
  /** Element type after loading; equal to `dtype` without a cast. */
  readonly target: DType;
  /** Index into the load's files. */
  readonly file: number;
  /** File offset of its first byte. */
  readonly fileOffset: number;
  /** Bytes of one contiguous run in the file. */
  readonly run: number;
  /** Repetitions of the run, outer to inner; empty for a contiguous range. */
  readonly levels: readonly Level[];
}

/** Bytes of the file that a request delivers. */
export function requestBytes(request: TensorRequest): number {
  let bytes = request.run;
  for (const { count } of request.levels) bytes *= count;
  return bytes;
}

/** Number of bytes that `bytes` bytes of the file have after the request's cast. */
export function castLength(bytes: number, from: DType, to: DType): number {
  return from === to ? bytes : bytes / dtypeBits(from) * dtypeBits(to);
}
