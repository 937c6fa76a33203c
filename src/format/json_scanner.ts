/**
 * A JSON scanner over bytes, one token at a time.
 *
 * It builds only the values that the caller requests, so that the cost of a hostile document is bounded by its length.
 * It keeps details that `JSON.parse` loses: integers stay exact, lone surrogates are errors, duplicate keys are
 * visible. Skipped values must follow the grammar (RFC 8259) like the others.
 */

/** The function that {@linkcode JsonScanner} calls for an error: it throws. `position` is in bytes. */
export type JsonFailure = (detail: string, position: number) => never;

const QUOTE = 0x22;
const PLUS = 0x2b;
const COMMA = 0x2c;
const MINUS = 0x2d;
const POINT = 0x2e;
const ZERO = 0x30;
const NINE = 0x39;
const COLON = 0x3a;
const OPEN_BRACKET = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_BRACKET = 0x5d;
const LOWER_U = 0x75;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;

/** The deepest nesting of objects and arrays: the reference implementation refuses the 128th level. */
const MAX_DEPTH = 127;

/** Digits that always make an integer below 2^53. */
const SAFE_DIGITS = 15;

/** The digits of 2^64 - 1. */
const U64_DIGITS = 20;

const U64_LIMIT = 1n << 64n;

/** Letters that may follow a backslash, except `u`. */
const ESCAPES = new Set([...'"\\/bfnrt'].map((letter) => letter.charCodeAt(0)));

/** The bytes of `null`. */
export const NULL: Uint8Array = ascii("null");

const LITERALS = [NULL, ascii("true"), ascii("false")];

/** Python's notation of numbers that JSON does not have. */
const NOT_FINITE = [ascii("NaN"), ascii("Infinity"), ascii("-Infinity")];

/** Options of {@linkcode JsonScanner}. */
export interface JsonScannerOptions {
  /** Accepts NaN, Infinity and numbers too large for a double in skipped values, as Python does. */
  anyNumber?: boolean;
}

/** The bytes of a text for {@linkcode JsonScanner.textIs} to compare with. */
export function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Reads a JSON document from left to right. The bytes must be valid UTF-8: the caller has checked. */
export class JsonScanner {
  /** The next byte to read. */
  position = 0;

  readonly #bytes: Uint8Array;
  readonly #window: TextWindow;
  readonly #fail: JsonFailure;
  readonly #anyNumber: boolean;
  #depth = 0;
  #stringStart = 0;
  #stringEnd = 0;
  #stringEscaped = false;

  /**
   * Starts at the beginning of a document.
   *
   * @param bytes The document, in valid UTF-8; not copied.
   * @param fail The function to call for an error.
   */
  constructor(bytes: Uint8Array, fail: JsonFailure, { anyNumber = false }: JsonScannerOptions = {}) {
    this.#bytes = bytes;
    this.#window = new TextWindow(bytes);
    this.#fail = fail;
    this.#anyNumber = anyNumber;
  }

  /** Calls the failure function with the expected and the found token. */
  expected(what: string): never {
    const byte = this.peek();
    return this.#fail(`${what} expected, ${describeByte(byte)} found`, this.position);
  }

  /** The next byte that is not white space, without reading it; -1 at the end. */
  peek(): number {
    const bytes = this.#bytes;
    let i = this.position;
    while (i < bytes.length) {
      const byte = bytes[i]!;
      if (byte > 0x20 || (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09)) {
        this.position = i;
        return byte;
      }
      i++;
    }
    this.position = i;
    return -1;
  }

  /** Reads `{`; returns whether a member follows. Its key is next. */
  beginObject(): boolean {
    return this.#begin(OPEN_BRACE, CLOSE_BRACE, "an object");
  }

  /** Reads `,` or `}`; returns whether another member follows. Its key is next. */
  nextMember(): boolean {
    return this.#next(CLOSE_BRACE, '"," or "}"');
  }

  /** Reads `[`; returns whether an element follows. */
  beginArray(): boolean {
    return this.#begin(OPEN_BRACKET, CLOSE_BRACKET, "an array");
  }

  /** Reads `,` or `]`; returns whether another element follows. */
  nextElement(): boolean {
    return this.#next(CLOSE_BRACKET, '"," or "]"');
  }

  /** Reads a key and its colon. {@linkcode text} returns the key until the next string is read. */
  key(): void {
    this.string("a key");
    if (this.peek() !== COLON) this.expected('":"');
    this.position++;
  }

  /** Reads a string. {@linkcode text} returns it until the next string is read. */
  string(what = "a string"): void {
    if (this.peek() !== QUOTE) this.expected(what);
    const bytes = this.#bytes;
    let i = this.position + 1;
    this.#stringStart = i;
    this.#stringEscaped = false;
    while (i < bytes.length) {
      const byte = bytes[i]!;
      if (byte === QUOTE) {
        this.#stringEnd = i;
        this.position = i + 1;
        return;
      }
      if (byte === BACKSLASH) {
        this.#stringEscaped = true;
        i = this.#escape(i);
      } else if (byte < 0x20) {
        this.#fail(`${describeByte(byte)} must be escaped in a string`, i);
      } else {
        i++;
      }
    }
    this.#fail("the string has no end", this.position);
  }

