/** The memory of the pickle machine: its stack with marks, and its memo. */
import type { CheckpointLimits } from "./limits.ts";
import type { PickleValue } from "./pickle_value.ts";

/** Makes the error about the opcode at work; with `limit`, about what it exceeds. */
export type Refuse = (detail: string, limit?: keyof CheckpointLimits) => Error;

/** A stack of values in which marks stand; nothing below the last mark can be reached. */
export class PickleStack {
  readonly #maxMarks: number;
  readonly #refuse: Refuse;
  readonly #values: PickleValue[] = [];
  /** The heights at which marks stand. */
  readonly #marks: number[] = [];

  /** Makes an empty stack; `limits.maxNesting` bounds its marks. */
  constructor(limits: Required<CheckpointLimits>, refuse: Refuse) {
    this.#maxMarks = limits.maxNesting;
    this.#refuse = refuse;
  }

  /** Whether neither values nor marks are left. */
  get isEmpty(): boolean {
    return this.#values.length === 0 && this.#marks.length === 0;
  }

  /** Puts a value on top. */
  push(value: PickleValue): void {
    this.#values.push(value);
  }

  /** The value on top, which stays. */
  top(): PickleValue {
    if (this.#values.length <= this.#floor) throw this.#refuse("finds the stack empty");
    return this.#values.at(-1)!;
  }

  /** Takes the value on top. */
  pop(): PickleValue {
    const top = this.top();
    this.#values.pop();
    return top;
  }

  /** Takes the value on top, or the mark where there is none above it. */
  drop(): void {
    if (this.#values.length === this.#marks.at(-1)) this.#marks.pop();
    else this.pop();
  }

  /** Pops `count` values and gives them in the order in which they were pushed. */
  popLast(count: number): PickleValue[] {
    const from = this.#values.length - count;
    if (from < this.#floor) throw this.#refuse("finds too few values on the stack");
    return this.#take(from);
  }

  /** Sets a mark on top. */
  mark(): void {
    if (this.#marks.length >= this.#maxMarks) {
      throw this.#refuse(`nests too deep: ${this.#maxMarks} levels are allowed`, "maxNesting");
    }
    this.#marks.push(this.#values.length);
  }

  /** Pops the last mark and the values above it, and gives these in the order in which they were pushed. */
  popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw this.#refuse("finds no MARK");
    return this.#take(mark);
  }

  get #floor(): number {
    return this.#marks.at(-1) ?? 0;
  }

  #take(from: number): PickleValue[] {
    const values = this.#values.slice(from);
    this.#values.length = from;
    return values;
  }
}

/** Values by index. */
export class PickleMemo {
  readonly #maxIndex: number;
  readonly #refuse: Refuse;
  readonly #values: PickleValue[] = [];
  #size = 0;

  /** Makes an empty memo; `limits.maxOpcodes` bounds its indices. */
  constructor(limits: Required<CheckpointLimits>, refuse: Refuse) {
    // No pickle needs an index that its opcodes could not have counted up to.
    this.#maxIndex = limits.maxOpcodes;
    this.#refuse = refuse;
  }

  /** How many values there are: the index that MEMOIZE uses next. */
  get size(): number {
    return this.#size;
  }

  /** Keeps `value` as `index`. */
  put(index: number, value: PickleValue): void {
    if (index >= this.#maxIndex) {
      throw this.#refuse(`puts to ${index}, beyond the largest memo allowed`, "maxOpcodes");
    }
    if (this.#values[index] === undefined) this.#size++;
    this.#values[index] = value;
  }

  /** The value kept as `index`. */
  get(index: number): PickleValue {
    const value = this.#values[index];
    if (value === undefined) throw this.#refuse(`asks for memo ${index}, which was never put`);
    return value;
  }
}
