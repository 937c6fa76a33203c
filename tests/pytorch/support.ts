/** Helpers of the tests in this folder: readers over memory, contiguous tensors, data files. */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../../src/base/errors.ts";
import type { ByteReader } from "../../src/pytorch/bytes.ts";
import {
  type Checkpoint,
  type CheckpointLimits,
  type CheckpointOptions,
  type CheckpointTensor,
  readCheckpoint,
} from "../../src/pytorch/checkpoint.ts";
import { openStorage } from "../../src/pytorch/storages.ts";
import type { SourceFile } from "../../src/files/source.ts";
import { copyStrided } from "../../src/format/strided.ts";
import { applyTransforms, blockReads, viewBlocks } from "../../src/pytorch/strided.ts";

/** A reader that records its reads. */
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
  const file = {
    ...reader,
    read: async (at: number, target: Uint8Array) => target.set(await reader.read(at, target.length)),
  };
  const storage = await openStorage(file as unknown as SourceFile, tensor);
  for (const block of viewBlocks(tensor, blockBytes)) {
    assertEquals(block.targetOffset, offset);
    assert(block.byteLength <= blockBytes);
    const bytes = new Uint8Array(block.byteLength);
    for (const { offset, byteLength, copy } of blockReads(tensor, block, spanBytes)) {
      assert(byteLength <= spanBytes);
      const read = new Uint8Array(byteLength);
      await storage.read(offset, read);
      copyStrided(read, copy, bytes);
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

type Expected = Record<string, { dtype: string; shape: number[]; sha256: string }>;

/** Reads a checkpoint of the tests' data; returns it and the reader. */
export async function load(url: URL, options: CheckpointOptions = {}): Promise<[Checkpoint, MemoryReader]> {
  const reader = memoryReader(await Deno.readFile(url), url.pathname);
  return [await readCheckpoint(reader, options), reader];
}

/**
 * Fails unless every tensor of the file has the name, dtype, shape and contiguous bytes that PyTorch reports.
 */
export async function assertMatches(
  url: URL,
  expectedUrl: URL,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const expected: Expected = JSON.parse(await Deno.readTextFile(expectedUrl));
  const [checkpoint, reader] = await load(url, options);
  assertEquals([...checkpoint.tensors.keys()], Object.keys(expected));
  for (const [name, { dtype, shape, sha256: digest }] of Object.entries(expected)) {
    const found = checkpoint.tensors.get(name)!;
    assertEquals([found.name, found.dtype, found.shape], [name, dtype, shape]);
    // Tiny blocks split the tensors at every position; one large block reads them whole.
    for (const [span, block] of [[2 ** 20, Infinity], [64, 64], [16, 32], [1000, 24]] as const) {
      const bytes = await contiguousBytes(reader, found, span, block);
      assertEquals(await sha256(bytes), digest, `${name} by spans of ${span} and blocks of ${block}`);
    }
  }
  return checkpoint;
}

/** The folder of small checkpoints by PyTorch, each for one feature. */
export const OWN_DATA: URL = new URL("../data/checkpoints/", import.meta.url);

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
