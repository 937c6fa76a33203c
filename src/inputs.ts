/**
 * What a user names when opening a model, as a list of files.
 */
import { ReadError, SafeTensorsError } from "./errors.ts";
import { parseShardIndex } from "./format/shard_index.ts";
import type { ProcessGroup } from "./group/process_group.ts";
import { checkFolder, checkMissing } from "./save/journal.ts";
import { readError } from "./source/local_path.ts";
import type { Source } from "./source/source.ts";

/** A path or a `file:` URL. */
export type PathLike = string | URL;

/**
 * What can be opened: a file, a list of files, a folder, an index (`model.safetensors.index.json`), or files by the
 * rank that reads them.
 */
export type Files = PathLike | readonly PathLike[] | Readonly<Record<number, PathLike | readonly PathLike[]>>;

/** Files to open, and what an index says of them. */
export interface Inputs {
  /** In the order in which they are to be read. */
  readonly paths: readonly string[];
  /** From an index: tensor → path. */
  readonly weightMap: ReadonlyMap<string, string> | null;
  /** The index itself. */
  readonly indexPath: string | null;
  /** What tells this index from one that replaces it. */
  readonly indexVersion?: string;
}

/** How a family of model files is named. */
export interface Naming {
  /** Suffixes of the files. */
  readonly files: readonly string[];
  /** Suffix of an index. */
  readonly index: string;
  /** The index that is taken where a folder has several. */
  readonly usualIndex: string;
  /** What to do about a folder that only has files of the other family. */
  readonly hint: (names: readonly string[]) => string;
}

/** Safetensors files. */
export const SAFETENSORS: Naming = {
  files: [".safetensors"],
  index: ".safetensors.index.json",
  usualIndex: "model.safetensors.index.json",
  hint(names) {
    const checkpoint = names.find((name) => PYTORCH.files.some((suffix) => name.endsWith(suffix)));
    return checkpoint ? `: "${checkpoint}" is a PyTorch checkpoint, for openPyTorch` : "";
  },
};

/** PyTorch checkpoints. */
export const PYTORCH: Naming = {
  files: [".bin", ".pt", ".pth"],
  index: ".bin.index.json",
  usualIndex: "pytorch_model.bin.index.json",
  hint: () => "",
};

/**
 * Turns what the user named into paths, for all ranks together; folders and indexes are read for it.
 *
 * @param own a source of the user's, if the files are what it opens by their names
 * @throws {TypeError} if no file is named
 */
export async function resolveInputs(
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming = SAFETENSORS,
  own: Source | null = null,
): Promise<Inputs> {
  const inputs = await resolveAny(files, group, naming, own);
  if (inputs.paths.length === 0) throw noFiles();
  return inputs;
}

/** Nothing was named to be opened. */
export function noFiles(): TypeError {
  return new TypeError("Cannot open a model: the list of files is empty");
}

/**
 * Checks what the user named, as far as that can be done without looking.
 *
 * @throws {TypeError} if it is neither a path nor a list of paths nor a record of them
 * @throws {RangeError} if it names a rank that the group does not have
 */
export function checkFiles(files: Files, group: Pick<ProcessGroup, "size">): void {
  const list = isByRank(files) ? [...ranksOf(files, group).values()].flat() : files;
  if (typeof list === "string" || list instanceof URL) toPath(list);
  else if (Array.isArray(list)) list.forEach(toPath);
  else {
    const message =
      `Cannot open a model: files must be a path, a list or a record by rank, got ${typeof list}`;
    throw new TypeError(message);
  }
}

/** What the ranks of a group open, as one of them has been told. */
export interface DealtInputs extends Omit<Inputs, "paths"> {
  /** Whether the user said which rank reads what; else the files are dealt out one by one. */
  readonly byRank: boolean;
  /** Rank → its files, for every rank of which this one has been told. */
  readonly lists: ReadonlyMap<number, readonly string[]>;
}

/** Turns what the user named into the paths of each rank: file `i` of a list is read by rank `i % size`. */
export async function dealInputs(
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming = SAFETENSORS,
  own: Source | null = null,
): Promise<DealtInputs> {
  if (isByRank(files)) {
    const lists = [...ranksOf(files, group)].map(([rank, list]) => [rank, list.map(toPath)] as const);
    return { weightMap: null, indexPath: null, byRank: true, lists: new Map(lists) };
  }
  const { paths, ...index } = await resolveAny(files, group, naming, own);
  const lists = Array.from(
    { length: group.size },
    (_, rank) => [rank, paths.filter((_, file) => file % group.size === rank)] as const,
  );
  return { ...index, byRank: false, lists: new Map(lists) };
}

