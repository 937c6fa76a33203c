/**
 * Reads views with any strides as contiguous tensors, with little memory and few reads, and applies the
 * transformations that PyTorch postponed.
 */
import { type DType, dtypeBits } from "../base/dtype.ts";
import { Turn } from "../base/turn.ts";
import type { SourceFile } from "../files/source.ts";
import {
  cutCopy,
  denseCopy,
  mergeDimensions,
  type StridedCopy,
  type StridedRead,
  stridedReads,
} from "../format/strided.ts";
import { readStrided } from "../load/strided_reads.ts";
import type { CheckpointTensor } from "./storages.ts";

/** Bytes of one read. */
const SPAN = 2 ** 20;

/** Gaps up to this many bytes between two runs are read too, because a second read costs more. */
const GAP_BYTES = 2 ** 16;

/** Bytes that are transformed in one turn of the event loop. */
const TURN_BYTES = 2 ** 19;

/**
 * The blocks of a tensor, in the order of its indices, as copies from the file to the contiguous tensor; none for an
 * empty tensor.
 *
 * @param blockBytes the longest block; `Infinity` for one block, which causes the fewest reads if the whole tensor is in
 * memory anyway
 */
export function* viewBlocks(
  tensor: CheckpointTensor,
  blockBytes: number,
): Generator<StridedCopy, void, void> {
  const { shape, strides, dtype, fileOffset } = tensor;
  if (shape.includes(0)) return;
  const bits = dtypeBits(dtype);
  const dimensions = shape.map((count, i) => ({ count, stride: strides[i]! * bits }));
  const { run, levels } = mergeDimensions(dimensions, bits);
  const inBytes = levels.map(({ count, stride }) => ({ count, stride: stride / 8 }));
  const copy = denseCopy({ offset: fileOffset, run: run / 8, levels: inBytes });
  yield* cutCopy(copy, blockBytes, elementBytes(dtype));
}

/** The reads of a block of {@linkcode viewBlocks}, and the copies of their bytes to the memory of the block. */
export function blockReads(
  { dtype }: CheckpointTensor,
  block: StridedCopy,
  spanBytes: number,
): Iterable<StridedRead> {
  return stridedReads({ ...block, targetOffset: 0 }, spanBytes, GAP_BYTES, elementBytes(dtype));
}

/** The bytes of an element; 1 for F4, whose tensors are contiguous. */
function elementBytes(dtype: DType): number {
  return Math.max(1, dtypeBits(dtype) / 8);
}

/**
 * Reads a block of a tensor: its elements in order, little-endian.
 *
 * @param storage the storage of the tensor
 * @param target the memory of the block, `block.byteLength` bytes
 */
export async function readBlock(
  storage: Pick<SourceFile, "read">,
  tensor: CheckpointTensor,
  block: StridedCopy,
  target: Uint8Array<ArrayBuffer>,
  signal?: AbortSignal,
): Promise<void> {
  await readStrided(storage, blockReads(tensor, block, SPAN), target, signal);
  const turn = new Turn();
  for (let at = 0; at < target.length; at += TURN_BYTES) {
    await turn.pause();
    applyTransforms(target.subarray(at, at + TURN_BYTES), tensor.dtype, tensor);
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
