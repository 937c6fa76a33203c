/**
 * Shows other processes which files of the cache are in use: a reader has a shared lock on them, and a process that
 * writes a partial file has a lock on its map. "prune" leaves locked files alone.
 */

/**
 * Marks a file as in use until the result is disposed. On file systems without locks it has no effect; a file that is
 * removed while it is open stays readable.
 */
export async function holdFile(path: string): Promise<Disposable> {
  try {
    const file = await Deno.open(path);
    await file.tryLock(false).catch(() => {});
    return file;
  } catch {
    return { [Symbol.dispose]() {} };
  }
}

/** Whether another opening of a file has a lock on it. */
export async function isInUse(path: string): Promise<boolean> {
  try {
    using file = await openForLock(path);
    return !await file.tryLock(true);
  } catch {
    return false; // removed, or a file system without locks
  }
}

/** Network file systems give an exclusive lock only to files that are open for writing. */
async function openForLock(path: string): Promise<Deno.FsFile> {
  return await Deno.open(path, { read: true, write: true }).catch(() => Deno.open(path));
}
