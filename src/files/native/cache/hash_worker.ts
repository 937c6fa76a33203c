/**
 * A Worker that computes the checksum of one file, so that no other thread waits for it.
 */
import { createHash } from "node:crypto";

/** Bytes of one read. */
const PART = 4 * 2 ** 20;

/** The work: a file, and bytes that count as its beginning. */
export interface HashTask {
  readonly path: string;
  readonly algorithm: "sha256" | "sha1";
  readonly prefix: string;
}

/** The checksum in hexadecimal digits, or the message of an error. */
export type HashResult = { readonly checksum: string } | { readonly error: string };

/** The functions of a Worker; other programs that are checked together with this one have no types for them. */
const worker = globalThis as unknown as {
  onmessage: (event: MessageEvent<HashTask>) => void;
  postMessage(result: HashResult): void;
};
worker.onmessage = ({ data }) => worker.postMessage(hashFile(data));

function hashFile({ path, algorithm, prefix }: HashTask): HashResult {
  try {
    using file = Deno.openSync(path);
    const hash = createHash(algorithm).update(prefix);
    const part = new Uint8Array(PART);
    for (let length; (length = file.readSync(part)) !== null;) hash.update(part.subarray(0, length));
    return { checksum: hash.digest("hex") };
  } catch (error) {
    return { error: (error as Error).message };
  }
}
