/**
 * The index of a sharded checkpoint, `model.safetensors.index.json`: which tensor is in which file.
 *
 * Indexes come from strangers. A shard name is therefore a plain file name, so that no index reaches out of its own
 * directory, and nothing that another reader might understand differently (a duplicate, a wrong type) passes.
 */
import { SafeTensorsError } from "../errors.ts";
import { ascii, JsonScanner, NULL } from "./json_scanner.ts";
import { compareUtf8, findInvalidUtf8, quote } from "./text.ts";

/** Options of {@linkcode parseShardIndex}. */
export interface ShardIndexOptions {
  /** The index file, for the messages of errors. */
  path?: string | undefined;
  /** The longest index in bytes; default 268,435,456 (256 MiB), ten times the longest known. */
  maxBytes?: number | undefined;
}

/** The content of a shard index. */
export interface ShardIndex {
  /** Tensor name to file name, as listed. */
  readonly weightMap: ReadonlyMap<string, string>;
  /** The index's metadata, as `JSON.parse` builds it; empty where there is none. Its `total_size` is advisory. */
  readonly metadata: ReadonlyMap<string, unknown>;
  /** The shards: each file name once, in the order in which the tensors name them. */
  readonly files: readonly string[];
}

const MAX_INDEX_BYTES = 1 << 28;

/** The longest value in the metadata; they are numbers and short strings. */
const MAX_METADATA_VALUE_BYTES = 1 << 20;

const METADATA = ascii("metadata");
const WEIGHT_MAP = ascii("weight_map");

/**
 * Reads and checks a shard index.
 *
 * @param bytes The file's content.
 * @throws {SafeTensorsError} "InvalidIndex", with the path and, where there is one, the tensor.
 */
export function parseShardIndex(bytes: Uint8Array, options: ShardIndexOptions = {}): ShardIndex {
  const { path, maxBytes = MAX_INDEX_BYTES } = options;
  const fail = (detail: string, tensor?: string): never => {
    const file = path === undefined ? "the shard index" : `the shard index "${path}"`;
    throw new SafeTensorsError("InvalidIndex", `Cannot read ${file}: ${detail}`, { path, tensor });
  };
  if (bytes.length > maxBytes) fail(`it is ${bytes.length} bytes long, the limit is ${maxBytes}`);
  const invalid = findInvalidUtf8(bytes);
  if (invalid >= 0) fail(`the byte at offset ${invalid} is not UTF-8`);
  const scanner = new JsonScanner(bytes, (detail, position) => fail(`at offset ${position}, ${detail}`));

  let weights: Pick<ShardIndex, "weightMap" | "files"> | undefined;
  let metadata: ReadonlyMap<string, unknown> | undefined;
  for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
    scanner.key();
    if (scanner.textIs(WEIGHT_MAP)) {
      if (weights !== undefined) fail('"weight_map" is there twice');
      weights = readWeightMap(scanner, fail);
    } else if (scanner.textIs(METADATA)) {
      if (metadata !== undefined) fail('"metadata" is there twice');
      metadata = readMetadata(scanner, fail);
    } else {
      scanner.skip();
    }
  }
  scanner.end();
  if (weights === undefined) return fail('"weight_map" is missing');
  return { ...weights, metadata: metadata ?? new Map() };
}

type IndexFailure = (detail: string, tensor?: string) => never;

function readWeightMap(scanner: JsonScanner, fail: IndexFailure): Pick<ShardIndex, "weightMap" | "files"> {
  const weightMap = new Map<string, string>();
  // One string object for each shard, however many tensors it has.
  const files = new Map<string, string>();
  for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
    scanner.key();
    const tensor = scanner.text();
    if (weightMap.has(tensor)) fail(`tensor ${quote(tensor)} is listed twice`, tensor);
    scanner.string("a file name");
    const text = scanner.text();
    let file = files.get(text);
    if (file === undefined) {
      const flaw = fileNameFlaw(text);
      if (flaw !== undefined) fail(`tensor ${quote(tensor)} is in ${quote(text)}, which ${flaw}`, tensor);
      files.set(text, text);
      file = text;
    }
    weightMap.set(tensor, file);
  }
  return { weightMap, files: [...files.keys()] };
}

function readMetadata(scanner: JsonScanner, fail: IndexFailure): ReadonlyMap<string, unknown> {
  const metadata = new Map<string, unknown>();
  if (scanner.literal(NULL)) return metadata;
  for (let more = scanner.beginObject(); more; more = scanner.nextMember()) {
    scanner.key();
    const key = scanner.text();
    if (metadata.has(key)) fail(`the metadata key ${quote(key)} is listed twice`);
    metadata.set(key, scanner.value(MAX_METADATA_VALUE_BYTES));
  }
  return metadata;
}

/** Why `name` is not the name of a file in the index's own directory, on any system; nothing where it is. */
function fileNameFlaw(name: string): string | undefined {
  if (name === "" || name === "." || name === "..") return "is no file name";
  if (/[/\\]/.test(name)) return "is a path: a plain file name is allowed";
  if (/^[a-z]:/i.test(name)) return "names a drive: a plain file name is allowed";
  if ([...name].some((character) => character < " ")) return "has a control character";
  return undefined;
}

/**
 * Writes a shard index as the Hub's tools do: keys sorted, two spaces of indent, ASCII only, a newline at the end.
 *
 * @param weightMap Tensor name to file name.
 * @param totalSize The bytes of all tensors.
 * @throws {SafeTensorsError} "InvalidIndex" where a name cannot stand in an index.
 * @throws {RangeError} Where the size is not an integer from 0 to 2^53 - 1.
 */
export function writeShardIndex(
  weightMap: ReadonlyMap<string, string>,
  totalSize: number,
): Uint8Array<ArrayBuffer> {
  if (!Number.isSafeInteger(totalSize) || totalSize < 0) {
    throw new RangeError(`Cannot write a shard index: ${totalSize} is no size in bytes`);
  }
  const lines: string[] = [];
  for (const [tensor, file] of [...weightMap].sort(([a], [b]) => compareUtf8(a, b))) {
    const flaw = tensor.isWellFormed() && file.isWellFormed() ? fileNameFlaw(file) : "has a lone surrogate";
    if (flaw !== undefined) {
      const detail = `tensor ${quote(tensor)} is in ${quote(file)}, which ${flaw}`;
      throw new SafeTensorsError("InvalidIndex", `Cannot write a shard index: ${detail}`, { tensor });
    }
    lines.push(`\n    ${asciiJson(tensor)}: ${asciiJson(file)}`);
  }
  const map = lines.length === 0 ? "{}" : `{${lines.join(",")}\n  }`;
  const json = `{\n  "metadata": {\n    "total_size": ${totalSize}\n  },\n  "weight_map": ${map}\n}\n`;
  return new TextEncoder().encode(json);
}

/** A JSON string with every character beyond ASCII escaped. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
