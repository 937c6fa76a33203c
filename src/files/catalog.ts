/**
 * What is in a set of opened files: every tensor with its place.
 */
import { ReadError, SafeTensorsError } from "../base/errors.ts";
import type { DType } from "../base/dtype.ts";
import type { Header } from "../format/header.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { headerLength, headerSteps } from "../format/header_reader.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import type { Index, Inputs } from "./inputs.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { closeAll, type Source, type SourceFile } from "./source.ts";

/** Fills `target` with the elements of a tensor, contiguous and little-endian. */
export type Assemble = (
  file: SourceFile,
  target: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
) => Promise<void>;

/** A tensor in a file. */
export interface CatalogTensor {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Index into the catalog's files; -1 if another rank has its file. */
  readonly file: number;
  /** Which rank has its file, where the ranks of a group have opened the files together. */
  readonly home?: FileHome;
  /** Where its first byte stands in the file. */
  readonly fileOffset: number;
  /** Its bytes in the file; what they make, where it has to be assembled. */
  readonly byteLength: number;
  /** Another tensor that it is the same as. */
  readonly aliasOf?: string;
  /** How it is put together, where it does not lie in the file as it is wanted. */
  readonly assemble?: Assemble;
}

/** A file that one rank of a group has opened for all. */
export interface FileHome {
  /** As it was named there. */
  readonly path: string;
  /** The rank. */
  readonly rank: number;
  /** Which one of that rank's files it is, from 0. */
  readonly round: number;
}

/** Opened files and what is in them. */
export interface Catalog<F extends SourceFile = SourceFile> {
  /** In the order in which they were named. */
  readonly files: readonly F[];
  /** Name → tensor, in file order. */
  readonly tensors: ReadonlyMap<string, CatalogTensor>;
  /** Path → the file's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** What a user should know about these files. */
  readonly notes: readonly string[];
  /** Tensors that cannot be had, as no file has what an index lists, or a file has what cannot be read: name → error. */
  readonly missing?: ReadonlyMap<string, () => SafeTensorsError>;
  /** The ranks that have opened the files together; undefined if this process has them all. */
  readonly group?: ProcessGroup;
  /** Opens a file of the same kind, by itself. */
  reopen(path: string): Promise<Catalog<F>>;
}

/** What is in one file. */
export interface FileContents {
  /** Its tensors, in file order. */
  readonly tensors: readonly CatalogTensor[];
  /** Its `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** What a user should know about it. */
  readonly notes: readonly string[];
  /** Its tensors that cannot be read: name → the error for whoever asks for one. */
  readonly refused?: ReadonlyMap<string, SafeTensorsError>;
}

/** Lists what is in a file, which is one of the catalog's by its index. */
export type ListFile<F extends SourceFile = SourceFile> = (file: F, index: number) => Promise<FileContents>;

/** Files that are being opened at once. */
const OPENING = 8;

/**
 * Opens files and lists what is in them, by their headers unless `list` does it otherwise. After an error none of
 * them is open.
 *
 * @throws {SafeTensorsError} if a header is bad, a name occurs twice and no index decides, or a shard is missing
 * @throws {ReadError} if the system refuses
 */
export async function openCatalog<F extends SourceFile>(
  source: Source<F>,
  inputs: Inputs,
  signal?: AbortSignal,
  list: ListFile<F> = listHeader,
): Promise<Catalog<F>> {
  const catalog = await openPart(source, inputs, signal, list);
  const { files, tensors } = catalog;
  const pathOfName = (name: string) => pathOf({ files }, tensors.get(name)!);
  const comparing = compareIndexes(catalog, tensors, pathOfName, inputs.indexes);
  return { ...catalog, ...await finishInTurns(comparing) };
}

