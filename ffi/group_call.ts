/**
 * The memory of a group's call, with the layout of `fst_group_call` in native/fst_group.h.
 */
import type { Shim } from "./symbols.ts";

/** The kind of transfer: `fst_group_kind`. */
const KINDS = { broadcast: 1, scatter: 2, send: 3, receive: 4 } as const;

/** The status of a call: `fst_group_status`. */
export const CALL_STATUS = { done: 0, timedOut: 1, cancelled: 2, library: 3, cuda: 4, memory: 5 } as const;

/** Memory that the shim reads or writes, on the host or on a device. */
export interface CallMemory {
  /** Bytes on the host; null for device memory. */
  readonly host: Uint8Array<ArrayBuffer> | null;
  /** Address on the device; 0 for host memory. */
  readonly address: bigint;
  /** Length in bytes. */
  readonly byteLength: number;
  /** Index of the device; -1 for the host. */
  readonly device: number;
}

/** A call without memory. */
export const NO_MEMORY: CallMemory = { host: null, address: 0n, byteLength: 0, device: -1 };

/** A block of a broadcast. */
export interface RootedMemory extends CallMemory {
  /** The rank that has its bytes. */
  readonly root: number;
}

/** The arguments of a call. */
export interface CallInput {
  /** The kind of transfer; only NCCL uses it. */
  readonly kind?: keyof typeof KINDS;
  /** The rank that sends. */
  readonly root?: number;
  /** Longest time without progress, in seconds. */
  readonly timeoutSeconds: number;
  /** The other rank of a send or receive. */
  readonly peer?: number;
  readonly send?: CallMemory;
  readonly receive?: CallMemory;
  /** The blocks of a broadcast, all in host memory or all on one device. */
  readonly blocks?: readonly RootedMemory[];
  /** The device of the memory. Default: that of the blocks or of `receive`. */
  readonly device?: number;
  /** Bytes of one message between ranks over MPI. Default {@linkcode PIECE}. */
  readonly pieceBytes?: number;
}

/**
 * Bytes of one message between ranks, the same on all of them: MPI counts with 32 bits, and staging slots have this
 * size. Larger pieces were not faster with any tested library. Tests use small ones.
 */
export const PIECE: { bytes: number } = { bytes: 16 * 2 ** 20 };

const BYTES = 584;
const CANCELLED_AT = 60, STATUS_AT = 64, CODE_AT = 68, RUNNING_AT = 72, PENDING_AT = 76, MESSAGE_AT = 80;
const BLOCK_BYTES = 24;

/** One call: its arguments and its result. */
export class GroupCall {
  /** The struct for the shim. */
  readonly memory: Uint8Array<ArrayBuffer> = new Uint8Array(BYTES);
  /** Its arguments. */
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
    view.setInt32(48, kind ? KINDS[kind] : 0, true);
    view.setInt32(52, root, true);
    view.setInt32(56, peer, true);
  }

  /** Requests an early end of the call. */
  cancel(): void {
    Atomics.store(new Uint32Array(this.memory.buffer, CANCELLED_AT, 1), 0, 1);
  }

  /** Records a failure outside MPI and NCCL. */
  fail(status: number, code = 0, message = ""): void {
    this.#view.setInt32(STATUS_AT, status, true);
    this.#view.setInt32(CODE_AT, code, true);
    new TextEncoder().encodeInto(message, this.memory.subarray(MESSAGE_AT, BYTES - 1));
  }

  /** Its status: one of {@linkcode CALL_STATUS}. */
  get status(): number {
    return this.#view.getInt32(STATUS_AT, true);
  }

  /** The library's error number. */
  get code(): number {
    return this.#view.getInt32(CODE_AT, true);
  }

  /** Whether MPI moves its bytes. */
  get running(): boolean {
    return this.#view.getUint32(RUNNING_AT, true) !== 0;
  }

  /** Whether MPI can still access the memory of the call and this object, after the call has failed. */
  get pending(): boolean {
    return Atomics.load(new Uint32Array(this.memory.buffer, PENDING_AT, 1), 0) !== 0;
  }

  /** The message of the shim. */
  get message(): string {
    return decodeText(this.memory.subarray(MESSAGE_AT));
  }
}

/** Decodes the text before the first zero byte, without an incomplete character at the end. */
export function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  return text.replace(/\uFFFD$/, "");
}

/**
 * Encodes blocks for the shim: an `fst_group_block` of native/fst_group.h for each.
 *
 * @throws {TypeError} if the buffer of a block was transferred: the call cannot keep its memory valid
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

/**
 * Returns the address of bytes.
 *
 * @throws {TypeError} if their buffer was transferred
 */
export function addressOf(shim: Shim, bytes: Uint8Array<ArrayBuffer>): bigint {
  // Access to `buffer` also moves a small array out of the heap, in which the garbage collector could move its bytes.
  if (bytes.buffer.detached) {
    throw new TypeError("Cannot broadcast a block: its buffer was transferred meanwhile");
  }
  return bytes.byteLength > 0 ? shim.fst_address(bytes) : 0n;
}
