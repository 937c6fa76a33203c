/**
 * The memory of a group's call as native/fst_group.h lays it out (`fst_group_call`).
 */
import { decodeText } from "../src/group/call_record.ts";
import type { Shim } from "./symbols.ts";

/** How a call ended, as `fst_group_status` has it. */
export const CALL_STATUS = {
  done: 0,
  refused: 1,
  different: 2,
  gone: 3,
  timedOut: 4,
  cancelled: 5,
  library: 6,
  cuda: 7,
  memory: 8,
} as const;

/** Memory that the shim reads or writes: on the host, or on a device. */
export interface CallMemory {
  /** Bytes on the host; null where they are on a device. */
  readonly host: Uint8Array<ArrayBuffer> | null;
  /** Where on the device; 0 on the host. */
  readonly address: bigint;
  /** Bytes. */
  readonly byteLength: number;
  /** Number of the device; -1 for the host. */
  readonly device: number;
}

/** No memory at all. */
export const NO_MEMORY: CallMemory = { host: null, address: 0n, byteLength: 0, device: -1 };

/** A block of a broadcast. */
export interface RootedMemory extends CallMemory {
  /** The rank that has its bytes. */
  readonly root: number;
}

/** What a call is given. */
export interface CallInput {
  /** What this rank says of it, from `encodeRecord`. */
  readonly record: Uint8Array<ArrayBuffer>;
  /** How long nothing may move. */
  readonly timeoutSeconds: number;
  /** The other rank of a send or receive. */
  readonly peer?: number;
  readonly send?: CallMemory;
  readonly receive?: CallMemory;
  /** Those of a broadcast, all in host memory or all on one device. */
  readonly blocks?: readonly RootedMemory[];
}

/**
 * Bytes of one message between ranks, the same on all of them: MPI counts with 32 bits, and staging slots have this
 * size. Larger pieces were no faster on any library tried. Tests make them small.
 */
export const PIECE: { bytes: number } = { bytes: 16 * 2 ** 20 };

const BYTES = 2120;
const CANCELLED = 56;
const MESSAGE = { at: 72, bytes: 504 };
const PENDING = 576;
const OWN = 584;
const REFERENCE = 1096;
const OTHER = 1608;
const RECORD_BYTES = 512;
const BLOCK_BYTES = 24;

/** One call, from what it is given to how it ended. */
export class GroupCall {
  /** For the shim. */
  readonly memory: Uint8Array<ArrayBuffer> = new Uint8Array(BYTES);
  /** What is sent. */
  readonly send: CallMemory;
  /** Where it is received. */
  readonly receive: CallMemory;
  /** What is broadcast. */
  readonly blocks: readonly RootedMemory[];
  readonly #view = new DataView(this.memory.buffer);

  constructor({ record, timeoutSeconds, peer = 0, send, receive, blocks = [] }: CallInput) {
    this.send = send ?? NO_MEMORY;
    this.receive = receive ?? NO_MEMORY;
    this.blocks = blocks;
    const view = this.#view;
    view.setBigUint64(0, this.send.address, true);
    view.setBigUint64(8, BigInt(this.send.byteLength), true);
    view.setBigUint64(16, this.receive.address, true);
    view.setBigUint64(24, BigInt(this.receive.byteLength), true);
    view.setInt32(32, this.send.device, true);
    view.setInt32(36, (blocks[0] ?? this.receive).device, true);
    view.setBigUint64(40, BigInt(Math.round(timeoutSeconds * 1e6)), true);
    view.setUint32(48, PIECE.bytes, true);
    view.setInt32(52, peer, true);
    this.memory.set(record, OWN);
  }

  /** Makes the call end soon, wherever it is. */
  cancel(): void {
    Atomics.store(new Uint32Array(this.memory.buffer, CANCELLED, 1), 0, 1);
  }

  /** How it ended: one of {@linkcode CALL_STATUS}. */
  get status(): number {
    return this.#view.getInt32(60, true);
  }

  /** The rank that is at fault, or -1. */
  get failedRank(): number {
    return this.#view.getInt32(64, true);
  }

  /** The library's error number. */
  get code(): number {
    return this.#view.getInt32(68, true);
  }

  /** What the shim says about it. */
  get message(): string {
    return decodeText(this.memory.subarray(MESSAGE.at, MESSAGE.at + MESSAGE.bytes));
  }

  /** Not 0: MPI may still touch the memory of the call, and this is its number for `fst_mpi_pending`. */
  get pending(): bigint {
    return this.#view.getBigUint64(PENDING, true);
  }

  /** What this rank said of it. */
  get own(): Uint8Array<ArrayBuffer> {
    return this.memory.subarray(OWN, OWN + RECORD_BYTES);
  }

  /** What the others were compared with. */
  get reference(): Uint8Array<ArrayBuffer> {
    return this.memory.subarray(REFERENCE, REFERENCE + RECORD_BYTES);
  }

  /** What the rank at fault said. */
  get other(): Uint8Array<ArrayBuffer> {
    return this.memory.subarray(OTHER, OTHER + RECORD_BYTES);
  }
}

/** Some blocks of a call, laid out for the shim. */
export interface BlockTable {
  /** An `fst_group_block` of native/fst_group.h for each. */
  readonly memory: Uint8Array<ArrayBuffer>;
  readonly count: number;
  /** The memory on the host that the blocks are in, each once. */
  readonly buffers: readonly ArrayBuffer[];
}

/**
 * Lays out the blocks from `first` on, as many as lie in so few buffers.
 *
 * @throws {TypeError} if the buffer of one was transferred: nothing could keep its memory alive
 */
export function layOutBlocks(
  shim: Shim,
  blocks: readonly RootedMemory[],
  first = 0,
  maxBuffers = Infinity,
): BlockTable {
  const buffers = new Set<ArrayBuffer>();
  let stop = first;
  for (; stop < blocks.length; stop++) {
    const buffer = blocks[stop]!.host?.buffer;
    if (!buffer || buffers.has(buffer)) continue;
    if (buffers.size === maxBuffers) break;
    buffers.add(buffer);
  }
  const view = new DataView(new ArrayBuffer((stop - first) * BLOCK_BYTES));
  for (const [index, block] of blocks.slice(first, stop).entries()) {
    const at = index * BLOCK_BYTES;
    view.setBigUint64(at, block.host ? addressOf(shim, block.host) : block.address, true);
    view.setBigUint64(at + 8, BigInt(block.byteLength), true);
    view.setInt32(at + 16, block.root, true);
  }
  return { memory: new Uint8Array(view.buffer), count: stop - first, buffers: [...buffers] };
}

function addressOf(shim: Shim, bytes: Uint8Array<ArrayBuffer>): bigint {
  // Asking for its buffer also moves a small array out of the heap, where the garbage collector would move it some day.
  if (bytes.buffer.detached) {
    throw new TypeError("Cannot broadcast a block: its buffer was transferred in the meantime");
  }
  return bytes.byteLength > 0 ? shim.fst_address(bytes) : 0n;
}
