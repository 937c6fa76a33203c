/**
 * How a view with any strides becomes contiguous, with little memory and few reads.
 *
 * The contiguous tensor is made block by block, in its own order. A block is made of pieces: each reads one
 * range of the file, its span, and scatters what it needs of it over the block. Within a block, pieces follow
 * the order of the file, whatever the order of the dimensions: a transposed matrix whose block is the whole
 * tensor is read once, from front to back. Gaps up to 64 KiB are read along, larger ones are skipped.
 */
import { dtypeBits } from "../base/dtype.ts";
import type { CheckpointTensor } from "./checkpoint_tensor.ts";

/** A block of the contiguous tensor, and what it is made of. */
export interface StridedBlock {
  /** Where it starts in the contiguous tensor, in bytes. */
  readonly offset: number;
  /** Its length in bytes. */
  readonly byteLength: number;
  /** Its pieces, in the order of the file; together they write each of its bytes once. */
  readonly pieces: Iterable<StridedPiece>;
}

/** One read, and where its bytes go. */
export interface StridedPiece {
  /** Where its span starts in the file. */
  readonly fileOffset: number;
  /** The length of its span in bytes: what is to be read. */
  readonly byteLength: number;
  /** Where its first run goes in the block, in bytes. */
  readonly destOffset: number;
  /** Bytes of one run, contiguous in the span and in the block. */
  readonly run: number;
  /** Repetitions of the run, outermost first. */
  readonly levels: readonly StridedLevel[];
}

/** Repetitions of what is inside: `count` of them. */
export interface StridedLevel {
  /** How many. */
  readonly count: number;
  /** Bytes in the span from one to the next; 0 where the same bytes are repeated. */
  readonly stride: number;
  /** Bytes in the block from one to the next. */
  readonly destStride: number;
}

/** The gap between two runs that is read along rather than skipped: a read of its own costs more. */
const GAP_BYTES = 2 ** 16;

/** Smaller blocks could not hold one element of every dtype. */
const MIN_BLOCK_BYTES = 16;

/**
 * The blocks that make `tensor` contiguous, in order; none for an empty tensor.
 *
 * @param tensor any tensor; a contiguous one too
 * @param spanBytes the longest read, from 16
 * @param blockBytes the longest block, from 16; `Infinity` for one block, which reads least where the whole
 * tensor is in memory anyway
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
 * The dimensions of `tensor` as levels over the whole of it: those of size 1 dropped, those that continue
 * merged.
 */
function dimensionsOf(
  { shape, strides, dtype }: CheckpointTensor,
): { element: number; dims: StridedLevel[] } {
  // An F4 tensor is contiguous: it is taken as its bytes.
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

/** A level of which only some steps are taken at a time: `chunk` of them. */
interface Chunked extends StridedLevel {
  readonly chunk: number;
}

/** Splits dimensions into those walked from block to block and those whole in each block. */
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

/** The pieces of a block whose dimensions are `levels`: one span where it fits, else several. */
function* pieces(
  levels: readonly StridedLevel[],
  element: number,
  fileOffset: number,
  spanBytes: number,
): Generator<StridedPiece> {
  // In the order of the file, and where a step stays in place, in that of the block.
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

/** Takes the level that continues an element, in the span and in the block, as one long run. */
function runsOf(
  levels: readonly StridedLevel[],
  element: number,
): { run: number; levels: readonly StridedLevel[] } {
  const at = levels.findIndex(({ stride, destStride }) => stride === element && destStride === element);
  if (at < 0) return { run: element, levels };
  return { run: element * levels[at]!.count, levels: levels.toSpliced(at, 1) };
}

/** The boxes that `levels` fall into when each advances by its chunk, the last one fastest. */
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
