/**
 * Slices of tensors, with NumPy's meaning: their bytes as a few nested repetitions of one contiguous run.
 */
import { SafeTensorsError, type SafeTensorsErrorCode } from "../base/errors.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { Level, StridedRuns } from "../base/levels.ts";
import { quote } from "../base/text.ts";
import { mergeDimensions } from "./strided.ts";

/**
 * The selection from one dimension.
 *
 * - an integer: that element, and the dimension is dropped; a negative one counts from the end
 * - `[start, stop, step]`: from `start` (default 0) to before `stop` (default the end), every `step`-th (default 1);
 *   negative bounds count from the end, bounds beyond the dimension are clamped, and the result may be empty
 * - `null`: all of it
 * - `"..."`: all dimensions that the other slices do not select from; allowed once
 */
export type SliceIndex =
  | number
  | null
  | "..."
  | readonly [
    start?: number | null | undefined,
    stop?: number | null | undefined,
    step?: number | null | undefined,
  ];

/** The facts of a tensor that a slice needs. */
export interface SliceSource {
  /** Its name, for messages. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /** Its dimensions, outermost first. */
  readonly shape: readonly number[];
}

/** The position of a slice's bytes in its tensor: few runs as long as possible; one of 0 bytes for an empty result. */
export interface SliceLayout extends StridedRuns {
  /** The shape of the result. */
  readonly shape: readonly number[];
  /** The bytes of the result. */
  readonly byteLength: number;
}

/** The selected elements of one dimension. */
interface Range {
  readonly start: number;
  readonly count: number;
  readonly step: number;
  /** Whether an index selected it, which drops the dimension. */
  readonly dropped: boolean;
}

/**
 * Finds the bytes of a slice.
 *
 * @param source The tensor.
 * @param slices One for each dimension from the outermost on; further dimensions are whole.
 * @throws {SafeTensorsError} "TooManySlices" (also for a second "..."), "SliceOutOfRange" (an index, not a bound), or
 * "MisalignedSlice" (it would cut a byte of a sub-byte dtype).
 * @throws {RangeError} Where a step is not an integer from 1, or an index or bound not an integer.
 */
export function sliceLayout(source: SliceSource, slices: readonly SliceIndex[]): SliceLayout {
  const ranges = resolve(source, slices);
  const shape = Object.freeze(ranges.filter((range) => !range.dropped).map((range) => range.count));
  if (shape.includes(0)) return { shape, byteLength: 0, offset: 0, run: 0, levels: [] };

  // In bits, from the innermost dimension outwards.
  const bits = dtypeBits(source.dtype);
  let offset = 0, pitch = bits;
  const dimensions: Level[] = [];
  for (let dimension = ranges.length - 1; dimension >= 0; dimension--) {
    const { start, count, step } = ranges[dimension]!;
    offset += start * pitch;
    dimensions.unshift({ count, stride: step * pitch });
    pitch *= source.shape[dimension]!;
  }
  const { run, levels } = mergeDimensions(dimensions, bits);
  if ([offset, run, ...levels.map((level) => level.stride)].some((position) => position % 8 !== 0)) {
    const detail = `it would cut a byte, as an element of ${source.dtype} takes ${bits} bits`;
    throw sliceError("MisalignedSlice", source, detail);
  }
  const repetitions = levels.reduce((product, level) => product * level.count, 1);
  return {
    shape,
    byteLength: repetitions * run / 8,
    offset: offset / 8,
    run: run / 8,
    levels: levels.map(({ count, stride }) => ({ count, stride: stride / 8 })),
  };
}

/** One range for each dimension. */
function resolve(source: SliceSource, slices: readonly SliceIndex[]): Range[] {
  const rank = source.shape.length;
  const ellipses = slices.filter((slice) => slice === "...").length;
  if (ellipses > 1) throw sliceError("TooManySlices", source, `"..." is allowed once, ${ellipses} given`);
  const given = slices.length - ellipses;
  if (given > rank) {
    throw sliceError("TooManySlices", source, `${given} slices given, the tensor has ${rank} dimensions`);
  }
  const at = ellipses === 0 ? slices.length : slices.indexOf("...");
  const whole = new Array<null>(rank - given).fill(null);
  const all = [...slices.slice(0, at), ...whole, ...slices.slice(at + 1)];
  return all.map((slice, dimension) => resolveOne(source, slice, dimension));
}

