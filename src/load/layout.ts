/**
 * The place of every tensor of a load. Neighbours in a file stay neighbours in memory (a run), so that they can be read
 * in large blocks, unless the alignment of an element type requires padding.
 *
 * Offsets are relative to allocations whose first byte has an address that is a multiple of {@linkcode PAGE}.
 */
import { CODE_BITS, dtypeAlignment, DTYPES } from "../base/dtype.ts";
import { finishNow, STEP, type Steps } from "../base/steps.ts";
import { castLength, PER_STEP, requestBytes, RequestTable, type TensorRequest } from "./request.ts";

/** Bytes of a page: the alignment that direct reads require of file offsets and addresses. */
export const PAGE = 4096;

/** The places of the bytes of all requests, as columns in the order of the requests. */
export class Placements {
  /** Index of each one's allocation. */
  readonly allocations: Uint32Array<ArrayBuffer>;
  /** Byte offset in it. */
  readonly offsets: Float64Array<ArrayBuffer>;
  /** Bytes after the cast. */
  readonly byteLengths: Float64Array<ArrayBuffer>;

  /** @param size the number of requests */
  constructor(
    size: number,
    allocations: Uint32Array<ArrayBuffer> = new Uint32Array(size),
    offsets: Float64Array<ArrayBuffer> = new Float64Array(size),
    byteLengths: Float64Array<ArrayBuffer> = new Float64Array(size),
  ) {
    this.allocations = allocations;
    this.offsets = offsets;
    this.byteLengths = byteLengths;
  }

  /** Offset of the byte after the last one of a request. */
  end(row: number): number {
    return this.offsets[row]! + this.byteLengths[row]!;
  }

  /** The places of some successive requests. */
  slice(first: number, stop: number): Placements {
    return new Placements(
      stop - first,
      this.allocations.subarray(first, stop),
      this.offsets.subarray(first, stop),
      this.byteLengths.subarray(first, stop),
    );
  }
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
  /**
   * Reads over short gaps between tensors: their bytes land too, between the tensors, and nobody uses them. At most
   * {@linkcode GAP_SHARE} times the bytes of the tensors. Default false.
   */
  joinsGaps?: boolean;
}

/** Longest gap that is read: a separate read of cached bytes takes as long. */
const LONGEST_GAP = 64 * 1024;

/** Most bytes of the gaps of a run for each byte of its tensors: every fourth of 4,000 tensors is read apart in half the time. */
const GAP_SHARE = 1;

/** Tensors of fewer bytes are small. */
export const SMALL_TENSOR = 64 * 1024;

/** Bytes of an allocation that small tensors share. */
const SMALL_ALLOCATION = 2 ** 20;

