/**
 * The lock and the temporary files of a folder into which a save writes.
 */
import { constants } from "node:os";
import { SystemError } from "../../../ffi/files.ts";
import { basename } from "../../base/paths.ts";
import { writeError } from "./write_error.ts";

/** Windows cannot open a folder as a file: folders are neither locked nor synced there. */
const HAS_FOLDER_FILES = Deno.build.os !== "windows";

/** Whether the last part of a path is longer than Linux allows. */
export function hasLongName(path: string): boolean {
  return new TextEncoder().encode(basename(path)).byteLength > 255;
}

const TEMPORARY = /^\.fastsafetensors-[0-9a-f]{12}\.(tmp|link)$/;

/**
 * Returns a unique name for a temporary file.
 *
 * @param set six digits for a set in another folder with links into this folder. The journal of the set is in the other
 *   folder, so only a save of the same set can remove the set's temporary files here
 */
export function temporaryName(set?: string): string {
  const digits = (count: number) => crypto.getRandomValues(new Uint8Array(count)).toHex();
  return set === undefined ? `.fastsafetensors-${digits(6)}.tmp` : `.fastsafetensors-${set}${digits(3)}.link`;
}

/** Whether a file name is that of a temporary file of this package. */
export function isTemporaryName(name: string): boolean {
  return TEMPORARY.test(name);
}

/** Pause between two tries to lock a folder, in milliseconds. */
const RETRY = 5;

/**
 * Locks folders: waits until no other save, of this process or another, changes names in them, and blocks other saves
 * until the result is disposed. Saves hold the lock only while they create files and while they rename them.
 *
 * @throws {WriteError} if a folder does not exist or cannot be read; or the signal's reason
 */
export async function lockFolders(paths: Iterable<string>, signal?: AbortSignal): Promise<Disposable> {
  using locks = new DisposableStack();
  if (!HAS_FOLDER_FILES) return locks.move();
  // In one order, so that two saves cannot block each other, and each folder once even if it has several names.
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
    // A call that waits for the lock would use one of the few threads that the holder of the lock can need.
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
    return true; // the file system does not support locks: continue without a lock
  }
}

/** Syncs the names in a folder to storage, if the file system supports it. */
export async function syncFolder(path: string): Promise<void> {
  if (!HAS_FOLDER_FILES) return;
  try {
    using folder = await Deno.open(path, { read: true });
    await folder.sync();
  } catch (error) {
    if ((error as { code?: string }).code === "EINVAL") return; // some file systems do not sync folders
    throw writeError(error, "sync", path);
  }
}

/**
 * Finds temporary files in a folder whose process has ended. The folder must be locked.
 *
 * @param spared names that an interrupted save still needs
 * @param set the set whose links can lead into this folder
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

/** Whether a temporary file is not locked: a running save locks its files. */
async function isAbandoned(path: string): Promise<boolean> {
  for (const write of [true, false]) { // a read-only file is locked too
    try {
      using file = await Deno.open(path, { read: true, write });
      return await file.tryLock(true);
    } catch {
      // a file of another user, a removed file, or a file system without locks
    }
  }
  return false;
}

/** Removes a file and ignores errors: the file can be removed already, and its presence does no harm. */
export async function removeQuietly(path: string): Promise<void> {
  await Deno.remove(path).catch(() => {});
}

/** Returns the file info of a path, or null; does not follow links. */
export async function lookAt(path: string): Promise<Deno.FileInfo | null> {
  if (hasLongName(path)) return null;
  try {
    return await Deno.lstat(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw writeError(error, "save", path);
  }
}

/** Describes a file that is not a regular file. */
export function describeKind(info: Deno.FileInfo): string {
  if (info.isDirectory) return "a folder";
  if (info.isSymlink) return "a link";
  if (info.isCharDevice) return "a character device";
  if (info.isBlockDevice) return "a block device";
  if (info.isFifo) return "a FIFO";
  return info.isSocket ? "a socket" : "a special file";
}
