/**
 * Running a plan through the shim: a few long non-blocking calls, and one that waits for their news.
 */
import { type PlanFile, PlanMemory } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { ringErrorText } from "../../../ffi/usrbio.ts";
import { ReadError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { PAGE } from "../layout.ts";
import { type LoadPlan, requestAt, segmentBytes } from "../plan.ts";
import type { Readiness } from "../readiness.ts";
import type { NativeFile } from "../../files/native/native_file.ts";
import { BufferTransferredError, type LoadWay, type RunReport } from "../engine.ts";
import { giveBack, take } from "./lane_budget.ts";
import { Turn } from "../../base/turn.ts";

/** Where lanes put what they read, if that is not host memory. */
export interface NativeLander {
  /** `fst_lander_kind` in native/plan.h. */
  readonly kind: number;
  /** What its lanes share: `fst_plan.lander_context`. */
  readonly context: bigint;
  /** Pieces of staging memory that each lane uses at once. */
  readonly slots: number;
  /** The error for a status that the device gave. */
  error(action: string, status: number): Error;
}

/** A plan and the addresses that it runs into. */
export interface NativeJob {
  /** What to read and where to put it. */
  readonly plan: LoadPlan;
  /** The files that the plan's segments name by index. */
  readonly files: readonly NativeFile[];
  /** The address of each allocation's offset 0. */
  readonly addresses: readonly number[];
  /** The memory behind each address: kept alive while lanes may write there. Empty if JavaScript owns none of it. */
  readonly keep: readonly (ArrayBuffer | null)[];
  /** Where the addresses are, if not in host memory. */
  readonly lander?: NativeLander;
  /** Is told of every segment that has landed, and of the failure if there is one. */
  readonly readiness: Readiness;
  /** Lanes wanted; default by the machine and by what is cached. */
  readonly maxThreads?: number | undefined;
  /** Lanes where `maxThreads` is not given and the page cache has the files; default by the machine. */
  readonly cachedThreads?: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Bytes of one read. */
  readonly blockBytes: number;
  /** Ends the job early. */
  readonly signal: AbortSignal;
  /** Called now and then with the file bytes that have landed, and how. */
  readonly onLanded?: (bytes: number, way?: LoadWay) => void;
}

/** Buffers that one lane call can keep alive (native/fst.h). */
const KEPT = 8;

/** At most this much memory is touched ahead of direct reads. */
const POPULATE_AHEAD = 128n * 1024n * 1024n;

/** A file is read directly if less of it than this is in the page cache; the lanes decide anew for every block. */
const MOSTLY_CACHED = 0.9;

/** Bytes of a file that are judged by one look into the page cache, at least. */
const SAMPLE = 2 ** 20;

/** How long to wait for news at most, and how long to let more gather once there is some, in microseconds. */
const WAIT = 1_000_000, GATHER = 8_000;

/** Tensors that land in one turn of the event loop. */
const MANY = 512;

/** Runs a job; see {@linkcode Engine.run}. */
export async function runNativeLanes(shim: Shim, job: NativeJob): Promise<RunReport> {
  const { plan, signal } = job;
  signal.throwIfAborted();
  const notes: string[] = [];
  const direct = await openDirect(job, notes);
  const rings = Math.min(...job.files.map((file) => file.reader?.lanes ?? Infinity));
  const wanted = Math.min(
    job.maxThreads ?? (rings < Infinity ? rings : defaultThreads(direct, job.cachedThreads)),
    Math.max(1, plan.segments.length),
    mostLanes(job),
    rings,
  );
  const populates = direct && !job.lander;
  const extra = populates ? 2 : 1; // the call that waits for news, and the one that touches memory ahead
  const calls = await take(1 + extra, wanted + extra, signal);
  const ended = Promise.withResolvers<void>();
  try {
    const lanes = calls - extra;
    const memory = await planMemory(job, lanes, job.files.map((file) => file.lend(ended.promise)));
    const windows = new Windows(plan, job.keep);
    const stop = new Stop(() => shim.fst_plan_cancel(memory.bytes));
    const abort = () => stop.because(signal.reason);
    signal.addEventListener("abort", abort);
    try {
      if (signal.aborted) abort();
      await Promise.all([
        ...Array.from(
          { length: lanes },
          (_, lane) => stop.onError(runLane(shim, plan, memory, windows, lane)),
        ),
        stop.onError(watch(shim, job, memory, lanes, stop)),
        // Last: while memory is populated, mapping the stack of a new thread takes this one milliseconds.
        ...populates ? [stop.onError(populate(shim, plan, memory, windows))] : [],
      ]);
    } finally {
      signal.removeEventListener("abort", abort);
    }
    const failure = stop.reason ?? failureOf(job, memory);
    if (failure) {
      job.readiness.fail(failure.error, failure.request);
      throw failure.error;
    }
    if (memory.directRefused > 0) {
      notes.push("The file system refused direct reads: read through the page cache");
    }
    return { path: pathOf(memory), threads: lanes, notes };
  } finally {
    ended.resolve(); // no lane uses the files any more
    giveBack(calls);
  }
}

/** The way of most of the bytes. */
function pathOf({ bufferedBytes, directBytes, usrbioBytes }: PlanMemory): RunReport["path"] {
  if (usrbioBytes > bufferedBytes + directBytes) return "3fs";
  return directBytes > bufferedBytes ? "direct" : "buffered";
}

/** Opens what is not cached for direct reads; whether there is any such file. */
async function openDirect(job: NativeJob, notes: string[]): Promise<boolean> {
  let direct = false;
  for (const [file, cached] of cachedFractions(job.plan, job.files)) {
    if (cached === null) {
      notes.push("The system cannot tell what is cached (Linux < 6.5): read through the page cache");
      break;
    }
    if (cached >= MOSTLY_CACHED) continue;
    if (await file.openDirect()) direct = true;
    else notes.push(`Direct reads of ${quote(file.path)} were refused: read through the page cache`);
  }
  return direct;
}

/** Each file that a plan reads, and what part of that the page cache holds. */
function* cachedFractions(
  plan: LoadPlan,
  files: readonly NativeFile[],
): Generator<[NativeFile, number | null]> {
  const ranges = fileRanges(plan);
  const windows = Math.max(4, Math.floor(512 / ranges.size));
  for (const [index, { start, stop }] of ranges) {
    const length = stop - start;
    const file = files[index]!;
    yield [file, file.cachedFraction(start, length, Math.min(windows, Math.ceil(length / SAMPLE)))];
  }
}

/** Whether the page cache holds nearly all that a plan reads. */
export function isCached(plan: LoadPlan, files: readonly NativeFile[]): boolean {
  return cachedFractions(plan, files).every(([, cached]) => cached !== null && cached >= MOSTLY_CACHED);
}

/** File → from where to where the plan reads it. */
function fileRanges(plan: LoadPlan): Map<number, { start: number; stop: number }> {
  const ranges = new Map<number, { start: number; stop: number }>();
  for (const segment of plan.segments) {
    const { file, fileOffset } = segment;
    const stop = fileOffset + (segment.outerCount - 1) * segment.outerStride + segment.run;
    const range = ranges.get(file);
    if (!range) ranges.set(file, { start: fileOffset, stop });
    else {
      range.start = Math.min(range.start, fileOffset);
      range.stop = Math.max(range.stop, stop);
    }
  }
  return ranges;
}

/** Storage wants about eight requests in flight; cached files want the cores, and not to lose them to other threads. */
function defaultThreads(direct: boolean, cachedThreads = Math.max(2, navigator.hardwareConcurrency)): number {
  return Math.min(16, direct ? Math.max(8, navigator.hardwareConcurrency) : cachedThreads);
}

/** Bytes of a GPU's page: what its slots of staging memory, and the windows that lie like them, begin at. */
const GPU_PAGE = 64 * 1024;

/** The least staging memory that lanes can work with. */
const LEAST_STAGING = 4 * PAGE;

/** Lanes that there is staging memory for, where it is a lander's: it cannot be exceeded. */
function mostLanes({ lander, stagingBytes }: NativeJob): number {
  return lander ? Math.max(1, Math.floor(stagingBytes / (lander.slots * LEAST_STAGING))) : Infinity;
}

async function planMemory(
  job: NativeJob,
  lanes: number,
  files: readonly PlanFile[],
): Promise<PlanMemory> {
  const { plan, lander } = job;
  // A block that is not aligned as its destination is needs the pages around it as well.
  const staging = Math.min(
    job.blockBytes + 2 * PAGE,
    Math.max(LEAST_STAGING, Math.floor(job.stagingBytes / lanes / (lander?.slots ?? 1))),
  );
  const memory = new PlanMemory(
    files,
    plan.segments.length,
    staging - staging % (lander && staging >= 2 * GPU_PAGE ? GPU_PAGE : PAGE),
  );
  if (lander) memory.setLander(lander.kind, lander.context);
  const turn = new Turn();
  for (const [index, segment] of plan.segments.entries()) {
    if (index % 4096 === 4095) await turn.pause();
    memory.setSegment(index, segment, job.addresses[segment.allocation]! + segment.offset);
  }
  return memory;
}

/** Why a run ended early. */
interface Failure {
  readonly error: unknown;
  /** The request of which bytes could not be read; missing where it is not for one. */
  readonly request?: number;
}

/** Ends the lanes early, for the first reason that comes up on this side. */
class Stop {
  reason: Failure | null = null;
  readonly #cancel: () => void;

  constructor(cancel: () => void) {
    this.#cancel = cancel;
  }

  because(error: unknown): void {
    this.reason ??= { error };
    this.#cancel();
  }

  /** Waits for a call, so that none is in flight at the end whatever happens; an error stops the others. */
  async onError(call: Promise<void>): Promise<void> {
    try {
      await call;
    } catch (error) {
      this.because(error);
    }
  }
}

/** Which segments a call may take, given the few buffers that it can keep alive. */
class Windows {
  readonly #plan: LoadPlan;
  readonly #keep: readonly (ArrayBuffer | null)[];
  /** Allocation → its first segment. */
  readonly #starts: number[];

  constructor(plan: LoadPlan, keep: readonly (ArrayBuffer | null)[]) {
    this.#plan = plan;
    this.#keep = keep;
    this.#starts = new Array(plan.allocations.length + 1).fill(plan.segments.length);
    for (let index = plan.segments.length - 1; index >= 0; index--) {
      this.#starts[plan.segments[index]!.allocation] = index;
    }
    // An allocation without segments starts where the next one does.
    for (let a = plan.allocations.length - 1; a >= 0; a--) {
      this.#starts[a] = Math.min(this.#starts[a]!, this.#starts[a + 1]!);
    }
  }

  /** The first segment that a call made now must leave, and the buffers behind those that it may take. */
  from(segment: number, span: number): { limit: number; keep: (ArrayBuffer | null)[] } {
    if (this.#keep.length === 0) {
      return { limit: this.#plan.segments.length, keep: new Array(KEPT).fill(null) };
    }
    const first = this.#plan.segments[segment]!.allocation;
    const stop = Math.min(first + span, this.#plan.allocations.length);
    for (let allocation = first; allocation < stop; allocation++) {
      // Nothing could keep such memory alive any more: writing on would corrupt whoever gets it next.
      if (this.#keep[allocation]?.detached) {
        throw new BufferTransferredError();
      }
    }
    return {
      limit: this.#starts[stop]!,
      keep: Array.from({ length: KEPT }, (_, k) => first + k < stop ? this.#keep[first + k] ?? null : null),
    };
  }
}

type Kept = [
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
  ArrayBuffer | null,
];

async function runLane(
  shim: Shim,
  plan: LoadPlan,
  memory: PlanMemory,
  windows: Windows,
  lane: number,
): Promise<void> {
  // Lanes have windows of different lengths, so that they do not all come back for the next one at once.
  const span = KEPT - lane % (KEPT / 2);
  for (let next = memory.next; next < plan.segments.length; next = memory.next) {
    const { limit, keep } = windows.from(next, span);
    if (await shim.fst_lane_run(memory.bytes, limit, ...keep as Kept) !== 0) return;
  }
}

async function populate(shim: Shim, plan: LoadPlan, memory: PlanMemory, windows: Windows): Promise<void> {
  for (let next = memory.next; next < plan.segments.length;) {
    const { limit, keep } = windows.from(next, KEPT);
    if (await shim.fst_plan_populate(memory.bytes, limit, POPULATE_AHEAD, ...keep as Kept) !== 0) return;
    next = Math.max(memory.next, limit);
  }
}

/** Passes on what has landed until all has, or the lanes stop. */
async function watch(
  shim: Shim,
  job: NativeJob,
  memory: PlanMemory,
  threads: number,
  stop: Stop,
): Promise<void> {
  const { done } = memory;
  let announced = job.readiness.landed.length;
  let lowest = 0; // every segment below has been passed on
  for (let gather = 0;; gather = GATHER) { // the first news at once
    const turn = new Turn();
    const seen = memory.wake;
    const taken = memory.next;
    const failure = stop.reason ?? failureOf(job, memory);
    for (let index = lowest; index < taken; index++) {
      if (Atomics.load(done, index) !== 1) continue;
      done[index] = 2;
      job.readiness.segmentLanded(index);
      const landed = job.readiness.landed.length;
      if (landed - announced < MANY) continue;
      announced = landed;
      await turn.pause(); // whoever waits for very many tensors has much to do
    }
    while (lowest < done.length && done[lowest] === 2) lowest++;
    const { bufferedBytes, directBytes, usrbioBytes, landedBytes } = memory;
    // A device that fetches by itself counts its bytes elsewhere.
    const isKnown = bufferedBytes + directBytes + usrbioBytes > 0;
    job.onLanded?.(landedBytes, isKnown ? { path: pathOf(memory), threads } : undefined);
    if (lowest === done.length) return;
    if (failure) return job.readiness.fail(failure.error, failure.request);
    await shim.fst_plan_wait(memory.bytes, seen, WAIT, gather);
  }
}

function failureOf(job: NativeJob, memory: PlanMemory): Failure | null {
  const failure = memory.failure;
  if (!failure) return null;
  const segment = job.plan.segments[failure.segment]!;
  const { path } = job.files[segment.file]!;
  const { offset, expected, actual, errno } = failure;
  const request = requestAt(job.plan, segment, offset + actual);
  const tensor = job.plan.requests[request]!.name;
  if (failure.kind === "device") {
    const error = job.lander!.error(`load tensor ${quote(tensor)} of ${quote(path)}`, errno);
    return { error, request };
  }
  const at = `${expected || segmentBytes(segment)} bytes expected at offset ${offset}`;
  const reason = {
    system: `${at}: ${ringErrorText(errno)}`,
    truncated: `${at}, ${actual} found: was it truncated?`,
    changed: `the file was changed after its header was read`,
  }[failure.kind];
  const message = `Cannot read ${quote(path)} (tensor ${quote(tensor)}): ${reason}`;
  const error = new ReadError(message, { path, offset, expected, actual, errno });
  return { error, request };
}
