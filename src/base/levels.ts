/**
 * Strided runs of bytes, as slices, plans and the shim describe them.
 */

/** Repetitions of a run of bytes, or of the levels inside. */
export interface Level {
  /** Number of repetitions. */
  readonly count: number;
  /** Bytes from the start of one repetition to the start of the next. */
  readonly stride: number;
}

/** A run of bytes and its repetitions. */
export interface StridedRuns {
  /** Offset of the first byte. */
  readonly offset: number;
  /** Bytes of one run. */
  readonly run: number;
  /** Repetitions of the run, outermost first; empty for a single run. */
  readonly levels: readonly Level[];
}
