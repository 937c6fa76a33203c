/**
 * The part of a segment that describes a file: lanes in C and the portable engine read it alike.
 */
import type { DType } from "./dtype.ts";

/** `outerCount` × `innerCount` runs of a file, dense at their destination: see `fst_segment` in native/plan.h. */
export interface FileSegment {
  /** Index into the files of the plan. */
  readonly file: number;
  /** File offset of its first run. */
  readonly fileOffset: number;
  /** Bytes of one run. */
  readonly run: number;
  /** Repetitions of the inner runs. */
  readonly outerCount: number;
  /** Bytes in the file from the start of one repetition to the next. */
  readonly outerStride: number;
  /** Runs of one outer repetition; the gaps between them are small enough to read them too. */
  readonly innerCount: number;
  /** Bytes in the file from the start of one run to the next. */
  readonly innerStride: number;
  /** Element type in the file. */
  readonly from: DType;
  /** Element type at the destination. */
  readonly to: DType;
}
