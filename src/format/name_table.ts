/**
 * The names of very many tensors: one array of bytes with a hash index. A name becomes a string when it is asked for, so
 * that a million names are not a million objects for the garbage collector.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { TextWindow } from "./json_scanner.ts";

/** Room for the names of a small file. */
const LEAST_ROWS = 16, LEAST_BYTES = 1024;

/** Most bytes of all names together: offsets are 32-bit integers. */
const MAX_BYTES = 2 ** 31 - 1;

/**
 * The factor and the start of the hash, random in each process: a file cannot have names that were chosen to have one
 * hash, which would make the search slow.
 */
const FACTOR = random() | 1, START = random();

const encoder = new TextEncoder();

/** Different names by row, in the order in which they were added. */
export class NameTable {
  /** The names in UTF-8, one after another. */
  #bytes: Uint8Array<ArrayBuffer>;
  /** Row → offset of its name's first byte; the end of one name is the start of the next. */
  #starts: Int32Array<ArrayBuffer>;
  #hashes: Int32Array<ArrayBuffer>;
  /** Open addressing by hash: row + 1, or 0. At most half of the slots are used. */
  #slots: Int32Array<ArrayBuffer>;
  #size = 0;
  #window: TextWindow | undefined;
  /** The last name that was found: a call looks its name up several times. */
  #lastName: string | undefined;
  #lastRow = -1;

  /** @param rows and `bytes`: the expected number of names and of their bytes; a table grows beyond them */
  constructor(rows = LEAST_ROWS, bytes = LEAST_BYTES) {
    this.#bytes = new Uint8Array(bytes);
    this.#starts = new Int32Array(rows + 1);
    this.#hashes = new Int32Array(rows);
    this.#slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * rows)));
  }

  /** The number of names. */
  get size(): number {
    return this.#size;
  }

