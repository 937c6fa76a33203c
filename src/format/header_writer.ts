/**
 * The header writer: computes the order and offsets of tensors, and the header's bytes.
 *
 * The bytes are those of the reference implementation (safetensors 0.8.0) wherever it is deterministic: with two
 * metadata keys or more it writes them in the order of a hash map, this writer in the order of their UTF-8 bytes.
 */
import { describeValue } from "../base/check.ts";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../base/errors.ts";
import { type DType, dtypeMeant, DTYPES, isDType } from "../base/dtype.ts";
import {
  byteSize,
  describeSizeError,
  describeTensor,
  type Header,
  LENGTH_BYTES,
  MAX_HEADER_BYTES,
  METADATA_KEY,
  type TensorInfo,
} from "./header.ts";
import { entriesOf, finishNow, sortInSteps, STEP, type Steps } from "../base/steps.ts";
import { compareUtf8, copyParts, encodeList, quote } from "../base/text.ts";

/** A tensor to write: the facts that a header needs. */
export interface TensorSpec {
  /** Its name: well-formed Unicode, unique, and not "__metadata__". */
  readonly name: string;
  /** The type of its elements. */
  readonly dtype: DType;
  /** Its dimensions, outermost first. */
  readonly shape: readonly number[];
}

/** Metadata to write. */
export type MetadataInput = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

/** The header's bytes, and the position of every tensor. */
export interface HeaderLayout {
  /** The start of the file: the length and the JSON. The tensors' data follows without a gap. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The content of these bytes; `header.tensors` are in the order in which their data must be written. */
  readonly header: Header;
}

/** The header's JSON is padded with spaces to a multiple of this many bytes, which aligns the data. */
const ALIGNMENT = 8;

const SPACE = 0x20;

/** The place of each dtype in the file: widest first, which keeps every tensor aligned to its elements. */
const DTYPE_ORDER = new Map<DType, number>(DTYPES.toReversed().map((dtype, i) => [dtype, i]));

/** The order of two tensors in a file: by dtype from U64 down to BOOL, then by the UTF-8 bytes of their names. */
export function compareLayout(
  a: Pick<TensorSpec, "name" | "dtype">,
  b: Pick<TensorSpec, "name" | "dtype">,
): number {
  return DTYPE_ORDER.get(a.dtype)! - DTYPE_ORDER.get(b.dtype)! || compareUtf8(a.name, b.name);
}

/**
 * Lays tensors out in a file: by dtype from U64 down to BOOL, then by the UTF-8 bytes of their names.
 *
 * @param tensors The tensors, in any order.
 * @param metadata The `__metadata__` of the file; if omitted, the header has none; if empty, the header has an empty
 * one, as the reference writes it.
 * @throws {SafeTensorsError} "DuplicateName", "InvalidTensorView" (a name that the format does not allow),
 * "MisalignedSlice" (a shape that does not end with a whole byte), "ValidationOverflow" (more than 2^53 - 1 bytes),
 * "InvalidHeader" (metadata that is not well-formed Unicode), "HeaderTooLarge".
 * @throws {TypeError} Where a dtype is unknown, or a name or metadata is not a string.
 * @throws {RangeError} Where a dimension is not an integer from 0 to 2^53 - 1.
 */
export function layoutHeader(tensors: Iterable<TensorSpec>, metadata?: MetadataInput): HeaderLayout {
  return finishNow(headerLayoutSteps([...tensors], metadata));
}

/** {@linkcode layoutHeader} in steps, for many tensors. */
export function* headerLayoutSteps(
  tensors: readonly TensorSpec[],
  metadata?: MetadataInput,
): Steps<HeaderLayout> {
  const checked = metadata === undefined ? new Map<string, string>() : yield* checkMetadata(metadata);
  const members = metadata === undefined ? [] : [`"${METADATA_KEY}":{${yield* writePairs(checked)}}`];
  const sizes = new Map<TensorSpec, number>();
  for (const spec of tensors) {
    sizes.set(spec, checkSpec(spec));
    if (sizes.size % STEP === 0) yield;
  }
  const specs = yield* sortInSteps(tensors, compareLayout);
  const placed = new Map<string, TensorInfo>();
  let end = 0;
  for (const spec of specs) {
    if (placed.size % STEP === 0) yield;
    const { name, dtype } = spec;
    if (placed.has(name)) throw tensorError("DuplicateName", name, "the name is given twice");
    const begin = end;
    end += sizes.get(spec)!;
    if (end > Number.MAX_SAFE_INTEGER) {
      throw tensorError("ValidationOverflow", name, "it ends beyond 2^53 bytes");
    }
    const shape = [...spec.shape];
    placed.set(name, { name, dtype, shape, begin, end });
    members.push(
      `${JSON.stringify(name)}:{"dtype":${quote(dtype)},"shape":[${shape}],"data_offsets":[${begin},${end}]}`,
    );
  }
  const bytes = yield* encodeHeader(members);
  const header = { tensors: placed, metadata: checked, dataStart: bytes.length, dataLength: end };
  return { bytes, header };
}

