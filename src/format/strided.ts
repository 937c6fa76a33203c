/**
 * Strided copies: the runs of bytes of a tensor with any strides, how to cut them into parts, how to read them with few
 * reads, and the loop that copies them. Slices, parts of ranks, views of PyTorch and joins are such copies.
 */
import type { Level, StridedRuns } from "../base/levels.ts";

/** Repetitions in the source and in the target. */
export interface CopyLevel extends Level {
  /** Bytes in the target from one repetition to the next. */
  readonly targetStride: number;
}

/** A copy of runs from a source to a target; it writes each byte of the target at most once. */
export interface StridedCopy extends StridedRuns {
  /** The bytes that it copies. */
  readonly byteLength: number;
  /** The offset of the first run in the target. */
  readonly targetOffset: number;
  /** Repetitions of the run, outermost first. A stride of 0 repeats the same bytes of the source. */
  readonly levels: readonly CopyLevel[];
}

/** One read of a source, and the copy of its bytes. */
export interface StridedRead {
  /** The offset of the read in the source. */
  readonly offset: number;
  /** The bytes to read. */
  readonly byteLength: number;
  /** The copy from these bytes to the target. */
  readonly copy: StridedCopy;
}

/**
 * Describes the elements of a tensor, in the order of its indices, by one run and as few levels as possible.
 *
 * @param dimensions the dimensions, outermost first: their lengths, from 1, and strides
 * @param element the size of one element, in the unit of the strides: bits or bytes
 */
export function mergeDimensions(
  dimensions: readonly Level[],
  element: number,
): { run: number; levels: Level[] } {
  let run = element;
  const levels: { count: number; stride: number }[] = [];
  for (const { count, stride } of dimensions.toReversed()) {
    if (count === 1) continue;
    const inner = levels[0];
    if (inner === undefined && stride === run) run *= count;
    else if (inner !== undefined && stride === inner.count * inner.stride) inner.count *= count;
    else levels.unshift({ count, stride });
  }
  return { run, levels };
}

/** Describes the copy of runs to the begin of a target, one after another. */
export function denseCopy({ offset, run, levels }: StridedRuns): StridedCopy {
  let byteLength = run;
  const both: CopyLevel[] = [];
  for (const { count, stride } of levels.toReversed()) {
    both.unshift({ count, stride, targetStride: byteLength });
    byteLength *= count;
  }
  return { byteLength, offset, targetOffset: 0, run, levels: both };
}

/**
 * Cuts a copy in the order of its levels; an empty copy has no parts.
 *
 * @param bytes the most bytes of one part; a part has at least one element
 * @param element the bytes that stay together; a divisor of the run
 */
export function* cutCopy(copy: StridedCopy, bytes: number, element = 1): Generator<StridedCopy, void, void> {
  if (copy.byteLength === 0) return;
  if (copy.byteLength <= bytes) return yield copy;
  const levels = elementLevels(copy, element);
  let length = element, outer = levels.length;
  while (length * levels[outer - 1]!.count <= bytes) length *= levels[--outer]!.count;
  yield* boxes(copy, levels, outer, Math.floor(bytes / length), element);
}

/**
 * Plans reads for a copy, in the order of the source: a transposed matrix is read once, from front to back.
 *
 * @param spanBytes the most bytes of one read; a read has at least one element
 * @param gapBytes gaps up to this length are read too, because a second read costs more
 * @param element the bytes that stay together; a divisor of the run
 */
export function* stridedReads(
  copy: StridedCopy,
  spanBytes: number,
  gapBytes: number,
  element = 1,
): Generator<StridedRead, void, void> {
  // Repetitions of the same bytes have the order of the target.
  const levels = elementLevels(copy, element)
    .sort((a, b) => b.stride - a.stride || b.targetStride - a.targetStride);
  let span = element, outer = levels.length, chunk = 1;
  for (; outer > 0; outer--) {
    const { count, stride } = levels[outer - 1]!;
    if (stride - span > gapBytes) break;
    if (span + (count - 1) * stride > spanBytes) {
      chunk = Math.floor((spanBytes - span) / stride) + 1;
      break;
    }
    span += (count - 1) * stride;
  }
  for (const part of boxes(copy, levels, outer, chunk, element)) {
    const byteLength = part.levels.reduce((end, { count, stride }) => end + (count - 1) * stride, part.run);
    yield { offset: part.offset, byteLength, copy: { ...part, offset: 0 } };
  }
}

/** The levels of a copy with its run as the innermost level of elements. */
function elementLevels({ run, levels }: StridedCopy, element: number): CopyLevel[] {
  const count = run / element;
  return count === 1 ? [...levels] : [...levels, { count, stride: element, targetStride: element }];
}

/**
 * The parts of a copy if each of its `outer` outermost levels advances by one step at a time, and the last of them by
 * `chunk` steps.
 */
function* boxes(
  copy: StridedCopy,
  levels: readonly CopyLevel[],
  outer: number,
  chunk: number,
  element: number,
): Generator<StridedCopy, void, void> {
  const steps = levels.slice(0, outer).map((_, i) => i === outer - 1 ? Math.max(1, chunk) : 1);
  const index = steps.map(() => 0);
  const inner = levels.slice(outer);
  for (;;) {
    let { offset, targetOffset } = copy;
    const taken: CopyLevel[] = [];
    for (const [i, step] of steps.entries()) {
      const level = levels[i]!;
      offset += index[i]! * level.stride;
      targetOffset += index[i]! * level.targetStride;
      const count = Math.min(step, level.count - index[i]!);
      if (count > 1) taken.push({ ...level, count });
    }
    yield { ...mergeElements([...taken, ...inner], element), offset, targetOffset };
    let i = outer - 1;
    for (; i >= 0; i--) {
      index[i]! += steps[i]!;
      if (index[i]! < levels[i]!.count) break;
      index[i] = 0;
    }
    if (i < 0) return;
  }
}

