/**
 * What a rank says of a call so that the others can compare: written here, laid out as `fst_group_record` of
 * native/fst_group.h, sent as it is.
 */
import { printable } from "../base/text.ts";

/** What a rank can call, with the numbers of `fst_group_kind`. */
export const CALL_KINDS = {
  broadcast: 1,
  scatter: 2,
  send: 3,
  receive: 4,
  barrier: 5,
  agree: 6,
  allGather: 7,
  spread: 8,
  split: 9,
} as const;

/** The root of a broadcast of several blocks; from which ranks they come is in its label. */
export const SEVERAL_ROOTS = -1;

/** The name of a call. */
export type CallKind = keyof typeof CALL_KINDS;

/** What a rank says of a call. */
export interface CallRecord {
  readonly kind: CallKind;
  /** The root, or {@linkcode SEVERAL_ROOTS}; of send and receive the rank that sends. */
  readonly root: number;
  readonly tag: number;
  /** Calls of all ranks before this one. */
  readonly sequence: number;
  /** Bytes that all ranks must agree on. */
  readonly bytes: number;
  /** scatter: bytes that this rank expects; allGather: bytes that it has. */
  readonly ownBytes: number;
  /** Who says so. */
  readonly rank: number;
  /** What the call is about; of a split that makes a group out of none, what the caller has called. */
  readonly label: string;
  /** Why the rank has failed; null if it has not. */
  readonly failure: string | null;
}

/** Bytes of a record. */
export const RECORD_BYTES = 512;

/** The first bytes of a record, in which all ranks must agree. */
export const COMPARED_BYTES = 40;

const TEXT_AT = 60;
const encoder = new TextEncoder();

/** A record with defaults filled in. */
export function recordOf(kind: CallKind, rank: number, rest: Partial<CallRecord> = {}): CallRecord {
  return {
    kind,
    root: 0,
    tag: 0,
    sequence: 0,
    bytes: 0,
    ownBytes: 0,
    rank,
    label: "",
    failure: null,
    ...rest,
  };
}

/** Lays a record out. Of a long text the end is kept off. */
export function encodeRecord(record: CallRecord): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(RECORD_BYTES);
  const view = new DataView(bytes.buffer);
  const label = encoder.encode(record.label);
  view.setUint32(0, CALL_KINDS[record.kind], true);
  view.setInt32(4, record.root, true);
  view.setUint32(8, record.tag, true);
  view.setBigUint64(16, BigInt(record.sequence), true);
  view.setBigUint64(24, BigInt(record.bytes), true);
  view.setUint32(32, hash(label, 0x811c9dc5), true);
  view.setUint32(36, hash(label, 0x9e3779b9), true);
  view.setBigUint64(40, BigInt(record.ownBytes), true);
  view.setInt32(48, record.rank, true);
  view.setUint32(52, record.failure === null ? 0 : 1, true);
  const { written } = encoder.encodeInto(record.failure ?? record.label, bytes.subarray(TEXT_AT));
  view.setUint32(56, written, true);
  return bytes;
}

/** Reads a record that another rank has laid out. */
export function decodeRecord(bytes: Uint8Array): CallRecord {
  const view = new DataView(bytes.buffer, bytes.byteOffset, RECORD_BYTES);
  const number = view.getUint32(0, true);
  const kind = (Object.keys(CALL_KINDS) as CallKind[]).find((name) => CALL_KINDS[name] === number);
  if (kind === undefined) throw new RangeError(`There is no call with number ${number}`);
  const end = Math.min(TEXT_AT + view.getUint32(56, true), RECORD_BYTES);
  const text = decodeText(bytes.subarray(TEXT_AT, end));
  const failed = view.getUint32(52, true) !== 0;
  return {
    kind,
    root: view.getInt32(4, true),
    tag: view.getUint32(8, true),
    sequence: Number(view.getBigUint64(16, true)),
    bytes: Number(view.getBigUint64(24, true)),
    ownBytes: Number(view.getBigUint64(40, true)),
    rank: view.getInt32(48, true),
    label: failed ? "" : text,
    failure: failed ? text : null,
  };
}

/** The text before the first zero byte; half a character at the end is left out. */
export function decodeText(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  const text = new TextDecoder().decode(end < 0 ? bytes : bytes.subarray(0, end));
  return text.replace(/\uFFFD$/, "");
}

/** A call in words: `broadcast() of 4096 bytes from rank 0 ("model.norm.weight")`. */
export function describeCall({ kind, root, tag, bytes, label }: CallRecord): string {
  const about = label === "" ? "" : ` ("${printable(label)}")`;
  const tagged = tag === 0 ? "" : ` with tag ${tag}`;
  switch (kind) {
    case "broadcast":
      if (root === SEVERAL_ROOTS) return `broadcastAll() of ${bytes} bytes${about}`;
      return `broadcast() of ${bytes} bytes from rank ${root}${about}`;
    case "scatter":
      return `scatter() from rank ${root}${about}`;
    case "send":
      return `send() of ${bytes} bytes${tagged}`;
    case "receive":
      return `receive() of ${bytes} bytes from rank ${root}${tagged}`;
    case "barrier":
    case "agree":
    case "allGather":
      return `${kind}()${about}`;
    case "split":
      return label === "" ? "split()" : label;
    case "spread":
      return "allGather()";
  }
}

/** What is wrong between two ranks, in words. */
export function describeDifference(reference: CallRecord, other: CallRecord): string {
  const isSameText = describeCall(reference) === describeCall(other);
  if (isSameText && reference.kind === "scatter" && reference.ownBytes !== other.ownBytes) {
    return `In a ${describeCall(other)} rank ${other.rank} expects ${other.ownBytes} bytes, the root has ` +
      `${reference.ownBytes} for it`;
  }
  if (isSameText && reference.root === SEVERAL_ROOTS && reference.sequence === other.sequence) {
    return `Rank ${other.rank} and rank ${reference.rank} call broadcastAll() of blocks that are not all the same`;
  }
  if (isSameText && other.kind !== "send" && other.kind !== "receive") {
    return `Rank ${other.rank} is at its call ${other.sequence + 1}, rank ${reference.rank} at its call ` +
      `${reference.sequence + 1}: a ${describeCall(other)}`;
  }
  return `Rank ${other.rank} calls ${describeCall(other)}, rank ${reference.rank} calls ` +
    `${describeCall(reference)}`;
}

/** FNV-1a over the bytes, from a start value. */
function hash(bytes: Uint8Array, start: number): number {
  let value = start;
  for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193);
  return value >>> 0;
}
