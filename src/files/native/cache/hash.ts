/**
 * Checksums of files of any size, computed in another thread.
 */
import { createHash } from "node:crypto";
import { isGranted } from "../../../../ffi/variables.ts";
import { fromFileUrl } from "../../../base/paths.ts";
import type { HashResult, HashTask } from "./hash_worker.ts";

/** The checksum that is computed now: one at a time, so that loads find a free processor. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Returns the SHA-256 of a file in hexadecimal digits.
 *
 * @throws {Error} if the file cannot be read; or the signal's reason
 */
export function fileSha256(path: string, signal?: AbortSignal): Promise<string> {
  return checksumOf({ path, algorithm: "sha256", prefix: "" }, signal);
}

/** Returns the SHA-1 by which git names a file of this size; as {@linkcode fileSha256}. */
export function gitSha1(path: string, size: number, signal?: AbortSignal): Promise<string> {
  return checksumOf({ path, algorithm: "sha1", prefix: `blob ${size}\0` }, signal);
}

function checksumOf(task: HashTask, signal?: AbortSignal): Promise<string> {
  const result = last.then(async () => {
    signal?.throwIfAborted();
    const worker = startWorker();
    return worker ? await hashInWorker(worker, task, signal) : await hashHere(task, signal);
  });
  last = result.catch(() => {});
  return result;
}

/** Starts the Worker; null if this program may not read its module, for which Deno would ask. */
function startWorker(): Worker | null {
  const url = new URL("./hash_worker.ts", import.meta.url);
  if (url.protocol === "file:" && !isGranted({ name: "read", path: fromFileUrl(url) })) return null;
  return new Worker(url, { type: "module" });
}

async function hashInWorker(worker: Worker, task: HashTask, signal?: AbortSignal): Promise<string> {
  const abort = Promise.withResolvers<never>();
  const onAbort = () => abort.reject(signal!.reason);
  signal?.addEventListener("abort", onAbort);
  try {
    const hashed = new Promise<HashResult | null>((resolve) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        resolve(null); // the Worker could not start: a program of "deno compile" does not have its module
      };
      worker.postMessage(task);
    });
    const result = await Promise.race([hashed, abort.promise]);
    if (result === null) return await hashHere(task, signal);
    if ("error" in result) throw new Error(result.error);
    return result.checksum;
  } finally {
    signal?.removeEventListener("abort", onAbort);
    worker.terminate();
  }
}

/** Bytes that are hashed in one turn of the event loop: a few milliseconds. */
const PART = 2 ** 20;

/** Computes the checksum in this thread, part by part. */
async function hashHere({ path, algorithm, prefix }: HashTask, signal?: AbortSignal): Promise<string> {
  using file = await Deno.open(path);
  const hash = createHash(algorithm).update(prefix);
  const part = new Uint8Array(PART);
  for (let length; (length = await file.read(part)) !== null;) {
    signal?.throwIfAborted();
    hash.update(part.subarray(0, length));
  }
  return hash.digest("hex");
}