  /** The length in bytes of the last string in the document, with its escapes. */
  get textLength(): number {
    return this.#stringEnd - this.#stringStart;
  }

  /** The last string read. */
  text(): string {
    const start = this.#stringStart;
    const end = this.#stringEnd;
    if (this.#stringEscaped) return JSON.parse(this.#window.text(start - 1, end + 1));
    return this.#window.text(start, end);
  }

  /** Whether the last string is `expected`, an ASCII text of at most 16 characters. */
  textIs(expected: Uint8Array): boolean {
    const start = this.#stringStart;
    if (this.#stringEscaped) {
      // An escape takes at most six bytes a character.
      if (this.textLength > expected.length * 6) return false;
      return this.text() === String.fromCharCode(...expected);
    }
    if (this.textLength !== expected.length) return false;
    const bytes = this.#bytes;
    for (let i = 0; i < expected.length; i++) {
      if (bytes[start + i] !== expected[i]) return false;
    }
    return true;
  }

  /**
   * Reads an unsigned integer below 2^64 in plain digits: no sign, fraction, exponent or leading zero. Returns a
   * `bigint` if a number would round it.
   */
  u64(): number | bigint {
    const first = this.peek();
    if (first < ZERO || first > NINE) this.expected("an unsigned integer");
    const start = this.position;
    const bytes = this.#bytes;
    let value = 0;
    let i = start;
    for (; i < bytes.length; i++) {
      const digit = bytes[i]! - ZERO;
      if (digit < 0 || digit > 9) break;
      value = value * 10 + digit;
    }
    const digits = i - start;
    if (first === ZERO && digits > 1) this.#fail("an integer has no leading zero", start);
    const next = bytes[i];
    if (next === POINT || isExponentSign(next)) this.#fail("an integer in plain digits expected", start);
    this.position = i;
    return digits <= SAFE_DIGITS ? value : this.#longU64(start, i);
  }

  #longU64(start: number, end: number): number | bigint {
    const value = end - start > U64_DIGITS ? U64_LIMIT : BigInt(this.#window.text(start, end));
    if (value >= U64_LIMIT) this.#fail("an integer below 2^64 expected", start);
    return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
  }

  /** Skips a value. */
  skip(): void {
    switch (this.peek()) {
      case QUOTE:
        return this.string();
      case OPEN_BRACE:
        for (let more = this.beginObject(); more; more = this.nextMember()) {
          this.key();
          this.skip();
        }
        return;
      case OPEN_BRACKET:
        for (let more = this.beginArray(); more; more = this.nextElement()) this.skip();
        return;
      default:
        return this.#plainValue();
    }
  }

  #plainValue(): void {
    if (this.#anyNumber && NOT_FINITE.some((literal) => this.literal(literal))) return;
    const byte = this.#bytes[this.position] ?? 0;
    if (byte === MINUS || (byte >= ZERO && byte <= NINE)) return this.#number();
    if (!LITERALS.some((literal) => this.literal(literal))) this.expected("a value");
  }

  /** Reads `literal` (`null`, `true` or `false`) if it is next; returns whether it was. */
  literal(literal: Uint8Array): boolean {
    this.peek();
    const bytes = this.#bytes;
    for (let i = 0; i < literal.length; i++) {
      if (bytes[this.position + i] !== literal[i]) return false;
    }
    this.position += literal.length;
    return true;
  }

  /** Checks that only white space follows. */
  end(): void {
    if (this.peek() !== -1) this.expected("the end");
  }

  #begin(open: number, close: number, what: string): boolean {
    if (this.peek() !== open) this.expected(what);
    if (this.#depth === MAX_DEPTH) this.#fail(`values are nested more than ${MAX_DEPTH} deep`, this.position);
    this.position++;
    if (this.peek() === close) {
      this.position++;
      return false;
    }
    this.#depth++;
    return true;
  }

  #next(close: number, what: string): boolean {
    const byte = this.peek();
    if (byte !== COMMA && byte !== close) this.expected(what);
    this.position++;
    if (byte === COMMA) return true;
    this.#depth--;
    return false;
  }

