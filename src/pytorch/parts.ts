/**
 * The bytes of a checkpoint's tensor part by part, so that a tensor of any size passes through little memory.
 */
import type { Engine } from "../load/engine.ts";
import type { SourceFile } from "../files/source.ts";
import type { CheckpointTensor } from "./checkpoint.ts";
import { liesReady, tensorBytes } from "./checkpoint_tensor.ts";
import { openStorage } from "./storage_bytes.ts";
import { stridedBlocks } from "./strided.ts";
import { applyTransforms, copyPiece } from "./strided_copy.ts";

/** Bytes of one read of what lies ready, and how many are on their way at once. */
const PART = 8 * 2 ** 20, AHEAD = 4;

/** Bytes of one block of what has to be put together, and of one read for it. */
const BLOCK = 64 * 2 ** 20, SPAN = 2 ** 20;

/** Memory for parts that is used again and again: to touch new memory costs more than to read into it. */
export class PartPool {
  readonly #engine: Engine;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Memory of this length. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const whole = length > PART ? undefined : this.#free.pop();
    if (whole) return whole.subarray(0, length);
    const { buffer, base } = this.#engine.allocate(Math.max(length, PART));
    return new Uint8Array(buffer, base, length);
  }

  /** Takes memory back that nobody reads or writes any more. */
  giveBack({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
    if (byteLength <= PART) this.#free.push(new Uint8Array(buffer, byteOffset, PART));
  }
}

/**
 * The elements of a tensor in order, contiguous and little-endian, in parts of whole elements. Whoever takes a part
 * gives it back to the pool.
 */
export function tensorParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  return liesReady(tensor) ? readyParts(tensor, file, pool) : assembledParts(tensor, file, pool);
}

async function* readyParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const total = tensorBytes(tensor);
  const reads: Promise<Uint8Array<ArrayBuffer>>[] = [];
  const read = async (offset: number) => {
    const bytes = pool.take(Math.min(PART, total - offset));
    await file.read(tensor.fileOffset + offset, bytes);
    return bytes;
  };
  let next = 0;
  try {
    for (let at = 0; at < total; at += PART) {
      for (; next < total && reads.length < AHEAD; next += PART) {
        const started = read(next);
        started.catch(() => {}); // told when its turn comes
        reads.push(started);
      }
      yield await reads.shift()!;
    }
  } finally {
    await Promise.allSettled(reads); // the file may be closed after this
  }
}

async function* assembledParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const span = new Uint8Array(SPAN);
  const storage = await openStorage(file, tensor);
  for (const block of stridedBlocks(tensor, SPAN, BLOCK)) {
    const target = pool.take(block.byteLength);
    for (const piece of block.pieces) {
      const bytes = span.subarray(0, piece.byteLength);
      await storage.read(piece.fileOffset, bytes);
      copyPiece(bytes, piece, target);
    }
    applyTransforms(target, tensor.dtype, tensor);
    yield target;
  }
}
