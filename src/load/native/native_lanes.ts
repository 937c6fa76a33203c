/**
 * Runs a plan in the shim: a few long non-blocking calls, and one that waits for landed segments.
 */
import { type PlanFile, PlanMemory } from "../../../ffi/plan_memory.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { ringErrorText } from "../../../ffi/usrbio.ts";
import { quote } from "../../base/text.ts";
import { PAGE } from "../layout.ts";
import { type LoadPlan, requestAt, type Segment, segmentBytes } from "../plan.ts";
import type { LaneFile } from "../../files/native/native_file.ts";
import { BufferTransferredError, type Job, type RunReport } from "../engine.ts";
import { CachedSegments } from "./cached_segments.ts";
import { returnCalls, takeCalls } from "./lane_budget.ts";
import { readFailure } from "./read_failure.ts";
import { Turn } from "../../base/turn.ts";

/** A destination of lanes other than host memory. */
export interface NativeDestination {
  /** `fst_destination_kind` in native/plan.h. */
  readonly kind: number;
  /** The context that its lanes share: `fst_plan.destination_context`. */
  readonly context: bigint;
  /** Slots of staging memory that each lane uses at once. */
  readonly slots: number;
  /** Makes the error for a status of the device. */
  error(action: string, status: number): Error;
}

/** The memory of a job's allocations. */
export interface LaneMemory {
  /**
   * Returns the buffer of an allocation that has an address; the buffer stays alive while lanes write. Null if JavaScript
   * owns none of the memory.
   */
  readonly buffer: ((allocation: number) => ArrayBuffer | null) | null;
  /** Resolves with the address of an allocation's offset 0, after its memory is allocated. */
  whenAddressed(allocation: number): Promise<number>;
}

/** A plan with its files, addresses and settings. */
export interface NativeJob extends Omit<Job<LaneFile>, "blocks"> {
  /** The memory. */
  readonly memory: LaneMemory;
  /** The destination of the bytes, if it is not host memory. */
  readonly destination?: NativeDestination;
}

/** Buffers that one lane call can keep alive (native/fst.h). */
const CALL_BUFFERS = 8;

/** Most bytes of memory that are populated ahead of direct reads. */
const POPULATE_AHEAD = 128n * 1024n * 1024n;

/** A file is opened for direct reads if the page cache has less of it; the lanes decide again for every block. */
const MOSTLY_CACHED = 0.9;

/** Least bytes of a file for each query of the page cache. */
const SAMPLE = 2 ** 20;

/** Longest wait for landed segments, and time to collect more after the first one, in microseconds. */
const WAIT = 1_000_000, GATHER = 8_000;

/** Most segments that are reported in one turn of the event loop. */
const MANY = 512;

