/**
 * The header reader: turns bytes into checked entries.
 *
 * The checks and their order are the reference implementation's (safetensors 0.8.0), and so are the error codes. It is
 * stricter in one respect: duplicate names, duplicate metadata keys, tensors written as arrays and dtypes written as
 * objects are errors here; the reference accepts them. An accepted header describes the file to the last byte: the
 * tensors lie end to end, each as long as its dtype and shape say, and nothing is before, between or after them.
 */
import { CODE_BITS, type DType, DTYPE_CODES, DTYPES } from "../base/dtype.ts";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../base/errors.ts";
import { finishNow, sortInSteps, STEP, type Steps } from "../base/steps.ts";
import { findInvalidUtf8, quote } from "../base/text.ts";
import { describeContent } from "./file_hints.ts";
import {
  byteSize,
  describeSizeError,
  describeTensor,
  type ExactShape,
  type Header,
  HeaderTable,
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  MAX_METADATA_ENTRIES,
  MAX_RANK,
  METADATA_KEY,
} from "./header.ts";
import { ascii, JsonScanner, NULL } from "./json_scanner.ts";

/** Options of {@linkcode headerLength} and {@linkcode parseHeader}. */
export interface HeaderOptions {
  /** The file, for the messages of errors. */
  path?: string | undefined;
}

/**
 * The length of the header's JSON in bytes, from the first bytes of a file.
 *
 * @param first The first bytes of the file: 8 or more, or all of a shorter file. With 512 bytes the message of an error
 * can name the real format of the file.
 * @param fileSize The size of the file in bytes.
 * @param options The file's name for messages.
 * @returns The length `n`; the JSON is the bytes 8 to 8 + n, and the whole of it is in the file.
 * @throws {SafeTensorsError} "HeaderTooSmall", "HeaderTooLarge" or "InvalidHeaderLength".
 */
export function headerLength(first: Uint8Array, fileSize: number, options: HeaderOptions = {}): number {
  const refuse = (code: SafeTensorsErrorCode, detail: string): never => {
    throw wrongContent(first, code, options.path) ?? headerError(options.path, code, detail);
  };
  if (fileSize < LENGTH_BYTES) {
    const found = fileSize === 0 ? "the file is empty" : `the file has ${fileSize}`;
    refuse(
      "HeaderTooSmall",
      `it is not a safetensors file: ${LENGTH_BYTES} bytes expected at offset 0, ${found}`,
    );
  }
  if (first.length < LENGTH_BYTES) {
    throw new RangeError(
      `Cannot read the header length: ${LENGTH_BYTES} bytes expected, ${first.length} given`,
    );
  }
  const length = new DataView(first.buffer, first.byteOffset).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES) {
    const detail = `its length at offset 0 is ${length} bytes, the limit is ${MAX_HEADER_BYTES}`;
    refuse("HeaderTooLarge", length < 2n ** 32n ? detail : `it is not a safetensors file: ${detail}`);
  }
  const available = fileSize - LENGTH_BYTES;
  if (length > available) {
    refuse(
      "InvalidHeaderLength",
      `${length} bytes expected at offset ${LENGTH_BYTES}, ${available} found: it is truncated`,
    );
  }
  return Number(length);
}

/**
 * Reads and checks a header.
 *
 * @param json The header's JSON: exactly the bytes 8 to 8 + n of the file. The result does not reference them.
 * @param fileSize The size of the file in bytes.
 * @param options The file's name for messages.
 * @returns The tensors in the order of their bytes, and the metadata.
 * @throws {SafeTensorsError} "InvalidHeader" (not UTF-8), "InvalidHeaderDeserialization" (not JSON, or not of the
 * right form), "InvalidOffset", "ValidationOverflow", "MisalignedSlice", "TensorInvalidInfo" (a tensor's range or
 * size is wrong), "MetadataIncompleteBuffer" (the tensors do not fill the file), "DuplicateName", "TooManyTensors" (too
 * many metadata entries), "RankTooLarge".
 */
export function parseHeader(json: Uint8Array, fileSize: number, options: HeaderOptions = {}): Header {
  return finishNow(headerSteps(json, fileSize, options));
}

