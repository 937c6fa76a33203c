/**
 * Checks of the arguments of a group's calls, made before any communication.
 */
import type { CallInput, CallMemory } from "../../../ffi/group_call.ts";
import { referenceDeviceMemory } from "../../device/cuda/memory.ts";
import { type CallRecord, SEVERAL_ROOTS } from "./call_record.ts";
import type {
  BroadcastBlock,
  DeviceMemory,
  GroupBuffer,
  Json,
  ProcessGroup,
  ScatterSource,
} from "../../base/process_group.ts";

/** The ranks of a group. */
export type Ranks = Pick<ProcessGroup, "rank" | "size">;

const MAX_TAG = 2 ** 31 - 1;
/** Longest timeout, in seconds: about three years, and exact in microseconds. */
const MAX_TIMEOUT = 1e8;
const DEFAULT_TIMEOUT = 300;

/**
 * Checks the number of a rank.
 *
 * @throws {RangeError} if there is no such rank
 */
function checkRank(what: string, rank: number, size: number): void {
  if (Number.isInteger(rank) && rank >= 0 && rank < size) return;
  throw new RangeError(`The ${what} must be a rank from 0 to ${size - 1}, got ${rank}`);
}

/**
 * Checks the number of another rank.
 *
 * @throws {RangeError} if there is no such rank, or it is this one
 */
export function checkPeer(what: string, peer: number, { rank, size }: Ranks): void {
  checkRank(what, peer, size);
  if (peer === rank) throw new RangeError(`The ${what} must be another rank than this one, got ${peer}`);
}

/**
 * Checks a tag.
 *
 * @throws {RangeError} if it is not a whole number from 0 to 2^31 - 1
 */
function checkTag(tag: number): void {
  if (Number.isInteger(tag) && tag >= 0 && tag <= MAX_TAG) return;
  throw new RangeError(`The tag must be a whole number from 0 to ${MAX_TAG}, got ${tag}`);
}

/**
 * Checks a block.
 *
 * @throws {TypeError} if it is neither bytes on the host nor device memory
 * @throws {RangeError} if device memory has an impossible length or place
 */
function checkBlock(block: GroupBuffer): void {
  if (block instanceof Uint8Array && block.buffer instanceof ArrayBuffer && !block.buffer.resizable) return;
  const memory = block as Partial<DeviceMemory>;
  if (
    block instanceof Uint8Array || typeof memory?.devicePointer !== "bigint" ||
    typeof memory.device !== "number"
  ) {
    throw new TypeError(
      "A block must be a Uint8Array over an ArrayBuffer of fixed length, or { devicePointer, byteLength, device }",
    );
  }
  const { devicePointer, byteLength, device } = memory as DeviceMemory;
  if (
    !Number.isSafeInteger(byteLength) || byteLength < 0 || !Number.isInteger(device) || device < 0 ||
    devicePointer < 0n || devicePointer >= 1n << 64n || (devicePointer === 0n && byteLength > 0)
  ) {
    throw new RangeError(
      `There is no device memory of ${byteLength} bytes at address ${devicePointer} of device ${device}`,
    );
  }
}

/**
 * Checks what is broadcast.
 *
 * @throws {TypeError} if a block is neither bytes on the host nor device memory
 * @throws {RangeError} if there is no such root, or the blocks are not all on the host or on one device
 */
export function checkBroadcast(blocks: readonly BroadcastBlock[], size: number): void {
  const place = (block: GroupBuffer) => deviceMemory(block)?.device;
  for (const { block, root } of blocks) {
    checkBlock(block);
    checkRank("root", root, size);
    if (place(block) === place(blocks[0]!.block)) continue;
    throw new RangeError("The blocks of one broadcast must all be on the host, or all on one device");
  }
}

/**
 * Checks what a scatter is given.
 *
 * @returns the source; with no bytes for anyone where this rank is not the root
 * @throws {TypeError} if the root has no source, or another rank has one
 * @throws {RangeError} if the lengths do not add up to the block
 */
export function checkScatter(
  send: ScatterSource | null,
  receive: GroupBuffer,
  root: number,
  { rank, size }: Ranks,
): ScatterSource {
  checkRank("root", root, size);
  checkBlock(receive);
  if (rank !== root) {
    if (send !== null) {
      throw new TypeError(`Only the root, rank ${root}, has something to scatter, not rank ${rank}`);
    }
    return { block: new Uint8Array(), lengths: [] };
  }
  if (send === null) throw new TypeError(`The root, rank ${root}, must have something to scatter`);
  const { block, lengths } = send;
  checkBlock(block);
  if (lengths.length !== size || !lengths.every((length) => Number.isSafeInteger(length) && length >= 0)) {
    throw new RangeError(`A scatter needs ${size} lengths in bytes, got ${JSON.stringify(lengths)}`);
  }
  const total = lengths.reduce((sum, length) => sum + length, 0);
  if (total !== block.byteLength) {
    throw new RangeError(`A scatter of ${block.byteLength} bytes cannot hand out ${total}`);
  }
  return send;
}

/**
 * Turns a value into JSON.
 *
 * @throws {TypeError} if it has none
 */
