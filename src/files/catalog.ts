/**
 * The catalog of a set of opened files: every tensor with its place.
 */
import { ReadError, SafeTensorsError } from "../base/errors.ts";
import type { DType } from "../base/dtype.ts";
import type { Header } from "../format/header.ts";
import type { ProcessGroup } from "../base/process_group.ts";
import { headerLength, headerSteps, type TableHeader, tableSteps } from "../format/header_reader.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { quote } from "../base/text.ts";
import type { Index, Inputs } from "./inputs.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { closeAll, type Source, type SourceFile } from "./source.ts";
import { TensorTable, type WholeTensor } from "./tensor_table.ts";

/** Fills `target` with the elements of a tensor, contiguous and little-endian. */
export type Assemble = (
  file: SourceFile,
  target: Uint8Array<ArrayBuffer>,
  signal: AbortSignal,
) => Promise<void>;

/** A tensor in a file. */
export interface CatalogTensor extends WholeTensor {
  /** Index into the catalog's files; -1 if another rank has its file. */
  readonly file: number;
  /** The rank that has its file, if the ranks of a group have opened the files together. */
  readonly home?: FileHome;
  /** Its bytes in the file; for an assembled tensor the bytes of the result. */
  readonly byteLength: number;
  /** Name of the tensor of which this one is an alias. */
  readonly aliasOf?: string;
  /** Assembles it, if its elements have another order in the file, or are quantized there. */
  readonly assemble?: Assemble;
  /** What the file has, if it is quantized there; it becomes BF16 then unless another dtype is wanted. */
  readonly stored?: StoredTensor;
}