  /**
   * Adds the name in `source` from `start` to `stop`, valid UTF-8, as the last row; returns whether it is the first row
   * with this name, the one that {@linkcode find} returns.
   */
  add(source: Uint8Array, start: number, stop: number): boolean {
    const at = this.#starts[this.#size]!;
    const end = at + stop - start;
    if (end > this.#bytes.length || this.#size === this.#hashes.length) this.#grow(end);
    const bytes = this.#bytes;
    for (let i = start, to = at; i < stop; i++) bytes[to++] = source[i]!;
    const hash = hashOf(bytes, at, end);
    this.#starts[this.#size + 1] = end;
    return this.#insert(hash);
  }

  /** {@linkcode add} for a string. */
  addText(name: string): boolean {
    const bytes = encoder.encode(name);
    return this.add(bytes, 0, bytes.length);
  }

  /** Adds the name that is in a row of another table. */
  addFrom(other: NameTable, row: number): boolean {
    return this.add(other.#bytes, other.#starts[row]!, other.#starts[row + 1]!);
  }

  /** Returns the first row with a name; -1 if there is none. */
  find(name: string): number {
    if (name === this.#lastName) return this.#lastRow;
    const row = this.#search(name);
    if (row >= 0) {
      this.#lastName = name;
      this.#lastRow = row;
    }
    return row;
  }

  #search(name: string): number {
    const hash = hashOfAscii(name);
    if (hash === null) return this.#findEncoded(name);
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = spread(hash) & mask;; slot = (slot + 1) & mask) {
      const row = slots[slot]! - 1;
      if (row < 0) return -1;
      if (this.#hashes[row] === hash && this.#isAscii(row, name)) return row;
    }
  }

  /** The name in a row. Successive rows are fast. */
  text(row: number): string {
    // The window copies nothing, and the bytes do not change any more once names are read.
    const window = this.#window ??= new TextWindow(this.#bytes);
    return window.text(this.#starts[row]!, this.#starts[row + 1]!);
  }

  #findEncoded(name: string): number {
    const bytes = encoder.encode(name);
    const row = this.#findBytes(hashOf(bytes, 0, bytes.length), bytes);
    // The encoder replaces a surrogate that stands alone, which no name has.
    return row >= 0 && this.text(row) === name ? row : -1;
  }

  #findBytes(hash: number, name: Uint8Array): number {
    const slots = this.#slots;
    const mask = slots.length - 1;
    for (let slot = spread(hash) & mask;; slot = (slot + 1) & mask) {
      const row = slots[slot]! - 1;
      if (row < 0) return -1;
      if (this.#hashes[row] === hash && this.#isSame(row, name, 0, name.length)) return row;
    }
  }

  #isAscii(row: number, name: string): boolean {
    const start = this.#starts[row]!;
    if (this.#starts[row + 1]! - start !== name.length) return false;
    const bytes = this.#bytes;
    for (let i = 0; i < name.length; i++) if (bytes[start + i] !== name.charCodeAt(i)) return false;
    return true;
  }

  #isSame(row: number, source: Uint8Array, start: number, stop: number): boolean {
    const at = this.#starts[row]!;
    if (this.#starts[row + 1]! - at !== stop - start) return false;
    const bytes = this.#bytes;
    for (let i = start; i < stop; i++) if (bytes[at + i - start] !== source[i]) return false;
    return true;
  }

  /** Enters the last row, whose bytes are there already. */
  #insert(hash: number): boolean {
    const row = this.#size++;
    this.#window = undefined;
    this.#hashes[row] = hash;
    const start = this.#starts[row]!;
    const slots = this.#slots;
    const mask = slots.length - 1;
    let slot = spread(hash) & mask;
    for (; slots[slot] !== 0; slot = (slot + 1) & mask) {
      const other = slots[slot]! - 1;
      if (this.#hashes[other] === hash && this.#isSame(other, this.#bytes, start, this.#starts[row + 1]!)) {
        return false;
      }
    }
    slots[slot] = row + 1;
    return true;
  }

  /** Makes space for one more row and for `byteLength` bytes of names. */
  #grow(byteLength: number): void {
    if (byteLength > MAX_BYTES) {
      throw new SafeTensorsError(
        "TooManyTensors",
        `Cannot open a model: its names have more than ${MAX_BYTES} bytes`,
      );
    }
    if (byteLength > this.#bytes.length) {
      const bytes = new Uint8Array(Math.max(byteLength, 2 * this.#bytes.length));
      bytes.set(this.#bytes);
      this.#bytes = bytes;
    }
    if (this.#size < this.#hashes.length) return;
    const rows = 2 * this.#hashes.length;
    const starts = new Int32Array(rows + 1), hashes = new Int32Array(rows);
    starts.set(this.#starts);
    hashes.set(this.#hashes);
    const slots = new Int32Array(2 ** Math.ceil(Math.log2(2 * rows)));
    const mask = slots.length - 1;
    for (const entry of this.#slots) { // a later row with the same name is in no slot
      if (entry === 0) continue;
      let slot = spread(hashes[entry - 1]!) & mask;
      while (slots[slot] !== 0) slot = (slot + 1) & mask;
      slots[slot] = entry;
    }
    [this.#starts, this.#hashes, this.#slots] = [starts, hashes, slots];
  }
}

/** The hash of bytes, of four at a time. */
function hashOf(bytes: Uint8Array, start: number, stop: number): number {
  let hash = START;
  let i = start;
  for (; i + 4 <= stop; i += 4) {
    hash = mix(hash, bytes[i]! | bytes[i + 1]! << 8 | bytes[i + 2]! << 16 | bytes[i + 3]! << 24);
  }
  for (; i < stop; i++) hash = mix(hash, bytes[i]!);
  return hash;
}

/** The hash of the bytes of a text; null if it is not ASCII. */
function hashOfAscii(text: string): number | null {
  let hash = START, all = 0;
  let i = 0;
  for (; i + 4 <= text.length; i += 4) {
    const a = text.charCodeAt(i), b = text.charCodeAt(i + 1);
    const c = text.charCodeAt(i + 2), d = text.charCodeAt(i + 3);
    all |= a | b | c | d;
    hash = mix(hash, a | b << 8 | c << 16 | d << 24);
  }
  for (; i < text.length; i++) {
    const code = text.charCodeAt(i);
    all |= code;
    hash = mix(hash, code);
  }
  return all < 0x80 ? hash : null;
}

function mix(hash: number, word: number): number {
  return Math.imul((hash << 5 | hash >>> 27) ^ word, FACTOR);
}

/** The high bits of a hash depend on more bytes than the low ones, which choose the slot. */
function spread(hash: number): number {
  return hash ^ hash >>> 15;
}

function random(): number {
  return Math.floor(Math.random() * 2 ** 32) | 0;
}
