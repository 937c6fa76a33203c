/**
 * Makes views with any strides contiguous, with little memory and few reads.
 *
 * The contiguous tensor is made block by block, in its own order. A block consists of pieces: each reads one
 * range of the file, its span, and scatters the needed bytes of it over the block. Within a block, pieces have
 * the order of the file, for any order of the dimensions: a transposed matrix whose block is the whole
 * tensor is read once, from front to back. Gaps up to 64 KiB are read too, larger ones are skipped.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { CheckpointTensor } from "./storages.ts";

/** A block of the contiguous tensor, and its pieces. */
interface StridedBlock {
  /** Its offset in the contiguous tensor, in bytes. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly byteLength: number;
  /** Its pieces, in the order of the file; together they write each of its bytes once. */
  readonly pieces: Iterable<StridedPiece>;
}

/** One read, and the destination of its bytes. */
interface StridedPiece {
  /** The file offset of its span. */
  readonly fileOffset: number;
  /** The length of its span in bytes. */
  readonly byteLength: number;
  /** The offset of its first run in the block, in bytes. */
  readonly destOffset: number;
  /** Bytes of one run, contiguous in the span and in the block. */
  readonly run: number;
  /** Repetitions of the run, outermost first. */
  readonly levels: readonly StridedLevel[];
}

/** `count` repetitions of the inner levels. */
interface StridedLevel {
  /** The number of repetitions. */
  readonly count: number;
  /** Bytes in the span from one to the next; 0 if the same bytes are repeated. */
  readonly stride: number;
  /** Bytes in the block from one to the next. */
  readonly destStride: number;
}

/** Gaps up to this many bytes between two runs are read too, because a second read costs more. */
const GAP_BYTES = 2 ** 16;

/** Smaller blocks could not hold one element of every dtype. */
const MIN_BLOCK_BYTES = 16;

/**
 * The blocks that make `tensor` contiguous, in order; none for an empty tensor.
 *
 * @param tensor any tensor; a contiguous one too
 * @param spanBytes the longest read, from 16
 * @param blockBytes the longest block, from 16; `Infinity` for one block, which causes the fewest reads if the
 * whole tensor is in memory anyway
 */
export function* stridedBlocks(
  tensor: CheckpointTensor,
  spanBytes: number,
  blockBytes: number = spanBytes,
): Generator<StridedBlock> {
  for (const bytes of [spanBytes, blockBytes]) {
    if (!(bytes >= MIN_BLOCK_BYTES)) {
      throw new RangeError(`Cannot read in blocks of ${bytes} bytes: at least ${MIN_BLOCK_BYTES} expected`);
    }
  }
  if (tensor.shape.includes(0)) return;
  const { element, dims } = dimensionsOf(tensor);
  const [outer, inner] = splitBlocks(dims, element, blockBytes);
  for (const box of boxes(outer)) {
    const levels = box.levels.concat(inner);
    const byteLength = levels.reduce((bytes, { count }) => bytes * count, element);
    const fileOffset = tensor.fileOffset + box.source;
    yield { offset: box.dest, byteLength, pieces: pieces(levels, element, fileOffset, spanBytes) };
  }
}

/**
 * The dimensions of `tensor` as levels over the whole of it: without those of size 1, and with contiguous ones
 * merged.
 */
function dimensionsOf(
  { shape, strides, dtype }: CheckpointTensor,
): { element: number; dims: StridedLevel[] } {
  // An F4 tensor is contiguous, so it is handled as bytes.
  const packed = dtypeBits(dtype) < 8;
  const element = packed ? 1 : dtypeBits(dtype) / 8;
  const dims: StridedLevel[] = [];
  let destStride = element;
  for (let i = shape.length - 1; i >= 0; i--) {
    const innermost = i === shape.length - 1;
    const count = packed && innermost ? shape[i]! / 2 : shape[i]!;
    const stride = (packed && !innermost ? strides[i]! / 2 : strides[i]!) * element;
    if (count !== 1) {
      const inside = dims[0];
      if (inside !== undefined && stride === inside.stride * inside.count) {
        dims[0] = { ...inside, count: inside.count * count };
      } else {
        dims.unshift({ count, stride, destStride });
      }
    }
    destStride *= count;
  }
  return { element, dims };
}

/** A level whose steps are divided into chunks of `chunk` steps. */
interface Chunked extends StridedLevel {
  readonly chunk: number;
}

