/** What the tests of this folder share: readers over memory, tensors made contiguous, data files. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../../src/errors.ts";
import type { ByteReader } from "../../src/pytorch/byte_reader.ts";
import {
  type CheckpointLimits,
  type CheckpointTensor,
  readCheckpoint,
} from "../../src/pytorch/checkpoint.ts";
import { stridedBlocks } from "../../src/pytorch/strided.ts";
import { applyTransforms, copyPiece } from "../../src/pytorch/strided_copy.ts";

/** A reader that notes what is asked of it. */
export interface MemoryReader extends ByteReader {
  /** The reads: offset and length of each. */
  readonly reads: [number, number][];
}

/** A reader of `bytes`; a read beyond them is a mistake of the code under test, not of the file. */
export function memoryReader(bytes: Uint8Array, path = "memory.pt"): MemoryReader {
  const reads: [number, number][] = [];
  return {
    path,
    size: bytes.length,
    reads,
    read(offset, length) {
      reads.push([offset, length]);
      const inside = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 &&
        length >= 0 &&
        offset + length <= bytes.length;
      if (!inside) throw new Error(`Read of ${length} bytes at ${offset} of a file of ${bytes.length}`);
      return Promise.resolve(bytes.slice(offset, offset + length));
    },
  };
}

/**
 * The contiguous bytes of `tensor`, through blocks of at most `blockBytes` and spans of at most `spanBytes`.
 */
export async function contiguousBytes(
  reader: ByteReader,
  tensor: CheckpointTensor,
  spanBytes = 2 ** 20,
  blockBytes = spanBytes,
): Promise<Uint8Array<ArrayBuffer>> {
  const blocks: Uint8Array[] = [];
  let offset = 0;
  for (const block of stridedBlocks(tensor, spanBytes, blockBytes)) {
    assertEquals(block.offset, offset);
    assert(block.byteLength <= blockBytes);
    const bytes = new Uint8Array(block.byteLength);
    for (const piece of block.pieces) {
      assert(piece.byteLength <= spanBytes);
      copyPiece(await reader.read(piece.fileOffset, piece.byteLength), piece, bytes);
    }
    applyTransforms(bytes, tensor.dtype, tensor);
    blocks.push(bytes);
    offset += bytes.length;
  }
  return new Uint8Array(await new Blob(blocks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

/** The SHA-256 of `bytes` in hexadecimal. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Fails unless reading `bytes` as a checkpoint fails with `code` and a message that has all `parts`. */
export async function assertRefused(
  bytes: Uint8Array,
  code: SafeTensorsErrorCode,
  parts: string | readonly string[],
  limits: CheckpointLimits = {},
): Promise<void> {
  const error = await assertRejects(() => readCheckpoint(memoryReader(bytes), { limits }), SafeTensorsError);
  assertEquals(error.code, code, error.message);
  assertEquals(error.path, "memory.pt");
  assertStringIncludes(error.message, "memory.pt");
  for (const part of [parts].flat()) assertStringIncludes(error.message, part);
}

/** The folder of checkpoints written by PyTorch. */
export const PYTORCH_DATA: URL = new URL("../data/pytorch/", import.meta.url);

/** The folder of published models, which is not part of the repository. */
export const REAL_DATA: URL = new URL("../../../shared/data/real/", import.meta.url);

/** Whether a file is there. */
export function exists(url: URL): boolean {
  try {
    return Deno.statSync(url).isFile;
  } catch {
    return false;
  }
}