/** {@linkcode parseHeader} in steps, for a header of very many tensors. */
export function* headerSteps(json: Uint8Array, fileSize: number, options: HeaderOptions = {}): Steps<Header> {
  const { table, ...others } = yield* tableSteps(json, fileSize, options);
  return { tensors: yield* table.mapSteps(), ...others };
}

/** A header whose tensors are columns. */
export interface TableHeader extends Omit<Header, "tensors"> {
  /** The tensors, in the order of their bytes in the file. */
  readonly table: HeaderTable;
}

/** {@linkcode headerSteps} without an object for each tensor. */
export function* tableSteps(
  json: Uint8Array,
  fileSize: number,
  options: HeaderOptions = {},
): Steps<TableHeader> {
  const fail: HeaderFailure = (code, detail, tensor) => {
    throw headerError(options.path, code, detail, tensor);
  };
  const invalid = findInvalidUtf8(json);
  if (invalid >= 0) fail("InvalidHeader", `the byte at offset ${LENGTH_BYTES + invalid} is not UTF-8`);
  if (json.length === 0) {
    fail("InvalidHeaderDeserialization", "its length is 0: the file was reserved, but never written");
  }
  yield;
  const entries = yield* readEntries(json, fail);
  const dataStart = LENGTH_BYTES + json.length;
  const dataLength = fileSize - dataStart;
  const { order, fault, duplicate } = yield* inFileOrder(entries);
  yield;
  yield* checkLayout({ ...entries, fault }, order, dataLength, fail);
  yield;
  // This check is the last one: the reference uses the last of two duplicates, so that a header with another fault has
  // the reference's error code.
  if (duplicate !== undefined) {
    fail("DuplicateName", "the name is listed twice", entries.table.names.text(duplicate));
  }
  const { metadata, duplicateKey } = entries;
  if (duplicateKey !== undefined) {
    fail("DuplicateName", `the metadata key ${quote(duplicateKey)} is listed twice`);
  }
  const table = order ? yield* entries.table.pickSteps(order) : entries.table;
  return { table, metadata, dataStart, dataLength };
}

/** The error for a file of another format, if its first bytes show one. */
function wrongContent(
  first: Uint8Array,
  code: SafeTensorsErrorCode,
  path: string | undefined,
): SafeTensorsError | undefined {
  const content = describeContent(first);
  if (!content || content.kind === "safetensors") return undefined;
  const file = path === undefined ? "the safetensors header" : `${quote(path)}`;
  const message = `Cannot read ${file}: ${content.text}`;
  if (content.kind !== "pytorch") return new SafeTensorsError(code, message, { path });
  return new SafeTensorsError(code, message, { path, format: "pytorch", advice: "open it with openPyTorch" });
}

function headerError(
  path: string | undefined,
  code: SafeTensorsErrorCode,
  detail: string,
  tensor?: string,
): SafeTensorsError {
  const subject = tensor === undefined ? "" : `tensor ${quote(tensor)} in `;
  const file = path === undefined ? "the safetensors header" : `the header of ${quote(path)}`;
  return new SafeTensorsError(code, `Cannot read ${subject}${file}: ${detail}`, { path, tensor });
}

/* ---- The JSON as entries: each type and number is checked by itself; the layout below compares them ---- */

/** The entries of a header. */
interface Entries extends Listing {
  /** The metadata; of two entries with one key, the last. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The first metadata key that is listed twice. */
  readonly duplicateKey: string | undefined;
}

const METADATA = ascii(METADATA_KEY);
const DTYPE = ascii("dtype");
const SHAPE = ascii("shape");
const DATA_OFFSETS = ascii("data_offsets");

/** The most dimensions of all tensors together: enough for a million tensors, but far fewer than 99 MB can list. */
const MAX_DIMENSIONS = 1 << 23;

/** The most ranges stored exactly. A real file has none; a few are needed for the reference's error code. */
const MAX_EXACT_RANGES = 4096;

/** Shapes that a reader stores for later tensors. */
const SHAPES = 256;

/** Bytes of the shortest entry of a tensor: columns of so many rows do not grow, which would hold the event loop. */
const SHORTEST_ENTRY = 50;

/** Reads the JSON of a header, which must be valid UTF-8. */
function* readEntries(json: Uint8Array, fail: HeaderFailure): Steps<Entries> {
  const reader = new EntryReader(json, fail);
  yield* reader.read();
  return reader;
}

