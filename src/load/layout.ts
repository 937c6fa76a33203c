/**
 * The place of every tensor of a load. Neighbours in a file stay neighbours in memory (a run), so that they can be read
 * in large blocks, unless the alignment of an element type requires padding.
 *
 * Offsets are relative to allocations whose first byte has an address that is a multiple of {@linkcode PAGE}.
 */
import { dtypeAlignment } from "../base/dtype.ts";
import { finishNow, inSteps, STEP, type Steps } from "../base/steps.ts";
import { castLength, requestBytes, type TensorRequest } from "./request.ts";

/** Bytes of a page: the alignment that direct reads require of file offsets and addresses. */
export const PAGE = 4096;

/** The place of a request's bytes. */
export interface Placement {
  /** Index of the allocation. */
  readonly allocation: number;
  /** Byte offset in it. */
  readonly offset: number;
  /** Its bytes after the cast. */
  readonly byteLength: number;
}

/** Requests that are one contiguous range of a file and of an allocation, or one strided request. */
export interface Run {
  /** The first request, in plan order. */
  readonly first: number;
  /** One after the last request. */
  readonly stop: number;
  /** Index of the allocation. */
  readonly allocation: number;
  /** Byte offset in it. */
  readonly offset: number;
}

/** Limits of the layout. */
export interface LayoutOptions {
  /** Most bytes of an allocation; a larger tensor gets a separate one. Default 8 GiB. */
  maxAllocationBytes?: number;
  /** Files smaller than this share an allocation. Default 64 MiB. */
  shareBelowBytes?: number;
  /** The alignment of every tensor in bytes, a power of two. Default: the size of its elements. */
  alignment?: number;
  /**
   * Places tensors below {@linkcode SMALL_TENSOR} in separate allocations of at most {@linkcode SMALL_ALLOCATION}: a tensor
   * in use keeps its whole allocation in memory, so a small tensor must not share a large one. Default false.
   */
  packSmall?: boolean;
}

/** Tensors of fewer bytes are small. */
export const SMALL_TENSOR = 64 * 1024;

/** Bytes of an allocation that small tensors share. */
const SMALL_ALLOCATION = 2 ** 20;

/** The places of all requests. */
export interface Layout {
  /** One place for each request, in the same order. */
  readonly placements: readonly Placement[];
  /** Contiguous runs, in order of allocation and offset. */
  readonly runs: readonly Run[];
  /** Bytes of each allocation. */
  readonly allocations: readonly number[];
}

/** Runs of at least this length are aligned for direct reads. */
const DIRECT_RUN = 256 * 1024;

/** Shorter runs, and runs that are cast, begin at a cache line. */
const LINE = 64;

/** A run that may still grow. */
interface OpenRun {
  readonly first: number;
  stop: number;
  /** File offset of its end. */
  fileEnd: number;
  /** Bytes at the destination. */
  length: number;
  /** Whether destination and file offset must be equal modulo a page. */
  readonly congruent: boolean;
  /** Whether its tensors are small, and packed. */
  readonly small: boolean;
}

/** An allocation that may still grow. */
interface OpenAllocation {
  length: number;
  readonly runs: { readonly open: OpenRun; readonly offset: number }[];
}

/** Lays out requests that are sorted by file and offset. */
export function layOut(requests: readonly TensorRequest[], options: LayoutOptions = {}): Layout {
  return finishNow(layoutSteps(requests, options));
}

/** {@linkcode layOut} in steps. */
export function* layoutSteps(
  requests: readonly TensorRequest[],
  options: LayoutOptions = {},
): Steps<Layout> {
  const maxAllocation = options.maxAllocationBytes ?? 8 * 2 ** 30;
  const shareBelow = options.shareBelowBytes ?? 64 * 2 ** 20;
  const alignment = options.alignment ?? 1;
  const fileBytes = yield* bytesByFile(requests);
  // The plan reads a large allocation after the small ones of the same files.
  const groups: { readonly small: OpenAllocation[]; large: OpenAllocation | null }[] = [];
  let lastFile = -1;
  const offsetIn = (allocation: OpenAllocation, { first, length, congruent }: OpenRun) => {
    const modulus = congruent && length >= DIRECT_RUN ? PAGE : Math.max(LINE, alignment);
    return nextCongruent(allocation.length, congruent ? requests[first]!.fileOffset : 0, modulus);
  };
  const put = (allocation: OpenAllocation, open: OpenRun) => {
    const offset = offsetIn(allocation, open);
    allocation.runs.push({ open, offset });
    allocation.length = offset + open.length;
  };
  for (
    const open of findRuns(requests, { maxAllocation, alignment, packSmall: options.packSmall ?? false })
  ) {
    yield;
    if (!open) continue;
    let group = groups.at(-1);
    if (!group) groups.push(group = { small: [], large: null });
    if (open.small) {
      let last = group.small.at(-1);
      if (!last || (last.length > 0 && offsetIn(last, open) + open.length > SMALL_ALLOCATION)) {
        group.small.push(last = { length: 0, runs: [] });
      }
      put(last, open);
      continue;
    }
    const { file } = requests[open.first]!;
    const filled = group.large?.length ?? 0;
    const ownAllocation = file !== lastFile && (filled >= shareBelow || fileBytes.get(file)! >= shareBelow);
    if (filled > 0 && (ownAllocation || filled + open.length > maxAllocation)) {
      groups.push(group = { small: [], large: null });
    }
    lastFile = file;
    put(group.large ??= { length: 0, runs: [] }, open);
  }
  return yield* placeAll(requests, groups.flatMap(({ small, large }) => large ? [...small, large] : small));
}

