/** Where a header says its tensors lie, checked: each as long as its dtype and shape make it, and all end to end. */
import type { SafeTensorsErrorCode } from "../base/errors.ts";
import type { TensorInfo } from "./header.ts";
import type { Steps } from "../base/steps.ts";
import { byteSize, describeSizeError, describeTensor, type ExactShape } from "./tensor_size.ts";

/** Refuses the header: throws the error, with the path that the caller knows. */
export type HeaderFailure = (code: SafeTensorsErrorCode, detail: string, tensor?: string) => never;

/** A range of the data as it is written. A bigint is above 2^53 - 1: no file holds it, but a header can claim it. */
export interface ExactRange {
  /** The first data byte. */
  readonly begin: number | bigint;
  /** The data byte after the last. */
  readonly end: number | bigint;
}

/** What is wrong with a tensor by itself, whatever the others are. */
export interface TensorFault {
  /** The code of the error. */
  readonly code: SafeTensorsErrorCode;
  /** What is wrong, for the message. */
  readonly detail: string;
  /** The tensor that has the fault. */
  readonly tensor: TensorInfo;
}

/** What a header lists. */
export interface Listing {
  /** The tensors as listed. */
  readonly tensors: readonly TensorInfo[];
  /** Whether that is the order of their bytes, as it mostly is. */
  readonly ordered: boolean;
  /** The ranges of the tensors whose {@linkcode TensorInfo} is rounded. */
  readonly exact: ReadonlyMap<TensorInfo, ExactRange>;
  /** The first fault in the order of the bytes. */
  readonly fault: TensorFault | undefined;
}

/** What a header lists, by name. */
export interface NamedTensors {
  /** In the order of their bytes; of two with one name, the last that is listed. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The first fault in that order. */
  readonly fault: TensorFault | undefined;
  /** The first name that is listed twice. */
  readonly duplicate: string | undefined;
}

/** Compares exactly, whatever the two are: `<` and `>` do not round a bigint. */
function compare(a: number | bigint, b: number | bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Orders ranges by begin, then by end. */
export function compareRanges(a: ExactRange, b: ExactRange): number {
  return compare(a.begin, b.begin) || compare(a.end, b.end);
}

/** What is wrong with a tensor by itself, if anything is; shape and range are given exactly. */
export function findFault(
  tensor: TensorInfo,
  shape: ExactShape,
  begin: number | bigint,
  end: number | bigint,
): TensorFault | undefined {
  const { dtype } = tensor;
  if (end < begin) {
    return {
      code: "InvalidOffset",
      detail: `it ends at data byte ${end}, before it begins at ${begin}`,
      tensor,
    };
  }
  const size = byteSize(dtype, shape);
  if (typeof size === "string") return { code: size, detail: describeSizeError(size, dtype, shape), tensor };
  const span = typeof begin === "number" && typeof end === "number"
    ? end - begin
    : BigInt(end) - BigInt(begin);
  if (compare(size, span) === 0) return undefined;
  const taken = `${describeTensor(dtype, shape)} takes ${size} bytes`;
  return { code: "TensorInvalidInfo", detail: `${taken}, data bytes ${begin} to ${end} are ${span}`, tensor };
}

/** Orders the tensors by begin, then end; several without bytes at one place stay as listed. */
export function* inFileOrder(listing: Listing): Steps<NamedTensors> {
  const listed = listing.tensors;
  const sorted = listing.ordered ? listed : yield* sortSteps(listed, order(listing));
  const tensors = new Map<string, TensorInfo>();
  for (const info of sorted) {
    tensors.set(info.name, info);
    if (tensors.size % 4096 === 0) yield;
  }
  if (tensors.size === listed.length) return { tensors, fault: listing.fault, duplicate: undefined };
  return lastOfEachName(listing);
}

/** The rare case: the header will be refused, and until then is treated as the reference treats it. */
function lastOfEachName(listing: Listing): NamedTensors {
  const last = new Map<string, TensorInfo>();
  let duplicate: string | undefined;
  for (const info of listing.tensors) {
    if (last.has(info.name)) duplicate ??= info.name;
    last.set(info.name, info);
  }
  const sorted = [...last.values()].sort(order(listing));
  for (const info of sorted) {
    const { begin, end } = listing.exact.get(info) ?? info;
    // A shape may be rounded here, so the fault is not always the reference's; the header is refused in any case.
    const fault = findFault(info, info.shape, begin, end);
    if (fault !== undefined) return { tensors: byName(sorted), fault, duplicate };
  }
  return { tensors: byName(sorted), fault: undefined, duplicate };
}

function order({ exact }: Listing): (a: TensorInfo, b: TensorInfo) => number {
  return exact.size === 0
    ? (a, b) => a.begin - b.begin || a.end - b.end
    : (a, b) => compareRanges(exact.get(a) ?? a, exact.get(b) ?? b);
}

/** Sorts in steps, and stably: short runs at once, then by merging. */
export function* sortSteps<R>(items: readonly R[], compare: (a: R, b: R) => number): Steps<R[]> {
  let runs: R[][] = [];
  for (let at = 0; at < items.length; at += 2048) {
    runs.push(items.slice(at, at + 2048).sort(compare));
    yield;
  }
  while (runs.length > 1) {
    const merged: R[][] = [];
    for (let pair = 0; pair < runs.length; pair += 2) {
      const [a, b = []] = [runs[pair]!, runs[pair + 1]];
      const both: R[] = [];
      for (let i = 0, j = 0; i < a.length || j < b.length;) {
        both.push(j >= b.length || (i < a.length && compare(a[i]!, b[j]!) <= 0) ? a[i++]! : b[j++]!);
        if (both.length % 2048 === 0) yield;
      }
      merged.push(both);
    }
    runs = merged;
  }
  return runs[0] ?? [];
}

function byName(tensors: readonly TensorInfo[]): Map<string, TensorInfo> {
  const map = new Map<string, TensorInfo>();
  for (const info of tensors) map.set(info.name, info);
  return map;
}

/**
 * Checks that tensors in file order have no fault and fill the data without hole or overlap. The checks come tensor by
 * tensor, as in the reference implementation: of several faults it is the same that is reported.
 */
export function checkLayout(
  { tensors, fault }: NamedTensors,
  exact: ReadonlyMap<TensorInfo, ExactRange>,
  dataLength: number,
  fail: HeaderFailure,
): void {
  let total: number | bigint = 0;
  for (const info of tensors.values()) {
    const { begin, end } = exact.size === 0 ? info : exact.get(info) ?? info;
    if (begin > total) {
      fail("InvalidOffset", `data bytes ${total} to ${begin} belong to no tensor`, info.name);
    }
    if (begin < total) {
      fail(
        "InvalidOffset",
        `it begins at data byte ${begin}, the tensor before it ends at ${total}`,
        info.name,
      );
    }
    if (info === fault?.tensor) fail(fault.code, fault.detail, info.name);
    total = end;
  }
  const surplus = BigInt(dataLength) - BigInt(total);
  if (surplus === 0n) return;
  const what = surplus < 0n ? "the file is truncated" : `${surplus} too many`;
  fail("MetadataIncompleteBuffer", `${total} bytes of tensor data expected, ${dataLength} found: ${what}`);
}