/** A quantized tensor, as it is in the file. */
export interface StoredTensor {
  /** Element type. */
  readonly dtype: DType;
  /** Its bytes. */
  readonly byteLength: number;
  /** Fills `target` with the bytes of the result from `begin` on, a whole number of elements; reads no others. */
  assemblePart(
    file: SourceFile,
    begin: number,
    target: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<void>;
}

/** A file that one rank of a group has opened for all. */
export interface FileHome {
  /** The path that this rank uses for it. */
  readonly path: string;
  /** The rank. */
  readonly rank: number;
  /** Its index in the files of that rank, from 0. */
  readonly round: number;
}

/** Opened files and their tensors. */
export interface Catalog<F extends SourceFile = SourceFile> {
  /** The files, in the order of their names. */
  readonly files: readonly F[];
  /** Name → tensor, in file order. */
  readonly tensors: ReadonlyMap<string, CatalogTensor>;
  /** Path → the file's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, ReadonlyMap<string, string>>;
  /** Notes on these files for the user. */
  readonly notes: readonly string[];
  /** Tensors that an index lists but no file has, or that cannot be read: name → function that makes the error. */
  readonly missing?: ReadonlyMap<string, () => SafeTensorsError>;
  /** The ranks that have opened the files together; undefined if this process has opened all files. */
  readonly group?: ProcessGroup;
  /** Opens one more file of the same kind. */
  reopen(path: string): Promise<Catalog<F>>;
}

/** The content of one file. */
export interface FileContents {
  /** Its tensors, in file order. */
  readonly tensors: TensorTable | readonly CatalogTensor[];
  /** Its `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** Notes on it for the user. */
  readonly notes: readonly string[];
  /** Its tensors that cannot be read: name → function that makes the error. */
  readonly refused?: ReadonlyMap<string, SafeTensorsError>;
}

/** Lists the content of a file; `index` is its index in the catalog. */
export type ListFile<F extends SourceFile = SourceFile> = (file: F, index: number) => Promise<FileContents>;

/** Files that are opened at once. */
const OPENING = 8;

/**
 * Opens files and lists their tensors, by `list` or by their headers. After an error it closes all of them.
 *
 * @throws {SafeTensorsError} if a header is not valid, a shard is missing, or a name occurs twice and no index lists it
 * @throws {ReadError} if the system reports an error
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
    const merged = await mergeFiles(contents, inputs.indexes, (tensor) => pathOf({ files }, tensor));
    const metadata = new Map<string, ReadonlyMap<string, string>>();
    const missing = new Map<string, () => SafeTensorsError>();
    for (const [index, content] of contents.entries()) {
      const { path } = files[index]!;
      metadata.set(path, content.metadata);
      for (const [name, error] of content.refused ?? []) missing.set(name, () => error);
    }
    const notes = [
      ...source.notes ?? [],
      ...inputs.notes,
      ...contents.flatMap((content) => content.notes),
      ...merged.notes,
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

/** The tensors of all files by name, and notes on names that two files have. */
async function mergeFiles(
  contents: readonly FileContents[],
  indexes: readonly Index[],
  pathOf: (tensor: CatalogTensor) => string,
): Promise<{ readonly tensors: ReadonlyMap<string, CatalogTensor>; readonly notes: readonly string[] }> {
  const lists = contents.map(({ tensors }) => tensors);
  if (lists.every((list) => list instanceof TensorTable)) {
    const tensors = await finishInTurns(TensorTable.joinSteps(lists));
    if (tensors) return { tensors, notes: [] };
  }
  const merged = new MergedTensors<CatalogTensor>(indexes, pathOf);
  const turn = new Turn();
  for (const list of lists) {
    for (const tensor of list.values()) {
      merged.add(tensor);
      if (merged.tensors.size % 4096 === 0) await turn.pause();
    }
  }
  return { tensors: merged.tensors, notes: merged.notes() };
}

/**
 * Opens one of the files of a model.
 *
 * @throws {SafeTensorsError} "MissingShard" if an index names the file but it does not exist
 * @throws {ReadError} if the system reports an error
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

/** Returns the path of a tensor's file, on this rank or another. */
export function pathOf({ files }: Pick<Catalog, "files">, { file, home }: CatalogTensor): string {
  return home?.path ?? files[file]!.path;
}

/** Reads and checks the header of an opened file. */
export async function readFileHeader(file: SourceFile): Promise<Header> {
  const { path, size } = file;
  return await finishInTurns(headerSteps(await readHeaderJson(file), size, { path }));
}

async function listHeader(file: SourceFile, index: number): Promise<FileContents> {
  const { path, size } = file;
  const header: TableHeader = await finishInTurns(tableSteps(await readHeaderJson(file), size, { path }));
  return { metadata: header.metadata, notes: [], tensors: TensorTable.of(header, index) };
}

/** Reads the JSON of an opened file's header. */
async function readHeaderJson(file: SourceFile): Promise<Uint8Array> {
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
  return json;
}

/** The tensors of several files by name. If two files of an index have a name, the index decides which one is used. */
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
   * @throws {SafeTensorsError} "DuplicateName" if another file has the name too, and no index lists it
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
      this.tensors.delete(name); // so that it gets the position of its file
    }
    this.tensors.set(name, tensor);
  }

  /** Notes on names that two files have, for the user. */
  notes(): string[] {
    if (this.#decided.size === 0) return [];
    return [`In two shards, read from the one that the index names: ${counted([...this.#decided])}`];
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
 * @param known notes, and tensors that cannot be read, from the files themselves
 * @param tensors by name
 * @param pathOf returns the path of a tensor's file
 * @returns `known` with a note on each kind of difference, and with the tensors that no file has
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

/** Returns the name, or for several names their number and the first one. */
function counted(names: readonly string[]): string {
  const [first] = names as [string];
  return names.length === 1 ? `tensor ${quote(first)}` : `${names.length} tensors, such as ${quote(first)}`;
}

/** Makes the error for a tensor that is not available, with the reason if the catalog has one. */
export function tensorNotFound(
  { missing }: Pick<Catalog, "missing">,
  name: string,
  why: string,
): SafeTensorsError {
  const message = `Cannot find tensor ${quote(name)}: ${why}`;
  return missing?.get(name)?.() ?? new SafeTensorsError("TensorNotFound", message, { tensor: name });
}

/**
 * Adds the aliases that a save left out. A file's metadata has them as `alias → saved name`, where the file has a tensor
 * with the saved name and no tensor with the alias.
 */
export function* restoreAliases(catalog: Catalog): Steps<Catalog> {
  const tensors = new Map<string, CatalogTensor>();
  for (const [name, tensor] of catalog.tensors) {
    tensors.set(name, tensor);
    if (tensors.size % STEP === 0) yield;
  }
  let step = 0;
  for (const metadata of catalog.metadata.values()) {
    for (const [name, saved] of metadata) {
      if (++step % STEP === 0) yield;
      const tensor = catalog.tensors.get(saved);
      if (tensor && !tensors.has(name)) tensors.set(name, { ...tensor, name, aliasOf: saved });
    }
  }
  return { ...catalog, tensors };
}
