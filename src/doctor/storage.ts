/**
 * How files in a place can be read.
 */
import { absolutePath } from "../files/native/local_path.ts";
import { openDirect, openFile } from "../../ffi/files.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { mayRead } from "../../ffi/variables.ts";
import { messageOf, quote } from "../base/text.ts";
import type { Mount } from "./machine.ts";
import { type UsrbioUse, usrbioUseOf } from "./usrbio.ts";

/** How files in a place can be read. */
export interface StorageReport {
  /** The given file or folder. */
  readonly path: string;
  /** Type of the file system, such as "ext4"; null if unknown. */
  readonly fileSystem: string | null;
  /** Whether files can be read without the page cache; null without a file to try, or without the native library. */
  readonly direct: boolean | null;
  /** How files there are read through 3FS; null: it is not on 3FS. */
  readonly usrbio: UsrbioUse | null;
  /** The error, such as a path that does not exist; empty without one. */
  readonly problem: string;
}

/**
 * Examines the file systems of files or folders. One file of a folder is tried.
 *
 * @param folder what relative paths count from
 */
export async function reportStorage(
  shim: Shim | null,
  paths: Iterable<string>,
  folder: string | undefined,
  mounts: readonly Mount[],
): Promise<StorageReport[]> {
  return await Promise.all(Array.from(paths, async (path) => {
    try {
      return await lookAt(shim, path, folder, mounts);
    } catch (error) {
      return { path, fileSystem: null, direct: null, usrbio: null, problem: problemOf(error) };
    }
  }));
}

async function lookAt(
  shim: Shim | null,
  path: string,
  folder: string | undefined,
  mounts: readonly Mount[],
): Promise<StorageReport> {
  if (!mayRead(path)) throw new Deno.errors.NotCapable();
  const real = await Deno.realPath(absolutePath(path, folder));
  const file = await firstFile(real);
  const direct = shim && file !== null ? await hasDirect(shim, file) : null;
  const mount = mountOf(real, mounts);
  const usrbio = await usrbioUseOf(shim, real, file, mount);
  return { path, fileSystem: mount?.type ?? null, direct, usrbio, problem: "" };
}

/** The message of a system's error, without the words that Deno adds. */
function problemOf(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such file or folder";
  if (error instanceof Deno.errors.NotCapable) return "it may not be read: run with --allow-read";
  return messageOf(error);
}

/** The file system of an absolute path: the last one that was mounted at the innermost mount point. */
export function mountOf(path: string, mounts: readonly Mount[]): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    const within = mount.folder === "/" || path === mount.folder || path.startsWith(`${mount.folder}/`);
    if (within && mount.folder.length >= (found?.folder.length ?? 0)) found = mount;
  }
  return found;
}

async function firstFile(path: string): Promise<string | null> {
  const { isFile, isDirectory } = await Deno.stat(path);
  if (isFile) return path;
  if (!isDirectory) throw new Error("neither a file nor a folder"); // opening a FIFO would wait
  for await (const entry of Deno.readDir(path)) if (entry.isFile) return `${path}/${entry.name}`;
  return null;
}

async function hasDirect(shim: Shim, path: string): Promise<boolean> {
  const { handle } = await openFile(shim, path, 0);
  try {
    return await handle.use(
      `open ${quote(path)} for direct reads`,
      (descriptors) => openDirect(shim, descriptors),
    );
  } finally {
    await handle.close();
  }
}