/** Splits dimensions into those between blocks and those inside each block. */
function splitBlocks(
  dims: readonly StridedLevel[],
  element: number,
  blockBytes: number,
): [Chunked[], StridedLevel[]] {
  let bytes = element;
  let whole = dims.length;
  while (whole > 0 && bytes * dims[whole - 1]!.count <= blockBytes) bytes *= dims[--whole]!.count;
  const outer = dims.slice(0, whole).map((dim, i) => {
    return { ...dim, chunk: i === whole - 1 ? Math.floor(blockBytes / bytes) : 1 };
  });
  return [outer, dims.slice(whole)];
}

/** The pieces of a block whose dimensions are `levels`: one span if it fits, else several. */
function* pieces(
  levels: readonly StridedLevel[],
  element: number,
  fileOffset: number,
  spanBytes: number,
): Generator<StridedPiece> {
  // In the order of the file; steps with stride 0 in the order of the block.
  const sorted = levels.toSorted((a, b) => b.stride - a.stride || b.destStride - a.destStride);
  let span = element;
  let whole = sorted.length;
  let chunk = 1;
  for (; whole > 0; whole--) {
    const { count, stride } = sorted[whole - 1]!;
    if (stride - span > GAP_BYTES) break;
    if (span + (count - 1) * stride > spanBytes) {
      chunk = Math.max(1, Math.floor((spanBytes - span) / stride) + 1);
      break;
    }
    span += (count - 1) * stride;
  }
  const outer = sorted.slice(0, whole).map((level, i) => ({ ...level, chunk: i === whole - 1 ? chunk : 1 }));
  const inner = sorted.slice(whole);
  for (const box of boxes(outer)) {
    const taken = box.levels.concat(inner);
    const byteLength = taken.reduce((bytes, { count, stride }) => bytes + (count - 1) * stride, element);
    const repeats = runsOf(taken, element);
    yield { fileOffset: fileOffset + box.source, byteLength, destOffset: box.dest, ...repeats };
  }
}

/** Merges levels that are contiguous both in the span and in the block into one long run. */
function runsOf(
  levels: readonly StridedLevel[],
  element: number,
): { run: number; levels: readonly StridedLevel[] } {
  const at = levels.findIndex(({ stride, destStride }) => stride === element && destStride === element);
  if (at < 0) return { run: element, levels };
  return { run: element * levels[at]!.count, levels: levels.toSpliced(at, 1) };
}

/** The boxes of `levels` when each advances by its chunk, the last one fastest. */
function* boxes(
  levels: readonly Chunked[],
): Generator<{ levels: StridedLevel[]; source: number; dest: number }> {
  const index = levels.map(() => 0);
  for (;;) {
    let source = 0;
    let dest = 0;
    const box: StridedLevel[] = [];
    levels.forEach(({ count, stride, destStride, chunk }, i) => {
      source += index[i]! * stride;
      dest += index[i]! * destStride;
      const taken = Math.min(chunk, count - index[i]!);
      if (taken > 1) box.push({ count: taken, stride, destStride });
    });
    yield { levels: box, source, dest };
    let i = levels.length - 1;
    for (; i >= 0; i--) {
      index[i]! += levels[i]!.chunk;
      if (index[i]! < levels[i]!.count) break;
      index[i] = 0;
    }
    if (i < 0) return;
  }
}

/* ---- The bytes of strided views: copies of a span to its block, and the transformations that PyTorch postponed
 * ---- */

type Units = Uint8Array | Uint16Array | Uint32Array;

/** From this length on, a run is copied by `set()` instead of a loop. */
const LONG_RUN_BYTES = 64;

/**
 * The steps of the innermost level in one tile, so that a transposition uses each cache line while it is in the
 * cache.
 */
const TILE = 32;

/** The second level of a piece that has only one. */
const ONCE: StridedLevel = { count: 1, stride: 0, destStride: 0 };

/**
 * Copies the bytes that `piece` needs from its span to their places in its block.
 *
 * @param span the bytes at `piece.fileOffset`, `piece.byteLength` of them
 * @param piece of a {@linkcode StridedBlock}
 * @param block the bytes of that block
 */
export function copyPiece(span: Uint8Array, piece: StridedPiece, block: Uint8Array): void {
  const { run, levels, destOffset } = piece;
  if (run >= LONG_RUN_BYTES || levels.length === 0) {
    return copyRuns(span, block, run, levels, 0, 0, destOffset);
  }
  const unit = commonUnit(span, piece, block);
  const inUnit = levels.map(({ count, stride, destStride }) => {
    return { count, stride: stride / unit, destStride: destStride / unit };
  });
  if (inUnit.length === 1) inUnit.unshift(ONCE);
  copyUnits(inUnits(span, unit), inUnits(block, unit), run / unit, inUnit, 0, 0, destOffset / unit);
}

