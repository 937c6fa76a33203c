/**
 * The header reader: bytes in, checked entries out.
 *
 * The checks and their order are the reference implementation's (safetensors 0.8.0), and so are the error codes. On
 * purpose stricter: duplicate names, duplicate metadata keys, tensors written as arrays and dtypes written as objects
 * are errors, which the reference lets pass. A header that this reader takes describes the file to the last byte: the
 * tensors lie end to end, each as long as its dtype and shape say, and nothing is before, between or after them.
 */
import { SafeTensorsError, type SafeTensorsErrorCode } from "../base/errors.ts";
import { describeContent } from "./file_hints.ts";
import { type Header, LENGTH_BYTES, MAX_HEADER_BYTES } from "./header.ts";
import { readEntries } from "./header_entries.ts";
import { checkLayout, type HeaderFailure, inFileOrder } from "./header_layout.ts";
import { finishNow, type Steps } from "../base/steps.ts";
import { findInvalidUtf8, quote } from "../base/text.ts";

/** Options of {@linkcode headerLength} and {@linkcode parseHeader}. */
export interface HeaderOptions {
  /** The file, for the messages of errors. */
  path?: string | undefined;
}

/**
 * The length of the header's JSON in bytes, from the first bytes of a file.
 *
 * @param first The first bytes of the file: 8 or more, or all of a shorter file. With 512 the message of an error can
 * say what the file really is.
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
 * @param json The header's JSON: exactly the bytes 8 to 8 + n of the file. They are not kept.
 * @param fileSize The size of the file in bytes.
 * @param options The file's name for messages.
 * @returns The tensors in the order of their bytes, and the metadata.
 * @throws {SafeTensorsError} "InvalidHeader" (not UTF-8), "InvalidHeaderDeserialization" (not JSON, or not of the
 * right form), "InvalidOffset", "ValidationOverflow", "MisalignedSlice", "TensorInvalidInfo" (a tensor's range or
 * size is wrong), "MetadataIncompleteBuffer" (the tensors do not fill the file), "DuplicateName", "TooManyTensors",
 * "RankTooLarge".
 */
export function parseHeader(json: Uint8Array, fileSize: number, options: HeaderOptions = {}): Header {
  return finishNow(headerSteps(json, fileSize, options));
}

/** {@linkcode parseHeader} in steps, for a header of very many tensors. */
export function* headerSteps(json: Uint8Array, fileSize: number, options: HeaderOptions = {}): Steps<Header> {
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
  const named = yield* inFileOrder(entries);
  yield;
  const dataStart = LENGTH_BYTES + json.length;
  const dataLength = fileSize - dataStart;
  checkLayout(named, entries.exact, dataLength, fail);
  yield;
  // Last, because the reference takes the last of two: a header with another fault keeps the code that it gives.
  const { tensors, duplicate } = named;
  if (duplicate !== undefined) fail("DuplicateName", "the name is listed twice", duplicate);
  const { metadata, duplicateKey } = entries;
  if (duplicateKey !== undefined) {
    fail("DuplicateName", `the metadata key ${quote(duplicateKey)} is listed twice`);
  }
  return { tensors, metadata, dataStart, dataLength };
}

/** The error for a file of another format, if its first bytes are of one. */
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
