/** Divides a tensor into one part for each rank, and the parts into pieces for sending. */
import { rankSlices, type SliceLayout, sliceLayout, type SliceSource } from "../format/slices.ts";

/** A tensor as rows; each row holds a piece of every rank's part, in the order of the ranks. */
export interface ShardBlocks {
  /** The shape of each rank's part. */
  readonly shapes: readonly (readonly number[])[];
  /** The number of rows: the product of the dimensions before the divided one. */
  readonly rows: number;
  /** Bytes of each rank in a row. */
  readonly widths: readonly number[];
}

/** A range of rows. */
export interface RowRange {
  readonly first: number;
  readonly count: number;
}

/**
 * Divides a tensor among all ranks of a group.
 *
 * @throws {RangeError} if it has no such dimension
 * @throws {SafeTensorsError} "MisalignedSlice" if any rank's part would begin or end within a byte
 */
export function shardBlocks(source: SliceSource, dimension: number, size: number): ShardBlocks {
  const layouts = Array.from(
    { length: size },
    (_, rank) => sliceLayout(source, rankSlices(source, dimension, rank, size)),
  );
  // If the first rank has all of it, the parts are not interleaved.
  const isOne = source.shape[dimension]! <= 1 || layouts.every(({ byteLength }) => byteLength === 0);
  const rows = isOne ? 1 : source.shape.slice(0, dimension).reduce((product, length) => product * length, 1);
  return {
    shapes: layouts.map(({ shape }) => shape),
    rows,
    widths: layouts.map(({ byteLength }) => byteLength / rows),
  };
}

/** Divides the rows into ranges of at most `bytes`, or of one row if a row is larger. */
export function* rowRanges({ rows, widths }: ShardBlocks, bytes: number): Generator<RowRange> {
  const atOnce = Math.max(1, Math.floor(bytes / Math.max(1, rowBytes(widths))));
  for (let first = 0; first < rows; first += atOnce) yield { first, count: Math.min(atOnce, rows - first) };
}

/** The places of some rows of each rank's part in the tensor, for all ranks with a part. */
export function rankLayouts({ widths }: ShardBlocks, { first, count }: RowRange): SliceLayout[] {
  const row = rowBytes(widths);
  const layouts: SliceLayout[] = [];
  let offset = first * row;
  for (const width of widths) {
    const levels = count > 1 ? [{ count, stride: row }] : [];
    const byteLength = count * width;
    if (width > 0) layouts.push({ shape: [byteLength], byteLength, offset, run: width, levels });
    offset += width;
  }
  return layouts;
}

/** Bytes of one row. */
export function rowBytes(widths: readonly number[]): number {
  return widths.reduce((sum, width) => sum + width, 0);
}
