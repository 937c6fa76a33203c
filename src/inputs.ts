/**
 * What a user names when opening a model, as a list of files.
 */
import { ReadError, SafeTensorsError } from "./errors.ts";
import { parseShardIndex } from "./format/shard_index.ts";
import type { ProcessGroup } from "./group/process_group.ts";
import { readError } from "./source/native_file.ts";

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

/** Turns what the user named into paths; folders and indexes are read for it. */
export async function resolveInputs(
  files: Files,
  group: ProcessGroup,
  naming: Naming = SAFETENSORS,
): Promise<Inputs> {
  if (typeof files === "string" || files instanceof URL) return await resolveOne(toPath(files), naming);
  const list = Array.isArray(files) ? files as readonly PathLike[] : ownFiles(files as RankFiles, group);
  if (list.length === 0) throw new TypeError("Cannot open a model: the list of files is empty");
  return { paths: list.map(toPath), weightMap: null, indexPath: null };
}

type RankFiles = Readonly<Record<number, PathLike | readonly PathLike[]>>;

/** The files of this rank; every rank named must exist. */
function ownFiles(files: RankFiles, group: ProcessGroup): readonly PathLike[] {
  if (typeof files !== "object" || files === null) {
    throw new TypeError(
      `Cannot open a model: files must be a path, a list or a record by rank, got ${typeof files}`,
    );
  }
  for (const rank of Object.keys(files)) {
    if (!/^\d+$/.test(rank) || Number(rank) >= group.size) {
      throw new RangeError(`Cannot open files for rank "${rank}": the group has ${group.size} (from 0)`);
    }
  }
  const own = files[group.rank] ?? [];
  return typeof own === "string" || own instanceof URL ? [own] : own;
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

async function resolveOne(path: string, naming: Naming): Promise<Inputs> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (error) {
    throw readError(error, "open", path);
  }
  if (info.isDirectory) return await resolveFolder(path, naming);
  if (path.endsWith(".json")) return await resolveIndex(path, info.size);
  return { paths: [path], weightMap: null, indexPath: null };
}

async function resolveFolder(path: string, naming: Naming): Promise<Inputs> {
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(path)) {
      if (!entry.isDirectory) names.push(entry.name); // links are followed: the Hugging Face cache consists of them
    }
  } catch (error) {
    throw readError(error, "open", path);
  }
  const indexes = names.filter((name) => name.endsWith(naming.index));
  const index = indexes.find((name) => name === naming.usualIndex) ?? indexes.at(0);
  if (indexes.length > 1 && index !== naming.usualIndex) {
    const message = `Cannot choose an index in "${path}": there are ${indexes.join(", ")}: open one of them`;
    throw new SafeTensorsError("NoTensorFiles", message, { path });
  }
  if (index) {
    const indexPath = join(path, index);
    return await resolveIndex(indexPath, (await Deno.stat(indexPath)).size);
  }
  const shards = names.filter((name) => naming.files.some((suffix) => name.endsWith(suffix))).sort();
  if (shards.length === 0) throw noTensorFiles(path, names, naming);
  return { paths: shards.map((name) => join(path, name)), weightMap: null, indexPath: null };
}

function noTensorFiles(path: string, names: readonly string[], naming: Naming): SafeTensorsError {
  const message = `Cannot open "${path}": no ${naming.files.join(" or ")} file is in this folder${
    naming.hint(names)
  }`;
  return new SafeTensorsError("NoTensorFiles", message, { path });
}

/** Indexes reach 25 MB; this is far beyond any real one. */
const MAX_INDEX_BYTES = 256 * 2 ** 20;

async function resolveIndex(path: string, size: number): Promise<Inputs> {
  if (size > MAX_INDEX_BYTES) {
    const message =
      `Cannot read "${path}": an index of ${size} bytes is larger than the limit of ${MAX_INDEX_BYTES}`;
    throw new SafeTensorsError("InvalidIndex", message, { path });
  }
  let bytes: Uint8Array;
  try {
    bytes = await Deno.readFile(path);
  } catch (error) {
    throw readError(error, "read", path);
  }
  const index = parseShardIndex(bytes, { path, maxBytes: MAX_INDEX_BYTES });
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : ".";
  const weightMap = new Map<string, string>();
  for (const [name, file] of index.weightMap) weightMap.set(name, join(folder, file));
  return { paths: index.files.map((file) => join(folder, file)), weightMap, indexPath: path };
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
