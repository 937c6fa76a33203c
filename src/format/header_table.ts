/**
 * The tensors of a header as columns: a header of a million tensors makes no object for each.
 */
import { type DType, DTYPES } from "../base/dtype.ts";
import { STEP, type Steps } from "../base/steps.ts";
import type { TensorInfo } from "./header.ts";
import { NameTable } from "./name_table.ts";

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