/** The places of all requests. */
export interface Layout {
  /** One place for each request, in the same order. */
  readonly placements: Placements;
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
  /** Bytes at the destination between its tensors. */
  gaps: number;
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

/** Lays out requests. */
export function layOut(requests: readonly TensorRequest[], options: LayoutOptions = {}): Layout {
  return finishNow(layoutSteps(finishNow(RequestTable.of(requests)), options));
}

/** {@linkcode layOut} in steps. */
export function* layoutSteps(
  requests: RequestTable,
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
    return nextCongruent(allocation.length, congruent ? requests.fileOffsets[first]! : 0, modulus);
  };
  const put = (allocation: OpenAllocation, open: OpenRun) => {
    const offset = offsetIn(allocation, open);
    allocation.runs.push({ open, offset });
    allocation.length = offset + open.length;
  };
  for (
    const open of findRuns(requests, {
      maxAllocation,
      alignment,
      packSmall: options.packSmall ?? false,
      joinsGaps: options.joinsGaps ?? false,
    })
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
    const file = requests.files[open.first]!;
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
  requests: RequestTable,
  allocations: readonly OpenAllocation[],
): Steps<Layout> {
  const placements = new Placements(requests.size);
  const { allocations: placed, offsets, byteLengths } = placements;
  const runs: Run[] = [];
  for (const [allocation, { runs: inside }] of allocations.entries()) {
    for (const { open, offset } of inside) {
      yield;
      runs.push({ first: open.first, stop: open.stop, allocation, offset });
      const start = requests.fileOffsets[open.first]!;
      for (let row = open.first; row < open.stop; row++) {
        if (row % PER_STEP === 0) yield;
        placed[row] = allocation;
        offsets[row] = offset + castBytes(requests, row, requests.fileOffsets[row]! - start);
        byteLengths[row] = requests.resultBytes(row);
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

function* bytesByFile(requests: RequestTable): Steps<Map<number, number>> {
  const bytes = new Map<number, number>();
  for (let row = 0, sum = 0; row < requests.size; row++) {
    if (row % PER_STEP === 0) yield;
    const file = requests.files[row]!;
    sum += requests.resultBytes(row);
    if (file === requests.files[row + 1]) continue;
    bytes.set(file, sum);
    sum = 0;
  }
  return bytes;
}

/** The alignment of typed arrays, by the code of the dtype. */
const ALIGNMENTS = DTYPES.map(dtypeAlignment);

/**
 * Cuts the requests into runs, at changes of file, cast, alignment or size class. Yields undefined where a long run can be
 * interrupted.
 */
function* findRuns(
  requests: RequestTable,
  limits: {
    readonly maxAllocation: number;
    readonly alignment: number;
    readonly packSmall: boolean;
    readonly joinsGaps: boolean;
  },
): Generator<OpenRun | undefined> {
  const { fileOffsets, byteLengths, targets } = requests;
  let open: OpenRun | undefined;
  for (let row = 0; row < requests.size; row++) {
    if (row % STEP === 0) yield undefined;
    const length = requests.resultBytes(row);
    const alignment = Math.max(ALIGNMENTS[targets[row]!]!, limits.alignment);
    const small: boolean = limits.packSmall && length < SMALL_TENSOR;
    const maxLength = open?.small ? SMALL_ALLOCATION - PAGE : limits.maxAllocation; // the run begins within a page
    const gap = open ? gapTo(requests, open, row, limits.joinsGaps) : null;
    if (open && gap !== null && open.length + gap + length <= maxLength) {
      const lead = open.congruent ? fileOffsets[open.first]! : 0;
      if (length === 0 || (small === open.small && (lead + open.length + gap) % alignment === 0)) {
        open.stop = row + 1;
        open.fileEnd = fileOffsets[row]! + byteLengths[row]!;
        open.gaps += gap;
        open.length += gap + length;
        continue;
      }
    }
    if (open) yield open;
    open = {
      first: row,
      stop: row + 1,
      fileEnd: fileOffsets[row]! + byteLengths[row]!,
      gaps: 0,
      length,
      congruent: isPlain(requests, row) && fileOffsets[row]! % alignment === 0,
      small,
    };
  }
  if (open) yield open;
}

/** Bytes at the destination between a run and the request after it; null if they are not read together. */
function gapTo(requests: RequestTable, open: OpenRun, row: number, joinsGaps: boolean): number | null {
  const { files, fileOffsets, byteLengths, dtypes } = requests;
  if (files[row] !== files[row - 1] || !sameWay(requests, row)) return null;
  const gap = fileOffsets[row]! - open.fileEnd;
  if (gap === 0) return 0;
  if (!joinsGaps || gap < 0 || gap > LONGEST_GAP || byteLengths[row] === 0) return null;
  if (!isPlain(requests, row) && gap * 8 % CODE_BITS[dtypes[row]!]! !== 0) return null; // it would end within an element
  const length = castBytes(requests, row, gap);
  const asked = open.length - open.gaps + requests.resultBytes(row);
  return open.gaps + length <= GAP_SHARE * asked ? length : null;
}

/** Bytes at the destination of bytes that are cast as those of a request. */
function castBytes({ dtypes, targets }: RequestTable, row: number, bytes: number): number {
  const from = dtypes[row]!, to = targets[row]!;
  return from === to ? bytes : bytes / CODE_BITS[from]! * CODE_BITS[to]!;
}

/** Whether a request is read in the same way as the one before, and both are contiguous ranges. */
function sameWay(requests: RequestTable, row: number): boolean {
  const { dtypes, targets, strided } = requests;
  if (strided.size > 0 && (strided.has(row - 1) || strided.has(row))) return false;
  return (dtypes[row - 1] === targets[row - 1] && dtypes[row] === targets[row]) ||
    (dtypes[row - 1] === dtypes[row] && targets[row - 1] === targets[row]);
}

/** Whether a request is a contiguous range that is not cast. */
function isPlain({ dtypes, targets, strided }: RequestTable, row: number): boolean {
  return dtypes[row] === targets[row] && !strided.has(row);
}
