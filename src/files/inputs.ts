/**
 * What a user names when opening a model, as a list of files.
 */
import { describeValue } from "../base/check.ts";
import { quote } from "../base/text.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { type Naming, SAFETENSORS } from "./model_folder.ts";
import { fromFileUrl } from "../base/paths.ts";

/** A path or a `file:` URL. */
export type PathLike = string | URL;

/**
 * What can be opened: a file, a folder, an index (`model.safetensors.index.json`), a list or a set of these, or files by
 * the rank that reads them.
 */
export type Files =
  | PathLike
  | readonly PathLike[]
  | ReadonlySet<PathLike>
  | Readonly<Record<number, PathLike | readonly PathLike[]>>;

/** An index that names files of a model. */
export interface Index {
  /** Its own path. */
  readonly path: string;
  /** Tensor → path of the file that has it. */
  readonly weightMap: ReadonlyMap<string, string>;
  /**
   * Throws if the index is not the one any more that named the files, asked once they are open: a save that replaces a
   * set of shards takes the old index away first, so that they might be some of the old and some of the new. Without it
   * the index is taken to be one that cannot change.
   *
   * @throws {ReadError}
   */
  verify?(): Promise<void>;
}

/** What one thing that the user named stands for. */
export interface Found {
  /** The files, in order. */
  readonly paths: readonly string[];
  /** The index that names them. */
  readonly index?: Index;
  /** What a user should know about the choice. */
  readonly notes: readonly string[];
  /** Whether its one file has been looked at: it is a regular file that may be read. Default false. */
  readonly isLookedAt?: boolean;
}

/** The names of files: local paths, or names that a source of the user's opens. */
export interface FileNames {
  /** What relative names count from: the program may go elsewhere before all files are open, or are opened again. */
  readonly folder: string | undefined;
  /**
   * The files that one name stands for.
   *
   * @throws {SafeTensorsError} if a folder has no model or several, or an index is bad
   * @throws {ReadError} if it is not there
   */
  resolve(name: string, naming: Naming): Promise<Found>;
  /** A text that is the same for all names of one file, as far as names tell. */
  identify(name: string): string;
  /**
   * Why a file could not be opened: if it is not there, what that may be due to; any other error as it is.
   *
   * @param indexes those that may name the file
   */
  explainAbsence(error: unknown, indexes: readonly Index[]): Promise<unknown>;
}

/** Whether a name is a URL of another kind than `file:`. */
export function isUrl(name: string): boolean {
  return /^[a-z][a-z\d+.-]+:\/\//i.test(name);
}

/** Files to open, and what is known of them before they are. */
export interface Inputs {
  /** In the order in which they are to be read. */
  readonly paths: readonly string[];
  /** The indexes that name some of them. */
  readonly indexes: readonly Index[];
  /** What a user should know about the choice of the files. */
  readonly notes: readonly string[];
  /** What kind of names the paths are. */
  readonly names: FileNames;
  /** Those of the paths that have been looked at just now: they are regular files that may be read. Default: none. */
  readonly lookedAt?: ReadonlySet<string>;
}

/**
 * Turns what the user named into paths, for all ranks together; folders and indexes are read for it.
 *
 * @throws {TypeError} if no file is named, or one twice
 * @throws {SafeTensorsError} if a folder has no model or several, or an index is bad
 * @throws {ReadError} if something named is not there
 */
