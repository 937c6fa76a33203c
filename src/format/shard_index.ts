/**
 * The index of a sharded checkpoint, `model.safetensors.index.json`: it names the file of each tensor.
 *
 * Indexes are not trusted. A shard is therefore a file in the index's own folder or below it: names in an index cannot
 * leave that folder. Links in the folder are followed: the Hugging Face cache consists of them. Unambiguous deviations
 * that Python's reader accepts are accepted: NaN and infinities in unused values, and a tensor that is listed twice for
 * the same file.
 */
import { SafeTensorsError } from "../base/errors.ts";
import { describeContent } from "./file_hints.ts";
import { ascii, JsonScanner } from "./json_scanner.ts";
import { sortInSteps, STEP, type Steps } from "../base/steps.ts";
import { compareUtf8, copyParts, encodeList, findInvalidUtf8, quote } from "../base/text.ts";

/** Options of {@linkcode parseShardIndex}. */
export interface ShardIndexOptions {
  /** The index file, for the messages of errors. */
  path?: string | undefined;
  /** The longest index in bytes; default 268,435,456 (256 MiB), ten times the longest known. */
  maxBytes?: number | undefined;
}

/** The content of a shard index. */
export interface ShardIndex {
  /** Tensor name to file: its path from the index's folder, parts separated by `/`. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** The shards: each file once, in the order in which the tensors name them. */
  readonly files: readonly string[];
}

const MAX_INDEX_BYTES = 1 << 28;

const WEIGHT_MAP = ascii("weight_map");

/**
 * Reads and checks a shard index.
 *
 * @param bytes The file's content.
 * @throws {SafeTensorsError} "InvalidIndex", with the path and, if known, the tensor.
 */
export function* parseShardIndex(bytes: Uint8Array, options: ShardIndexOptions = {}): Steps<ShardIndex> {
  const { path, maxBytes = MAX_INDEX_BYTES } = options;
  const fail = (fault: string, tensor?: string): never => {
    const content = describeContent(bytes);
    const isJson = !content || content.kind === "index" || content.text.startsWith("it is JSON");
    const detail = isJson ? fault : content.text;
    const file = path === undefined ? "the shard index" : `the shard index ${quote(path)}`;
    throw new SafeTensorsError("InvalidIndex", `Cannot read ${file}: ${detail}`, { path, tensor });
  };
  if (bytes.length > maxBytes) fail(`it is ${bytes.length} bytes long, the limit is ${maxBytes}`);
  const invalid = findInvalidUtf8(bytes);
  if (invalid >= 0) fail(`the byte at offset ${invalid} is not UTF-8`);
  yield;
  const failAt = (detail: string, position: number) => fail(`at offset ${position}, ${detail}`);
  const scanner = new JsonScanner(bytes, failAt, { anyNumber: true });

  let index: ShardIndex | undefined;
  for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
    scanner.key();
    if (scanner.textIs(WEIGHT_MAP)) {
      if (index !== undefined) fail('"weight_map" is there twice');
      index = yield* readWeightMap(scanner, fail);
    } else {
      scanner.skip();
    }
  }
  scanner.end();
  return index ?? fail('"weight_map" is missing');
}

type IndexFailure = (detail: string, tensor?: string) => never;

function* readWeightMap(scanner: JsonScanner, fail: IndexFailure): Steps<ShardIndex> {
  const weightMap = new Map<string, string>();
  // Name in the index → path; one string object for each shard, for any number of tensors.
  const files = new Map<string, string>();
  for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
    scanner.key();
    const tensor = scanner.text();
    scanner.string("a file name");
    const text = scanner.text();
    let file = files.get(text);
    if (file === undefined) {
      const flaw = pathFlaw(text);
      if (flaw !== undefined) fail(`tensor ${quote(tensor)} is in ${quote(text)}, which ${flaw}`, tensor);
      file = text.split("/").filter((part) => part !== "" && part !== ".").join("/");
      files.set(text, file);
    }
    const other = weightMap.get(tensor);
    if (other !== undefined && other !== file) {
      fail(`tensor ${quote(tensor)} is listed twice, in ${quote(other)} and in ${quote(file)}`, tensor);
    }
    weightMap.set(tensor, file);
    if (weightMap.size % STEP === 0) yield;
  }
  return { weightMap, files: [...new Set(files.values())] };
}

/** The reason that `path` is not a file in the index's own folder or below, on any system; undefined if it is. */
function pathFlaw(path: string): string | undefined {
  if (/^([a-z]:|[/\\])/i.test(path)) {
    return "is an absolute path: a file in the index's folder or below is allowed";
  }
  if (path.includes("\\")) return "has a backslash, which other systems read as a separator";
  const parts = path.split("/");
  if (parts.includes("..")) return "leads out of the index's folder";
  if (["", "."].includes(parts.at(-1)!)) return "is not the name of a file";
  if ([...path].some((character) => character < " ")) return "has a control character";
  return undefined;
}

/**
 * Writes a shard index as the Hub's tools do: keys sorted, two spaces of indent, ASCII only, a newline at the end.
 *
 * @param weightMap Tensor name to file name.
 * @param totalSize The bytes of all tensors.
 * @throws {SafeTensorsError} "InvalidIndex" if a name is not allowed in an index.
 * @throws {RangeError} If the size is not an integer from 0 to 2^53 - 1.
 */
export function* writeShardIndex(
  weightMap: ReadonlyMap<string, string>,
  totalSize: number,
): Steps<Uint8Array<ArrayBuffer>> {
  if (!Number.isSafeInteger(totalSize) || totalSize < 0) {
    throw new RangeError(`Cannot write a shard index: ${totalSize} is not a size in bytes`);
  }
  const lines: string[] = [];
  const pairs: (readonly [string, string])[] = [];
  for (const pair of weightMap) {
    if (pairs.length % STEP === 0) yield;
    pairs.push(pair);
  }
  for (const [tensor, file] of yield* sortInSteps(pairs, ([a], [b]) => compareUtf8(a, b))) {
    if (lines.length % STEP === 0) yield;
    const flaw = tensor.isWellFormed() && file.isWellFormed() ? pathFlaw(file) : "has a lone surrogate";
    if (flaw !== undefined) {
      const detail = `tensor ${quote(tensor)} is in ${quote(file)}, which ${flaw}`;
      throw new SafeTensorsError("InvalidIndex", `Cannot write a shard index: ${detail}`, { tensor });
    }
    lines.push(`\n    ${asciiJson(tensor)}: ${asciiJson(file)}`);
  }
  const start = `{\n  "metadata": {\n    "total_size": ${totalSize}\n  },\n  "weight_map": {`;
  const end = lines.length === 0 ? "}\n}\n" : "\n  }\n}\n";
  const { parts, byteLength } = yield* encodeList(start, lines, end);
  const bytes = new Uint8Array(byteLength);
  yield* copyParts(parts, bytes);
  return bytes;
}

/** A JSON string in which every character outside ASCII is escaped. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