/** {@linkcode openCatalog} without the comparison with the indexes: other ranks have the other files. */
export async function openPart<F extends SourceFile>(
  source: Source<F>,
  inputs: Inputs,
  signal?: AbortSignal,
  list: ListFile<F> = listHeader,
): Promise<Catalog<F>> {
  const { paths, names } = inputs;
  const files: F[] = new Array(paths.length);
  const contents: FileContents[] = new Array(paths.length);
  let next = 0;
  let failed = false;
  const openNext = async () => {
    while (next < paths.length && !failed) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        const file = await openInput(source, paths[index]!, inputs);
        files[index] = file;
        contents[index] = await list(file, index);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  try {
    const results = await Promise.allSettled(Array.from({ length: OPENING }, openNext));
    for (const result of results) if (result.status === "rejected") throw result.reason;
    for (const index of inputs.indexes) await index.verify?.();
    const merged = new MergedTensors<CatalogTensor>(inputs.indexes, (tensor) => pathOf({ files }, tensor));
    const metadata = new Map<string, ReadonlyMap<string, string>>();
    const missing = new Map<string, () => SafeTensorsError>();
    const turn = new Turn();
    for (const [index, content] of contents.entries()) {
      const { path } = files[index]!;
      metadata.set(path, content.metadata);
      for (const tensor of content.tensors) {
        Object.freeze(tensor.shape); // every handle and info() give this one
        merged.add(tensor);
        if (merged.tensors.size % 4096 === 0) await turn.pause();
      }
      for (const [name, error] of content.refused ?? []) missing.set(name, () => error);
    }
    const notes = [
      ...source.notes ?? [],
      ...inputs.notes,
      ...contents.flatMap((content) => content.notes),
      ...merged.notes(),
    ];
    const reopen = async (path: string) => {
      return await openCatalog(source, { paths: [path], indexes: [], notes: [], names }, undefined, list);
    };
    return { files, tensors: merged.tensors, metadata, notes, missing, reopen };
  } catch (error) {
    await closeAll(files);
    throw error;
  }
}

/**
 * Opens one of the files of a model.
 *
 * @throws {SafeTensorsError} "MissingShard" if an index names it and it is not there
 * @throws {ReadError} if the system refuses
 */
export async function openInput<F extends SourceFile>(
  source: Source<F>,
  path: string,
  { names, indexes, lookedAt }: Pick<Inputs, "names" | "indexes" | "lookedAt">,
): Promise<F> {
  try {
    return await source.open(path, names.folder, lookedAt?.has(path));
  } catch (error) {
    throw await names.explainAbsence(error, indexes);
  }
}

/** The path of a tensor's file, on whichever rank that is. */
export function pathOf({ files }: Pick<Catalog, "files">, { file, home }: CatalogTensor): string {
  return home?.path ?? files[file]!.path;
}

/** Reads and checks the header of an opened file. */
export async function readFileHeader(file: SourceFile): Promise<Header> {
  const { path, size, head } = file;
  if (head.byteLength < Math.min(8, size)) {
    const details = { path, offset: 0, expected: size, actual: head.byteLength };
    const message = `Cannot read ${
      quote(path)
    }: ${size} bytes expected, ${head.byteLength} found: was it truncated?`;
    throw new ReadError(message, details);
  }
  const length = headerLength(head, size, { path });
  let json = head.subarray(8, 8 + length);
  if (json.byteLength < length) {
    const whole = new Uint8Array(length);
    whole.set(json);
    await file.read(8 + json.byteLength, whole.subarray(json.byteLength));
    json = whole;
  }
  file.releaseHead();
  return await finishInTurns(headerSteps(json, size, { path }));
}

async function listHeader(file: SourceFile, index: number): Promise<FileContents> {
  const { tensors, metadata, dataStart } = await readFileHeader(file);
  const listed: CatalogTensor[] = [];
  const turn = new Turn();
  // At once, not while the files are merged: what the header was read into can be freed before the next one is.
  for (const { name, dtype, shape, begin, end } of tensors.values()) {
    listed.push({ name, dtype, shape, file: index, fileOffset: dataStart + begin, byteLength: end - begin });
    if (listed.length % 4096 === 0) await turn.pause();
  }
  return { metadata, notes: [], tensors: listed };
}

/** The tensors of several files by their names. Where a name is in two files of an index, the index decides. */
export class MergedTensors<T extends { readonly name: string }> {
  /** Name → tensor, in file order. */
  readonly tensors = new Map<string, T>();
  readonly #indexes: readonly (Index & { readonly shards: ReadonlySet<string> })[];
  readonly #pathOf: (tensor: T) => string;
  readonly #decided = new Set<string>();

  /** @param pathOf the path of a tensor's file */
  constructor(indexes: readonly Index[], pathOf: (tensor: T) => string) {
    this.#pathOf = pathOf;
    this.#indexes = indexes.map((index) => ({ ...index, shards: new Set(index.weightMap.values()) }));
  }

  /**
   * Adds a tensor of a file.
   *
   * @throws {SafeTensorsError} "DuplicateName" if another file has the name too, and no index decides
   */
  add(tensor: T): void {
    const { name } = tensor;
    const other = this.tensors.get(name);
    if (other) {
      const [first, path] = [this.#pathOf(other), this.#pathOf(tensor)];
      const index = this.#indexes.find(({ shards }) => shards.has(first) && shards.has(path));
      const chosen = index?.weightMap.get(name);
      if (first === path || (chosen !== first && chosen !== path)) throw duplicate(name, path, first);
      this.#decided.add(name);
      if (chosen === first) return;
      this.tensors.delete(name); // to stand where its file does
    }
    this.tensors.set(name, tensor);
  }

  /** What a user should know about names in two files. */
  notes(): string[] {
    if (this.#decided.size === 0) return [];
    return [`In two shards, and read from the one that the index names: ${counted([...this.#decided])}`];
  }
}

function duplicate(name: string, path: string, first: string): SafeTensorsError {
  const message = `Cannot open ${quote(path)}: tensor ${quote(name)} is also in ${quote(first)}`;
  const advice = "if they are two editions of one model, open one of them";
  return new SafeTensorsError("DuplicateName", message, { path, tensor: name, advice });
}

/**
 * Compares files with their indexes.
 *
 * @param known what is known without the indexes: notes, and tensors that cannot be read
 * @param tensors by name
 * @param pathOf the path of the file that has one of them
 * @returns the same, with a note on each kind of difference, and the tensors that no file has
 */
export function* compareIndexes(
  known: Pick<Catalog, "missing" | "notes">,
  tensors: ReadonlyMap<string, unknown>,
  pathOf: (name: string) => string,
  indexes: readonly Index[],
): Steps<Required<Pick<Catalog, "missing" | "notes">>> {
  const missing = new Map(known.missing);
  const notes = [...known.notes];
  let listed = 0, step = 0;
  for (const { path: indexPath, weightMap } of indexes) {
    const elsewhere: string[] = [];
    const absent: string[] = [];
    for (const [name, path] of weightMap) {
      if (++step % STEP === 0) yield;
      if (tensors.has(name)) {
        listed++;
        if (pathOf(name) !== path) elsewhere.push(name);
      } else if (!missing.has(name)) {
        absent.push(name);
        missing.set(name, () => {
          const message =
            `Cannot find tensor ${quote(name)}: the index ${quote(indexPath)} says that it is in ${
              quote(path)
            }, ` +
            "which does not have it";
          return new SafeTensorsError("TensorNotFound", message, { path, tensor: name });
        });
      }
    }
    if (absent.length > 0) {
      notes.push(`The shards of the index ${quote(indexPath)} do not have what it lists: ${counted(absent)}`);
    }
    if (elsewhere.length > 0) {
      notes.push(`In another shard than the index ${quote(indexPath)} says: ${counted(elsewhere)}`);
    }
  }
  if (listed < tensors.size) notes.push(...yield* unlistedNotes(tensors, pathOf, indexes));
  return { missing, notes };
}

/** Notes on tensors in files of an index that does not list them. */
function* unlistedNotes(
  tensors: ReadonlyMap<string, unknown>,
  pathOf: (name: string) => string,
  indexes: readonly Index[],
): Steps<string[]> {
  const notes: string[] = [];
  let step = 0;
  for (const { path, weightMap } of indexes) {
    const shards = new Set(weightMap.values());
    const names: string[] = [];
    for (const name of tensors.keys()) {
      if (++step % STEP === 0) yield;
      if (!weightMap.has(name) && shards.has(pathOf(name))) names.push(name);
    }
    if (names.length > 0) notes.push(`In the shards but not in the index ${quote(path)}: ${counted(names)}`);
  }
  return notes;
}

/** These names, or how many there are and the first of them. */
function counted(names: readonly string[]): string {
  const [first] = names as [string];
  return names.length === 1 ? `tensor ${quote(first)}` : `${names.length} tensors, such as ${quote(first)}`;
}

/** The error about a name that cannot be had: why it is missing, where that is known. */
export function tensorNotFound(
  { missing }: Pick<Catalog, "missing">,
  name: string,
  why: string,
): SafeTensorsError {
  const message = `Cannot find tensor ${quote(name)}: ${why}`;
  return missing?.get(name)?.() ?? new SafeTensorsError("TensorNotFound", message, { tensor: name });
}

/**
 * The same files with the names that a save left out as aliases: `name → kept name` in a file's metadata, where the
 * kept name is a tensor and the name is none.
 */
export function* restoreAliases(catalog: Catalog): Steps<Catalog> {
  const tensors = new Map<string, CatalogTensor>();
  for (const [name, tensor] of catalog.tensors) {
    tensors.set(name, tensor);
    if (tensors.size % STEP === 0) yield;
  }
  let step = 0;
  for (const metadata of catalog.metadata.values()) {
    for (const [name, kept] of metadata) {
      if (++step % STEP === 0) yield;
      const tensor = catalog.tensors.get(kept);
      if (tensor && !tensors.has(name)) tensors.set(name, { ...tensor, name, aliasOf: kept });
    }
  }
  return { ...catalog, tensors };
}
