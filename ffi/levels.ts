/**
 * Strided runs of bytes, as the shim takes them.
 */

/** How a run of bytes repeats. */
export interface ByteLevel {
  /** How often. */
  readonly count: number;
  /** Bytes from one to the next. */
  readonly stride: number;
}

/** Where runs of bytes lie: the first one, and how it repeats, outermost first. */
export interface ByteRuns {
  /** The first byte. */
  readonly offset: number;
  /** Bytes of one run. */
  readonly run: number;
  /** How it repeats; empty for a single run. */
  readonly levels: readonly ByteLevel[];
}

/** Levels as a list of counts and strides. */
export function levelList(levels: readonly ByteLevel[]): BigUint64Array<ArrayBuffer> {
  const list = new BigUint64Array(2 * levels.length);
  levels.forEach(({ count, stride }, index) => list.set([BigInt(count), BigInt(stride)], 2 * index));
  return list;
}