type RankFiles = Readonly<Record<number, PathLike | readonly PathLike[]>>;

function isByRank(files: Files): files is RankFiles {
  return typeof files === "object" && files !== null && !Array.isArray(files) && !(files instanceof URL);
}

async function resolveAny(
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming,
  own: Source | null,
): Promise<Inputs> {
  checkFiles(files, group);
  if (typeof files === "string" || files instanceof URL) {
    const path = toPath(files);
    return own ? await resolveNamed(path, own) : await resolveOne(path, naming);
  }
  const list = isByRank(files) ? [...ranksOf(files, group).values()].flat() : files as readonly PathLike[];
  return { paths: list.map(toPath), weightMap: null, indexPath: null };
}

/** Rank → files; every rank named must exist. */
function ranksOf(files: RankFiles, { size }: Pick<ProcessGroup, "size">): Map<number, readonly PathLike[]> {
  const lists = new Map<number, readonly PathLike[]>();
  for (const [rank, list] of Object.entries(files)) {
    if (!/^\d+$/.test(rank) || Number(rank) >= size) {
      throw new RangeError(`Cannot open files for rank "${rank}": the group has ${size} (from 0)`);
    }
    lists.set(Number(rank), typeof list === "string" || list instanceof URL ? [list] : list);
  }
  return lists;
}

/** A path or a `file:` URL as a path. */
export function toPath(file: PathLike): string {
  if (file instanceof URL) {
    if (file.protocol !== "file:") {
      throw new TypeError(`Cannot open "${file.href}": only file: URLs can be opened`);
    }
    return decodeURIComponent(file.pathname);
  }
  if (typeof file !== "string") {
    throw new TypeError(`Cannot open a model: a path must be a string, got ${typeof file}`);
  }
  if (file === "" || file.includes("\0")) {
    throw new TypeError(`Cannot open ${JSON.stringify(file)}: it is no path`);
  }
  return file.startsWith("file://") ? decodeURIComponent(new URL(file).pathname) : file;
}

/** A name that a source of the user's knows: a file, or an index that names files beside it. */
async function resolveNamed(path: string, source: Source): Promise<Inputs> {
  if (!path.endsWith(".json")) return { paths: [path], weightMap: null, indexPath: null };
  const file = await source.open(path);
  try {
    checkIndexSize(path, file.size);
    const bytes = new Uint8Array(file.size);
    await file.read(0, bytes);
    await file.verify?.();
    return indexed(path, bytes);
  } finally {
    await file.close();
  }
}

async function resolveOne(path: string, naming: Naming): Promise<Inputs> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path).catch(async (error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
      if (naming === SAFETENSORS) await checkMissing(path); // it may be on its way to this name
      return await Deno.stat(path);
    });
  } catch (error) {
    throw error instanceof SafeTensorsError ? error : readError(error, "open", path);
  }
  if (info.isDirectory) return await resolveFolder(path, naming);
  if (path.endsWith(".json")) return await resolveIndex(path);
  return { paths: [path], weightMap: null, indexPath: null };
}

async function resolveFolder(path: string, naming: Naming): Promise<Inputs> {
  let names: string[];
  try {
    names = await fileNames(path);
    if (naming === SAFETENSORS) {
      await checkFolder(path, names);
      names = await fileNames(path); // a save may have ended meanwhile
    }
  } catch (error) {
    throw error instanceof SafeTensorsError ? error : readError(error, "open", path);
  }
  const indexes = names.filter((name) => name.endsWith(naming.index));
  const index = indexes.find((name) => name === naming.usualIndex) ?? indexes.at(0);
  if (indexes.length > 1 && index !== naming.usualIndex) {
    const message = `Cannot choose an index in "${path}": there are ${indexes.join(", ")}: open one of them`;
    throw new SafeTensorsError("NoTensorFiles", message, { path });
  }
  if (index) return await resolveIndex(join(path, index));
  const shards = names.filter((name) => naming.files.some((suffix) => name.endsWith(suffix))).sort();
  if (shards.length === 0) throw noTensorFiles(path, names, naming);
  checkComplete(path, shards);
  return { paths: shards.map((name) => join(path, name)), weightMap: null, indexPath: null };
}

