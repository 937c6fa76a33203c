/**
 * A folder that is saved to: its lock, and the temporary files in it.
 */
import { constants } from "node:os";
import { SystemError } from "../../../ffi/files.ts";
import { basename } from "../../base/paths.ts";
import { writeError } from "./write_error.ts";

/** Windows opens no folder as a file: there folders are neither locked nor synced. */
const HAS_FOLDER_FILES = Deno.build.os !== "windows";

/** Whether the last part of a path is longer than Linux lets it be. */
export function hasLongName(path: string): boolean {
  return new TextEncoder().encode(basename(path)).byteLength > 255;
}

const TEMPORARY = /^\.fastsafetensors-[0-9a-f]{12}\.(tmp|link)$/;

/**
 * A name for a temporary file that nobody else has.
 *
 * @param set six digits that stand for a set in another folder, whose links lead here: its journal is there, so only a
 *   save of the same set may remove what it has left here
 */
export function temporaryName(set?: string): string {
  const digits = (count: number) => crypto.getRandomValues(new Uint8Array(count)).toHex();
  return set === undefined ? `.fastsafetensors-${digits(6)}.tmp` : `.fastsafetensors-${set}${digits(3)}.link`;
}

/** Whether a file of this name is one of ours on its way, or was left behind by a process that is gone. */
export function isTemporaryName(name: string): boolean {
  return TEMPORARY.test(name);
}

/** How long to wait before another try to lock a folder, in milliseconds. */
const RETRY = 5;

/**
 * Waits until no other save, of this process or another, changes names in these folders, and excludes other saves
 * until the result is disposed. The lock is never held for long: while files are created, and while they are renamed.
 *
 * @throws {WriteError} if a folder is not there or cannot be read; or the signal's reason
 */
export async function lockFolders(paths: Iterable<string>, signal?: AbortSignal): Promise<Disposable> {
  using locks = new DisposableStack();
  if (!HAS_FOLDER_FILES) return locks.move();
  // Always in the same order, so that two saves never wait for each other, and each folder once under all its names.
  const byIdentity = new Map<string, string>();
  for (const path of paths) {
    const { dev, ino, isDirectory } = await Deno.stat(path).catch((error) => {
      throw writeError(error, "save to", path);
    });
    if (!isDirectory) throw writeError(new SystemError(constants.errno.ENOTDIR), "save to", path);
    byIdentity.set(`${dev}:${ino}`, path);
  }
  for (const [, path] of [...byIdentity].sort(([a], [b]) => a < b ? -1 : 1)) {
    const folder = locks.use(
      await Deno.open(path, { read: true }).catch((error) => {
        throw writeError(error, "save to", path);
      }),
    );
    // Never a call that waits for the lock: it would take one of the few threads that its holder may need.
    while (!await tryLock(folder)) {
      await new Promise((resolve) => setTimeout(resolve, RETRY));
      signal?.throwIfAborted();
    }
  }
  return locks.move();
}

async function tryLock(file: Deno.FsFile): Promise<boolean> {
  try {
    return await file.tryLock(true);
  } catch {
    return true; // a file system without locks: go on without
  }
}

/** Waits until the names in a folder are on storage, where the file system can tell. */
export async function syncFolder(path: string): Promise<void> {
  if (!HAS_FOLDER_FILES) return;
  try {
    using folder = await Deno.open(path, { read: true });
    await folder.sync();
  } catch (error) {
    if ((error as { code?: string }).code === "EINVAL") return; // some file systems have nothing to sync here
    throw writeError(error, "sync", path);
  }
}

/**
 * The temporary files in a folder whose process has ended. The folder must be locked.
 *
 * @param spared names that an interrupted save still needs
 * @param set the set whose links may have led here
 */
export async function findAbandoned(
  folder: string,
  spared: ReadonlySet<string>,
  set?: string,
): Promise<string[]> {
  const abandoned: string[] = [];
  const isOurs = (name: string) =>
    isTemporaryName(name) && (name.endsWith(".tmp") || name.startsWith(`.fastsafetensors-${set}`));
  try {
    for await (const { name, isFile } of Deno.readDir(folder)) {
      const path = `${folder}/${name}`;
      if (isFile && isOurs(name) && !spared.has(name) && await isAbandoned(path)) abandoned.push(path);
    }
  } catch (error) {
    throw writeError(error, "save to", folder);
  }
  return abandoned;
}

/** Whether nobody holds the lock that a save has on its temporary files. */
async function isAbandoned(path: string): Promise<boolean> {
  for (const write of [true, false]) { // a file that nobody may write is locked all the same
    try {
      using file = await Deno.open(path, { read: true, write });
      return await file.tryLock(true);
    } catch {
      // somebody else's, gone by now, or without locks
    }
  }
  return false;
}

/** Removes a file that may be gone already, or that may stay if it must: it is only in the way. */
export async function removeQuietly(path: string): Promise<void> {
  await Deno.remove(path).catch(() => {});
}

/** What is at a path, or null; links are not followed. */
export async function lookAt(path: string): Promise<Deno.FileInfo | null> {
  if (hasLongName(path)) return null;
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw writeError(error, "save", path);
  }
}

/** What something is that is no regular file. */
export function describeKind(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isSymlink) return "a link";
  if (info.isCharDevice) return "a character device";
  if (info.isBlockDevice) return "a block device";
  if (info.isFifo) return "a FIFO";
  return info.isSocket ? "a socket" : "a special file";
}
