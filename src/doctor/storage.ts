/**
 * How files in a place can be read.
 */
import { openDirect, openFile } from "../../ffi/files.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { mayRead } from "../../ffi/variables.ts";
import { quote } from "../base/text.ts";
import type { Mount } from "./machine.ts";
import { type UsrbioUse, usrbioUseOf } from "./usrbio.ts";

/** How files in a place can be read. */
export interface StorageReport {
  /** The file or folder that was asked about. */
  readonly path: string;
  /** Type of the file system, such as "ext4"; null where it is not known. */
  readonly fileSystem: string | null;
  /** Whether files can be read past the page cache; null where there is no file to try, or no native library. */
  readonly direct: boolean | null;
  /** How files there are read through 3FS; null: it is not on 3FS. */
  readonly usrbio: UsrbioUse | null;
  /** Why nothing could be found out, such as that there is no such path; empty otherwise. */
  readonly problem: string;
}

/** Looks at the file systems of files or folders. A folder is tried with one of its files. */
export async function reportStorage(
  shim: Shim | null,
  paths: Iterable<string>,
  mounts: readonly Mount[],
): Promise<StorageReport[]> {
  return await Promise.all(Array.from(paths, async (path) => {
    try {
      return await lookAt(shim, path, mounts);
    } catch (error) {
      return { path, fileSystem: null, direct: null, usrbio: null, problem: problemOf(error) };
    }
  }));
}

async function lookAt(shim: Shim | null, path: string, mounts: readonly Mount[]): Promise<StorageReport> {
  if (!mayRead(path)) throw new Deno.errors.NotCapable();
  const real = await Deno.realPath(path);
  const file = await firstFile(real);
  const direct = shim && file !== null ? await hasDirect(shim, file) : null;
  const mount = mountOf(real, mounts);
  const usrbio = await usrbioUseOf(shim, real, file, mount);
  return { path, fileSystem: mount?.type ?? null, direct, usrbio, problem: "" };
}

/** What a system's error says, without the words that Deno puts around it. */
function problemOf(error: unknown): string {
  if (error instanceof Deno.errors.NotFound) return "no such file or folder";
  if (error instanceof Deno.errors.NotCapable) return "it may not be read: run with --allow-read";
  return error instanceof Error ? error.message : String(error);
}

/** The file system that an absolute path is on: the one that was mounted last at its innermost mount. */
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