function resolveOne(source: SliceSource, slice: SliceIndex, dimension: number): Range {
  const length = source.shape[dimension]!;
  if (slice === null) return { start: 0, count: length, step: 1, dropped: false };
  if (typeof slice === "number") {
    const start = checkInteger(source, slice, "index");
    const index = start < 0 ? start + length : start;
    if (index < 0 || index >= length) {
      const detail = `index ${slice} is outside of dimension ${dimension}, which has ${length} elements`;
      throw sliceError("SliceOutOfRange", source, detail);
    }
    return { start: index, count: 1, step: 1, dropped: true };
  }
  if (!Array.isArray(slice)) {
    const given = typeof slice === "string" ? quote(slice) : String(slice);
    const wanted = 'an index, null, "..." or [start, stop, step]';
    throw new TypeError(
      `Cannot slice tensor ${quote(source.name)}: slice ${dimension + 1} must be ${wanted}, got ${given}`,
    );
  }
  const [first, last, every] = slice;
  const step = checkInteger(source, every ?? 1, "step");
  if (step < 1) {
    throw new RangeError(`Cannot slice tensor ${quote(source.name)}: step ${step} is not positive`);
  }
  const start = clampBound(checkInteger(source, first ?? 0, "start"), length);
  const stop = clampBound(checkInteger(source, last ?? length, "stop"), length);
  return { start, count: Math.max(0, Math.ceil((stop - start) / step)), step, dropped: false };
}

/** A bound within the dimension. */
function clampBound(bound: number, length: number): number {
  return bound < 0 ? Math.max(0, bound + length) : Math.min(bound, length);
}

function checkInteger(source: SliceSource, value: number, what: string): number {
  if (Number.isInteger(value)) return value;
  throw new RangeError(`Cannot slice tensor ${quote(source.name)}: ${what} ${value} is not an integer`);
}

function sliceError(code: SafeTensorsErrorCode, { name }: SliceSource, detail: string): SafeTensorsError {
  return new SafeTensorsError(code, `Cannot slice tensor ${quote(name)}: ${detail}`, { tensor: name });
}

/**
 * The block of a tensor that a rank of a group holds: `ceil(n / size)` of the `n` elements of a dimension, so that all
 * ranks but the last ones, which hold fewer or none, hold the same.
 *
 * @param shape The shape of the whole tensor.
 * @param dimension The dimension to divide, from 0.
 * @param rank The rank, from 0 to `size - 1`.
 * @param size The number of ranks.
 * @returns The block's first element and the one after its last.
 * @throws {RangeError} If the dimension or the rank does not exist.
 */
export function shardSlice(
  shape: readonly number[],
  dimension: number,
  rank: number,
  size: number,
): { start: number; stop: number } {
  const length = shape[dimension];
  if (length === undefined) {
    throw new RangeError(`Cannot shard along dimension ${dimension}: the tensor has ${shape.length}`);
  }
  if (!Number.isInteger(size) || !Number.isInteger(rank) || rank < 0 || rank >= size) {
    throw new RangeError(`Cannot shard for rank ${rank} of ${size}: ranks are 0 to size - 1`);
  }
  const block = Math.ceil(length / size);
  return { start: Math.min(rank * block, length), stop: Math.min((rank + 1) * block, length) };
}

/**
 * The slices that cut out one rank's part of a tensor: see {@linkcode shardSlice}.
 *
 * @throws {RangeError} if the dimension or the rank does not exist
 */
export function rankSlices(
  { name, shape }: Pick<SliceSource, "name" | "shape">,
  dimension: number,
  rank: number,
  size: number,
): SliceIndex[] {
  if (!Number.isInteger(dimension) || dimension < 0 || dimension >= shape.length) {
    const range = shape.length === 0 ? "it has no dimensions" : `its dimensions are 0 to ${shape.length - 1}`;
    throw new RangeError(
      `Cannot shard tensor ${quote(name)} of shape [${shape}] along dimension ${dimension}: ${range}`,
    );
  }
  const { start, stop } = shardSlice(shape, dimension, rank, size);
  return [...shape.slice(0, dimension).map(() => null), [start, stop]];
}