export async function resolveInputs(
  names: FileNames,
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming = SAFETENSORS,
): Promise<Inputs> {
  const inputs = await resolveAny(names, files, group, naming);
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
 * @param own whether the names are for a source of the user's, so that URLs may be names
 * @throws {TypeError} if it is neither a path nor a list of paths nor a record of them
 * @throws {RangeError} if it names a rank that the group does not have
 */
export function checkFiles(files: Files, group: Pick<ProcessGroup, "size">, own = false): void {
  for (const path of isByRank(files) ? [...ranksOf(files, group).values()].flat() : listOfPaths(files)) {
    if (!own && isUrl(path)) {
      throw new TypeError(
        `Cannot open ${quote(path)}: URLs are not supported yet, only local files: download it first`,
      );
    }
  }
}

/** What the ranks of a group open, as far as one of them knows. */
export interface DealtInputs extends Omit<Inputs, "paths"> {
  /** Whether the user said which rank reads what; else the files are dealt out one by one. */
  readonly byRank: boolean;
  /** Rank → its files, for every rank of which this one knows. */
  readonly lists: ReadonlyMap<number, readonly string[]>;
}

/** Turns what the user named into the paths of each rank: file `i` of a list is read by rank `i % size`. */
export async function dealInputs(
  names: FileNames,
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming = SAFETENSORS,
): Promise<DealtInputs> {
  if (isByRank(files)) return { indexes: [], notes: [], names, byRank: true, lists: ranksOf(files, group) };
  const { paths, ...others } = await resolveAny(names, files, group, naming);
  const lists = Array.from(
    { length: group.size },
    (_, rank) => [rank, paths.filter((_, file) => file % group.size === rank)] as const,
  );
  return { ...others, byRank: false, lists: new Map(lists) };
}

type RankFiles = Readonly<Record<number, PathLike | readonly PathLike[]>>;

/** Whether these are files by rank: a plain object. */
function isByRank(files: Files): files is RankFiles {
  if (typeof files !== "object" || files === null || Array.isArray(files)) return false;
  const prototype = Object.getPrototypeOf(files);
  return prototype === Object.prototype || prototype === null;
}

async function resolveAny(
  names: FileNames,
  files: Files,
  group: Pick<ProcessGroup, "size">,
  naming: Naming,
): Promise<Inputs> {
  if (isByRank(files)) {
    return { paths: [...ranksOf(files, group).values()].flat(), indexes: [], notes: [], names };
  }
  const named = listOfPaths(files);
  const found: Found[] = [];
  for (const name of named) found.push(await names.resolve(name, naming));
  refuseTwice(names, named, found);
  return {
    names,
    paths: found.flatMap(({ paths }) => paths),
    indexes: found.flatMap(({ index }) => index ? [index] : []),
    notes: found.flatMap(({ notes }) => notes),
    lookedAt: new Set(found.flatMap(({ paths, isLookedAt }) => isLookedAt ? paths : [])),
  };
}

/** Throws if two of the things named have a file in common. */
function refuseTwice(names: FileNames, named: readonly string[], found: readonly Found[]): void {
  const seen = new Map<string, string>();
  for (const [item, { paths }] of found.entries()) {
    for (const path of paths) {
      const place = names.identify(path);
      const first = seen.get(place);
      if (first !== undefined) {
        const by = first === named[item] ? "" : `, by ${quote(first)} and by ${quote(named[item]!)}`;
        throw new TypeError(`Cannot open a model: the file ${quote(path)} is named twice${by}`);
      }
      seen.set(place, named[item]!);
    }
  }
}

/** Rank → files; every rank named must exist. */
function ranksOf(files: RankFiles, { size }: Pick<ProcessGroup, "size">): Map<number, readonly string[]> {
  const lists = new Map<number, readonly string[]>();
  for (const [rank, list] of Object.entries(files)) {
    if (!/^\d+$/.test(rank) || Number(rank) >= size) {
      const hint = size > 1
        ? `the group has ${size} (from 0)`
        : "the group has 1, this process, which is rank 0: the option group gives others";
      throw new RangeError(`Cannot open files for rank ${quote(rank)}: ${hint}`);
    }
    lists.set(Number(rank), listOfPaths(list));
  }
  return lists;
}

function listOfPaths(files: PathLike | readonly PathLike[] | ReadonlySet<PathLike>): string[] {
  if (typeof files === "string" || files instanceof URL) return [toPath(files)];
  if (Array.isArray(files) || files instanceof Set) return Array.from(files as Iterable<PathLike>, toPath);
  throw new TypeError(
    `Cannot open a model: files must be a path, a list or a record by rank, got ${describeValue(files)}${
      adviceFor(files)
    }`,
  );
}

/** What to do with something that is neither a path nor a list of paths. */
function adviceFor(value: unknown): string {
  if (value instanceof Uint8Array) return ": the bytes of a file are for deserialize(bytes)";
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) {
    return ": the bytes of a file are for deserialize(new Uint8Array(buffer))";
  }
  if (value instanceof Blob) return ": its bytes are for deserialize(await blob.bytes())";
  if (value instanceof Promise) return ": await it first";
  return "";
}

/** A path or a `file:` URL as a path. */
export function toPath(file: PathLike): string {
  if (file instanceof URL) {
    if (file.protocol !== "file:") {
      throw new TypeError(
        `Cannot open ${quote(file.href)}: only file: URLs can be opened, others are not supported yet`,
      );
    }
    return fromFileUrl(file);
  }
  if (typeof file !== "string") {
    throw new TypeError(
      `Cannot open a model: a path must be a string, got ${describeValue(file)}${adviceFor(file)}`,
    );
  }
  if (file === "" || file.includes("\0")) {
    throw new TypeError(`Cannot open ${JSON.stringify(file)}: it is not a path`);
  }
  return /^file:\/\//i.test(file) && URL.canParse(file) ? fromFileUrl(new URL(file)) : file;
}
