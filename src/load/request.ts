/**
 * Requests of a load: tensors or slices of them, as ranges of files.
 */
import { CODE_BITS, type DType, DTYPE_CODES, dtypeBits, DTYPES } from "../base/dtype.ts";
import type { Level } from "../base/levels.ts";
import { inSteps, sortInSteps, type Steps } from "../base/steps.ts";

/** One tensor, or one slice of a tensor, to load from a file. */
export interface TensorRequest {
  /** Its name, for messages and handles. */
  readonly name: string;
  /** Shape of the result. */
  readonly shape: readonly number[];
  /** Element type in the file. */
  readonly dtype: DType;
  /** Element type after loading; equal to `dtype` without a cast. */
  readonly target: DType;
  /** Index into the load's files. */
  readonly file: number;
  /** File offset of its first byte. */
  readonly fileOffset: number;
  /** Bytes of one contiguous run in the file. */
  readonly run: number;
  /** Repetitions of the run, outer to inner; empty for a contiguous range. */
  readonly levels: readonly Level[];
}

/** Bytes of the file that a request delivers. */
export function requestBytes(request: TensorRequest): number {
  let bytes = request.run;
  for (const { count } of request.levels) bytes *= count;
  return bytes;
}

/** Number of bytes that `bytes` bytes of the file have after the request's cast. */
export function castLength(bytes: number, from: DType, to: DType): number {
  return from === to ? bytes : bytes / dtypeBits(from) * dtypeBits(to);
}

/** The columns of a {@linkcode RequestTable}. */
export interface RequestColumns {
  /** Index of each request's file. */
  readonly files: Uint32Array;
  /** File offset of the first byte of each. */
  readonly fileOffsets: Float64Array;
  /** Bytes of the file that each delivers. */
  readonly byteLengths: Float64Array;
  /** Element types in the file, as codes. */
  readonly dtypes: Uint8Array;
  /** Element types after loading, as codes. */
  readonly targets: Uint8Array;
}

/** The properties of requests that are not columns. */
export interface RequestRows {
  /** The name of a request. */
  name(row: number): string;
  /** The shape of its result. */
  shape(row: number): readonly number[];
  /** The request as an object. */
  at(row: number): TensorRequest;
  /** The row of a request; -1 if it has none. */
  rowOf(request: TensorRequest): number;
}

/** Some rows of a table. */
type RowSet = Pick<ReadonlySet<number>, "size" | "has">;

const NO_ROWS: RowSet = new Set();

/** The requests of a load, sorted by file and offset: columns, so that very many tensors are not very many objects. */
export class RequestTable implements RequestRows {
  /** The number of requests. */
  readonly size: number;
  readonly files: Uint32Array;
  readonly fileOffsets: Float64Array;
  readonly byteLengths: Float64Array;
  readonly dtypes: Uint8Array;
  readonly targets: Uint8Array;
  /** The rows of requests of several runs. */
  readonly strided: RowSet;
  readonly #rows: RequestRows;

  /** @param columns sorted by file and offset */
  constructor(columns: RequestColumns, rows: RequestRows, strided = NO_ROWS) {
    this.size = columns.files.length;
    this.files = columns.files;
    this.fileOffsets = columns.fileOffsets;
    this.byteLengths = columns.byteLengths;
    this.dtypes = columns.dtypes;
    this.targets = columns.targets;
    this.strided = strided;
    this.#rows = rows;
  }

  /** The table of a list of requests in any order. */
  static *of(requests: readonly TensorRequest[]): Steps<RequestTable> {
    let isSorted = true;
    yield* inSteps(requests, (request, index) => {
      if (index > 0 && byPlace(requests[index - 1]!, request) > 0) isSorted = false;
    });
    const sorted = isSorted ? requests : yield* sortInSteps(requests, byPlace);
    const size = sorted.length;
    const columns = {
      files: new Uint32Array(size),
      fileOffsets: new Float64Array(size),
      byteLengths: new Float64Array(size),
      dtypes: new Uint8Array(size),
      targets: new Uint8Array(size),
    };
    const strided = new Set<number>();
    const places = new Map<TensorRequest, number>();
    yield* inSteps(sorted, (request, row) => {
      places.set(request, row);
      columns.files[row] = request.file;
      columns.fileOffsets[row] = request.fileOffset;
      columns.byteLengths[row] = requestBytes(request);
      columns.dtypes[row] = DTYPE_CODES.get(request.dtype)!;
      columns.targets[row] = DTYPE_CODES.get(request.target)!;
      if (request.levels.length > 0) strided.add(row);
    });
    return new RequestTable(columns, new ListedRows(sorted, places), strided);
  }

  name(row: number): string {
    return this.#rows.name(row);
  }

  shape(row: number): readonly number[] {
    return this.#rows.shape(row);
  }

  at(row: number): TensorRequest {
    return this.#rows.at(row);
  }

  rowOf(request: TensorRequest): number {
    return this.#rows.rowOf(request);
  }

  /** The element type of a request's result. */
  target(row: number): DType {
    return DTYPES[this.targets[row]!]!;
  }

  /** Bytes of a request's result. */
  resultBytes(row: number): number {
    const bytes = this.byteLengths[row]!, from = this.dtypes[row]!, to = this.targets[row]!;
    return from === to ? bytes : bytes / CODE_BITS[from]! * CODE_BITS[to]!;
  }

  /** File bytes that all requests deliver. */
  *bytesSteps(): Steps<number> {
    let sum = 0;
    for (let row = 0; row < this.size; row++) {
      if (row % PER_STEP === 0) yield;
      sum += this.byteLengths[row]!;
    }
    return sum;
  }

  /** Bytes of all results. */
  *resultBytesSteps(): Steps<number> {
    let sum = 0;
    for (let row = 0; row < this.size; row++) {
      if (row % PER_STEP === 0) yield;
      sum += this.resultBytes(row);
    }
    return sum;
  }

  /** Some successive requests as a table, whose first row is `first` here. */
  slice(first: number, stop: number): RequestTable {
    const rows: RequestRows = {
      name: (row) => this.name(first + row),
      shape: (row) => this.shape(first + row),
      at: (row) => this.at(first + row),
      rowOf: (request) => this.rowOf(request) - first,
    };
    return new RequestTable(
      {
        files: this.files.subarray(first, stop),
        fileOffsets: this.fileOffsets.subarray(first, stop),
        byteLengths: this.byteLengths.subarray(first, stop),
        dtypes: this.dtypes.subarray(first, stop),
        targets: this.targets.subarray(first, stop),
      },
      rows,
      { size: this.strided.size, has: (row) => this.strided.has(first + row) },
    );
  }
}

/** Rows of one step: their numbers take a few nanoseconds each. */
export const PER_STEP = 16_384;

/** Orders requests by file, then offset. */
function byPlace(a: TensorRequest, b: TensorRequest): number {
  return a.file - b.file || a.fileOffset - b.fileOffset;
}

/** Requests that are objects already. */
class ListedRows implements RequestRows {
  readonly #requests: readonly TensorRequest[];
  readonly #places: ReadonlyMap<TensorRequest, number>;

  constructor(requests: readonly TensorRequest[], places: ReadonlyMap<TensorRequest, number>) {
    this.#requests = requests;
    this.#places = places;
  }

  name(row: number): string {
    return this.#requests[row]!.name;
  }

  shape(row: number): readonly number[] {
    return this.#requests[row]!.shape;
  }

  at(row: number): TensorRequest {
    return this.#requests[row]!;
  }

  rowOf(request: TensorRequest): number {
    return this.#places.get(request) ?? -1;
  }
}
