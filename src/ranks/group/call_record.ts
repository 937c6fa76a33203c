/**
 * The description of a call that ranks compare, and its text.
 */
import { printable } from "../../base/text.ts";

/** The root of a broadcast of several blocks; from which ranks they come is in its label. */
export const SEVERAL_ROOTS = -1;

/** What a rank can call. */
export type CallKind =
  | "broadcast"
  | "scatter"
  | "send"
  | "receive"
  | "barrier"
  | "agree"
  | "allGather"
  | "split";

/** The description of a call by one rank. */
export interface CallRecord {
  readonly kind: CallKind;
  /** The root, or {@linkcode SEVERAL_ROOTS}; of send and receive the rank that sends. */
  readonly root: number;
  readonly tag: number;
  /** Calls of all ranks before this one. */
  readonly sequence: number;
  /** Bytes that all ranks must agree on. */
  readonly bytes: number;
  /** scatter: bytes that this rank expects. */
  readonly ownBytes: number;
  /** The rank that makes the call. */
  readonly rank: number;
  /** What the call is about; of a split that makes a group out of none, what the caller has called. */
  readonly label: string;
  /** Of a label that is too long to be sent; else empty. */
  readonly digest: string;
  /** Why the rank has failed; null if it has not. */
  readonly failure: string | null;
}

/** Longest label that is sent as it is, in characters: that of many blocks may be much longer. */
const LABEL_LENGTH = 400;

/** A record with defaults filled in. Of a long label the end is left out; its digest stands for all of it. */
export function recordOf(kind: CallKind, rank: number, rest: Partial<CallRecord> = {}): CallRecord {
  const { label = "" } = rest;
  return {
    kind,
    root: 0,
    tag: 0,
    sequence: 0,
    bytes: 0,
    ownBytes: 0,
    rank,
    failure: null,
    ...rest,
    label: label.slice(0, LABEL_LENGTH).replace(/[\ud800-\udbff]$/, ""), // half a character
    digest: label.length > LABEL_LENGTH ? digest(label) : "",
  };
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

/** Two FNV-1a hashes of a text, from different start values. */
function digest(text: string): string {
  const bytes = new TextEncoder().encode(text);
  return [0x811c9dc5, 0x9e3779b9].map((start) => {
    let value = start;
    for (const byte of bytes) value = Math.imul(value ^ byte, 0x01000193);
    return (value >>> 0).toString(16);
  }).join(" ");
}
