/**
 * SHA-256 of tensors: computes checksums in parallel, and reads a list of known ones.
 */
import { sha256 } from "../base/sha256.ts";
import { isRecord } from "../base/check.ts";
import { ReadError } from "../../mod.ts";
import { quote } from "../base/text.ts";
import { systemReason } from "../files/native/errno.ts";
import { refuseSpecial } from "../files/native/local_path.ts";
import { formatBytes } from "./text.ts";

/** The most bytes hashed at the same time: hashing off the main thread takes a copy. */
const IN_FLIGHT = 256 * 2 ** 20;

/** The most bytes of a list of checksums. */
const LARGEST_LIST = 2 ** 28;

/** Options of {@linkcode computeChecksums}. */
export interface ChecksumOptions {
  /** Stops the computation. */
  readonly signal?: AbortSignal;
  /** Called with the bytes hashed so far. */
  readonly onProgress?: (bytes: number) => void;
}

/**
 * Computes the checksum of every tensor.
 *
 * @returns name → SHA-256 in hexadecimal, in no particular order
 */
export async function computeChecksums(
  tensors: AsyncIterable<readonly [string, { readonly bytes: Uint8Array<ArrayBuffer> }]>,
  options: ChecksumOptions = {},
): Promise<Map<string, string>> {
  const checksums = new Map<string, string>();
  const running = new Set<Promise<void>>();
  let inFlight = 0, hashed = 0;
  for await (const [name, { bytes }] of tensors) {
    options.signal?.throwIfAborted();
    while (inFlight > 0 && inFlight + bytes.byteLength > IN_FLIGHT) await Promise.race(running);
    inFlight += bytes.byteLength;
    const hash = sha256(bytes).then((checksum) => {
      checksums.set(name, checksum);
      running.delete(hash);
      inFlight -= bytes.byteLength;
      options.onProgress?.(hashed += bytes.byteLength);
    });
    hash.catch(() => {}); // the rejection may come before the await; `Promise.all` below reports it
    running.add(hash);
  }
  await Promise.all(running);
  return checksums;
}

/** A checksum that differs from the known one. */
export interface Mismatch {
  /** The tensor. */
  readonly tensor: string;
  /** The known checksum. */
  readonly expected: string;
  /** The checksum of the bytes read; null if the tensor does not exist. */
  readonly actual: string | null;
}

/** The differences between checksums and known ones, in the order of the known ones. */
export function compareChecksums(
  actual: ReadonlyMap<string, string>,
  known: ReadonlyMap<string, string>,
): Mismatch[] {
  return known.entries()
    .map(([tensor, expected]) => ({ tensor, expected, actual: actual.get(tensor) ?? null }))
    .filter((pair) => pair.actual !== pair.expected)
    .toArray();
}

/**
 * Reads known checksums from a JSON file: an object of tensor name → SHA-256 in hexadecimal, or → an object with a
 * member `sha256`; or the output of `verify --json`, which has such an object in `checksums`.
 *
 * @throws {Error} if the file cannot be read or does not have this form
 */
export async function readChecksums(path: string): Promise<Map<string, string>> {
  const text = await readList(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw new Error(`Cannot read checksums from ${quote(path)}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (!isRecord(json)) {
    throw new Error(`Cannot read checksums from ${quote(path)}: an object of tensor names is expected`);
  }
  const printed = isRecord(json.checksums) && typeof json.ok === "boolean" ? json.checksums : json;
  const checksums = new Map<string, string>();
  for (const [tensor, entry] of Object.entries(printed)) {
    const checksum = isRecord(entry) ? entry.sha256 : entry;
    if (typeof checksum !== "string" || !/^[0-9a-f]{64}$/i.test(checksum)) {
      throw new Error(
        `Cannot read checksums from ${quote(path)}: ${quote(tensor)} has no SHA-256 of 64 hexadecimal digits`,
      );
    }
    checksums.set(tensor, checksum.toLowerCase());
  }
  return checksums;
}

/**
 * Reads the text of a list of checksums.
 *
 * @throws {Error} if it cannot be read, or is too large for a list
 */
export async function readList(path: string): Promise<string> {
  try {
    const info = await Deno.stat(path);
    refuseSpecial(path, info); // a read of a pipe could wait forever
    if (info.size > LARGEST_LIST) throw new Error(`it has ${formatBytes(info.size)}, too many for a list`);
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof ReadError) throw error;
    throw new Error(`Cannot read checksums from ${quote(path)}: ${systemReason(error)}`, { cause: error });
  }
}
