/**
 * The memory of a group's call as native/fst_group.h lays it out (`fst_group_call`).
 */
import type { Shim } from "./symbols.ts";

/** What is moved, as `fst_group_kind` has it. */
const KINDS = { broadcast: 1, scatter: 2, send: 3, receive: 4 } as const;

/** How a call ended, as `fst_group_status` has it. */
export const CALL_STATUS = { done: 0, timedOut: 1, cancelled: 2, library: 3, cuda: 4, memory: 5 } as const;

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
  /** What is moved; NCCL must know it. */
  readonly kind?: keyof typeof KINDS;
  /** The rank that sends. */
  readonly root?: number;
  /** How long, in seconds, nothing may move. */
  readonly timeoutSeconds: number;
  /** The other rank of a send or receive. */
  readonly peer?: number;
  readonly send?: CallMemory;
  readonly receive?: CallMemory;
  /** Those of a broadcast, all in host memory or all on one device. */
  readonly blocks?: readonly RootedMemory[];
  /** The device of what is moved. Default: that of the blocks or of `receive`. */
  readonly device?: number;
  /** Bytes of one message between ranks. Default {@linkcode PIECE}. */
  readonly pieceBytes?: number;
}

/**
 * Bytes of one message between ranks, the same on all of them: MPI counts with 32 bits, and staging slots have this
 * size. Larger pieces were no faster on any library tried. Tests make them small.
 */
export const PIECE: { bytes: number } = { bytes: 16 * 2 ** 20 };

const BYTES = 592;
const MESSAGE_AT = 88;
const BLOCK_BYTES = 24;

/** One call, from what it is given to how it ended. */
export class GroupCall {
  /** For the shim. */
  readonly memory: Uint8Array<ArrayBuffer> = new Uint8Array(BYTES);
  /** What it was given. */
  readonly input: CallInput;
  readonly #view = new DataView(this.memory.buffer);

  constructor(input: CallInput) {
    const { kind, root = 0, timeoutSeconds, peer = 0, send = NO_MEMORY, receive = NO_MEMORY, blocks = [] } =
      input;
    this.input = input;
    const view = this.#view;
    view.setBigUint64(0, send.address, true);
    view.setBigUint64(8, BigInt(send.byteLength), true);
    view.setBigUint64(16, receive.address, true);
    view.setBigUint64(24, BigInt(receive.byteLength), true);
    view.setInt32(32, send.device, true);
    view.setInt32(36, input.device ?? (blocks[0] ?? receive).device, true);
    view.setBigUint64(40, BigInt(Math.round(timeoutSeconds * 1e6)), true);
    view.setUint32(48, input.pieceBytes ?? PIECE.bytes, true);
    view.setInt32(52, kind ? KINDS[kind] : 0, true);
    view.setInt32(56, root, true);
    view.setInt32(60, peer, true);
  }

  /** Makes the call end soon, wherever it is. */
  cancel(): void {
    Atomics.store(new Uint32Array(this.memory.buffer, 64, 1), 0, 1);
  }

  /** Notes that it ended before the shim could begin. */
  fail(status: number): void {
    this.#view.setInt32(68, status, true);
  }

  /** Ends as another one that is a part of it. */
  endAs(part: GroupCall): void {
    this.memory.set(part.memory.subarray(68, 76), 68);
    this.memory.set(part.memory.subarray(MESSAGE_AT), MESSAGE_AT);
  }

  /** How it ended: one of {@linkcode CALL_STATUS}. */
  get status(): number {
    return this.#view.getInt32(68, true);
  }

  /** The library's error number. */
  get code(): number {
    return this.#view.getInt32(72, true);
  }

  /** Whether MPI may still touch the memory of the call, and this object. */
  get pending(): boolean {
    return Atomics.load(new Uint32Array(this.memory.buffer, 80, 1), 0) !== 0;
  }

  /** What the shim says about it. */
  get message(): string {
    return decodeText(this.memory.subarray(MESSAGE_AT));
  }
}

/** The text before the first zero byte; half a character at the end is left out. */
export function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  return text.replace(/\uFFFD$/, "");
}

/**
 * Lays out blocks for the shim: an `fst_group_block` of native/fst_group.h for each.
 *
 * @throws {TypeError} if the buffer of one was transferred: nothing could keep its memory alive
 */
export function layOutBlocks(shim: Shim, blocks: readonly RootedMemory[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(blocks.length * BLOCK_BYTES));
  for (const [index, block] of blocks.entries()) {
    const at = index * BLOCK_BYTES;
    view.setBigUint64(at, block.host ? addressOf(shim, block.host) : block.address, true);
    view.setBigUint64(at + 8, BigInt(block.byteLength), true);
    view.setInt32(at + 16, block.root, true);
  }
  return new Uint8Array(view.buffer);
}

function addressOf(shim: Shim, bytes: Uint8Array<ArrayBuffer>): bigint {
  // Asking for its buffer also moves a small array out of the heap, where the garbage collector would move it some day.
  if (bytes.buffer.detached) {
    throw new TypeError("Cannot broadcast a block: its buffer was transferred in the meantime");
  }
  return bytes.byteLength > 0 ? shim.fst_address(bytes) : 0n;
}
