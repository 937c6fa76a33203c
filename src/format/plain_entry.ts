/**
 * Reads the entry of a tensor in the form in which nearly all writers write it, in one pass over its bytes: the name
 * without escapes, then dtype, shape and data_offsets, in this order. {@linkcode JsonScanner} reads all others.
 */
import { DTYPES } from "../base/dtype.ts";
import { METADATA_KEY } from "./header.ts";
import { ascii } from "./json_scanner.ts";

const SPACE = 0x20, QUOTE = 0x22, COMMA = 0x2c, ZERO = 0x30, COLON = 0x3a;
const OPEN_BRACKET = 0x5b, BACKSLASH = 0x5c, CLOSE_BRACKET = 0x5d, OPEN_BRACE = 0x7b, CLOSE_BRACE = 0x7d;

const DTYPE = ascii('"dtype"'), SHAPE = ascii('"shape"'), DATA_OFFSETS = ascii('"data_offsets"');

/** The dtypes in quotes, by their code. */
const NAMES = DTYPES.map((dtype) => ascii(`"${dtype}"`));

/** Digits that always make an exact integer whose bits can be counted exactly too. */
const SAFE_DIGITS = 15;

/** Dimensions of a shape in this form. */
const MOST_RANK = 16;

/** One entry; its fields are those of the last one that {@linkcode read} has read. */
export class PlainEntry {
  /** The name's bytes: from here, */
  nameStart = 0;
  /** to here. */
  nameStop = 0;
  /** The index of its dtype in {@linkcode DTYPES}. */
  dtype = 0;
  /** Dimensions in use. */
  rank = 0;
  /** Its dimensions; those after {@linkcode rank} are of earlier entries. */
  readonly dimensions: number[] = new Array(MOST_RANK).fill(0);
  /** Its first data byte. */
  begin = 0;
  /** The data byte after its last. */
  end = 0;

  readonly #bytes: Uint8Array;
  /** The position after the last integer. */
  #at = 0;

  /** @param bytes the JSON, in valid UTF-8 */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** Reads the entry whose name begins at `start`; returns the position after it, or -1 if it has another form. */
  read(start: number): number {
    const bytes = this.#bytes;
    let i = this.#skip(start);
    if (bytes[i] !== QUOTE) return -1;
    const nameStart = ++i;
    for (let byte = bytes[i]!; byte !== QUOTE; byte = bytes[++i]!) {
      if (!(byte >= SPACE) || byte === BACKSLASH) return -1; // also at the end of the bytes
    }
    this.nameStart = nameStart;
    this.nameStop = i;
    if (i - nameStart === METADATA_KEY.length && bytes[nameStart] === METADATA_KEY.charCodeAt(0)) return -1;
    if ((i = this.#expect(i + 1, COLON)) < 0) return -1;
    if ((i = this.#expect(i, OPEN_BRACE)) < 0) return -1;
    if ((i = this.#key(i, DTYPE)) < 0) return -1;
    if ((i = this.#dtype(i)) < 0) return -1;
    if ((i = this.#expect(i, COMMA)) < 0) return -1;
    if ((i = this.#key(i, SHAPE)) < 0) return -1;
    if ((i = this.#shape(i)) < 0) return -1;
    if ((i = this.#expect(i, COMMA)) < 0) return -1;
    if ((i = this.#key(i, DATA_OFFSETS)) < 0) return -1;
    if ((i = this.#expect(i, OPEN_BRACKET)) < 0) return -1;
    if ((this.begin = this.#integer(i)) < 0) return -1;
    if ((i = this.#expect(this.#at, COMMA)) < 0) return -1;
    if ((this.end = this.#integer(i)) < 0) return -1;
    if ((i = this.#expect(this.#at, CLOSE_BRACKET)) < 0) return -1;
    return this.#expect(i, CLOSE_BRACE);
  }

  /** The next position without a space; the scanner reads other white space. */
  #skip(at: number): number {
    const bytes = this.#bytes;
    while (bytes[at] === SPACE) at++;
    return at;
  }

  /** The position after a byte and the spaces before it; -1 if it is not there. */
  #expect(at: number, byte: number): number {
    const bytes = this.#bytes;
    if (bytes[at] === byte) return at + 1;
    const next = this.#skip(at);
    return bytes[next] === byte ? next + 1 : -1;
  }

  /** The position after a key and its colon. */
  #key(at: number, key: Uint8Array): number {
    const start = this.#skip(at);
    return this.#has(start, key) ? this.#expect(start + key.length, COLON) : -1;
  }

  #has(at: number, text: Uint8Array): boolean {
    const bytes = this.#bytes;
    for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text[i]) return false;
    return true;
  }

  #dtype(at: number): number {
    const start = this.#skip(at);
    if (!this.#has(start, NAMES[this.dtype]!)) { // most entries have the dtype of the one before
      this.dtype = Math.max(0, NAMES.findIndex((name) => this.#has(start, name)));
      if (!this.#has(start, NAMES[this.dtype]!)) return -1;
    }
    return start + NAMES[this.dtype]!.length;
  }

  #shape(at: number): number {
    let i = this.#expect(at, OPEN_BRACKET);
    if (i < 0) return -1;
    this.rank = 0;
    const empty = this.#expect(i, CLOSE_BRACKET);
    if (empty >= 0) return empty;
    while (this.rank < MOST_RANK) {
      const dimension = this.#integer(i);
      if (dimension < 0) return -1;
      this.dimensions[this.rank++] = dimension;
      const stop = this.#expect(this.#at, CLOSE_BRACKET);
      if (stop >= 0) return stop;
      if ((i = this.#expect(this.#at, COMMA)) < 0) return -1;
    }
    return -1;
  }

  /** Reads an integer in plain digits and sets the position after it; -1 if it can be inexact, or there is none. */
  #integer(at: number): number {
    const bytes = this.#bytes;
    const start = this.#skip(at);
    let i = start, value = 0;
    for (;; i++) {
      const digit = bytes[i]! - ZERO;
      if (!(digit >= 0 && digit <= 9)) break;
      value = value * 10 + digit;
    }
    this.#at = i;
    const digits = i - start;
    return digits === 0 || digits > SAFE_DIGITS || digits > 1 && bytes[start] === ZERO ? -1 : value;
  }
}
