/**
 * Turns the paths that a user passes into a list of files.
 */
import { describeValue } from "../base/check.ts";
import { quote } from "../base/text.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { type Naming, SAFETENSORS } from "./model_folder.ts";
import { fromFileUrl } from "../base/paths.ts";

/** A path, or a URL: `file:`, `https:`, `http:`, `hf:`, `s3:`. */
export type PathLike = string | URL;

/**
 * The files of a model: a file, a folder, an index (`model.safetensors.index.json`), a list or a set of these, or files
 * by the rank that reads them.
 */
export type Files =
  | PathLike
  | readonly PathLike[]
  | ReadonlySet<PathLike>
  | Readonly<Record<number, PathLike | readonly PathLike[]>>;

/** An index that names files of a model. */
export interface Index {
  /** Path of the index. */
  readonly path: string;
  /** Tensor → path of the file that has it. */
  readonly weightMap: ReadonlyMap<string, string>;
  /**
   * Throws if the index has changed since it was read; called after the files are open. A save that replaces a set of
   * shards removes the old index first; the opened files could mix old and new shards. Without this function the index
   * is assumed not to change.
   *
   * @throws {ReadError}
   */
  verify?(): Promise<void>;
}

/** The files of one path that the user passed. */
export interface Found {
  /** The files, in order. */
  readonly paths: readonly string[];
  /** The index that lists them. */
  readonly index?: Index;
  /** Notes on the choice for the user. */
  readonly notes: readonly string[];
  /** Whether a check has found that its one file is regular and readable. Default false. */
  readonly isLookedAt?: boolean;
}

/** Resolves names of files: local paths, or names of a source of the user. */
export interface FileNames {
  /** The folder of relative names. It is stored because the program can change its folder before all files are open. */
  readonly folder: string | undefined;
  /**
   * Finds the files of one name.
   *
   * @throws {SafeTensorsError} if a folder has no model or several, or an index is not valid
   * @throws {ReadError} if there is no file or folder of this name
   */
  resolve(name: string, naming: Naming): Promise<Found>;
  /** Returns a key that is the same for all names of one file, if the names show it. */
  identify(name: string): string;
  /**
   * Explains why a file could not be opened: adds the probable reason if the file does not exist; returns other errors
   * unchanged.
   *
   * @param indexes indexes that can list the file
   */
  explainAbsence(error: unknown, indexes: readonly Index[]): Promise<unknown>;
}

/** Whether a name is a URL with a scheme other than `file:`. */
export function isUrl(name: string): boolean {
  return /^[a-z][a-z\d+.-]+:\/\//i.test(name);
}

/** The schemes of names of files on servers. */
const SCHEMES = ["https", "http", "hf", "s3"];

/** Whether a name is that of a file on a server. */
export function isRemote(name: string): boolean {
  return SCHEMES.some((scheme) => name.slice(0, scheme.length + 3).toLowerCase() === `${scheme}://`);
}

