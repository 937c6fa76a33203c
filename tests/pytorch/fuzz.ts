/**
 * Damaged checkpoints: each is read with its tensors inside the file, or rejected with a code, in short time.
 */
import { assert, assertEquals } from "@std/assert";
import { crc32 } from "node:zlib";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { type Checkpoint, readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import { blockReads, viewBlocks } from "../../src/pytorch/strided.ts";
import { readZipDirectory } from "../../src/pytorch/zip.ts";
import { processorTime } from "../support/process.ts";
import { little } from "./builders.ts";
import { memoryReader, PYTORCH_DATA } from "./support.ts";

const OWN_DATA = new URL("../data/checkpoints/", import.meta.url);

/** A valid file, and the ranges in which a checksum does not detect changes. */
interface Seed {
  bytes: Uint8Array;
  /** The pickle, or for a legacy file all of them. */
  pickle: [start: number, end: number];
  /** The offset from which the directory, or for a legacy file the storages, extend to the end. */
  directory: number;
  /** The offset of the pickle's checksum in the directory; -1 without one. */
  crcAt: number;
}

async function readSeed(url: URL): Promise<Seed> {
  const bytes = await Deno.readFile(url);
  const checkpoint = await readCheckpoint(memoryReader(bytes));
  if (checkpoint.container === "legacy") {
    const start = Math.min(...checkpoint.tensors.values().map(({ storageStart }) => storageStart));
    return { bytes, pickle: [0, start - 8], directory: start - 8, crcAt: -1 };
  }
  const { entries } = await readZipDirectory(memoryReader(bytes));
  const { dataStart, packedSize } = entries.values().find(({ name }) => name.endsWith("/data.pkl"))!;
  // PyTorch writes the pickle first, so its central header is at the start of the directory.
  const directory = new DataView(bytes.buffer).getUint32(bytes.length - 6, true);
  return { bytes, pickle: [dataStart, dataStart + packedSize], directory, crcAt: directory + 16 };
}

/** Boundary values. */
const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff];

/** Changes a few places of `bytes` between `start` and `end`. */
function mutate(bytes: Uint8Array, start: number, end: number, next: (below: number) => number): Uint8Array {
  const result = bytes.slice();
  for (let changes = 1 + next(4); changes > 0; changes--) {
    const at = start + next(end - start);
    switch (next(5)) {
      case 0:
        result[at] = next(256);
        break;
      case 1:
        result[at]! ^= 1 << next(8);
        break;
      case 2:
        result.set(little(EDGES[next(EDGES.length)]!, Math.min([1, 2, 4, 8][next(4)]!, end - at)), at);
        break;
      case 3: {
        // Copies one part over another: opcodes and entries get unusual neighbours.
        const from = start + next(end - start);
        result.copyWithin(at, from, from + Math.min(1 + next(40), end - Math.max(at, from)));
        break;
      }
      case 4:
        result.fill(result[at]!, at, Math.min(end, at + 1 + next(12)));
        break;
    }
  }
  return result;
}

/** Fails unless every read for the first blocks of every tensor is inside the file. */
function assertInFile(checkpoint: Checkpoint, fileSize: number): void {
  for (const tensor of checkpoint.tensors.values()) {
    let size = fileSize;
    if (tensor.packed) { // its offsets count unpacked bytes
      assert(tensor.packed.offset + tensor.packed.packedSize <= size);
      size = tensor.packed.size;
    }
    let pieces = 0;
    for (const block of viewBlocks(tensor, 4096)) {
      for (const { offset, byteLength } of blockReads(tensor, block, 4096)) {
        assert(offset >= tensor.storageStart && offset + byteLength <= size);
        if (++pieces > 20) break;
      }
      if (pieces > 20) break;
    }
  }
}

/** Defines a test of `inputs` damaged checkpoints. */
export function fuzzCheckpoints(inputs: number, seed: number): void {
  Deno.test(`readCheckpoint() neither crashes nor hangs on ${inputs} damaged checkpoints`, async () => {
    const names = ["dtypes", "legacy", "nested", "parameters", "state_dict", "tied", "views"];
    const own = [
      ...["lazy", "leaves", "no_checksums", "protocol_4", "protocol_4_legacy", "strides", "training"],
      ...["inert", "inert_1", "inert_5", "inert_legacy_1", "keys", "module", "refused", "deflated", "roots"],
    ];
    const seeds = await Promise.all([
      ...names.map((name) => readSeed(new URL(`${name}.pt`, PYTORCH_DATA))),
      ...own.map((name) => readSeed(new URL(`${name}.pt`, OWN_DATA))),
    ]);
    let state = seed;
    const next = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor(state / 2 ** 32 * below);
    };
    const outcomes = new Map<string, number>();
    let slowest = 0;
    for (let i = 0; i < inputs; i++) {
      const { bytes, pickle, directory, crcAt } = seeds[i % seeds.length]!;
      let damaged: Uint8Array;
      switch (next(8)) {
        case 0:
          damaged = mutate(bytes, 0, bytes.length, next);
          break;
        case 1:
          damaged = bytes.slice(0, next(bytes.length));
          break;
        case 2:
        case 3:
          damaged = mutate(bytes, directory, bytes.length, next);
          break;
        default:
          damaged = mutate(bytes, ...pickle, next);
          if (crcAt >= 0) damaged.set(little(crc32(damaged.subarray(...pickle)), 4), crcAt);
      }
      const before = processorTime();
      try {
        const checkpoint = await readCheckpoint(memoryReader(damaged));
        assertInFile(checkpoint, damaged.length);
        outcomes.set("read", (outcomes.get("read") ?? 0) + 1);
      } catch (error) {
        if (!(error instanceof SafeTensorsError)) {
          throw new Error(`Input ${i} fails otherwise`, { cause: error });
        }
        assertEquals(error.path, "memory.pt");
        assert(error.message.length < 1000, error.message);
        outcomes.set(error.code, (outcomes.get(error.code) ?? 0) + 1);
      }
      slowest = Math.max(slowest, processorTime() - before);
    }
    // The mutations reach every kind of rejection, and some files stay readable.
    const codes = [
      "InvalidPickle",
      "InvalidCheckpoint",
      "UnsupportedCheckpoint",
      "LimitExceeded",
      "WrongFormat",
    ];
    for (const code of ["read", ...codes]) {
      assert((outcomes.get(code) ?? 0) > inputs / 1000, `${code}: ${outcomes.get(code)}`);
    }
    assert(slowest < 2000, `${slowest} ms of work for one input`);
  });
}
