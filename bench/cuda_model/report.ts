/**
 * What the loads of a model's run show: shares of the limit, and the timeline for a picture.
 */
import { formatTable } from "../../src/cli/text.ts";
import type { Measurement } from "../side_by_side/report.ts";
import { between, type Operation, type Timeline } from "./timeline.ts";

/** One load. */
export interface ModelLoad {
  readonly milliseconds: number;
  /** The time of the limit, min(read, copy), / its time. */
  readonly ofLimit: number;
  /** Milliseconds until the first read by a lane is issued. */
  readonly firstRead: number;
  /** Milliseconds in which device memory is allocated, and in which host memory is pinned. */
  readonly allocating: number;
  readonly pinning: number;
  /** Copies to the device, and their bytes. */
  readonly copies: number;
  readonly copiedBytes: number;
  readonly kernels: number;
}

/** A part of the picture: operations of a row without a gap that can be seen. Times in milliseconds. */
export interface Bar {
  readonly row: string;
  readonly kind: "allocate" | "pin" | "read" | "copy" | "cast";
  readonly start: number;
  readonly end: number;
}

/** The results of one case. */
export interface ModelCase {
  readonly name: string;
  readonly bytes: number;
  readonly tensors: number;
  readonly loads: readonly ModelLoad[];
  /** For each load, if the case has a picture. */
  readonly bars?: readonly (readonly Bar[])[];
}

/** Everything that is written as JSON. */
export interface ModelReport extends Measurement {
  /** GB/s of the modelled storage, and of the link to the GPU. */
  readonly readRate: number;
  readonly copyRate: number;
  readonly cases: readonly ModelCase[];
}

/** The share of the limit below which a second load misses its target, by the name of the case. */
export const TARGETS: Readonly<Record<string, number>> = { "large tensors": 0.95, "small tensors": 0.9 };

/** Sums up a load of so many bytes between two times, in nanoseconds. */
export function evaluateLoad(
  timeline: Timeline,
  bytes: number,
  { start, end }: { readonly start: number; readonly end: number },
): ModelLoad {
  const operations = between(timeline, start, end);
  const of = (test: (one: Operation) => boolean) => operations.filter(test);
  const reads = of(({ engine }) => engine === "read");
  const copies = of(({ engine }) => engine === "to device");
  const limit = bytes / Math.min(timeline.readRate, timeline.copyRate);
  return {
    milliseconds: (end - start) / 1e6,
    ofLimit: limit / (end - start),
    firstRead: (Math.min(...reads.map((one) => one.start)) - start) / 1e6,
    allocating: milliseconds(of(({ call }) => call.startsWith("cudaMalloc"))),
    pinning: milliseconds(of(({ call }) => call.startsWith("cudaHost"))),
    copies: copies.length,
    copiedBytes: copies.reduce((sum, one) => sum + one.bytes, 0),
    kernels: of(({ call }) => call === "kernel").length,
  };
}

function milliseconds(operations: readonly Operation[]): number {
  return operations.reduce((sum, { start, end }) => sum + end - start, 0) / 1e6;
}

/** The rows of a picture: the driver, each lane, the copy engine, the casts. */
export function barsOf(
  timeline: Timeline,
  { start, end }: { readonly start: number; readonly end: number },
): Bar[] {
  const gap = (end - start) / 400; // about a pixel
  const operations = between(timeline, start, end).toSorted((a, b) => a.start - b.start);
  const lanes = [
    ...new Set(operations.filter(({ engine }) => engine === "read").map(({ thread }) => thread)),
  ];
  const open = new Map<string, { row: string; kind: Bar["kind"]; start: number; end: number }>();
  const bars: Bar[] = [];
  for (const one of operations) {
    const place = placeOf(one, lanes);
    if (place === null) continue;
    const key = place.join();
    const last = open.get(key);
    if (last && one.start - last.end < gap) {
      last.end = Math.max(last.end, one.end);
      continue;
    }
    const [row, kind] = place;
    const bar = { row, kind, start: one.start, end: one.end };
    open.set(key, bar);
    bars.push(bar);
  }
  const round = (time: number) => Math.round((time - start) / 1e4) / 100;
  return bars.map((bar) => ({ ...bar, start: round(bar.start), end: round(bar.end) }));
}

function placeOf(
  { engine, thread, call }: Operation,
  lanes: readonly number[],
): [string, Bar["kind"]] | null {
  switch (engine) {
    case "driver":
      return ["driver", call.startsWith("cudaMalloc") ? "allocate" : "pin"];
    case "read":
      return [`lane ${lanes.indexOf(thread) + 1}`, "read"];
    case "to device":
      return ["to the device", "copy"];
    case "compute":
      return ["kernels", "cast"];
    case "from device":
      return null;
  }
}

/** A table of all loads. */
export function formatModel({ cases }: ModelReport): string {
  const head = ["", "time", "of limit", "target", "first read", "allocating", "pinning", "copies", "kernels"];
  const rows = cases.flatMap(({ name, loads }) =>
    loads.map((load, index) => [
      `${name}, ${index === 0 ? "first" : "second"} load`,
      ...cellsOf(name, load, index),
    ])
  );
  return formatTable([head, ...rows], [1, 2, 3, 4, 5, 6, 7, 8]);
}

/** The figures of a load, as text. */
export function cellsOf(name: string, load: ModelLoad, index: number): string[] {
  const target = index === 0 ? undefined : TARGETS[name];
  return [
    `${load.milliseconds.toFixed(0)} ms`,
    load.ofLimit.toFixed(2),
    target === undefined ? "" : `≥ ${target.toFixed(2)}`,
    `${load.firstRead.toFixed(1)} ms`,
    `${load.allocating.toFixed(0)} ms`,
    `${load.pinning.toFixed(0)} ms`,
    `${load.copies}`,
    `${load.kernels}`,
  ];
}