/** Runs a job; see {@linkcode Engine.run}. */
export async function runNativeLanes(shim: Shim, job: NativeJob): Promise<RunReport> {
  const { plan, signal } = job;
  signal.throwIfAborted();
  const notes: string[] = [];
  const direct = await openDirect(job, notes);
  const limits = job.files.map(({ reader }) => reader);
  const most = Math.min(...limits.map((reader) => reader?.lanes ?? Infinity));
  const usual = Math.min(...limits.map((reader) => reader?.usualLanes ?? reader?.lanes ?? Infinity));
  const wanted = Math.min(
    job.maxThreads ?? (usual < Infinity ? usual : defaultThreads(direct, job.cachedThreads)),
    Math.max(1, plan.segments.length),
    mostLanes(job),
    most,
  );
  const populates = direct && !job.destination;
  const extra = populates ? 2 : 1; // the call that waits for landed segments, and the one that populates memory
  const calls = await takeCalls(1 + extra, wanted + extra, signal);
  const ended = Promise.withResolvers<void>();
  try {
    const lanes = calls - extra;
    const cached = new CachedSegments(job.files);
    const lent = cached.add(job.files.map((file) => file.lend(ended.promise)));
    const memory = planMemory(job, lanes, lent);
    const windows = new CallWindows(job, cached);
    const stop = new Stop(() => {
      shim.fst_plan_cancel(memory.bytes);
      windows.end();
    });
    const abort = () => stop.because(signal.reason);
    signal.addEventListener("abort", abort);
    try {
      if (signal.aborted) abort();
      await Promise.all([
        stop.onError(windows.open(memory)),
        ...Array.from(
          { length: lanes },
          (_, lane) => stop.onError(runLane(shim, plan, memory, windows, lane)),
        ),
        stop.onError(watch(shim, job, memory, cached, lanes, stop)),
        // Last: while memory is populated, this thread needs milliseconds to start another thread.
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
    if (memory.deepRefused !== 0) {
      const reason = ringErrorText(memory.deepRefused);
      notes.push(`The system refused io_uring (${reason}): at most ${lanes} reads were in flight`);
    }
    const { retries } = memory;
    if (retries) notes.push(job.files.find((file) => file.describeRetries)!.describeRetries!(retries));
    notes.push(...job.files.flatMap((file) => file.takeNotes?.() ?? []));
    return { path: pathOf(memory, isMostlyCache(job)), threads: lanes, notes };
  } finally {
    ended.resolve(); // lanes no longer use the files
    returnCalls(calls);
  }
}

/** Returns the path of most of the bytes. */
function pathOf(
  { bufferedBytes, directBytes, usrbioBytes, httpBytes }: PlanMemory,
  isCache: boolean,
): RunReport["path"] {
  if (httpBytes > bufferedBytes + directBytes + usrbioBytes) return "http";
  if (isCache) return "cache";
  if (usrbioBytes > bufferedBytes + directBytes) return "3fs";
  return directBytes > bufferedBytes ? "direct" : "buffered";
}

/** Whether most bytes of a job are in local files of a cache of remote files. */
function isMostlyCache({ plan, files }: NativeJob): boolean {
  let bytes = 0;
  for (const segment of plan.segments) {
    const length = segmentBytes(segment);
    if (files[segment.file]!.way?.(segment.fileOffset, length) === "cache") bytes += length;
  }
  return bytes > plan.bytes / 2;
}

/** Opens files that are not cached for direct reads; returns whether there is such a file. */
async function openDirect(job: NativeJob, notes: string[]): Promise<boolean> {
  let direct = false;
  for (const [file, cached] of cachedFractions(job.plan, job.files)) {
    if (cached === null) {
      notes.push("The system cannot query the page cache (Linux < 6.5): read through the page cache");
      break;
    }
    if (cached >= MOSTLY_CACHED) continue;
    if (await file.openDirect()) direct = true;
    else notes.push(`Direct reads of ${quote(file.path)} were refused: read through the page cache`);
  }
  return direct;
}

/** Yields each file that a plan reads, and the fraction of its range that the page cache has. */
function* cachedFractions(
  plan: LoadPlan,
  files: readonly LaneFile[],
): Generator<[LaneFile, number | null]> {
  const ranges = fileRanges(plan);
  const windows = Math.max(4, Math.floor(512 / ranges.size));
  for (const [index, { start, stop }] of ranges) {
    const length = stop - start;
    const file = files[index]!;
    yield [file, file.cachedFraction(start, length, Math.min(windows, Math.ceil(length / SAMPLE)))];
  }
}

/** Whether the page cache has nearly all bytes that a plan reads. */
export function isCached(plan: LoadPlan, files: readonly LaneFile[]): boolean {
  return cachedFractions(plan, files).every(([, cached]) => cached !== null && cached >= MOSTLY_CACHED);
}

/** File → the range that the plan reads. */
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

/** Storage needs about eight requests in flight; copies of cached files are limited by the cores. */
function defaultThreads(direct: boolean, cachedThreads = Math.max(2, navigator.hardwareConcurrency)): number {
  return Math.min(16, direct ? Math.max(8, navigator.hardwareConcurrency) : cachedThreads);
}

/** Most bytes of a slot for a device. Slots are powers of two, so that none crosses a piece of pinned memory. */
const MOST_SLOT = 16 * 2 ** 20;

/** Microseconds to read a header that no local storage needs. */
const LONG_LATENCY = 10_000;

/** Least staging memory of a lane, in bytes. */
const LEAST_STAGING = 4 * PAGE;

/** Most lanes that the staging memory of a device load is enough for; it has a fixed size. */
function mostLanes({ destination, stagingBytes }: NativeJob): number {
  return destination ? Math.max(1, Math.floor(stagingBytes / (destination.slots * LEAST_STAGING))) : Infinity;
}

/** The memory of a plan, without its segments. */
function planMemory(job: NativeJob, lanes: number, files: readonly PlanFile[]): PlanMemory {
  const { plan, destination } = job;
  // A block whose alignment differs from its destination also needs the pages around it.
  const staging = Math.min(
    destination ? Math.max(MOST_SLOT, job.blockBytes) : job.blockBytes + 2 * PAGE,
    Math.max(LEAST_STAGING, Math.floor(job.stagingBytes / lanes / (destination?.slots ?? 1))),
  );
  const memory = new PlanMemory(
    files,
    plan.segments.length,
    destination ? Math.min(MOST_SLOT, 2 ** Math.floor(Math.log2(staging))) : staging - staging % PAGE,
  );
  if (destination) memory.setDestination(destination.kind, destination.context);
  const deepStaging = Math.floor(job.stagingBytes / lanes);
  memory.allowDeepReads(Math.max(LEAST_STAGING, deepStaging - deepStaging % PAGE), latencyOf(job.files));
  return memory;
}

/** The latency of the storage in microseconds, if the reads of most headers show that it is long; else 0. */
function latencyOf(files: readonly LaneFile[]): number {
  const times = files.map((file) => file.headMicroseconds ?? 0).sort((a, b) => a - b);
  const median = times[(times.length - 1) >> 1] ?? 0;
  return median >= LONG_LATENCY ? median : 0;
}

/** Why a run ended early. */
interface Failure {
  readonly error: unknown;
  /** The request whose bytes could not be read; undefined if the failure concerns none. */
  readonly request?: number | undefined;
}

/** Ends the lanes early because of an error in JavaScript; records the first one. */
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

  /** Waits for a call and never rejects, so that no call is in flight at the end; an error stops the others. */
  async onError(call: Promise<void>): Promise<void> {
    try {
      await call;
    } catch (error) {
      this.because(error);
    }
  }
}

/**
 * The segments that one call can take: of allocations that have memory, and of a few of them, because a call keeps only a
 * few buffers alive.
 */
class CallWindows {
  readonly #plan: LoadPlan;
  readonly #memory: LaneMemory;
  readonly #cached: CachedSegments;
  /** Allocation → its first segment. */
  readonly #starts: number[];
  /** The number of allocations whose segments are written, with their addresses. */
  #written = 0;
  #isEnded = false;
  #change = Promise.withResolvers<void>();

  constructor({ plan, memory }: NativeJob, cached: CachedSegments) {
    this.#plan = plan;
    this.#memory = memory;
    this.#cached = cached;
    this.#starts = new Array(plan.allocations.length + 1).fill(plan.segments.length);
    for (let index = plan.segments.length - 1; index >= 0; index--) {
      this.#starts[plan.segments[index]!.allocation] = index;
    }
    // An allocation without segments has the start of the next one.
    for (let a = plan.allocations.length - 1; a >= 0; a--) {
      this.#starts[a] = Math.min(this.#starts[a]!, this.#starts[a + 1]!);
    }
  }

  /** Writes the segments of each allocation as soon as it has memory. */
  async open(memory: PlanMemory): Promise<void> {
    const turn = new Turn();
    const { segments, allocations } = this.#plan;
    while (this.#written < allocations.length && !this.#isEnded) {
      const address = await this.#memory.whenAddressed(this.#written);
      const stop = this.#starts[this.#written + 1]!;
      for (let index = this.#starts[this.#written]!; index < stop; index++) {
        if (index % 4096 === 4095) await turn.pause();
        const segment = segments[index]!;
        const file = this.#cached.fileOf(segment);
        memory.setSegment(
          index,
          file === segment.file ? segment : { ...segment, file },
          address + segment.offset,
        );
      }
      this.#written++;
      this.#announce();
    }
  }

  /** Waits until a segment is written; returns false if the job ends before. */
  async until(segment: number): Promise<boolean> {
    while (this.#plan.segments[segment]!.allocation >= this.#written && !this.#isEnded) {
      await this.#change.promise;
    }
    return !this.#isEnded;
  }

  /** Ends all waits. */
  end(): void {
    this.#isEnded = true;
    this.#announce();
  }

  /** Returns the first segment that the call must not take, and the buffers of the segments before it. */
  from(segment: number, span: number): { limit: number; buffers: (ArrayBuffer | null)[] } {
    const { buffer } = this.#memory;
    const buffers: (ArrayBuffer | null)[] = new Array(CALL_BUFFERS).fill(null);
    if (!buffer) return { limit: this.#starts[this.#written]!, buffers };
    const first = this.#plan.segments[segment]!.allocation;
    const stop = Math.min(first + span, this.#written);
    for (let allocation = first; allocation < stop; allocation++) {
      const own = buffer(allocation);
      // This call cannot keep a transferred buffer alive: its writes would corrupt the next user of the memory.
      if (own?.detached) throw new BufferTransferredError();
      buffers[allocation - first] = own;
    }
    return { limit: this.#starts[stop]!, buffers };
  }

  #announce(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}

type CallBuffers = [
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
  windows: CallWindows,
  lane: number,
): Promise<void> {
  // Lanes have windows of different lengths, so that they do not all return at the same time.
  const span = CALL_BUFFERS - lane % (CALL_BUFFERS / 2);
  for (let next = memory.next; next < plan.segments.length; next = memory.next) {
    if (!await windows.until(next)) return;
    const { limit, buffers } = windows.from(next, span);
    if (await shim.fst_lane_run(memory.bytes, limit, ...buffers as CallBuffers) !== 0) return;
  }
}

async function populate(shim: Shim, plan: LoadPlan, memory: PlanMemory, windows: CallWindows): Promise<void> {
  for (let next = memory.next; next < plan.segments.length;) {
    if (!await windows.until(next)) return;
    const { limit, buffers } = windows.from(next, CALL_BUFFERS);
    if (await shim.fst_plan_populate(memory.bytes, limit, POPULATE_AHEAD, ...buffers as CallBuffers) !== 0) {
      return;
    }
    next = Math.max(memory.next, limit);
  }
}

/** Reports landed segments until all have landed or the lanes stop. */
async function watch(
  shim: Shim,
  job: NativeJob,
  memory: PlanMemory,
  cached: CachedSegments,
  threads: number,
  stop: Stop,
): Promise<void> {
  const { done } = memory;
  const isCache = isMostlyCache(job);
  let announced = job.readiness.landedCount;
  let lowest = 0; // every segment below has been reported
  for (let gather = 0;; gather = GATHER) { // the first segments without delay
    const turn = new Turn();
    const seen = memory.wake;
    const taken = memory.next;
    for (const file of job.files) file.renew?.()?.catch((error) => stop.because(error));
    const failure = stop.reason ?? failureOf(job, memory);
    for (let index = lowest; index < taken; index++) {
      if (Atomics.load(done, index) !== 1) continue;
      done[index] = 2;
      cached.landed(job.plan.segments[index]!, memory);
      job.readiness.segmentLanded(index);
      const landed = job.readiness.landedCount;
      if (landed - announced < MANY) continue;
      announced = landed;
      await turn.pause(); // callers that wait for very many tensors need time
    }
    while (lowest < done.length && done[lowest] === 2) lowest++;
    const { bufferedBytes, directBytes, usrbioBytes, httpBytes, landedBytes } = memory;
    // GPUDirect Storage counts its bytes elsewhere.
    const isKnown = bufferedBytes + directBytes + usrbioBytes + httpBytes > 0;
    job.onLanded?.(landedBytes, isKnown ? { path: pathOf(memory, isCache), threads } : undefined);
    if (lowest === done.length) return;
    if (failure) return job.readiness.fail(failure.error, failure.request);
    await shim.fst_plan_wait(memory.bytes, seen, WAIT, gather);
  }
}

/** The segment that has the byte at a file offset: this one, or one of those that were read together with it. */
function segmentAt({ segments }: LoadPlan, index: number, offset: number): Segment {
  const first = segments[index]!;
  let end = first.fileOffset;
  for (let at = index; segments[at]?.file === first.file && segments[at]!.fileOffset === end; at++) {
    end += segmentBytes(segments[at]!);
    if (offset < end) return segments[at]!;
  }
  return first;
}

function failureOf(job: NativeJob, memory: PlanMemory): Failure | null {
  const failure = memory.failure;
  if (!failure) return null;
  const { kind, offset, actual, errno } = failure;
  const segment = segmentAt(job.plan, failure.segment, offset + actual);
  const file = job.files[segment.file]!;
  const { path } = file;
  const request = requestAt(job.plan, segment, kind === "changed" ? offset : offset + actual);
  const tensor = job.plan.requests.name(request ?? segment.firstRequest);
  if (kind === "device") {
    const error = job.destination!.error(`load tensor ${quote(tensor)} of ${quote(path)}`, errno);
    return { error, request };
  }
  const own = file.failure?.(failure, tensor);
  if (own) return { error: own, request };
  return { error: readFailure(failure, path, tensor, segmentBytes(segment)), request };
}
