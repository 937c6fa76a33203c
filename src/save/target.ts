/**
 * The places of a save's files: behind links, in folders that may be missing, and only regular files are replaced.
 */
import { constants } from "node:os";
import { errnoOf } from "../files/native/errno.ts";
import { WriteError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { dirname, resolve } from "../base/paths.ts";
import { describeKind, lookAt } from "../files/native/folder.ts";
import { fileExists, isFolder, writeError } from "../files/native/write_error.ts";

/** The most links to follow one after another, as on Linux. */
const MAX_LINKS = 40;

/** The place of a path's bytes, now or after the save. */
export interface Place {
  /** The path behind all links. */
  readonly path: string;
  /** The file there, or null. */
  readonly info: Deno.FileInfo | null;
}

/**
 * Follows the links at a path; the last one may lead to a missing file.
 *
 * @throws {WriteError} if the links form a cycle, or to an open stream of a process
 */
export async function findPlace(path: string): Promise<Place> {
  let at = path;
  for (let links = 0; links <= MAX_LINKS; links++) {
    const info = await lookAt(at);
    if (!info?.isSymlink) return { path: at, info };
    try {
      const folder = dirname(at);
      // Links there are open files; the path that they show need not be that of the file.
      if (isInProc(await Deno.realPath(folder))) throw notRegular(path, "an open stream of a process");
      await checkMayFollow(at);
      const next = await Deno.readLink(at);
      at = resolve(folder, next);
      if (isInProc(at)) throw notRegular(path, "an open stream of a process");
    } catch (error) {
      throw writeError(error, "save", path);
    }
  }
  const { ELOOP } = constants.errno;
  throw new WriteError(`Cannot save ${quote(path)}: it is a link that leads to itself`, {
    path,
    errno: ELOOP,
  });
}

/** Throws if the system does not follow a link: Linux does not if another user has created it in /tmp. */
async function checkMayFollow(link: string): Promise<void> {
  try {
    await Deno.stat(link);
  } catch (error) {
    const { ENOENT, ELOOP } = constants.errno;
    if (![ENOENT, ELOOP].includes(errnoOf(error as Error))) throw error;
  }
}

function isInProc(path: string): boolean {
  return path === "/proc" || path.startsWith("/proc/");
}

/**
 * Throws unless the path is free, or is a regular file that may be replaced.
 *
 * @param path the path as the user wrote it
 */
export function checkPlace(path: string, { info }: Place, overwrite: boolean): void {
  if (!info) return;
  if (info.isDirectory) throw isFolder(path);
  if (!info.isFile) throw notRegular(path, describeKind(info));
  if (!overwrite) throw fileExists(path);
}

function notRegular(path: string, kind: string): WriteError {
  return new WriteError(`Cannot save ${quote(path)}: it is ${kind}, and only regular files are replaced`, {
    path,
  });
}

/**
 * Asks for all permissions that a save in these folders needs, together. The native library does not check Deno's
 * permissions, so this function does.
 *
 * @throws {Deno.errors.NotCapable} that names all missing permissions
 */
export async function requireAccess(folders: readonly string[]): Promise<void> {
  const missing = new Set<string>();
  for (const path of folders) {
    const names = ["read", "write"] as const;
    const refused: string[] = [];
    for (const name of names) {
      if ((await Deno.permissions.request({ name, path })).state !== "granted") refused.push(name);
    }
    if (refused.length > 0) missing.add(`${refused.join(" and ")} access to ${quote(path)}`);
  }
  if (missing.size === 0) return;
  const flags = ["read", "write"].map((name) => `--allow-${name}=${folders.join(",")}`).join(" ");
  throw new Deno.errors.NotCapable(
    `Requires ${[...missing].join(", ")}: to save there, run again with ${flags}`,
  );
}

/**
 * Creates a folder and its parents, if they are missing.
 *
 * @returns the created folders, the innermost first
 * @throws {WriteError} if the system refuses
 */
export async function makeFolder(path: string): Promise<string[]> {
  const missing: string[] = [];
  for (let at = path; await isMissing(at); at = dirname(at)) missing.push(at);
  if (missing.length === 0) return missing;
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw writeError(error, "make the folder", path);
  }
  return missing;
}

async function isMissing(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return false;
  } catch (error) {
    return error instanceof Deno.errors.NotFound; // later calls report an unreadable path or one that is not a folder
  }
}

/** Mode and owner of a file. */
export type Access = Pick<Deno.FileInfo, "mode" | "uid" | "gid">;

/**
 * The access rights of a new file that has no old file of its own name: those of the files which the set replaces,
 * and never more than any of them allows.
 */
export function commonAccess(files: readonly Access[]): Access | undefined {
  const [first] = files;
  return first && { ...first, mode: files.reduce((mode, file) => mode & (file.mode ?? 0o7777), 0o7777) };
}

/** Gives a file mode and, if permitted, owner and group of the file that it will replace. */
export async function setAccess(path: string, { mode, uid, gid }: Access): Promise<void> {
  if (mode === null) return; // Windows
  const own = await Deno.lstat(path);
  if (own.uid !== uid || own.gid !== gid) {
    await Deno.chown(path, uid, gid).catch(() => Deno.chown(path, null, gid)).catch(() => {});
  }
  await Deno.chmod(path, mode & 0o7777);
}
