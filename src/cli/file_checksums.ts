/**
 * SHA-256 of whole files. The name of a blob in a Hugging Face cache is the SHA-256 of its content, and `sha256sum`
 * writes lists of them.
 */
import { createHash } from "node:crypto";
import { dirname, resolve } from "node:path";
import { quote } from "../base/text.ts";
import { readError } from "../files/native/local_path.ts";
import { readList } from "./checksums.ts";

/** The known checksum of a file. */
export interface KnownFile {
  readonly path: string;
  /** SHA-256 in hexadecimal. */
  readonly expected: string;
  /** The list that has the checksum; null: it is the name of the blob. */
  readonly list: string | null;
}

/** A file with its known checksum and its real one. */
export interface ComparedFile extends KnownFile {
  readonly actual: string;
}

/** The files whose names in a Hugging Face cache, behind all links, are checksums. */
export async function knownBlobs(paths: readonly string[]): Promise<KnownFile[]> {
  const known: KnownFile[] = [];
  for (const path of paths) {
    const [, expected] = /[\\/]blobs[\\/]([0-9a-f]{64})$/.exec(await Deno.realPath(path)) ?? [];
    if (expected !== undefined) known.push({ path, expected, list: null });
  }
  return known;
}

/**
 * The files that a list of `sha256sum` has. Names in it are relative to the working folder, as for `sha256sum --check`,
 * or else to the folder of the list.
 *
 * @throws {Error} if the list cannot be read, or has none of the files
 */
export async function listedFiles(paths: readonly string[], list: string): Promise<KnownFile[]> {
  const sums = parseSums(await readList(list), list);
  const opened = new Map(paths.map((path) => [resolve(path), path]));
  const folder = dirname(resolve(list));
  const known = sums.flatMap(({ name, sum }) => {
    const path = opened.get(resolve(name)) ?? opened.get(resolve(folder, name));
    return path === undefined ? [] : [{ path, expected: sum, list }];
  });
  if (known.length > 0) return known;
  throw new Error(`Cannot verify with the list ${quote(list)}: it has none of the files that were opened`);
}

/**
 * Parses a list of `sha256sum`: the lines of its text mode, its binary mode and `--tag`. A backslash at the beginning
 * of a line says that the name has escapes.
 *
 * @throws {Error} if a line has another form
 */
export function parseSums(text: string, list: string): { name: string; sum: string }[] {
  return text.split("\n").flatMap((line, index) => {
    const whole = line.replace(/\r$/, "");
    if (whole === "" || whole.startsWith("#")) return []; // sha256sum skips comments, too
    const [, mark, sum, name] = /^(\\?)([0-9a-f]{64}) [ *]?(.+)$/i.exec(whole) ?? [];
    const [, tagMark, tagName, tagSum] = /^(\\?)SHA256 \((.+)\) = ([0-9a-f]{64})$/i.exec(whole) ?? [];
    const given = name ?? tagName;
    if (given === undefined) {
      throw new Error(
        `Cannot read checksums from ${quote(list)}: line ${index + 1} is not a line of sha256sum, ` +
          `64 hexadecimal digits and a name: ${quote(whole)}`,
      );
    }
    const isEscaped = (mark ?? tagMark) === "\\";
    return [{ name: isEscaped ? unescape(given) : given, sum: (sum ?? tagSum)!.toLowerCase() }];
  });
}

const ESCAPED: Readonly<Record<string, string>> = { "\\\\": "\\", "\\n": "\n", "\\r": "\r" };

function unescape(name: string): string {
  return name.replaceAll(/\\[\\nr]/g, (pair) => ESCAPED[pair]!);
}

/** Bytes of one read of a file. */
const PART = 8 * 2 ** 20;

/**
 * Computes the checksums of files and compares them; reads each file once.
 *
 * @param onProgress called with the bytes read so far
 * @throws {ReadError} if a file cannot be read
 */
export async function compareFiles(
  known: readonly KnownFile[],
  onProgress: (bytes: number) => void,
): Promise<ComparedFile[]> {
  const buffer = new Uint8Array(PART);
  const sums = new Map<string, string>();
  let done = 0;
  for (const { path } of known) {
    if (sums.has(path)) continue;
    const hash = createHash("sha256");
    try {
      using file = await Deno.open(path);
      for (let length; (length = await file.read(buffer)) !== null;) {
        hash.update(buffer.subarray(0, length));
        onProgress(done += length);
      }
    } catch (error) {
      throw readError(error, "read", path);
    }
    sums.set(path, hash.digest("hex"));
  }
  return known.map((file) => ({ ...file, actual: sums.get(file.path)! }));
}

/** Bytes of the files together. */
export async function totalSize(known: readonly KnownFile[]): Promise<number> {
  const sizes = [...new Set(known.map(({ path }) => path))].map(async (path) => (await Deno.stat(path)).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