  /** Checks the escape or surrogate pair at `i`; returns the position after it. */
  #escape(i: number): number {
    const letter = this.#bytes[i + 1];
    if (letter !== LOWER_U) {
      if (letter === undefined || !ESCAPES.has(letter)) this.#fail("JSON does not have this escape", i);
      return i + 2;
    }
    const unit = this.#hex(i);
    if (unit < 0xd800 || unit > 0xdfff) return i + 6;
    const paired = unit < 0xdc00 && this.#bytes[i + 6] === BACKSLASH && this.#bytes[i + 7] === LOWER_U;
    const low = paired ? this.#hex(i + 6) : 0;
    if (low < 0xdc00 || low > 0xdfff) this.#fail("a surrogate stands alone", i);
    return i + 12;
  }

  /** The UTF-16 unit of the `\uXXXX` at `i`. */
  #hex(i: number): number {
    let unit = 0;
    for (let j = i + 2; j < i + 6; j++) {
      const digit = hexDigit(this.#bytes[j]);
      if (digit < 0) this.#fail('four hexadecimal digits expected after "\\u"', i);
      unit = unit * 16 + digit;
    }
    return unit;
  }

  /** Skips a number. One too large for a double is an error, as in the reference implementation. */
  #number(): void {
    const bytes = this.#bytes;
    const start = this.position;
    if (bytes[start] === MINUS) this.position++;
    const first = bytes[this.position];
    const whole = this.#digits(start);
    if (first === ZERO && whole > 1) this.#fail("a number has no leading zero", start);
    if (bytes[this.position] === POINT) {
      this.position++;
      this.#digits(start);
    }
    let exponent = 0;
    if (isExponentSign(bytes[this.position])) {
      const sign = bytes[++this.position];
      if (sign === PLUS || sign === MINUS) this.position++;
      const digits = this.#digits(start);
      for (let i = this.position - digits; i < this.position && sign !== MINUS; i++) {
        exponent = exponent * 10 + bytes[i]! - ZERO;
      }
    }
    // The value is below 10^(whole + exponent), and a double reaches above 10^308.
    if (this.#anyNumber || whole + exponent <= 308) return;
    if (!Number.isFinite(Number(this.#window.text(start, this.position)))) {
      this.#fail("the number is out of range", start);
    }
  }

  /** Reads the digits of the number that begins at `start`; returns their count, at least 1. */
  #digits(start: number): number {
    const bytes = this.#bytes;
    let i = this.position;
    while (i < bytes.length && bytes[i]! >= ZERO && bytes[i]! <= NINE) i++;
    const digits = i - this.position;
    if (digits === 0) this.#fail("the number lacks a digit", start);
    this.position = i;
    return digits;
  }
}

/** A byte, for messages. */
function describeByte(byte: number): string {
  if (byte < 0) return "the end";
  return byte > 0x20 && byte < 0x7f
    ? `"${String.fromCharCode(byte)}"`
    : `byte 0x${byte.toString(16).padStart(2, "0")}`;
}

function isExponentSign(byte: number | undefined): boolean {
  return byte === 0x65 || byte === 0x45;
}

/** The value of a hexadecimal digit; -1 for other bytes. */
function hexDigit(byte = 0): number {
  if (byte >= ZERO && byte <= NINE) return byte - ZERO;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x61 + 10 : -1;
}

/* ---- Decodes many short texts from one long UTF-8 array, with few native calls ---- */

/** Bytes decoded at a time: hundreds of names. */
const WINDOW_BYTES = 1 << 16;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Decodes parts of a byte array, fast for successive parts.
 *
 * A window of the bytes is decoded at once and the texts are cut from it. In a window of ASCII, a position in the bytes
 * is a position in the text; otherwise it counts characters from the last cut.
 */
export class TextWindow {
  readonly #bytes: Uint8Array;
  #text = "";
  #start = 0;
  #end = 0;
  /** A position in the window, at the start of a character, and that character's index in the text. */
  #cursor = 0;
  #cursorIndex = 0;

  /** Starts without a window; `bytes` are valid UTF-8 and are not copied. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The text of the bytes from `start` to `end`; both are boundaries of characters. */
  text(start: number, end: number): string {
    if (end - start > WINDOW_BYTES) return decoder.decode(this.#bytes.subarray(start, end));
    if (start < this.#start || end > this.#end) this.#move(start);
    const from = this.#index(start);
    return this.#text.substring(from, this.#index(end));
  }

  #move(start: number): void {
    const bytes = this.#bytes.subarray(start, start + WINDOW_BYTES);
    this.#text = decoder.decode(bytes);
    this.#start = start;
    this.#end = start + bytes.length;
    this.#cursor = start;
    this.#cursorIndex = 0;
  }

  /** The index in the window's text of the character whose first byte is at `position`. */
  #index(position: number): number {
    // As many characters as bytes: each is ASCII, except perhaps the last one, if the window's end cuts it; texts do
    // not include that one.
    if (this.#text.length === this.#end - this.#start) return position - this.#start;
    const bytes = this.#bytes;
    const back = position < this.#cursor;
    let index = back ? 0 : this.#cursorIndex;
    for (let i = back ? this.#start : this.#cursor; i < position; i++) {
      const byte = bytes[i]!;
      if ((byte & 0xc0) !== 0x80) index += byte < 0xf0 ? 1 : 2;
    }
    this.#cursor = position;
    this.#cursorIndex = index;
    return index;
  }
}