/** Checks a tensor from the caller and returns its size in bytes; throws the errors of {@linkcode layoutHeader}. */
export function checkSpec({ name, dtype, shape }: TensorSpec): number {
  if (typeof name !== "string") {
    throw new TypeError(`Cannot write a tensor: its name is ${name}, not a string`);
  }
  if (name === METADATA_KEY) {
    throw tensorError("InvalidTensorView", name, "the name is reserved for metadata");
  }
  if (!name.isWellFormed()) throw tensorError("InvalidTensorView", name, "the name has a lone surrogate");
  if (!isDType(dtype)) {
    const meant = typeof dtype === "string" ? dtypeMeant(dtype) : undefined;
    const hint = meant ? `did you mean ${quote(meant)}?` : `dtype must be one of ${DTYPES.join(", ")}`;
    throw new TypeError(
      `Cannot write tensor ${quote(name)}: ${describeValue(dtype)} is not a dtype of the format: ${hint}`,
    );
  }
  if (!Array.isArray(shape)) {
    throw new TypeError(
      `Cannot write tensor ${quote(name)}: shape must be an array of dimensions, got ${describeValue(shape)}`,
    );
  }
  for (const dimension of shape) {
    if (!Number.isSafeInteger(dimension) || dimension < 0) {
      const tensor = describeTensor(dtype, shape);
      throw new RangeError(
        `Cannot write tensor ${quote(name)}: ${describeValue(dimension)} is not a dimension in ${tensor}`,
      );
    }
  }
  const size = byteSize(dtype, shape);
  if (typeof size === "string") throw tensorError(size, name, describeSizeError(size, dtype, shape));
  return Number(size);
}

/** The metadata sorted by key. */
function* checkMetadata(metadata: MetadataInput): Steps<Map<string, string>> {
  if (
    typeof metadata !== "object" || metadata === null ||
    Symbol.iterator in metadata && !(metadata instanceof Map)
  ) {
    throw new TypeError(
      `Cannot write metadata: a record or a map of strings expected, got ${describeValue(metadata)}`,
    );
  }
  const pairs: (readonly [string, string])[] = [];
  for (const pair of metadata instanceof Map ? metadata : entriesOf(metadata as Record<string, string>)) {
    if (pairs.length % STEP === 0) yield;
    const [key, value] = pair;
    if (typeof key !== "string") {
      throw new TypeError(`Cannot write metadata: its keys must be strings, got ${describeValue(key)}`);
    }
    if (typeof value !== "string") {
      throw new TypeError(
        `Cannot write metadata ${quote(key)}: its value must be a string, got ${describeValue(value)}`,
      );
    }
    if (!key.isWellFormed() || !value.isWellFormed()) {
      const detail = "its key or value has a lone surrogate";
      throw new SafeTensorsError("InvalidHeader", `Cannot write metadata ${quote(key)}: ${detail}`);
    }
    pairs.push(pair);
  }
  const sorted = new Map<string, string>();
  for (const [key, value] of yield* sortInSteps(pairs, ([a], [b]) => compareUtf8(a, b))) {
    sorted.set(key, value);
    if (sorted.size % STEP === 0) yield;
  }
  return sorted;
}

function* writePairs(pairs: ReadonlyMap<string, string>): Steps<string> {
  const members: string[] = [];
  for (const [key, value] of pairs) {
    members.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
    if (members.length % STEP === 0) yield;
  }
  return members.join(",");
}

/** The bytes of a header: the length, the JSON of an object with these members, and the padding. */
function* encodeHeader(members: readonly string[]): Steps<Uint8Array<ArrayBuffer>> {
  const { parts, byteLength: textLength } = yield* encodeList("{", members, "}");
  const length = Math.ceil(textLength / ALIGNMENT) * ALIGNMENT;
  if (length > MAX_HEADER_BYTES) {
    const detail = `the header is ${length} bytes long, the limit is ${MAX_HEADER_BYTES}`;
    throw new SafeTensorsError("HeaderTooLarge", `Cannot write the safetensors header: ${detail}`);
  }
  yield;
  const bytes = new Uint8Array(LENGTH_BYTES + length).fill(SPACE, LENGTH_BYTES + textLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  yield* copyParts(parts, bytes, LENGTH_BYTES);
  return bytes;
}

function tensorError(code: SafeTensorsErrorCode, name: string, detail: string): SafeTensorsError {
  return new SafeTensorsError(code, `Cannot write tensor ${quote(name)}: ${detail}`, { tensor: name });
}