/** Computes all places from the runs of each allocation. */
function* placeAll(
  requests: readonly TensorRequest[],
  allocations: readonly OpenAllocation[],
): Steps<Layout> {
  const placements: Placement[] = new Array(requests.length);
  const runs: Run[] = [];
  for (const [allocation, { runs: inside }] of allocations.entries()) {
    for (const { open, offset } of inside) {
      yield;
      runs.push({ first: open.first, stop: open.stop, allocation, offset });
      let at = offset;
      for (let index = open.first; index < open.stop; index++) {
        if (index % STEP === 0) yield;
        const byteLength = resultBytes(requests[index]!);
        placements[index] = { allocation, offset: at, byteLength };
        at += byteLength;
      }
    }
  }
  return { placements, runs, allocations: allocations.map(({ length }) => length) };
}

/** Returns the first number from `start` on that equals `value` modulo `modulus`. */
function nextCongruent(start: number, value: number, modulus: number): number {
  return start + (((value - start) % modulus) + modulus) % modulus;
}

/** Bytes of a request's result. */
export function resultBytes(request: TensorRequest): number {
  return castLength(requestBytes(request), request.dtype, request.target);
}

function* bytesByFile(requests: readonly TensorRequest[]): Steps<Map<number, number>> {
  const bytes = new Map<number, number>();
  yield* inSteps(requests, (request) => {
    bytes.set(request.file, (bytes.get(request.file) ?? 0) + resultBytes(request));
  });
  return bytes;
}

/**
 * Cuts the requests into runs, at changes of file, cast, alignment or size class. Yields undefined where a long run can be
 * interrupted.
 */
function* findRuns(
  requests: readonly TensorRequest[],
  limits: { readonly maxAllocation: number; readonly alignment: number; readonly packSmall: boolean },
): Generator<OpenRun | undefined> {
  let open: OpenRun | undefined;
  for (let index = 0; index < requests.length; index++) {
    if (index % STEP === 0) yield undefined;
    const request = requests[index]!;
    const length = resultBytes(request);
    const alignment = Math.max(dtypeAlignment(request.target), limits.alignment);
    const small: boolean = limits.packSmall && length < SMALL_TENSOR;
    const last = open && requests[open.stop - 1]!;
    const maxLength = open?.small ? SMALL_ALLOCATION - PAGE : limits.maxAllocation; // the run begins within a page
    if (open && last && continues(open, last, request) && open.length + length <= maxLength) {
      const lead = open.congruent ? requests[open.first]!.fileOffset : 0;
      if (length === 0 || (small === open.small && (lead + open.length) % alignment === 0)) {
        open.stop = index + 1;
        open.fileEnd += requestBytes(request);
        open.length += length;
        continue;
      }
    }
    if (open) yield open;
    open = {
      first: index,
      stop: index + 1,
      fileEnd: request.fileOffset + requestBytes(request),
      length,
      congruent: isPlain(request) && request.fileOffset % alignment === 0,
      small,
    };
  }
  if (open) yield open;
}

/** Whether `next` follows `last` in the file without a gap and is read in the same way. */
function continues(open: OpenRun, last: TensorRequest, next: TensorRequest): boolean {
  if (next.file !== last.file || next.fileOffset !== open.fileEnd) return false;
  if (last.levels.length > 0 || next.levels.length > 0) return false;
  return (isPlain(last) && isPlain(next)) || (last.dtype === next.dtype && last.target === next.target);
}

/** A contiguous range that is not cast. */
function isPlain(request: TensorRequest): boolean {
  return request.levels.length === 0 && request.dtype === request.target;
}
