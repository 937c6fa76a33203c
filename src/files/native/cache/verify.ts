/**
 * Compares files of a cache with the checksums that are their names.
 */
import type { CacheEntry } from "./content.ts";
import { fileSha256, gitSha1 } from "./hash.ts";

/** A file of a cache, compared. */
export interface VerifiedFile {
  /** The entry that has it. */
  readonly entry: string;
  readonly path: string;
  /** Bytes. */
  readonly size: number;
  /** The checksum that it must have, in hexadecimal digits; null if its name is not a checksum. */
  readonly expected: string | null;
  /** The checksum that it has. */
  readonly actual: string | null;
}

/** Compares the files of entries, each file once; partial files have no checksum yet and are left out. */
export async function* verifyEntries(
  entries: readonly CacheEntry[],
  signal?: AbortSignal,
): AsyncGenerator<VerifiedFile> {
  const seen = new Set<string>();
  for (const entry of entries) {
    for (const { path, name } of filesOf(entry)) {
      signal?.throwIfAborted();
      if (seen.has(path)) continue;
      seen.add(path);
      const { size } = await Deno.stat(path);
      const actual = /^[0-9a-f]{64}$/.test(name)
        ? await fileSha256(path, signal)
        : /^[0-9a-f]{40}$/.test(name)
        ? await gitSha1(path, size, signal)
        : null;
      yield { entry: entry.name, path, size, expected: actual === null ? null : name, actual };
    }
  }
}

function filesOf({ kind, files, paths }: CacheEntry): { path: string; name: string }[] {
  if (kind === "revision") {
    return files.map(({ path, blob, blobName }) => ({ path: blob ?? path, name: blobName }));
  }
  if (kind === "blob") return paths.map((path) => ({ path, name: path.slice(path.lastIndexOf("/") + 1) }));
  return kind === "url" ? [{ path: paths[0]!, name: "" }] : [];
}
