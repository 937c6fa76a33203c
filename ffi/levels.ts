/**
 * Strided runs of bytes as arguments of the shim.
 */

/** Repetitions of a run of bytes. */
export interface ByteLevel {
  /** Number of repetitions. */
  readonly count: number;
  /** Bytes from one repetition to the next. */
  readonly stride: number;
}

/** Strided runs of bytes: the first run and its repetitions, outermost first. */
export interface ByteRuns {
  /** Offset of the first byte. */
  readonly offset: number;
  /** Bytes of one run. */
  readonly run: number;
  /** Repetitions of the run; empty for a single run. */
  readonly levels: readonly ByteLevel[];
}

/** Encodes levels as a list of counts and strides. */
export function levelList(levels: readonly ByteLevel[]): BigUint64Array<ArrayBuffer> {
  const list = new BigUint64Array(2 * levels.length);
  levels.forEach(({ count, stride }, index) => list.set([BigInt(count), BigInt(stride)], 2 * index));
  return list;
}