/** Copies runs of bytes, repeated by `levels` from `depth` on. */
function copyRuns(
  span: Uint8Array,
  block: Uint8Array,
  run: number,
  levels: readonly StridedLevel[],
  depth: number,
  source: number,
  dest: number,
): void {
  const level = levels[depth];
  if (level === undefined) {
    block.set(span.subarray(source, source + run), dest);
    return;
  }
  for (let i = 0; i < level.count; i++) {
    copyRuns(span, block, run, levels, depth + 1, source + i * level.stride, dest + i * level.destStride);
  }
}

/** Copies runs of units, repeated by two or more `levels` from `depth` on. */
function copyUnits(
  span: Units,
  block: Units,
  run: number,
  levels: readonly StridedLevel[],
  depth: number,
  source: number,
  dest: number,
): void {
  const outer = levels[depth]!;
  if (depth < levels.length - 2) {
    for (let i = 0; i < outer.count; i++) {
      copyUnits(span, block, run, levels, depth + 1, source + i * outer.stride, dest + i * outer.destStride);
    }
    return;
  }
  const { count, stride, destStride } = levels[depth + 1]!;
  for (let start = 0; start < count; start += TILE) {
    const steps = Math.min(TILE, count - start);
    for (let i = 0; i < outer.count; i++) {
      const from = source + i * outer.stride + start * stride;
      const to = dest + i * outer.destStride + start * destStride;
      if (run === 1) {
        for (let j = 0; j < steps; j++) block[to + j * destStride] = span[from + j * stride]!;
      } else {
        for (let j = 0; j < steps; j++) {
          for (let k = 0; k < run; k++) block[to + j * destStride + k] = span[from + j * stride + k]!;
        }
      }
    }
  }
}

/** The largest unit that divides every run, step and start. */
function commonUnit(span: Uint8Array, piece: StridedPiece, block: Uint8Array): 1 | 2 | 4 {
  const measures = [span.byteOffset, span.byteLength, block.byteOffset, block.byteLength];
  measures.push(piece.run, piece.destOffset);
  for (const { stride, destStride } of piece.levels) measures.push(stride, destStride);
  const units = [4, 2] as const;
  return units.find((unit) => measures.every((measure) => measure % unit === 0)) ?? 1;
}

function inUnits({ buffer, byteOffset, byteLength }: Uint8Array, unit: 1 | 2 | 4): Units {
  switch (unit) {
    case 4:
      return new Uint32Array(buffer, byteOffset, byteLength / 4);
    case 2:
      return new Uint16Array(buffer, byteOffset, byteLength / 2);
    case 1:
      return new Uint8Array(buffer, byteOffset, byteLength);
  }
}

/** The remaining transformations of the bytes of a {@linkcode CheckpointTensor}. */
type PendingTransforms = Pick<CheckpointTensor, "byteSwap" | "conjugate" | "negative">;

/**
 * Applies the remaining transformations in place: reverses the bytes of each component, then flips the signs
 * of conjugates and negatives.
 *
 * @param bytes whole elements
 * @param dtype their type; F16, BF16, F32, F64 or C64 if they must be negated
 * @param pending the transformations
 */
export function applyTransforms(bytes: Uint8Array, dtype: DType, pending: PendingTransforms): void {
  const { byteSwap, conjugate, negative } = pending;
  if (byteSwap > 0) swapBytes(bytes, byteSwap);
  if (dtype !== "C64") {
    if (negative) turnSigns(bytes, dtypeBits(dtype) / 8, dtypeBits(dtype) / 8 - 1);
    return;
  }
  if (negative) turnSigns(bytes, 8, 3);
  // The negative of a conjugate has the original imaginary part.
  if (conjugate !== negative) turnSigns(bytes, 8, 7);
}

function swapBytes(bytes: Uint8Array, size: number): void {
  for (let start = 0; start + size <= bytes.length; start += size) {
    for (let low = start, high = start + size - 1; low < high; low++, high--) {
      const byte = bytes[low]!;
      bytes[low] = bytes[high]!;
      bytes[high] = byte;
    }
  }
}

/** Flips the highest bit of the byte at `signAt` in each element of `size` bytes. */
function turnSigns(bytes: Uint8Array, size: number, signAt: number): void {
  for (let i = signAt; i < bytes.length; i += size) bytes[i]! ^= 0x80;
}