/** The files in a folder, and links to files: the Hugging Face cache consists of them. */
async function fileNames(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(folder));
  return entries.filter(({ isDirectory }) => !isDirectory).map(({ name }) => name);
}

/** Throws if files say of themselves that there are more, as `model-00001-of-00003.safetensors` does. */
function checkComplete(folder: string, names: readonly string[]): void {
  const sets = new Map<string, { numbers: Set<number>; nameOf: (number: number) => string }>();
  for (const name of names) {
    const [, stem, number, rest] = /^(.*-)(\d+)(-of-\d+\.\w+)$/.exec(name) ?? [];
    if (stem === undefined) continue;
    const nameOf = (other: number) => stem + String(other).padStart(number!.length, "0") + rest;
    const set = sets.get(stem + rest) ?? { numbers: new Set(), nameOf };
    set.numbers.add(Number(number));
    sets.set(stem + rest, set);
  }
  for (const [key, { numbers, nameOf }] of sets) {
    const count = Number(/(\d+)\.\w+$/.exec(key)![1]);
    if (numbers.size >= count) continue;
    let missing = 1;
    while (numbers.has(missing)) missing++;
    const path = join(folder, nameOf(missing));
    const message =
      `Cannot open "${folder}": ${numbers.size} of ${count} shards are there, "${path}" is not, and ` +
      "there is no index: was a download interrupted?";
    throw new SafeTensorsError("MissingShard", message, { path });
  }
}

function noTensorFiles(path: string, names: readonly string[], naming: Naming): SafeTensorsError {
  const message = `Cannot open "${path}": no ${naming.files.join(" or ")} file is in this folder${
    naming.hint(names)
  }`;
  return new SafeTensorsError("NoTensorFiles", message, { path });
}

/** Indexes reach 25 MB; this is far beyond any real one. */
const MAX_INDEX_BYTES = 256 * 2 ** 20;

async function resolveIndex(path: string): Promise<Inputs> {
  let bytes: Uint8Array;
  let indexVersion: string;
  try {
    const info = await Deno.stat(path);
    checkIndexSize(path, info.size);
    indexVersion = versionOf(info);
    bytes = await Deno.readFile(path);
  } catch (error) {
    throw error instanceof SafeTensorsError ? error : readError(error, "read", path);
  }
  return { ...indexed(path, bytes), indexVersion };
}

function checkIndexSize(path: string, size: number): void {
  if (size <= MAX_INDEX_BYTES) return;
  const message =
    `Cannot read "${path}": an index of ${size} bytes is larger than the limit of ${MAX_INDEX_BYTES}`;
  throw new SafeTensorsError("InvalidIndex", message, { path });
}

/** What the bytes of an index say, with the paths of the shards beside it. */
function indexed(path: string, bytes: Uint8Array): Inputs {
  const index = parseShardIndex(bytes, { path, maxBytes: MAX_INDEX_BYTES });
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  const weightMap = new Map<string, string>();
  for (const [name, file] of index.weightMap) weightMap.set(name, join(folder, file));
  return { paths: index.files.map((file) => join(folder, file)), weightMap, indexPath: path };
}

/** What tells an index from its successor. Inode numbers do not: some FUSE file systems give new ones all the time. */
function versionOf({ size, mtime }: Deno.FileInfo): string {
  return [size, mtime?.getTime()].join();
}

/**
 * Throws if the index is not the one any more that named the files, now that they are open: a save that replaces a set
 * of shards takes the old index away first, so that they might be some of the old and some of the new.
 *
 * @throws {ReadError}
 */
export async function checkIndex(
  { indexPath, indexVersion }: Pick<Inputs, "indexPath" | "indexVersion">,
): Promise<void> {
  if (indexPath === null || indexVersion === undefined) return;
  const info = await Deno.stat(indexPath).catch(() => null);
  if (info && versionOf(info) === indexVersion) return;
  const message = `Cannot open "${indexPath}": it was replaced while its shards were opened: open it again`;
  throw new ReadError(message, { path: indexPath });
}

/** An error about a shard that an index names and that is not there, or any other refusal as it is. */
export function missingShard(error: unknown, indexPath: string | null): unknown {
  if (indexPath === null || !(error instanceof ReadError) || error.errno !== 2) return error;
  const message =
    `Cannot open "${error.path}": the index "${indexPath}" names this shard, and it is not there`;
  return new SafeTensorsError("MissingShard", message, { path: error.path, cause: error });
}

function join(folder: string, name: string): string {
  return folder.endsWith("/") ? folder + name : `${folder}/${name}`;
}
