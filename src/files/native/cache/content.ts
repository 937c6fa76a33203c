/**
 * Lists the content of a cache: revisions, partial files, and blobs that no revision has.
 */
import {
  blobName,
  type HubRepo,
  isBlobName,
  isCommit,
  parseTree,
  PARTIAL_FOLDER,
  repoFolder,
  repoOfFolder,
} from "../../cache/hub_layout.ts";
import { isTemporaryName } from "../folder.ts";
import { partialsIn, partName } from "./partial_names.ts";
import { isUrlKey, urlOfKey } from "./url_cache.ts";

/** A file of a revision. */
export interface CachedFile {
  /** Its path in the repository. */
  readonly name: string;
  /** Its path on disk. */
  readonly path: string;
  /** The blob that it links to; null if the file itself is in the snapshot. */
  readonly blob: string | null;
  /** The name that its blob has, or would have: mostly a checksum. */
  readonly blobName: string;
  /** Bytes. */
  readonly size: number;
}

/** Something in the cache that can be removed as a whole. */
export interface CacheEntry {
  readonly kind: "revision" | "partial" | "blob" | "url";
  /** Its name for people: `org/name@commit`, a URL. */
  readonly name: string;
  /** The branches and tags of a revision. */
  readonly refs: readonly string[];
  /** The files of a revision. */
  readonly files: readonly CachedFile[];
  /** Paths of its bytes on disk. Revisions can share them. */
  readonly paths: readonly string[];
  /** Paths that show whether it is in use: they are locked then. */
  readonly locks: readonly string[];
  /** Bytes on disk. */
  readonly bytes: number;
  /** The last use, in milliseconds since 1970. */
  readonly lastUsed: number;
  /** The repository, and the commit of a revision. */
  readonly repo: HubRepo | null;
  readonly commit: string | null;
}

/** Lists the entries of the Hub's cache in a folder; empty if the folder does not exist. */
export async function hubEntries(folder: string): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const name of await namesIn(folder)) {
    const repo = repoOfFolder(name);
    if (repo && repoFolder(repo) === name) entries.push(...await repoEntries(`${folder}/${name}`, repo));
  }
  return entries;
}

/** Lists the entries of the cache of other servers in a folder. */
export async function urlEntries(folder: string): Promise<CacheEntry[]> {
  const entries: CacheEntry[] = [];
  for (const key of await namesIn(folder)) {
    const path = `${folder}/${key}`;
    const info = isUrlKey(key) ? await fileInfo(path) : null;
    if (!info) continue;
    const name = await urlOfKey(folder, key) ?? key;
    const paths = [path, `${path}.json`];
    entries.push({
      ...NO_ENTRY,
      kind: "url",
      name,
      paths,
      locks: [path],
      bytes: info.size,
      lastUsed: timeOf(info),
    });
  }
  return [...entries, ...await partialEntries(folder, null)];
}

/** Bytes of entries together; what they share counts once. */
export async function totalBytes(entries: readonly CacheEntry[]): Promise<number> {
  let bytes = 0;
  for (const path of new Set(entries.flatMap(({ paths }) => paths))) bytes += await bytesOnDisk(path);
  return bytes;
}

/** Bytes of a file on disk: a partial file has holes. 0 if it does not exist. */
export async function bytesOnDisk(path: string): Promise<number> {
  const info = await fileInfo(path);
  if (!info) return 0;
  return info.blocks === null ? info.size : Math.min(info.size, info.blocks * 512);
}

const NO_ENTRY = { refs: [], files: [], repo: null, commit: null } as const;

async function repoEntries(folder: string, repo: HubRepo): Promise<CacheEntry[]> {
  const refs = await refsIn(`${folder}/refs`);
  const used = new Set<string>();
  const partials = await partialEntries(folder, repo);
  const entries: CacheEntry[] = [];
  for (const commit of await namesIn(`${folder}/snapshots`)) {
    if (!isCommit(commit)) continue;
    const files = await snapshotFiles(folder, commit);
    const paths = [...new Set(files.map(({ path, blob }) => blob ?? path))];
    const infos = await Promise.all(paths.map(fileInfo));
    const times = [...infos, await fileInfo(`${folder}/${PARTIAL_FOLDER}/${commit}.used`)];
    for (const path of paths) used.add(path);
    const folderInfo = await Deno.stat(`${folder}/snapshots/${commit}`).catch(() => null);
    entries.push({
      kind: "revision",
      name: `${nameOf(repo)}@${commit}`,
      refs: refs.filter(([, refCommit]) => refCommit === commit).map(([ref]) => ref),
      files,
      paths,
      // A load that fills a file of the repository can be one of this revision.
      locks: [...paths, ...partials.flatMap(({ locks }) => locks)],
      bytes: (await Promise.all(paths.map(bytesOnDisk))).reduce((sum, bytes) => sum + bytes, 0),
      lastUsed: Math.max(folderInfo?.mtime?.getTime() ?? 0, ...times.map((info) => info ? timeOf(info) : 0)),
      repo,
      commit,
    });
  }
  for (const blob of await namesIn(`${folder}/blobs`)) {
    const path = `${folder}/blobs/${blob}`;
    const info = isBlobName(blob) && !used.has(path) && !/\.incomplete$/.test(blob)
      ? await fileInfo(path)
      : null;
    if (!info) continue;
    entries.push({
      ...NO_ENTRY,
      kind: "blob",
      name: `${nameOf(repo)} ${blob}`,
      paths: [path],
      locks: [path],
      bytes: await bytesOnDisk(path),
      lastUsed: timeOf(info),
      repo,
    });
  }
  return [...entries, ...partials];
}

