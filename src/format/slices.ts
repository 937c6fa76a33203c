/**
 * Slices of tensors, with NumPy's meaning: their bytes as a few nested repetitions of one contiguous run.
 */
import { SafeTensorsError, type SafeTensorsErrorCode } from "../base/errors.ts";
import { type DType, dtypeBits } from "../base/dtype.ts";
import { quote } from "../base/text.ts";

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

/** The position of a slice's bytes in its tensor. */
export interface SliceLayout {
  /** The shape of the result. */
  readonly shape: readonly number[];
  /** The bytes of the result. */
  readonly byteLength: number;
  /** The first byte, counted from the tensor's begin. */
  readonly offset: number;
  /** Contiguous bytes; 0 for an empty result. */
  readonly run: number;
  /**
   * How the run repeats, outermost first: `count` times, `stride` bytes apart. Levels are merged if possible: without
   * levels the result is one run.
   */
  readonly levels: readonly SliceLevel[];
}

/** One repetition in a {@linkcode SliceLayout}. */
export interface SliceLevel {
  /** Number of repetitions, at least 2. */
  readonly count: number;
  /** Bytes from one repetition to the next. */
  readonly stride: number;
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
  let offset = 0;
  let run = dtypeBits(source.dtype);
  const levels: { count: number; stride: number }[] = [];
  let pitch = run;
  for (let dimension = ranges.length - 1; dimension >= 0; dimension--) {
    const { start, count, step } = ranges[dimension]!;
    const stride = step * pitch;
    offset += start * pitch;
    pitch *= source.shape[dimension]!;
    if (count === 1) continue;
    const inner = levels[0];
    if (inner === undefined && stride === run) run *= count;
    else if (inner !== undefined && stride === inner.count * inner.stride) inner.count *= count;
    else levels.unshift({ count, stride });
  }
  if ([offset, run, ...levels.map((level) => level.stride)].some((bits) => bits % 8 !== 0)) {
    const bits = dtypeBits(source.dtype);
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
 * Splits a slice into slices of at most `bytes` each, in the order of the result. It yields at least one; a part of a
 * run is one run.
 */
export function* cutSlice(layout: SliceLayout, bytes: number): Generator<SliceLayout, void, void> {
  const { shape, byteLength, offset, run, levels } = layout;
  const [outer, ...inner] = levels;
  if (byteLength <= bytes) yield layout;
  else if (!outer) {
    for (let at = 0; at < run; at += bytes) {
      const length = Math.min(bytes, run - at);
      yield { shape, byteLength: length, offset: offset + at, run: length, levels };
    }
  } else {
    const length = byteLength / outer.count;
    const most = Math.max(1, Math.floor(bytes / length));
    for (let at = 0; at < outer.count; at += most) {
      const count = Math.min(most, outer.count - at);
      const start = offset + at * outer.stride;
      const rest = count === 1 ? inner : [{ count, stride: outer.stride }, ...inner];
      yield* cutSlice({ shape, byteLength: length * count, offset: start, run, levels: rest }, bytes);
    }
  }
}

/** The built-in `set` copies runs of this many units or more; for shorter runs its call costs more than the copy. */
const LONG_RUN = 128;

/**
 * Copies a slice out of its tensor.
 *
 * @param source The bytes of the whole tensor.
 * @param layout The position of the slice in them.
 * @param target The destination: `layout.byteLength` bytes that do not overlap the source.
 * @throws {RangeError} If the source ends before the slice does, or the target has another length.
 */
export function gatherSlice(source: Uint8Array, layout: SliceLayout, target: Uint8Array): void {
  const { byteLength, offset, run, levels } = layout;
  if (target.length !== byteLength) {
    throw new RangeError(
      `Cannot gather a slice: ${byteLength} bytes expected to fill, ${target.length} given`,
    );
  }
  const reach = levels.reduce((end, { count, stride }) => end + (count - 1) * stride, offset + run);
  if (source.length < reach) {
    throw new RangeError(`Cannot gather a slice: ${reach} bytes expected to read, ${source.length} given`);
  }
  // If all positions are aligned to the element size, units of that size make copies of short runs faster by this
  // factor.
  const positions = [
    source.byteOffset,
    target.byteOffset,
    offset,
    run,
    ...levels.map((level) => level.stride),
  ];
  const width = [4, 2, 1].find((size) => positions.every((position) => position % size === 0))!;
  const scaled = levels.map(({ count, stride }) => ({ count, stride: stride / width }));
  copyLevels(inUnits(source, width), offset / width, inUnits(target, width), 0, run / width, scaled, 0);
}

type Units = Uint8Array | Uint16Array | Uint32Array;

/** A view of aligned bytes as units of `width` bytes, without an incomplete last unit. */
function inUnits({ buffer, byteOffset, length }: Uint8Array, width: number): Units {
  const units = Math.floor(length / width);
  if (width === 4) return new Uint32Array(buffer, byteOffset, units);
  return width === 2 ? new Uint16Array(buffer, byteOffset, units) : new Uint8Array(buffer, byteOffset, units);
}

/** Copies the levels from `depth` on; returns the next position in the target. Positions are in units of the arrays. */
function copyLevels(
  from: Units,
  read: number,
  to: Units,
  write: number,
  run: number,
  levels: readonly SliceLevel[],
  depth: number,
): number {
  const { count, stride } = levels[depth] ?? { count: 1, stride: 0 };
  if (depth + 1 >= levels.length) {
    copyRuns(from, read, to, write, run, count, stride);
    return write + count * run;
  }
  for (let i = 0; i < count; i++) {
    write = copyLevels(from, read + i * stride, to, write, run, levels, depth + 1);
  }
  return write;
}

/** Copies `count` runs that are `stride` apart to adjacent positions. */
function copyRuns(
  from: Units,
  read: number,
  to: Units,
  write: number,
  run: number,
  count: number,
  stride: number,
): void {
  const end = write + count * run;
  if (run >= LONG_RUN) {
    for (; write < end; write += run, read += stride) to.set(from.subarray(read, read + run), write);
  } else if (run === 1) {
    for (; write < end; write++, read += stride) to[write] = from[read]!;
  } else {
    for (; write < end; write += run, read += stride) {
      for (let i = 0; i < run; i++) to[write + i] = from[read + i]!;
    }
  }
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
