/**
 * A folder that is saved to: its lock, and the temporary files in it.
 */
import { constants } from "node:os";
import { SystemError } from "../../ffi/files.ts";
import { writeError } from "./write_error.ts";

/** The folder of a path. */
export function folderOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash < 0 ? "." : slash === 0 ? "/" : path.slice(0, slash);
}

/** The last part of a path. */
export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** Whether the last part of a path is longer than Linux lets it be. */
export function hasLongName(path: string): boolean {
  return new TextEncoder().encode(nameOf(path)).byteLength > 255;
}

const TEMPORARY = /^\.fastsafetensors-[0-9a-f]{12}\.tmp$/;

/** A name for a temporary file that nobody else has. */
export function temporaryName(): string {
  return `.fastsafetensors-${crypto.getRandomValues(new Uint8Array(6)).toHex()}.tmp`;
}

/** Whether a file of this name is one of ours on its way, or was left behind by a process that is gone. */
export function isTemporaryName(name: string): boolean {
  return TEMPORARY.test(name);
}

/** How long to wait before another try to lock a folder, in milliseconds. */
const RETRY = 5;

/**
 * Waits until no other save, of this process or another, changes names in a folder, and keeps them from it until the
 * result is disposed. The lock is never held for long: while files are created, and while they are renamed.
 *
 * @throws {WriteError} if the folder is not there or cannot be read; or the signal's reason
 */
export async function lockFolder(path: string, signal?: AbortSignal): Promise<Disposable> {
  const folder = await Deno.open(path, { read: true }).catch((error) => {
    throw writeError(error, "save to", path);
  });
  try {
    if (!(await folder.stat()).isDirectory) throw new SystemError(constants.errno.ENOTDIR);
    // Never a call that waits for the lock: it would take one of the few threads that its holder may need.
    while (!await tryLock(folder)) {
      await new Promise((resolve) => setTimeout(resolve, RETRY));
      signal?.throwIfAborted();
    }
    return folder;
  } catch (error) {
    folder.close();
    throw signal?.aborted ? error : writeError(error, "save to", path);
  }
}

async function tryLock(file: Deno.FsFile): Promise<boolean> {
  try {
    return await file.tryLock(true);
  } catch {
    return true; // a file system without locks: go on without
  }
}

/** Removes the temporary files that processes have left behind which are gone. The folder must be locked. */
export async function removeAbandoned(folder: string): Promise<void> {
  try {
    for await (const { name, isFile } of Deno.readDir(folder)) {
      if (isFile && isTemporaryName(name) && await isAbandoned(`${folder}/${name}`)) {
        await removeQuietly(`${folder}/${name}`);
      }
    }
  } catch (error) {
    throw writeError(error, "save to", folder);
  }
}

/** Whether nobody holds the lock that a save has on its temporary files. */
async function isAbandoned(path: string): Promise<boolean> {
  try {
    using file = await Deno.open(path, { read: true, write: true });
    return await file.tryLock(true);
  } catch {
    return false; // somebody else's, or gone by now
  }
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