class EntryReader implements Entries {
  readonly table: HeaderTable;
  readonly exact = new Map<number, ExactRange>();
  readonly metadata = new Map<string, string>();
  ordered = true;
  unique = true;
  fault: TensorFault | undefined;
  duplicateKey: string | undefined;

  readonly #scanner: JsonScanner;
  readonly #entry: PlainEntry;
  readonly #json: Uint8Array;
  readonly #fail: HeaderFailure;
  #faultRange: ExactRange = { begin: 0, end: 0 };
  /** The tensor being read, for messages. */
  #tensor: string | undefined;
  /** A buffer for the dimensions of one shape: an array that grows by `push` allocates space for 17. */
  readonly #dimensions: (number | bigint)[] = [];
  /** Shapes of earlier tensors, by a hash: a model has few different ones. */
  readonly #shapes: (readonly number[] | undefined)[] = new Array(SHAPES).fill(undefined);
  #dimensionsInAll = 0;
  /** Whether an integer of the tensor being read is above 2^53 - 1. */
  #rounds = false;
  /** The range of the last tensor. */
  #lastBegin = 0;
  #lastEnd = 0;

  constructor(json: Uint8Array, fail: HeaderFailure) {
    this.#fail = fail;
    this.#json = json;
    this.#entry = new PlainEntry(json);
    this.table = new HeaderTable(
      16 + Math.ceil(json.length / SHORTEST_ENTRY),
      1024 + Math.ceil(json.length / 2),
    );
    this.#scanner = new JsonScanner(json, (detail, position) => {
      const hint = json[position] === 0 ? "; a header is padded with spaces, this one with NUL bytes" : "";
      this.#refuse("InvalidHeaderDeserialization", detail + hint, position);
    });
  }

  *read(): Steps<void> {
    const scanner = this.#scanner;
    const entry = this.#entry;
    let metadataSeen = false;
    for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
      const after = entry.read(scanner.position);
      if (after >= 0) {
        scanner.position = after;
        this.#addPlain(entry);
      } else {
        scanner.key();
        if (scanner.textIs(METADATA)) {
          if (metadataSeen) this.#invalid(`"${METADATA_KEY}" is there twice`);
          metadataSeen = true;
          yield* this.#readMetadata();
          continue;
        }
        this.#tensor = scanner.text();
        this.#readTensor(this.#tensor);
        this.#tensor = undefined;
      }
      if (this.table.size % STEP === 0) yield;
    }
    scanner.end();
  }

  /** Adds a tensor whose integers are exact. */
  #addPlain({ nameStart, nameStop, dtype, dimensions, rank, begin, end }: PlainEntry): void {
    this.#dimensionsInAll += rank;
    if (this.#dimensionsInAll > MAX_DIMENSIONS) this.#tooManyDimensions();
    const shape = this.#frozenShape(dimensions, rank);
    if (!this.table.names.add(this.#json, nameStart, nameStop)) this.unique = false;
    this.table.add(dtype, shape, begin, end);
    this.#follow(begin, end);
    let elements = 1;
    for (let i = 0; i < rank && elements <= Number.MAX_SAFE_INTEGER; i++) elements *= dimensions[i]!;
    // The bits of the range are exact in a double, so that equality is exact.
    const isUsual = elements <= Number.MAX_SAFE_INTEGER && elements * CODE_BITS[dtype]! === (end - begin) * 8;
    if (!isUsual || end < begin) this.#check(shape, begin, end);
  }

  /** Compares the range of a tensor with that of the one before. */
  #follow(begin: number, end: number): void {
    if (begin < this.#lastBegin || end < this.#lastEnd) this.ordered = false;
    this.#lastBegin = begin;
    this.#lastEnd = end;
  }

  *#readMetadata(): Steps<void> {
    const scanner = this.#scanner;
    if (scanner.literal(NULL)) return;
    let listed = 0;
    for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
      if (listed % STEP === STEP - 1) yield;
      if (listed++ >= MAX_METADATA_ENTRIES) {
        this.#refuse("TooManyTensors", `more than ${MAX_METADATA_ENTRIES} metadata entries`);
      }
      scanner.key();
      const key = scanner.text();
      scanner.string("a string as metadata");
      const count = this.metadata.size;
      this.metadata.set(key, scanner.text());
      if (this.metadata.size === count) this.duplicateKey ??= key;
    }
  }

  #readTensor(name: string): void {
    const scanner = this.#scanner;
    let dtype: number | undefined;
    let shape: readonly (number | bigint)[] | undefined;
    let begin: number | bigint | undefined;
    let end: number | bigint = 0;
    this.#rounds = false;
    for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
      scanner.key();
      if (scanner.textIs(DTYPE)) {
        if (dtype !== undefined) this.#invalid('"dtype" is there twice');
        dtype = this.#readDType();
      } else if (scanner.textIs(SHAPE)) {
        if (shape !== undefined) this.#invalid('"shape" is there twice');
        shape = this.#readShape();
      } else if (scanner.textIs(DATA_OFFSETS)) {
        if (begin !== undefined) this.#invalid('"data_offsets" is there twice');
        if (!scanner.beginArray()) this.#invalid("two data offsets expected, none found");
        begin = this.#integer();
        if (!scanner.nextElement()) this.#invalid("two data offsets expected, one found");
        end = this.#integer();
        if (scanner.nextElement()) this.#invalid("two data offsets expected, more found");
      } else {
        scanner.skip();
      }
    }
    if (dtype === undefined) return this.#invalid('"dtype" is missing');
    if (shape === undefined) return this.#invalid('"shape" is missing');
    if (begin === undefined) return this.#invalid('"data_offsets" is missing');
    const { table } = this;
    const row = table.size;
    if (!table.names.addText(name)) this.unique = false;
    // Without `#rounds` every integer is a number.
    const rounded = this.#rounds ? Object.freeze(shape.map(Number)) : shape as readonly number[];
    table.add(dtype, rounded, Number(begin), Number(end));
    this.#follow(Number(begin), Number(end));
    if (typeof begin === "bigint" || typeof end === "bigint") {
      if (this.exact.size >= MAX_EXACT_RANGES) {
        this.#refuse("InvalidOffset", `more than ${MAX_EXACT_RANGES} tensors lie beyond 2^53 bytes`);
      }
      this.exact.set(row, { begin, end });
      this.ordered = false;
    }
    this.#check(shape, begin, end);
  }

  /** Records the first fault in the file: that of the last row, if it has one. */
  #check(shape: ExactShape, begin: number | bigint, end: number | bigint): void {
    const row = this.table.size - 1;
    const fault = findFault(row, this.table.dtype(row), shape, begin, end);
    if (fault === undefined) return;
    if (this.fault !== undefined && compareRanges({ begin, end }, this.#faultRange) >= 0) return;
    this.fault = fault;
    this.#faultRange = { begin, end };
  }

  /** The code of a dtype. */
  #readDType(): number {
    const scanner = this.#scanner;
    scanner.string("a dtype");
    const text = scanner.text();
    return DTYPE_CODES.get(text) ??
      this.#invalid(`the dtype ${quote(text)} is not a dtype of the format, or newer than this version`);
  }

  #readShape(): readonly (number | bigint)[] {
    const scanner = this.#scanner;
    const dimensions = this.#dimensions;
    let rank = 0;
    for (let more = scanner.beginArray(); more; more = scanner.nextElement()) {
      if (rank >= MAX_RANK) this.#refuse("RankTooLarge", `more than ${MAX_RANK} dimensions`);
      dimensions[rank++] = this.#integer();
    }
    this.#dimensionsInAll += rank;
    if (this.#dimensionsInAll > MAX_DIMENSIONS) this.#tooManyDimensions();
    return this.#rounds ? dimensions.slice(0, rank) : this.#frozenShape(dimensions as number[], rank);
  }

  #tooManyDimensions(): never {
    return this.#refuse("RankTooLarge", `more than ${MAX_DIMENSIONS} dimensions in all`);
  }

  /** The first numbers of `dimensions` as a frozen array, which tensors of one shape share. */
  #frozenShape(dimensions: readonly number[], rank: number): readonly number[] {
    let hash = rank;
    for (let i = 0; i < rank; i++) hash = (Math.imul(hash, 31) + dimensions[i]!) % SHAPES;
    const known = this.#shapes[hash];
    let same = known?.length === rank;
    for (let i = 0; same && i < rank; i++) same = known![i] === dimensions[i];
    return same ? known! : this.#shapes[hash] = Object.freeze(dimensions.slice(0, rank));
  }

  #integer(): number | bigint {
    const value = this.#scanner.u64();
    if (typeof value === "bigint") this.#rounds = true;
    return value;
  }

  #invalid(detail: string): never {
    return this.#refuse("InvalidHeaderDeserialization", detail);
  }

  #refuse(code: SafeTensorsErrorCode, detail: string, position = this.#scanner.position): never {
    return this.#fail(code, `at offset ${LENGTH_BYTES + position}, ${detail}`, this.#tensor);
  }
}