/** Makes a run of the level whose elements are neighbours in source and target. */
function mergeElements(
  levels: readonly CopyLevel[],
  element: number,
): Pick<StridedCopy, "byteLength" | "run" | "levels"> {
  const byteLength = levels.reduce((bytes, { count }) => bytes * count, element);
  const at = levels.findIndex(({ stride, targetStride }) => stride === element && targetStride === element);
  if (at < 0) return { byteLength, run: element, levels };
  return { byteLength, run: element * levels[at]!.count, levels: levels.toSpliced(at, 1) };
}

/** Yields the offset of every run, in the order of the levels. */
export function* runOffsets(offset: number, levels: readonly Level[]): Generator<number, void, void> {
  const [level, ...inner] = levels;
  if (!level) return yield offset;
  for (let i = 0; i < level.count; i++) yield* runOffsets(offset + i * level.stride, inner);
}

type Units = Uint8Array | Uint16Array | Uint32Array;

/** A level in units of an array. */
type UnitLevel = readonly [count: number, stride: number, targetStride: number];

/** The built-in `set` copies runs of this many units or more; for shorter runs its call costs more than the copy. */
const LONG_RUN = 128;

/** Steps of a level that a transposition takes at a time, so that it uses each cache line while it is in the cache. */
const TILE = 32;

/** A level that a copy with fewer than two levels has. */
const ONCE: UnitLevel = [1, 0, 0];

/**
 * Copies runs.
 *
 * @param source the bytes to which the offset and the strides of the copy refer
 * @param target the destination; it does not overlap the source
 * @throws {RangeError} if the source or the target ends before the copy does
 */
export function copyStrided(source: Uint8Array, copy: StridedCopy, target: Uint8Array): void {
  const { offset, targetOffset, run, levels } = copy;
  let end = offset + run, targetEnd = targetOffset + run;
  for (const { count, stride, targetStride } of levels) {
    end += (count - 1) * stride;
    targetEnd += (count - 1) * targetStride;
  }
  if (source.length < end) {
    throw new RangeError(`Cannot copy strided bytes: ${end} bytes expected to read, ${source.length} given`);
  }
  if (target.length < targetEnd) {
    throw new RangeError(
      `Cannot copy strided bytes: ${targetEnd} bytes expected to fill, ${target.length} given`,
    );
  }
  // If all positions are aligned to the element size, units of that size make copies of short runs faster by this
  // factor.
  const positions = [source.byteOffset, target.byteOffset, offset, targetOffset, run];
  for (const { stride, targetStride } of levels) positions.push(stride, targetStride);
  const width = [4, 2, 1].find((size) => positions.every((position) => position % size === 0))!;
  const inner = levels.map(({ count, stride, targetStride }): UnitLevel => {
    return [count, stride / width, targetStride / width];
  });
  while (inner.length < 2) inner.unshift(ONCE);
  const [from, to] = [inUnits(source, width), inUnits(target, width)];
  copyLevels(from, offset / width, to, targetOffset / width, run / width, inner, 0);
}

/** A view of aligned bytes as units of `width` bytes, without an incomplete last unit. */
function inUnits({ buffer, byteOffset, length }: Uint8Array, width: number): Units {
  const units = Math.floor(length / width);
  if (width === 4) return new Uint32Array(buffer, byteOffset, units);
  return width === 2 ? new Uint16Array(buffer, byteOffset, units) : new Uint8Array(buffer, byteOffset, units);
}

/** Copies the runs of the levels from `depth` on, of which there are two or more. */
function copyLevels(
  from: Units,
  read: number,
  to: Units,
  write: number,
  run: number,
  levels: readonly UnitLevel[],
  depth: number,
): void {
  const [count, stride, targetStride] = levels[depth]!;
  if (depth < levels.length - 2) {
    for (let i = 0; i < count; i++) {
      copyLevels(from, read + i * stride, to, write + i * targetStride, run, levels, depth + 1);
    }
    return;
  }
  const [steps, step, targetStep] = levels[depth + 1]!;
  const isTransposed = stride > step !== targetStride > targetStep;
  const tile = isTransposed && run < LONG_RUN ? TILE : steps;
  for (let start = 0; start < steps; start += tile) {
    const taken = Math.min(tile, steps - start);
    for (let i = 0; i < count; i++) {
      const at = read + i * stride + start * step;
      const targetAt = write + i * targetStride + start * targetStep;
      copyRuns(from, at, to, targetAt, run, taken, step, targetStep);
    }
  }
}

function copyRuns(
  from: Units,
  read: number,
  to: Units,
  write: number,
  run: number,
  count: number,
  stride: number,
  targetStride: number,
): void {
  if (run >= LONG_RUN) {
    for (let i = 0; i < count; i++, read += stride, write += targetStride) {
      to.set(from.subarray(read, read + run), write);
    }
  } else if (run === 1 && targetStride === 1) { // slices with a step; the loop below takes a third longer for them
    for (const end = write + count; write < end; write++, read += stride) to[write] = from[read]!;
  } else if (run === 1) {
    for (let i = 0; i < count; i++, read += stride, write += targetStride) to[write] = from[read]!;
  } else {
    for (let i = 0; i < count; i++, read += stride, write += targetStride) {
      for (let k = 0; k < run; k++) to[write + k] = from[read + k]!;
    }
  }
}
