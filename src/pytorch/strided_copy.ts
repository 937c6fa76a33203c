/**
 * The bytes of strided views: scattering a span over its block, and the transformations that PyTorch put off.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";
import type { CheckpointTensor } from "./checkpoint_tensor.ts";
import type { StridedLevel, StridedPiece } from "./strided.ts";

type Units = Uint8Array | Uint16Array | Uint32Array;

/** From this length on a run is copied by the engine rather than in a loop. */
const LONG_RUN_BYTES = 64;

/**
 * Steps of the innermost level taken together, so that a transposition meets each cache line while it is
 * warm.
 */
const TILE = 32;

/** Stands in for a second level where there is only one. */
const ONCE: StridedLevel = { count: 1, stride: 0, destStride: 0 };

/**
 * Copies what `piece` needs of its span to where it belongs in its block.
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

/** Copies runs of units, repeated by `levels` from `depth` on, of which there are two or more. */
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

/** The largest unit that every run, step and start is a multiple of. */
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

/** What is still to be done to the bytes of a {@linkcode CheckpointTensor}. */
export type PendingTransforms = Pick<CheckpointTensor, "byteSwap" | "conjugate" | "negative">;

/**
 * Does in place what the file left to its reader: reverses the bytes of each component, then turns the signs
 * of conjugates and negatives.
 *
 * @param bytes whole elements
 * @param dtype their type: to be negated, F16, BF16, F32, F64 or C64
 * @param pending what is to be done
 */
export function applyTransforms(bytes: Uint8Array, dtype: DType, pending: PendingTransforms): void {
  const { byteSwap, conjugate, negative } = pending;
  if (byteSwap > 0) swapBytes(bytes, byteSwap);
  if (dtype !== "C64") {
    if (negative) turnSigns(bytes, dtypeBits(dtype) / 8, dtypeBits(dtype) / 8 - 1);
    return;
  }
  if (negative) turnSigns(bytes, 8, 3);
  // The negative of a conjugate has the imaginary part it began with.
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

/** Turns the highest bit of the byte at `signAt` in each element of `size` bytes. */
function turnSigns(bytes: Uint8Array, size: number, signAt: number): void {
  for (let i = signAt; i < bytes.length; i += size) bytes[i]! ^= 0x80;
}