/** Returns a name without the parts of a URL that can be secret. */
export function withoutSecrets(name: string): string {
  return isUrl(name) ? name.replace(/[?#].*$/s, "").replace(/^([^/]*\/\/)[^/]*@(?=[^/]*\/)/, "$1") : name;
}

/** Files to open, with their indexes and notes. */
export interface Inputs {
  /** Paths in reading order. */
  readonly paths: readonly string[];
  /** The indexes that list some of them. */
  readonly indexes: readonly Index[];
  /** Notes on the choice of the files, for the user. */
  readonly notes: readonly string[];
  /** Resolves names of this kind of paths. */
  readonly names: FileNames;
  /** The paths of which a check has just found that they are regular, readable files. Default: none. */
  readonly lookedAt?: ReadonlySet<string>;
}

/**
 * Turns the paths that the user passed into files, for all ranks together; reads folders and indexes.
 *
 * @throws {TypeError} if there is no file, or one file twice
 * @throws {SafeTensorsError} if a folder has no model or several, or an index is not valid
 * @throws {ReadError} if a path does not exist
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

/** Makes the error for an empty list of files. */
export function noFiles(): TypeError {
  return new TypeError("Cannot open a model: the list of files is empty");
}

/**
 * Checks the paths that the user passed, without access to files.
 *
 * @param own whether the names belong to a source of the user, so that URLs of all schemes are allowed
 * @returns the paths, of all ranks
 * @throws {TypeError} if `files` is neither a path nor a list of paths nor a record of them
 * @throws {RangeError} if a key is a rank that the group does not have
 */
export function checkFiles(files: Files, group: Pick<ProcessGroup, "size">, own = false): readonly string[] {
  const paths = isByRank(files) ? [...ranksOf(files, group).values()].flat() : listOfPaths(files);
  if (!own) { for (const path of paths) if (isUrl(path) && !isRemote(path)) throw unknownScheme(path); }
  return paths;
}

/** Makes the error for a URL of another scheme. */
function unknownScheme(name: string): TypeError {
  const advice = /^gs:/i.test(name)
    ? "Google's storage opens as s3:// with the endpoint https://storage.googleapis.com"
    : `the schemes are ${SCHEMES.join(", ")} and file`;
  return new TypeError(`Cannot open ${quote(withoutSecrets(name))}: ${advice}`);
}

/** The files that the ranks of a group open, as one rank knows them. */
export interface DealtInputs extends Omit<Inputs, "paths"> {
  /** Whether the user passed files by rank; else rank `i % size` reads file `i`. */
  readonly byRank: boolean;
  /** Rank → its files, for every rank whose files this rank knows. */
  readonly lists: ReadonlyMap<number, readonly string[]>;
}

/** Turns the paths that the user passed into the files of each rank: rank `i % size` reads file `i` of a list. */
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

/** Whether `files` is a record of files by rank: a plain object. */
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

/** Throws if two of the passed paths have a file in common. */
function refuseTwice(names: FileNames, named: readonly string[], found: readonly Found[]): void {
  const seen = new Map<string, string>();
  for (const [item, { paths }] of found.entries()) {
    for (const path of paths) {
      const place = names.identify(path);
      const first = seen.get(place);
      if (first !== undefined) {
        const by = first === named[item]
          ? ""
          : `, by ${quote(withoutSecrets(first))} and by ${quote(withoutSecrets(named[item]!))}`;
        throw new TypeError(`Cannot open a model: the file ${quote(path)} is named twice${by}`);
      }
      seen.set(place, named[item]!);
    }
  }
}

/** Returns rank → files; every rank must exist. */
function ranksOf(files: RankFiles, { size }: Pick<ProcessGroup, "size">): Map<number, readonly string[]> {
  const lists = new Map<number, readonly string[]>();
  for (const [rank, list] of Object.entries(files)) {
    if (!/^\d+$/.test(rank) || Number(rank) >= size) {
      const hint = size > 1
        ? `the group has ${size} (from 0)`
        : "the group has 1, this process, which is rank 0: pass the option group for more";
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

/** Returns advice for a value that is neither a path nor a list of paths. */
function adviceFor(value: unknown): string {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer || value instanceof SharedArrayBuffer) {
    return ": use deserialize(bytes) for the bytes of a file";
  }
  if (value instanceof Blob || value instanceof Response) {
    return ": use await deserialize(file) for its bytes";
  }
  if (value instanceof Promise) return ": await it first";
  return "";
}

/**
 * Converts a path or a `file:` URL to a local path.
 *
 * @throws {TypeError} for another URL
 */
export function toLocalPath(file: PathLike): string {
  const path = toPath(file);
  if (!isUrl(path)) return path;
  throw new TypeError(`Cannot write ${quote(withoutSecrets(path))}: only local files can be written`);
}

/** Converts a path or a `file:` URL to a path; other URLs stay as they are. */
export function toPath(file: PathLike): string {
  if (file instanceof URL) {
    if (file.protocol === "file:") return fromFileUrl(file);
    if (!isUrl(file.href)) throw unknownScheme(file.href); // such as data:, which would be taken for a path
    const { protocol, host, pathname, search } = file;
    // The names of these have no escapes.
    return /^(?:hf|s3):$/.test(protocol)
      ? `${protocol}//${host}${decodeURIComponent(pathname)}${search}`
      : file.href;
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
