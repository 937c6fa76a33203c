/**
 * The tensors of opened files as columns. A tensor becomes an object when it is asked for, so that a catalog of a million
 * tensors has no million objects.
 */
import { type DType, DTYPES } from "../base/dtype.ts";
import { STEP, type Steps } from "../base/steps.ts";
import type { TableHeader } from "../format/header_reader.ts";
import { NameTable } from "../format/name_table.ts";

/** A tensor whose bytes are one range of a file. */
export interface WholeTensor {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension. Every handle and info() return this array, which must be frozen. */
  readonly shape: readonly number[];
  /** Index of its file. */
  readonly file: number;
  /** File offset of its first byte. */
  readonly fileOffset: number;
  /** Its bytes in the file. */
  readonly byteLength: number;
}

/** Whole tensors by row, sorted by file and offset; no two have one name. */
export class TensorTable implements ReadonlyMap<string, WholeTensor> {
  /** The names. */
  readonly names: NameTable;
  /** The element types, as indexes in {@linkcode DTYPES}. */
  readonly dtypes: Uint8Array;
  /** Elements along each dimension. */
  readonly shapes: readonly (readonly number[])[];
  /** Indexes of the files. */
  readonly files: Uint32Array;
  /** File offset of the first byte of each. */
  readonly fileOffsets: Float64Array;
  /** Bytes of each. */
  readonly byteLengths: Float64Array;

  private constructor(columns: Columns) {
    this.names = columns.names;
    this.dtypes = columns.dtypes;
    this.shapes = columns.shapes;
    this.files = columns.files;
    this.fileOffsets = columns.fileOffsets;
    this.byteLengths = columns.byteLengths;
  }

  /** The tensors of a file; `file` is its index. The table takes the columns of the header. */
  static of({ table, dataStart }: TableHeader, file: number): TensorTable {
    const { names, dtypes, shapes, begins, ends, size } = table;
    const fileOffsets = begins.subarray(0, size), byteLengths = ends.subarray(0, size);
    for (let row = 0; row < size; row++) {
      byteLengths[row]! -= fileOffsets[row]!;
      fileOffsets[row]! += dataStart;
    }
    return new TensorTable({
      names,
      dtypes,
      shapes,
      files: new Uint32Array(size).fill(file),
      fileOffsets,
      byteLengths,
    });
  }

  /** The tensors of several files, one after another; null if two files have a name. */
  static *joinSteps(tables: readonly TensorTable[]): Steps<TensorTable | null> {
    if (tables.length === 1) return tables[0]!;
    const size = tables.reduce((sum, table) => sum + table.size, 0);
    const names = new NameTable(Math.max(1, size));
    const dtypes = new Uint8Array(size), files = new Uint32Array(size);
    const fileOffsets = new Float64Array(size), byteLengths = new Float64Array(size);
    const shapes: (readonly number[])[] = [];
    for (const table of tables) {
      const start = shapes.length;
      for (let row = 0; row < table.size; row++) {
        if (row % STEP === 0) yield;
        if (!names.addFrom(table.names, row)) return null;
        shapes.push(table.shapes[row]!);
      }
      dtypes.set(table.dtypes.subarray(0, table.size), start);
      files.set(table.files, start);
      fileOffsets.set(table.fileOffsets, start);
      byteLengths.set(table.byteLengths, start);
    }
    return new TensorTable({ names, dtypes, shapes, files, fileOffsets, byteLengths });
  }

  /** The tensors whose names a function selects. */
  *selectSteps(isSelected: (name: string) => boolean): Steps<TensorTable> {
    const rows: number[] = [];
    for (let row = 0; row < this.size; row++) {
      if (row % STEP === 0) yield;
      if (isSelected(this.names.text(row))) rows.push(row);
    }
    const names = new NameTable(Math.max(1, rows.length));
    for (let index = 0; index < rows.length; index++) {
      if (index % STEP === 0) yield;
      names.addFrom(this.names, rows[index]!);
    }
    return new TensorTable({
      names,
      dtypes: Uint8Array.from(rows, (row) => this.dtypes[row]!),
      shapes: rows.map((row) => this.shapes[row]!),
      files: Uint32Array.from(rows, (row) => this.files[row]!),
      fileOffsets: Float64Array.from(rows, (row) => this.fileOffsets[row]!),
      byteLengths: Float64Array.from(rows, (row) => this.byteLengths[row]!),
    });
  }

  /** The number of tensors. */
  get size(): number {
    return this.shapes.length;
  }

  /** The tensor in a row, as a new object. */
  at(row: number, name: string = this.names.text(row)): WholeTensor {
    return {
      name,
      dtype: DTYPES[this.dtypes[row]!]!,
      shape: this.shapes[row]!,
      file: this.files[row]!,
      fileOffset: this.fileOffsets[row]!,
      byteLength: this.byteLengths[row]!,
    };
  }

  has(name: string): boolean {
    return this.rowOf(name) >= 0;
  }

  get(name: string): WholeTensor | undefined {
    const row = this.rowOf(name);
    return row < 0 ? undefined : this.at(row, name);
  }

  /** The row of a tensor; -1 if no tensor has this name. */
  rowOf(name: string): number {
    return typeof name === "string" ? this.names.find(name) : -1; // callers pass names unchecked
  }

  *keys(): Generator<string, undefined, void> {
    for (let row = 0; row < this.size; row++) yield this.names.text(row);
  }

  *values(): Generator<WholeTensor, undefined, void> {
    for (let row = 0; row < this.size; row++) yield this.at(row);
  }

  *entries(): Generator<[string, WholeTensor], undefined, void> {
    for (const tensor of this.values()) yield [tensor.name, tensor];
  }

  [Symbol.iterator](): Generator<[string, WholeTensor], undefined, void> {
    return this.entries();
  }

  forEach(
    visit: (tensor: WholeTensor, name: string, table: ReadonlyMap<string, WholeTensor>) => void,
  ): void {
    for (const tensor of this.values()) visit(tensor, tensor.name, this);
  }
}

type Columns = Pick<
  TensorTable,
  "names" | "dtypes" | "shapes" | "files" | "fileOffsets" | "byteLengths"
>;
