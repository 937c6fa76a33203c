/**
 * The library and the mounts of 3FS, and whether files on it are read through its rings.
 */
import type { Shim } from "../../ffi/symbols.ts";
import { mountPointOf } from "../../ffi/usrbio.ts";
import { messageOf, quote } from "../base/text.ts";
import { NativeEngine } from "../load/native/native_engine.ts";
import { NativeFile } from "../files/native/native_file.ts";
import { selectSource } from "../deno/select_source.ts";
import { openUsrbio, requestedBackend } from "../three_fs/backend.ts";
import { checkUsrbioOptions } from "../three_fs/options.ts";
import type { Mount } from "./machine.ts";

/** The type of 3FS in the list of mounts. */
export const HF3FS = "fuse.hf3fs";

/** The library and the mounts of 3FS. */
export interface UsrbioReport {
  /** Path of 3FS' library, which reads files through its rings; null if it was not found or cannot be used. */
  readonly library: string | null;
  /** The searched places, or the reason that it cannot be used; empty with a library. */
  readonly reason: string;
  /** The mount points of 3FS. */
  readonly mounts: readonly string[];
}

/** How a load reads files on 3FS. */
export interface UsrbioUse {
  /** The mount point of this 3FS. */
  readonly mountPoint: string;
  /** Whether they are read through its rings; null without a file to try. */
  readonly used: boolean | null;
  /** The reason against the rings; empty otherwise. */
  readonly reason: string;
}

/** Looks for 3FS' library. `shim` is null without the native library; `libraryReason` says why. */
export async function reportUsrbio(
  shim: Shim | null,
  libraryReason: string,
  mounts: readonly Mount[],
): Promise<UsrbioReport> {
  const folders = mounts.filter(({ type }) => type === HF3FS).map(({ folder }) => folder);
  if (!shim) {
    return { library: null, reason: `the native library is not used: ${libraryReason}`, mounts: folders };
  }
  const found = await openUsrbio(shim);
  return found.handle === null
    ? { library: null, reason: found.reason, mounts: folders }
    : { library: found.path, reason: "", mounts: folders };
}

/**
 * How a load reads the files at a path; null if it is not on 3FS.
 *
 * @param file the file to try; null without one
 * @param mount the mount of that path in the system's list
 */
export async function usrbioUseOf(
  shim: Shim | null,
  path: string,
  file: string | null,
  mount: Mount | undefined,
): Promise<UsrbioUse | null> {
  const library = shim ? await openUsrbio(shim) : null;
  const reported = shim && library?.handle ? await mountPointOf(shim, library.handle, path) : null;
  const mountPoint = reported ?? (mount?.type === HF3FS ? mount.folder : null);
  if (mountPoint === null) return null;
  if (!shim) return { mountPoint, used: false, reason: "the native library is not used" };
  if (file === null) return { mountPoint, used: null, reason: "" };
  const reason = await whyNotUsed(shim, file);
  return { mountPoint, used: reason === "", reason };
}

/** Opens a file as a load without options of 3FS does, so that the same problems appear here. */
async function whyNotUsed(shim: Shim, path: string): Promise<string> {
  try {
    const backend = requestedBackend();
    if (backend === "posix" || backend === "mock") return `FASTSAFETENSORS_BACKEND is ${quote(backend)}`;
    const choice = { source: undefined, usrbio: checkUsrbioOptions(), maxThreads: undefined };
    const source = await selectSource(new NativeEngine(shim), choice);
    const file = await source.open(path);
    const used = file instanceof NativeFile && file.reader !== null;
    await file.close();
    return used ? "" : source.notes?.join("; ") || "a load does not take it for a file on 3FS";
  } catch (error) {
    return messageOf(error);
  }
}
