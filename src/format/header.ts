/**
 * The content of a validated safetensors header.
 *
 * A file is `u64 n, little-endian` · `n bytes of UTF-8 JSON` · tensor data.
 */
import { type DType, dtypeBits, DTYPES } from "../base/dtype.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { NameTable } from "./name_table.ts";

/** One tensor of a file: its dtype, its shape and the position of its bytes. */
export interface TensorInfo {
  /** The tensor's name, unique in its file. */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /**
   * Its dimensions, outermost first; empty for a scalar.
   *
   * The format allows dimensions up to 2^64 - 1. A dimension above 2^53 is valid only in a tensor without elements
   * (another dimension is 0), and is rounded here to the nearest double.
   */
  readonly shape: readonly number[];
  /** Its first byte, counted from the start of the data ({@linkcode Header.dataStart}). */
  readonly begin: number;
  /** The byte after its last, counted likewise. */
  readonly end: number;
}

/** The content of a header. */
export interface Header {
  /** The tensors by name, in the order of their bytes in the file. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The `__metadata__` of the file; empty where it has none. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The file offset of the first byte of tensor data: 8 plus the length of the JSON. */
  readonly dataStart: number;
  /** The length of the tensor data in bytes. */
  readonly dataLength: number;
}

/** The key of the metadata in a header; a tensor cannot have this name. */
export const METADATA_KEY = "__metadata__";

/** The bytes before the JSON: its length as a little-endian u64. */
export const LENGTH_BYTES = 8;

/** The longest header JSON in bytes that the reference implementation reads. */
export const MAX_HEADER_BYTES = 100_000_000;

/**
 * The most metadata entries: the longest header can list more than a JavaScript map holds. Tensors need no such limit:
 * the shortest entry of one takes 50 bytes, so there are at most 2 million.
 */
export const MAX_METADATA_ENTRIES = 2 ** 21;

/** The most dimensions of one tensor. */
export const MAX_RANK = 4096;

/* ---- The tensors as columns: a header of a million tensors makes no object for each ---- */

/** The tensors of a file by row; rows are in the order of the bytes once the header is checked. */
export class HeaderTable {
  /** The names; row by row as below. */
  readonly names: NameTable;
  /** Elements along each dimension; tensors of one shape share one frozen array. */
  readonly shapes: (readonly number[])[] = [];
  /** The element types, as indexes in {@linkcode DTYPES}. */
  dtypes: Uint8Array<ArrayBuffer>;
  /** The first byte of each, counted from the start of the data. */
  begins: Float64Array<ArrayBuffer>;
  /** The byte after the last of each, counted likewise. */
  ends: Float64Array<ArrayBuffer>;

  /** @param rows and `nameBytes`: the expected number of tensors and of bytes of their names */
  constructor(rows = 16, nameBytes = 1024) {
    this.names = new NameTable(rows, nameBytes);
    this.dtypes = new Uint8Array(rows);
    this.begins = new Float64Array(rows);
    this.ends = new Float64Array(rows);
  }

  /** The number of tensors. */
  get size(): number {
    return this.shapes.length;
  }

  /** Adds the properties of a tensor whose name has just been added. */
  add(dtype: number, shape: readonly number[], begin: number, end: number): void {
    const row = this.shapes.length;
    if (row === this.dtypes.length) this.#grow();
    this.shapes.push(shape);
    this.dtypes[row] = dtype;
    this.begins[row] = begin;
    this.ends[row] = end;
  }

  /** The element type in a row. */
  dtype(row: number): DType {
    return DTYPES[this.dtypes[row]!]!;
  }

  /** The tensor in a row, as an object. */
  at(row: number): TensorInfo {
    return {
      name: this.names.text(row),
      dtype: this.dtype(row),
      shape: this.shapes[row]!,
      begin: this.begins[row]!,
      end: this.ends[row]!,
    };
  }

  /** The tensors as objects, by name. */
  *mapSteps(): Steps<Map<string, TensorInfo>> {
    const map = new Map<string, TensorInfo>();
    for (let row = 0; row < this.size; row++) {
      if (row % STEP === 0) yield;
      const info = this.at(row);
      map.set(info.name, info);
    }
    return map;
  }

  /** A table of some rows, in the given order. */
  *pickSteps(rows: readonly number[]): Steps<HeaderTable> {
    const table = new HeaderTable(Math.max(1, rows.length));
    for (let index = 0; index < rows.length; index++) {
      if (index % STEP === 0) yield;
      const row = rows[index]!;
      table.names.addFrom(this.names, row);
      table.add(this.dtypes[row]!, this.shapes[row]!, this.begins[row]!, this.ends[row]!);
    }
    return table;
  }

  #grow(): void {
    const rows = 2 * this.dtypes.length;
    const dtypes = new Uint8Array(rows), begins = new Float64Array(rows), ends = new Float64Array(rows);
    dtypes.set(this.dtypes);
    begins.set(this.begins);
    ends.set(this.ends);
    [this.dtypes, this.begins, this.ends] = [dtypes, begins, ends];
  }
}

/* ---- The size in bytes of a tensor by its dtype and shape, exact for every header ---- */

/** Dimensions as the header states them: a bigint if a number would round one. */
export type ExactShape = readonly (number | bigint)[];

/** The reason that a size does not exist: more bits than a u64 counts, or an end within a byte. */
export type SizeError = "ValidationOverflow" | "MisalignedSlice";

const U64_LIMIT = 1n << 64n;

/** The bytes of a tensor, or the error code of the shape; a bigint above 2^50 or so. */
export function byteSize(dtype: DType, shape: ExactShape): number | bigint | SizeError {
  let elements = 1;
  for (const dimension of shape) {
    elements *= Number(dimension);
    if (elements > Number.MAX_SAFE_INTEGER) return exactByteSize(dtype, shape);
  }
  const bits = elements * dtypeBits(dtype);
  if (bits > Number.MAX_SAFE_INTEGER) return exactByteSize(dtype, shape);
  return bits % 8 === 0 ? bits / 8 : "MisalignedSlice";
}

/**
 * The same in bigints; from left to right as in the reference, so that a 0 prevents an overflow only in the dimensions
 * after it.
 */
function exactByteSize(dtype: DType, shape: ExactShape): bigint | SizeError {
  let bits = 1n;
  for (const factor of [...shape, dtypeBits(dtype)]) {
    bits *= BigInt(factor);
    if (bits >= U64_LIMIT) return "ValidationOverflow";
  }
  return bits % 8n === 0n ? bits / 8n : "MisalignedSlice";
}

/** Dtype and shape for a message, such as `F32 [2, 3]`. */
export function describeTensor(dtype: DType, shape: ExactShape): string {
  return `${dtype} [${shape.slice(0, 8).join(", ")}${shape.length > 8 ? ", …" : ""}]`;
}

/** The description of a {@linkcode SizeError}, for a message. */
export function describeSizeError(error: SizeError, dtype: DType, shape: ExactShape): string {
  const tensor = describeTensor(dtype, shape);
  return error === "MisalignedSlice"
    ? `${tensor} does not end with a whole byte`
    : `${tensor} has more bits than a u64 can count`;
}
