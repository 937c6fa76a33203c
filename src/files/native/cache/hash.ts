/**
 * Checksums of files of any size, computed in another thread.
 */
import type { HashResult, HashTask } from "./hash_worker.ts";

/** The checksum that is computed now: one at a time, so that loads find a free processor. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Returns the SHA-256 of a file in hexadecimal digits.
 *
 * @throws {Error} if the file cannot be read
 */
export function fileSha256(path: string): Promise<string> {
  return checksumOf({ path, algorithm: "sha256", prefix: "" });
}

/** Returns the SHA-1 by which git names a file of this size; as {@linkcode fileSha256}. */
export function gitSha1(path: string, size: number): Promise<string> {
  return checksumOf({ path, algorithm: "sha1", prefix: `blob ${size}\0` });
}

function checksumOf(task: HashTask): Promise<string> {
  const result = last.then(() => hashInWorker(task));
  last = result.catch(() => {});
  return result;
}

async function hashInWorker(task: HashTask): Promise<string> {
  const worker = new Worker(new URL("./hash_worker.ts", import.meta.url), { type: "module" });
  try {
    const result = await new Promise<HashResult>((resolve, reject) => {
      worker.onmessage = ({ data }) => resolve(data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
      worker.postMessage(task);
    });
    if ("error" in result) throw new Error(result.error);
    return result.checksum;
  } finally {
    worker.terminate();
  }
}
