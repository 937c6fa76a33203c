/**
 * The engine that needs only {@linkcode SourceFile.read}: slower than the native one, and the same on every platform. It
 * loads from local files and from sources of users.
 */
import { ReadError } from "../base/errors.ts";
import { readThroughGap, requestAt, type Segment, segmentBytes } from "./plan.ts";
import { castLength } from "./request.ts";
import { readStrided } from "./strided_reads.ts";
import { denseCopy, stridedReads } from "../format/strided.ts";
import type { RemoteWay, Source, SourceFile } from "../files/source.ts";
import { LoopOperations } from "./host_operations.ts";
import { BufferTransferredError, type Engine, type HostBlock, type Job, type RunReport } from "./engine.ts";

/** Reads in flight. More reads of Deno's files are not faster. */
const READERS = 4;

const OPERATIONS = new LoopOperations();

/** The functions of the platform that the engine uses. */
export interface PortableHost {
  /** The source of the files. */
  readonly source: Source;
  /** Bytes that can still be allocated; -1 if unknown. */
  readonly availableMemory: () => number;
  /** Why the native engine is not used. */
  readonly reason: string;
}

/** Reads files at positions, several ranges at once. */
export class PortableEngine implements Engine<SourceFile> {
  readonly name = "portable";
  readonly notes: readonly string[];
  readonly source: Source;
  readonly operations = OPERATIONS;
  readonly availableMemory: () => number;

  constructor({ source, availableMemory, reason }: PortableHost) {
    this.source = source;
    this.availableMemory = availableMemory;
    this.notes = [`Portable engine, slower than the native one: ${reason}`];
  }

  allocate(byteLength: number): HostBlock {
    return { buffer: new ArrayBuffer(byteLength), base: 0 };
  }

  async run(job: Job): Promise<RunReport> {
    const { plan, signal, readiness } = job;
    const useful = Math.max(1, ...job.files.map((file) => file.readers ?? READERS));
    const readers = Math.min(job.maxThreads ?? useful, Math.max(1, plan.segments.length));
    const ways = new Ways();
    const order = inFileOrder(job);
    let next = 0, landed = 0;
    let failure: { error: unknown } | undefined;
    const read = async () => {
      while (next < plan.segments.length && !failure) {
        const index = order ? order[next++]! : next++;
        const segment = plan.segments[index]!;
        try {
          signal.throwIfAborted();
          const file = job.files[segment.file]!;
          const bytes = segmentBytes(segment);
          const way = file.way?.(segment.fileOffset, bytes) ?? "portable"; // before the read fills a cache
          await land(job, segment);
          await file.verify?.();
          landed += bytes;
          ways.add(way, bytes);
          readiness.segmentLanded(index);
          job.onLanded?.(landed, { path: ways.most, threads: readers });
        } catch (error) {
          failure ??= {
            error: job.blocks.at(segment.allocation)?.buffer.detached ? new BufferTransferredError() : error,
          };
          readiness.fail(failure.error, requestAt(plan, segment, unreadOffset(error) ?? segment.fileOffset));
        }
      }
    };
    await Promise.all(Array.from({ length: readers }, read));
    if (failure) throw failure.error;
    signal.throwIfAborted();
    return {
      path: ways.most,
      threads: readers,
      notes: job.files.flatMap((file) => file.takeNotes?.() ?? []),
    };
  }
}

/** The segments in the order of the files, if a file can only be read as one stream; null if the plan's order is good. */
function inFileOrder({ plan: { segments }, files }: Job): Uint32Array | null {
  if (!files.some(({ readers }) => readers === 1)) return null;
  return Uint32Array.from(segments.keys()).sort((a, b) => {
    const [one, other] = [segments[a]!, segments[b]!];
    return one.file - other.file || one.fileOffset - other.fileOffset;
  });
}

/** The bytes that came on each way. */
class Ways {
  readonly #bytes = { portable: 0, http: 0, cache: 0 };

  add(way: RemoteWay | "portable", bytes: number): void {
    this.#bytes[way] += bytes;
  }

  /** The way of most of the bytes. */
  get most(): RemoteWay | "portable" {
    const { portable, http, cache } = this.#bytes;
    if (portable >= http && portable >= cache) return "portable";
    return cache > http ? "cache" : "http";
  }
}

/** Returns the offset of the first byte that could not be read, if the error has it. */
function unreadOffset(error: unknown): number | null {
  return error instanceof ReadError ? error.offset + error.actual : null;
}

async function land(job: Job, segment: Segment): Promise<void> {
  const { buffer, base } = await job.blocks.until(segment.allocation);
  const file = job.files[segment.file]!;
  const length = castLength(segmentBytes(segment), segment.from, segment.to);
  const target = new Uint8Array(buffer, base + segment.offset, length);
  if (segment.outerCount === 1 && segment.innerCount === 1) {
    if (segment.from === segment.to) return await file.read(segment.fileOffset, target, job.signal);
    const bytes = new Uint8Array(segment.run);
    await file.read(segment.fileOffset, bytes, job.signal);
    return await OPERATIONS.cast(bytes, segment.from, target, segment.to);
  }
  const { run, outerCount, outerStride, innerCount, innerStride } = segment;
  const levels = [{ count: outerCount, stride: outerStride }, { count: innerCount, stride: innerStride }];
  const copy = denseCopy({
    offset: segment.fileOffset,
    run,
    levels: levels.filter(({ count }) => count > 1),
  });
  const dense = segment.from === segment.to ? target : new Uint8Array(copy.byteLength);
  await readStrided(file, stridedReads(copy, Infinity, readThroughGap(run), run), dense, job.signal);
  if (dense !== target) await OPERATIONS.cast(dense, segment.from, target, segment.to);
}