/* ---- The entry of a tensor as nearly all writers write it: one pass over its bytes, for very many tensors ---- */

const SPACE = 0x20, QUOTE = 0x22, COMMA = 0x2c, ZERO = 0x30, COLON = 0x3a;
const OPEN_BRACKET = 0x5b, BACKSLASH = 0x5c, CLOSE_BRACKET = 0x5d, OPEN_BRACE = 0x7b, CLOSE_BRACE = 0x7d;

const DTYPE_KEY = ascii('"dtype"'), SHAPE_KEY = ascii('"shape"'), OFFSETS_KEY = ascii('"data_offsets"');

/** The dtypes in quotes, by their code. */
const NAMES = DTYPES.map((dtype) => ascii(JSON.stringify(dtype)));

/** Digits that always make an exact integer whose bits can be counted exactly too. */
const SAFE_DIGITS = 15;

/** Dimensions of a shape in this form. */
const MOST_RANK = 16;

/**
 * One entry whose name has no escapes, with dtype, shape and data_offsets in this order; {@linkcode JsonScanner} reads all
 * others. Its fields are those of the last one that {@linkcode read} has read.
 */
class PlainEntry {
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
    if ((i = this.#key(i, DTYPE_KEY)) < 0) return -1;
    if ((i = this.#dtype(i)) < 0) return -1;
    if ((i = this.#expect(i, COMMA)) < 0) return -1;
    if ((i = this.#key(i, SHAPE_KEY)) < 0) return -1;
    if ((i = this.#shape(i)) < 0) return -1;
    if ((i = this.#expect(i, COMMA)) < 0) return -1;
    if ((i = this.#key(i, OFFSETS_KEY)) < 0) return -1;
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

/* ---- The layout: checks that the tensors fill the file without gaps ---- */

/** Rejects the header: throws the error, with the path from the options. */
type HeaderFailure = (code: SafeTensorsErrorCode, detail: string, tensor?: string) => never;

/**
 * A range of the data, as the header states it. A bigint is above 2^53 - 1: files are not that long, but a header can
 * state it.
 */
interface ExactRange {
  /** The first data byte. */
  readonly begin: number | bigint;
  /** The data byte after the last. */
  readonly end: number | bigint;
}

/** A fault of one tensor, independent of the other tensors. */
interface TensorFault {
  /** The code of the error. */
  readonly code: SafeTensorsErrorCode;
  /** The text for the message. */
  readonly detail: string;
  /** The row of the tensor. */
  readonly row: number;
}

/** The tensors of a header, in its order. */
interface Listing {
  /** The tensors as listed. */
  readonly table: HeaderTable;
  /** Whether this is the order of their bytes, the usual case. */
  readonly ordered: boolean;
  /** Whether no two have one name. */
  readonly unique: boolean;
  /** Row → the range of a tensor whose range in the table is rounded. */
  readonly exact: ReadonlyMap<number, ExactRange>;
  /** The first fault in the order of the bytes. */
  readonly fault: TensorFault | undefined;
}

/** The order of the tensors in the file. */
interface FileOrder {
  /** The rows in the order of their bytes; null if the header has this order. Of two tensors with one name, the last. */
  readonly order: readonly number[] | null;
  /** The first fault in that order. */
  readonly fault: TensorFault | undefined;
  /** The first row whose name another row has too. */
  readonly duplicate: number | undefined;
}

/** Compares numbers and bigints exactly: `<` and `>` do not round a bigint. */
function compare(a: number | bigint, b: number | bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Orders ranges by begin, then by end. */
function compareRanges(a: ExactRange, b: ExactRange): number {
  return compare(a.begin, b.begin) || compare(a.end, b.end);
}

/** The fault of one tensor by itself, if it has one; shape and range are exact. */
function findFault(
  row: number,
  dtype: DType,
  shape: ExactShape,
  begin: number | bigint,
  end: number | bigint,
): TensorFault | undefined {
  if (end < begin) {
    return {
      code: "InvalidOffset",
      detail: `it ends at data byte ${end}, before it begins at ${begin}`,
      row,
    };
  }
  const size = byteSize(dtype, shape);
  if (typeof size === "string") return { code: size, detail: describeSizeError(size, dtype, shape), row };
  const span = typeof begin === "number" && typeof end === "number"
    ? end - begin
    : BigInt(end) - BigInt(begin);
  if (compare(size, span) === 0) return undefined;
  const taken = `${describeTensor(dtype, shape)} takes ${size} bytes`;
  return { code: "TensorInvalidInfo", detail: `${taken}, data bytes ${begin} to ${end} are ${span}`, row };
}

/** Orders the tensors by begin, then end; empty tensors at one offset stay in the header's order. */
function* inFileOrder(listing: Listing): Steps<FileOrder> {
  const { table, ordered, unique, fault } = listing;
  if (!unique) return lastOfEachName(listing);
  if (ordered) return { order: null, fault, duplicate: undefined };
  const rows = Array.from({ length: table.size }, (_, row) => row);
  return { order: yield* sortInSteps(rows, compareRows(listing)), fault, duplicate: undefined };
}

/** The rare case: the header is invalid. It is processed like the reference does, for the same error. */
function lastOfEachName(listing: Listing): FileOrder {
  const { table, exact } = listing;
  const last = new Map<number, number>();
  let duplicate: number | undefined;
  for (let row = 0; row < table.size; row++) {
    const first = table.names.find(table.names.text(row));
    if (first !== row) duplicate ??= first;
    last.set(first, row);
  }
  const order = [...last.values()].sort(compareRows(listing));
  for (const row of order) {
    const { begin, end } = exact.get(row) ?? { begin: table.begins[row]!, end: table.ends[row]! };
    // A shape may be rounded here, so the fault may differ from the reference's; the header is rejected in any case.
    const fault = findFault(row, table.dtype(row), table.shapes[row]!, begin, end);
    if (fault !== undefined) return { order, fault, duplicate };
  }
  return { order, fault: undefined, duplicate };
}

/** Compares the ranges of two rows. */
function compareRows({ table: { begins, ends }, exact }: Listing): (a: number, b: number) => number {
  if (exact.size === 0) return (a, b) => begins[a]! - begins[b]! || ends[a]! - ends[b]!;
  const range = (row: number) => exact.get(row) ?? { begin: begins[row]!, end: ends[row]! };
  return (a, b) => compareRanges(range(a), range(b));
}

/**
 * Checks that tensors in file order have no fault and fill the data without gap or overlap. The checks go tensor by
 * tensor, as in the reference implementation, so that both report the same one of several faults.
 */
function* checkLayout(
  { table, exact, fault }: Listing,
  order: readonly number[] | null,
  dataLength: number,
  fail: HeaderFailure,
): Steps<void> {
  const { begins, ends, names } = table;
  const count = order?.length ?? table.size;
  let total: number | bigint = 0;
  for (let index = 0; index < count; index++) {
    if (index % 4096 === 4095) yield;
    const row = order ? order[index]! : index;
    let begin: number | bigint = begins[row]!, end: number | bigint = ends[row]!;
    if (exact.size > 0) ({ begin, end } = exact.get(row) ?? { begin, end });
    if (begin > total) {
      fail("InvalidOffset", `data bytes ${total} to ${begin} belong to no tensor`, names.text(row));
    }
    if (begin < total) {
      fail(
        "InvalidOffset",
        `it begins at data byte ${begin}, the tensor before it ends at ${total}`,
        names.text(row),
      );
    }
    if (row === fault?.row) fail(fault.code, fault.detail, names.text(row));
    total = end;
  }
  const surplus = BigInt(dataLength) - BigInt(total);
  if (surplus === 0n) return;
  const what = surplus < 0n ? "the file is truncated" : `${surplus} too many`;
  fail("MetadataIncompleteBuffer", `${total} bytes of tensor data expected, ${dataLength} found: ${what}`);
}