/** Returns the id of a repository, with its kind if it is not a model. */
function nameOf({ kind, id }: HubRepo): string {
  return kind === "models" ? id : `${kind}/${id}`;
}

async function partialEntries(parent: string, repo: HubRepo | null): Promise<CacheEntry[]> {
  const folder = `${parent}/${PARTIAL_FOLDER}`;
  const entries: CacheEntry[] = [];
  for (const { name, token, part, maps } of await partialsIn(folder)) {
    const locks = maps.map((map) => `${folder}/${map}`);
    const paths = part ? [`${folder}/${partName(name, token)}`, ...locks] : locks;
    const infos = await Promise.all(paths.map(fileInfo));
    entries.push({
      ...NO_ENTRY,
      kind: "partial",
      name: repo ? `${nameOf(repo)} ${name}` : name,
      paths,
      locks,
      bytes: (await Promise.all(paths.map(bytesOnDisk))).reduce((sum, bytes) => sum + bytes, 0),
      lastUsed: Math.max(0, ...infos.map((info) => info?.mtime?.getTime() ?? 0)),
      repo,
    });
  }
  for (const temporary of (await namesIn(folder)).filter(isTemporaryName)) {
    const path = `${folder}/${temporary}`;
    const info = await fileInfo(path);
    if (!info) continue;
    const { size: bytes, mtime } = info;
    const lastUsed = mtime?.getTime() ?? 0;
    const name = repo ? `${nameOf(repo)} ${temporary}` : temporary;
    entries.push({ ...NO_ENTRY, kind: "partial", name, paths: [path], locks: [], bytes, lastUsed, repo });
  }
  return entries;
}

/** Lists the files of a snapshot that are the cache's own: links to blobs, and files with the size of the commit's list. */
async function snapshotFiles(folder: string, commit: string): Promise<CachedFile[]> {
  const snapshot = `${folder}/snapshots/${commit}`;
  const text = await Deno.readTextFile(`${folder}/trees/${commit}.json`).catch(() => null);
  const tree = text === null ? null : parseTree(text);
  const blobs = new Set(await namesIn(`${folder}/blobs`));
  const files: CachedFile[] = [];
  const list = async (prefix: string): Promise<void> => {
    for await (const { name, isDirectory, isSymlink } of Deno.readDir(`${snapshot}/${prefix}`)) {
      const path = `${snapshot}/${prefix}${name}`;
      if (isDirectory) {
        await list(`${prefix}${name}/`);
        continue;
      }
      const file = { name: prefix + name, path };
      if (isSymlink) {
        const levels = file.name.split("/").length + 1;
        const target = await Deno.readLink(path).catch(() => "");
        const start = `${"../".repeat(levels)}blobs/`;
        const blob = target.startsWith(start) ? target.slice(start.length) : "";
        if (!isBlobName(blob)) continue;
        const size = (await fileInfo(path))?.size ?? 0;
        files.push({ ...file, blob: `${folder}/blobs/${blob}`, blobName: blob, size });
        continue;
      }
      const known = tree?.get(file.name);
      const info = await fileInfo(path);
      if (!info || !known || info.size !== known.size) continue;
      const blob = blobName(known);
      const linked = blobs.has(blob) ? await fileInfo(`${folder}/blobs/${blob}`) : null;
      const isSame = linked?.ino === info.ino && linked?.dev === info.dev;
      const own = isSame ? `${folder}/blobs/${blob}` : null;
      files.push({ ...file, blob: own, blobName: blob, size: info.size });
    }
  };
  await list("").catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  return files.sort((a, b) => a.name < b.name ? -1 : 1);
}

/** Returns the references of a repository: name → commit. */
async function refsIn(folder: string): Promise<[ref: string, commit: string][]> {
  const refs: [string, string][] = [];
  const list = async (prefix: string): Promise<void> => {
    for await (const { name, isDirectory, isFile } of Deno.readDir(`${folder}/${prefix}`)) {
      if (isDirectory) await list(`${prefix}${name}/`);
      else if (isFile) {
        refs.push([prefix + name, (await Deno.readTextFile(`${folder}/${prefix}${name}`)).trim()]);
      }
    }
  };
  await list("").catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
  return refs.sort(([a], [b]) => a < b ? -1 : 1);
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return [];
    throw error;
  }
}

async function fileInfo(path: string): Promise<Deno.FileInfo | null> {
  const info = await Deno.stat(path).catch(() => null);
  return info?.isFile ? info : null;
}

/** The last use of a file that the system knows. */
function timeOf({ atime, mtime }: Deno.FileInfo): number {
  return Math.max(atime?.getTime() ?? 0, mtime?.getTime() ?? 0);
}
