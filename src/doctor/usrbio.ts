/**
 * What there is of 3FS, and whether files on it are read through its rings.
 */
import type { Shim } from "../../ffi/symbols.ts";
import { mountPointOf } from "../../ffi/usrbio.ts";
import { quote } from "../base/text.ts";
import { NativeEngine } from "../load/native/native_engine.ts";
import { NativeFile } from "../files/native/native_file.ts";
import { selectSource } from "../deno/select_source.ts";
import { openUsrbio, requestedBackend } from "../three_fs/backend.ts";
import { checkUsrbioOptions } from "../three_fs/options.ts";
import type { Mount } from "./machine.ts";

/** 3FS' file system, as mounts call it. */
export const HF3FS = "fuse.hf3fs";

/** What there is of 3FS. */
export interface UsrbioReport {
  /** Path of 3FS' library, which files are read by through its rings; null where it was not found or cannot be used. */
  readonly library: string | null;
  /** Where it was looked for, or what is wrong with it; empty where there is one. */
  readonly reason: string;
  /** Folders that a 3FS is mounted at. */
  readonly mounts: readonly string[];
}

/** How a load reads files that are on 3FS. */
export interface UsrbioUse {
  /** Where that 3FS is mounted. */
  readonly mountPoint: string;
  /** Whether they are read through its rings; null where there is no file to try. */
  readonly used: boolean | null;
  /** Why they are not; empty otherwise. */
  readonly reason: string;
}

/** Looks for 3FS' library. `shim` is null without the native library, for this reason. */
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
 * How a load reads what is at a path; null where that is not on 3FS.
 *
 * @param file the file to try; null: there is none
 * @param mount what the system says is mounted there
 */
export async function usrbioUseOf(
  shim: Shim | null,
  path: string,
  file: string | null,
  mount: Mount | undefined,
): Promise<UsrbioUse | null> {
  const library = shim ? await openUsrbio(shim) : null;
  const told = shim && library?.handle ? await mountPointOf(shim, library.handle, path) : null;
  const mountPoint = told ?? (mount?.type === HF3FS ? mount.folder : null);
  if (mountPoint === null) return null;
  if (!shim) return { mountPoint, used: false, reason: "the native library is not used" };
  if (file === null) return { mountPoint, used: null, reason: "" };
  const reason = await whyNotUsed(shim, file);
  return { mountPoint, used: reason === "", reason };
}

/** Opens a file as a load does that is told nothing of 3FS, so that what stands in its way shows here too. */
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
    return error instanceof Error ? error.message : String(error);
  }
}