export function stringifyJson(value: Json): string {
  const text: string | undefined = JSON.stringify(value);
  if (text === undefined) throw new TypeError(`A value to gather must have a JSON form, got ${typeof value}`);
  return text;
}

/** Device memory, or undefined for bytes on the host. */
export function deviceMemory(block: GroupBuffer): DeviceMemory | undefined {
  return block instanceof Uint8Array ? undefined : block;
}

/**
 * Checks a timeout in seconds, and fills in the default.
 *
 * @throws {RangeError} if it is not a positive number, or too large
 */
export function checkTimeout(seconds: number = DEFAULT_TIMEOUT): number {
  if (seconds > 0 && seconds <= MAX_TIMEOUT) return seconds;
  throw new RangeError(`timeoutSeconds must be more than 0 and at most ${MAX_TIMEOUT}, got ${seconds}`);
}

/** Memory of a block, as a call needs it. */
export function callMemory(block: GroupBuffer): CallMemory {
  if (block instanceof Uint8Array) {
    return { host: block, address: 0n, byteLength: block.byteLength, device: -1 };
  }
  const { devicePointer, byteLength, device } = block;
  return { host: null, address: devicePointer, byteLength, device };
}

/** The blocks of a call. */
export interface CallBlocks {
  /** The other rank of a send or receive. */
  readonly peer?: number;
  readonly send?: GroupBuffer;
  readonly receive?: GroupBuffer;
  /** Those of a broadcast. */
  readonly blocks?: readonly BroadcastBlock[];
  /** The bytes that the root of a scatter has for each rank. */
  readonly lengths?: readonly number[];
}

/** The blocks of a call, for the shim. */
export function callBlocks(
  { peer, send, receive, blocks }: CallBlocks,
): Omit<CallInput, "timeoutSeconds"> {
  return {
    ...(peer !== undefined && { peer }),
    ...(send && { send: callMemory(send) }),
    ...(receive && { receive: callMemory(receive) }),
    ...(blocks && { blocks: blocks.map(({ block, root }) => ({ ...callMemory(block), root })) }),
  };
}

/** Holds device memory of this package's that a call is given, from when it is asked for until the result is disposed. */
export function holdBlocks({ send, receive, blocks = [] }: CallBlocks): Disposable {
  const given = [send, receive, ...blocks.map(({ block }) => block)];
  const memories = given.map((one) => one && deviceMemory(one)).filter((one) => one !== undefined);
  return referenceDeviceMemory(memories.map(({ devicePointer }) => devicePointer));
}

/* ---- Calls that move bytes ---- */

/** A checked call: its kind, the description that the ranks compare, and its memory. */
export interface CheckedCall {
  readonly kind: "broadcast" | "scatter" | "send" | "receive";
  readonly record: Partial<CallRecord>;
  readonly blocks: CallBlocks;
}

/** A broadcast of several blocks. Throws as {@linkcode checkBroadcast}. */
export function broadcastCall(blocks: readonly BroadcastBlock[], { size }: Ranks): CheckedCall {
  checkBroadcast(blocks, size);
  return { kind: "broadcast", record: broadcastRecord(blocks), blocks: { blocks } };
}

/** A scatter. Throws as {@linkcode checkScatter}. */
export function scatterCall(
  send: ScatterSource | null,
  receive: GroupBuffer,
  root: number,
  label: string,
  ranks: Ranks,
): CheckedCall {
  const { block, lengths } = checkScatter(send, receive, root, ranks);
  const record = { root, label, ownBytes: receive.byteLength };
  return { kind: "scatter", record, blocks: { receive, lengths, ...(send && { send: block }) } };
}

/** A send. Throws as {@linkcode checkBlock}, {@linkcode checkPeer} and {@linkcode checkTag}. */
export function sendCall(block: GroupBuffer, destination: number, tag: number, ranks: Ranks): CheckedCall {
  checkBlock(block);
  checkPeer("destination", destination, ranks);
  checkTag(tag);
  const record = { root: ranks.rank, tag, bytes: block.byteLength };
  return { kind: "send", record, blocks: { peer: destination, send: block } };
}

/** A receive. Throws as {@linkcode checkBlock}, {@linkcode checkPeer} and {@linkcode checkTag}. */
export function receiveCall(block: GroupBuffer, source: number, tag: number, ranks: Ranks): CheckedCall {
  checkBlock(block);
  checkPeer("source", source, ranks);
  checkTag(tag);
  const record = { root: source, tag, bytes: block.byteLength };
  return { kind: "receive", record, blocks: { peer: source, receive: block } };
}

/** The part of a broadcast's description that must be equal on all ranks. */
function broadcastRecord(blocks: readonly BroadcastBlock[]): Partial<CallRecord> {
  const [first, ...more] = blocks;
  if (first && more.length === 0) {
    return { root: first.root, label: first.label ?? "", bytes: first.block.byteLength };
  }
  const lines = blocks.map(({ block, root, label = "" }) => {
    return `${label === "" ? "" : `${label}: `}${block.byteLength} bytes from rank ${root}`;
  });
  const bytes = blocks.reduce((sum, { block }) => sum + block.byteLength, 0);
  return { root: SEVERAL_ROOTS, label: lines.join("; "), bytes };
}
