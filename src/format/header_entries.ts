/** The header's JSON as entries: types and numbers checked one by one, but not yet against each other. */
import type { SafeTensorsErrorCode } from "../base/errors.ts";
import { type DType, DTYPES } from "../base/dtype.ts";
import { LENGTH_BYTES, MAX_RANK, MAX_TENSORS, METADATA_KEY, type TensorInfo } from "./header.ts";
import {
  compareRanges,
  type ExactRange,
  findFault,
  type HeaderFailure,
  type Listing,
  type TensorFault,
} from "./header_layout.ts";
import { ascii, JsonScanner, NULL } from "./json_scanner.ts";
import { STEP, type Steps } from "../base/steps.ts";
import type { ExactShape } from "./tensor_size.ts";
import { quote } from "../base/text.ts";

/** What a header says. */
export interface Entries extends Listing {
  /** The metadata; of two entries with one key, the last. */
  readonly metadata: ReadonlyMap<string, string>;
  /** The first metadata key that is listed twice. */
  readonly duplicateKey: string | undefined;
}

const METADATA = ascii(METADATA_KEY);
const DTYPE = ascii("dtype");
const SHAPE = ascii("shape");
const DATA_OFFSETS = ascii("data_offsets");

/** The most dimensions of all tensors together: as many as a million tensors have, but not what 99 MB could list. */
const MAX_DIMENSIONS = 1 << 23;

/** The most ranges kept exactly. No file has even one; a few let the error be the one that the reference gives. */
const MAX_EXACT_RANGES = 4096;

/** The one string object for each dtype: a header of a million tensors does not keep a million copies. */
const DTYPE_NAMES: ReadonlyMap<string, DType> = new Map(DTYPES.map((dtype) => [dtype, dtype]));

/** Reads the JSON of a header, which must be valid UTF-8. */
export function* readEntries(json: Uint8Array, fail: HeaderFailure): Steps<Entries> {
  const reader = new EntryReader(json, fail);
  yield* reader.read();
  return reader;
}

class EntryReader implements Entries {
  readonly tensors: TensorInfo[] = [];
  readonly exact = new Map<TensorInfo, ExactRange>();
  readonly metadata = new Map<string, string>();
  ordered = true;
  fault: TensorFault | undefined;
  duplicateKey: string | undefined;

  readonly #scanner: JsonScanner;
  readonly #fail: HeaderFailure;
  #faultRange: ExactRange = { begin: 0, end: 0 };
  /** The tensor being read, for messages. */
  #tensor: string | undefined;
  /** Dimensions on their way into a shape: an array filled by `push` keeps room for 17. */
  readonly #dimensions: (number | bigint)[] = [];
  #dimensionsInAll = 0;
  /** Whether an integer of the tensor being read is above 2^53 - 1. */
  #rounds = false;

  constructor(json: Uint8Array, fail: HeaderFailure) {
    this.#fail = fail;
    this.#scanner = new JsonScanner(json, (detail, position) => {
      const hint = json[position] === 0 ? "; a header is padded with spaces, this one with NUL bytes" : "";
      this.#refuse("InvalidHeaderDeserialization", detail + hint, position);
    });
  }

  *read(): Steps<void> {
    const scanner = this.#scanner;
    let metadataSeen = false;
    let last: TensorInfo | undefined;
    for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
      scanner.key();
      if (scanner.textIs(METADATA)) {
        if (metadataSeen) this.#invalid(`"${METADATA_KEY}" is there twice`);
        metadataSeen = true;
        yield* this.#readMetadata();
        continue;
      }
      if (this.tensors.length >= MAX_TENSORS) {
        this.#refuse("TooManyTensors", `more than ${MAX_TENSORS} tensors`);
      }
      this.#tensor = scanner.text();
      const info = this.#readTensor(this.#tensor);
      this.#tensor = undefined;
      this.tensors.push(info);
      if (this.tensors.length % STEP === 0) yield;
      if (last !== undefined && (info.begin < last.begin || info.end < last.end)) this.ordered = false;
      last = info;
    }
    scanner.end();
  }

  *#readMetadata(): Steps<void> {
    const scanner = this.#scanner;
    if (scanner.literal(NULL)) return;
    let listed = 0;
    for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
      if (listed % STEP === STEP - 1) yield;
      if (listed++ >= MAX_TENSORS) {
        this.#refuse("TooManyTensors", `more than ${MAX_TENSORS} metadata entries`);
      }
      scanner.key();
      const key = scanner.text();
      scanner.string("a string as metadata");
      const count = this.metadata.size;
      this.metadata.set(key, scanner.text());
      if (this.metadata.size === count) this.duplicateKey ??= key;
    }
  }

  #readTensor(name: string): TensorInfo {
    const scanner = this.#scanner;
    let dtype: DType | undefined;
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
    const info: TensorInfo = this.#rounds
      ? { name, dtype, shape: Object.freeze(shape.map(Number)), begin: Number(begin), end: Number(end) }
      // Every integer went through #integer(): they are numbers.
      : { name, dtype, shape: Object.freeze(shape as number[]), begin: begin as number, end: end as number };
    if (typeof begin === "bigint" || typeof end === "bigint") {
      if (this.exact.size >= MAX_EXACT_RANGES) {
        this.#refuse("InvalidOffset", `more than ${MAX_EXACT_RANGES} tensors lie beyond 2^53 bytes`);
      }
      this.exact.set(info, { begin, end });
      this.ordered = false;
    }
    this.#check(info, shape, begin, end);
    return info;
  }

  /** Keeps the fault that comes first in the file. */
  #check(info: TensorInfo, shape: ExactShape, begin: number | bigint, end: number | bigint): void {
    const fault = findFault(info, shape, begin, end);
    if (fault === undefined) return;
    if (this.fault !== undefined && compareRanges({ begin, end }, this.#faultRange) >= 0) return;
    this.fault = fault;
    this.#faultRange = { begin, end };
  }

  #readDType(): DType {
    const scanner = this.#scanner;
    scanner.string("a dtype");
    const text = scanner.text();
    const dtype = DTYPE_NAMES.get(text);
    return dtype ??
      this.#invalid(`the dtype ${quote(text)} is none of the format's, or newer than this version`);
  }

  #readShape(): (number | bigint)[] {
    const scanner = this.#scanner;
    const dimensions = this.#dimensions;
    let rank = 0;
    for (let more = scanner.beginArray(); more; more = scanner.nextElement()) {
      if (rank >= MAX_RANK) this.#refuse("RankTooLarge", `more than ${MAX_RANK} dimensions`);
      dimensions[rank++] = this.#integer();
    }
    this.#dimensionsInAll += rank;
    if (this.#dimensionsInAll > MAX_DIMENSIONS) {
      this.#refuse("RankTooLarge", `more than ${MAX_DIMENSIONS} dimensions in all`);
    }
    return dimensions.slice(0, rank);
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
