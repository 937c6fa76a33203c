/**
 * The layout of the Hub's cache on disk, as the Python package huggingface_hub writes and reads it:
 *
 *   models--org--name/blobs/ETAG             the content of a file; the name is its SHA-256, or the SHA-1 of its git blob
 *   models--org--name/refs/REVISION          the commit of a branch or tag: 40 hexadecimal digits
 *   models--org--name/snapshots/COMMIT/PATH  a relative link to the blob
 *   models--org--name/.no_exist/COMMIT/PATH  an empty file: the commit does not have this file
 *   models--org--name/trees/COMMIT.json      all files of the commit with their sizes and blobs
 *   models--org--name/.fastsafetensors/      partial files of this package, which no other program reads
 *   .locks/, CACHEDIR.TAG                    locks of the Python package; a mark for backup programs
 */
import { isRecord } from "../../base/check.ts";

/** The kind of a repository on the Hub. */
export type RepoKind = "models" | "datasets" | "spaces";

/** A repository on the Hub. */
export interface HubRepo {
  readonly kind: RepoKind;
  /** Its id, such as `org/name`. */
  readonly id: string;
}

/** A file of a commit. */
export interface HubPlace {
  readonly repo: HubRepo;
  readonly commit: string;
  /** Its path in the repository. */
  readonly path: string;
  /** The name of its blob: its SHA-256, or the SHA-1 of its git blob. */
  readonly blob: string;
}

/** Returns the folder of a repository in the cache, without the path of the cache. */
export function repoFolder({ kind, id }: HubRepo): string {
  return [kind, ...id.split("/")].join("--");
}

/** Returns the repository of a folder in the cache; null for other folders. */
export function repoOfFolder(folder: string): HubRepo | null {
  const [, kind, id] = /^(models|datasets|spaces)--(.+)$/.exec(folder) ?? [];
  return kind === undefined ? null : { kind: kind as RepoKind, id: id!.replaceAll("--", "/") };
}

/** The folder of partial files in the folder of a repository. */
export const PARTIAL_FOLDER = ".fastsafetensors";

/** Whether a revision is a commit. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Whether a text can be the name of a blob: a strong ETag without quotes. */
export function isBlobName(name: string): boolean {
  return /^[\w-][\w.-]{0,127}$/.test(name);
}

/** Whether a path of a repository stays below its folder: no empty part, no `.` and `..`, no backslash. */
export function isRepoPath(path: string): boolean {
  return path.split("/").every((part) =>
    part !== "" && part !== "." && part !== ".." && !/[\\\0]/.test(part)
  );
}

/** Returns the link of a snapshot to the blob of a file: relative, so that the cache can be moved. */
export function blobLink(path: string, blob: string): string {
  return `${"../".repeat(path.split("/").length + 1)}blobs/${blob}`;
}

/** A file of a commit. */
export interface TreeFile {
  /** Size in bytes. */
  readonly size: number;
  /** The git SHA-1 of the blob; for an LFS file, that of its pointer. */
  readonly oid: string;
  /** The SHA-256 of an LFS file. */
  readonly sha256?: string;
  /** The hash of a file in Xet storage. */
  readonly xetHash?: string;
}

/** The files of a commit: path → file. */
export type Tree = ReadonlyMap<string, TreeFile>;

/** Returns the name of a file's blob in the cache. */
export function blobName({ oid, sha256 }: TreeFile): string {
  return sha256 ?? oid;
}

/** Returns the content of `trees/COMMIT.json`. */
export function formatTree(tree: Tree): string {
  const files = [...tree].sort(([a], [b]) => a < b ? -1 : 1).map(([path, { size, oid, sha256, xetHash }]) => {
    const lfs = sha256 === undefined ? {} : { lfs_sha256: sha256, lfs_size: size };
    const xet = xetHash === undefined ? {} : { xet_hash: xetHash };
    return [path, { size, blob_id: oid, ...lfs, ...xet }];
  });
  return JSON.stringify({ format_version: 1, files: Object.fromEntries(files) }, null, 1);
}

/** Parses the content of `trees/COMMIT.json`; null if it is of another version or not valid. */
export function parseTree(text: string): Tree | null {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isRecord(content) || content["format_version"] !== 1 || !isRecord(content["files"])) return null;
  const tree = new Map<string, TreeFile>();
  for (const [path, file] of Object.entries(content["files"])) {
    if (!isRecord(file) || !isRepoPath(path)) return null;
    const { size, blob_id: oid, lfs_sha256: sha256, xet_hash: xetHash } = file;
    if (!Number.isSafeInteger(size) || (size as number) < 0 || typeof oid !== "string") return null;
    if (!isBlobName(oid) || (typeof sha256 === "string" && !isBlobName(sha256))) return null;
    tree.set(path, {
      size: size as number,
      oid,
      ...typeof sha256 === "string" && { sha256 },
      ...typeof xetHash === "string" && { xetHash },
    });
  }
  return tree;
}

/**
 * Returns the folder of the Hub's cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, `hub` in `HF_HOME`, or
 * `huggingface/hub` in `XDG_CACHE_HOME` or `~/.cache`. In the first three `~` and variables are replaced, as in Python.
 *
 * @param variable returns an environment variable; undefined if it is not set
 * @returns undefined if no variable says it
 */
export function hubCacheFolder(variable: (name: string) => string | undefined): string | undefined {
  const home = variable("HOME") ?? variable("USERPROFILE");
  const expand = (path: string) =>
    path
      .replace(/^~(?=\/|$)/, () => home ?? "~")
      .replaceAll(/\$(?:(\w+)|\{([^}]*)\})/g, (whole, name, braced) => variable(name ?? braced) ?? whole);
  const given = variable("HF_HUB_CACHE") ?? variable("HUGGINGFACE_HUB_CACHE");
  if (given !== undefined) return expand(given);
  const hubHome = variable("HF_HOME");
  if (hubHome !== undefined) return `${expand(hubHome).replace(/(?<=.)\/+$/, "")}/hub`;
  const cache = variable("XDG_CACHE_HOME") ?? (home === undefined ? undefined : `${home}/.cache`);
  return cache === undefined ? undefined : `${expand(cache).replace(/(?<=.)\/+$/, "")}/huggingface/hub`;
}

/** The content of `CACHEDIR.TAG`, which backup programs look for. */
export const CACHE_TAG = "Signature: 8a477f597d28d172789f06886806bc55\n" +
  "# This file is a cache directory tag created by huggingface_hub.\n" +
  "# For information about cache directory tags, see:\n" +
  "#\thttps://bford.info/cachedir/\n";
