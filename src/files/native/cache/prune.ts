/**
 * Removes the least recently used entries of a cache.
 *
 * Only files that the cache itself has made are removed, and folders only if they are empty then. An entry that is in use
 * stays.
 */
import { PARTIAL_FOLDER, repoFolder } from "../../cache/hub_layout.ts";
import { removeQuietly } from "../folder.ts";
import { bytesOnDisk, type CacheEntry, totalBytes } from "./content.ts";
import { isInUse } from "./usage.ts";

/** The result of {@linkcode prune}. */
export interface Pruned {
  /** The removed entries, in the order of the removal. */
  readonly removed: readonly CacheEntry[];
  /** Entries that would have been removed, but are in use. */
  readonly inUse: readonly CacheEntry[];
  /** Bytes that the removed entries had on disk. */
  readonly freed: number;
  /** Bytes that are left. */
  readonly bytes: number;
}

/**
 * Removes entries until the others have at most `most` bytes.
 *
 * @param hubFolder the folder of the Hub's cache, in which the revisions are
 * @throws {Error} of Deno if the system refuses
 */
export async function prune(
  entries: readonly CacheEntry[],
  hubFolder: string,
  most: number,
  signal?: AbortSignal,
): Promise<Pruned> {
  const left = new Set(entries.toSorted((a, b) => a.lastUsed - b.lastUsed));
  const removed: CacheEntry[] = [], inUse: CacheEntry[] = [];
  let bytes = await totalBytes(entries);
  const before = bytes;
  for (const entry of [...left]) {
    signal?.throwIfAborted();
    if (bytes <= most) break;
    const locked = await Promise.all(entry.locks.map(isInUse));
    if (locked.includes(true)) {
      inUse.push(entry);
      continue;
    }
    left.delete(entry);
    const shared = new Set([...left].flatMap(({ paths }) => paths));
    const own = entry.paths.filter((path) => !shared.has(path));
    for (const path of own) bytes -= await bytesOnDisk(path);
    if (entry.kind === "revision") await removePointers(entry, hubFolder);
    for (const path of own) await remove(path);
    if (entry.kind === "revision") await removeFolders(entry, hubFolder);
    if (
      entry.repo &&
      !left.values().some(({ repo }) => repo?.kind === entry.repo!.kind && repo.id === entry.repo!.id)
    ) {
      await removeEmptyFolders(`${hubFolder}/${repoFolder(entry.repo)}`);
    }
    removed.push(entry);
  }
  return { removed, inUse, freed: before - bytes, bytes };
}

/** Removes what names a revision, before its bytes: no other program finds a part of it. */
async function removePointers({ repo, commit, refs, files }: CacheEntry, hubFolder: string): Promise<void> {
  const folder = `${hubFolder}/${repoFolder(repo!)}`;
  for (const ref of refs) await remove(`${folder}/refs/${ref}`);
  await remove(`${folder}/trees/${commit}.json`);
  for (const { path, blob } of files) if (blob !== null) await remove(path);
  await removeQuietly(`${folder}/${PARTIAL_FOLDER}/${commit}.used`);
  await removeEmptyFiles(`${folder}/.no_exist/${commit}`);
}

/** Removes the folders of a revision, as far as they are empty. */
async function removeFolders({ repo, commit }: CacheEntry, hubFolder: string): Promise<void> {
  const folder = `${hubFolder}/${repoFolder(repo!)}`;
  await removeEmptyFolders(`${folder}/snapshots/${commit}`);
  await removeEmptyFolders(`${folder}/.no_exist/${commit}`);
}

/** Removes the empty files in a folder, which say that a file does not exist. */
async function removeEmptyFiles(folder: string): Promise<void> {
  try {
    for await (const { name, isDirectory, isFile } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (isDirectory) await removeEmptyFiles(path);
      else if (isFile && (await Deno.stat(path)).size === 0) await remove(path);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Removes a folder and the folders in it, as far as they are empty. Links to folders are not followed. */
async function removeEmptyFolders(folder: string): Promise<void> {
  try {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      if (isDirectory) await removeEmptyFolders(`${folder}/${name}`);
    }
  } catch {
    return; // removed meanwhile
  }
  await removeQuietly(folder); // fails if it is not empty
}

async function remove(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
