/**
 * What is in a set of opened files: every tensor with its place.
 */
import type { Assemble } from "./assembly.ts";
import { ReadError, SafeTensorsError } from "./errors.ts";
import type { DType } from "./format/dtype.ts";
import type { Header } from "./format/header.ts";
import type { ProcessGroup } from "./group/process_group.ts";
import { headerLength, parseHeader } from "./format/header_reader.ts";
import { checkIndex, type Inputs, missingShard } from "./inputs.ts";
import { workingFolder } from "./source/local_path.ts";
import { closeAll, type Source, type SourceFile } from "./source/source.ts";

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
}

/** Lists what is in a file, which is one of the catalog's by its index. */
export type ListFile<F extends SourceFile = SourceFile> = (file: F, index: number) => Promise<FileContents>;

/** Files that are being opened at once. */
const OPENING = 8;

/**
 * Opens files and lists what is in them, by their headers unless `list` does it otherwise. After an error none of
 * them is open.
 *
 * @param folder what relative paths count from: the program may go elsewhere before all are open, or are opened again
 * @throws {SafeTensorsError} if a header is bad, a name occurs twice, or files and index disagree
 * @throws {ReadError} if the system refuses
 */
export async function openCatalog<F extends SourceFile>(
  source: Source<F>,
  inputs: Inputs,
  signal?: AbortSignal,
  list: ListFile<F> = listHeader,
  folder: string | undefined = workingFolder(),
): Promise<Catalog<F>> {
  const { paths } = inputs;
  const files: F[] = new Array(paths.length);
  const contents: FileContents[] = new Array(paths.length);
  let next = 0;
  let failed = false;
  const openNext = async () => {
    while (next < paths.length && !failed) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        const file = await source.open(paths[index]!, folder);
        files[index] = file;
        contents[index] = await list(file, index);
      } catch (error) {
        failed = true;
        throw missingShard(error, inputs.indexPath);
      }
    }
  };
  try {
    const results = await Promise.allSettled(Array.from({ length: OPENING }, openNext));
    for (const result of results) if (result.status === "rejected") throw result.reason;
    await checkIndex(inputs);
    const catalog = merge(files, contents, inputs);
    const reopen = (path: string) =>
      openCatalog(source, { paths: [path], weightMap: null, indexPath: null }, undefined, list, folder);
    return { ...catalog, notes: [...source.notes ?? [], ...catalog.notes], reopen };
  } catch (error) {
    await closeAll(files);
    throw error;
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
    const message =
      `Cannot read "${path}": ${size} bytes expected, ${head.byteLength} found: was it truncated?`;
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
  return parseHeader(json, size, { path });
}

async function listHeader(file: SourceFile, index: number): Promise<FileContents> {
  const { tensors, metadata, dataStart } = await readFileHeader(file);
  const listed: CatalogTensor[] = [];
  // At once, not while the files are merged: what the header was read into can be freed before the next one is.
  for (const { name, dtype, shape, begin, end } of tensors.values()) {
    listed.push({ name, dtype, shape, file: index, fileOffset: dataStart + begin, byteLength: end - begin });
  }
  return { metadata, notes: [], tensors: listed };
}

function merge<F extends SourceFile>(
  files: F[],
  contents: readonly FileContents[],
  inputs: Inputs,
): Omit<Catalog<F>, "reopen"> {
  const tensors = new Map<string, CatalogTensor>();
  const metadata = new Map<string, ReadonlyMap<string, string>>();
  for (const [index, content] of contents.entries()) {
    const { path } = files[index]!;
    metadata.set(path, content.metadata);
    for (const tensor of content.tensors) {
      const first = tensors.get(tensor.name);
      if (first) {
        const message = `Cannot open "${path}": tensor "${tensor.name}" is also in "${
          files[first.file]!.path
        }"`;
        throw new SafeTensorsError("DuplicateName", message, { path, tensor: tensor.name });
      }
      Object.freeze(tensor.shape); // every handle and info() give this one
      tensors.set(tensor.name, tensor);
    }
  }
  const notes = [
    ...contents.flatMap((content) => content.notes),
    ...compareIndex({ files, tensors }, inputs),
  ];
  return { files, tensors, metadata, notes };
}

/** Every tensor of the index must be in the shard that it names; what the index does not know is worth a note. */
export function compareIndex(
  { files, tensors }: Pick<Catalog, "files" | "tensors">,
  { weightMap, indexPath }: Omit<Inputs, "paths">,
): string[] {
  if (!weightMap) return [];
  for (const [name, path] of weightMap) {
    const tensor = tensors.get(name);
    const found = tensor && pathOf({ files }, tensor);
    if (found === path) continue;
    const where = tensor ? `, it is in "${found}"` : "";
    const message = `Cannot find tensor "${name}": the index "${indexPath}" says it is in "${path}"${where}`;
    throw new SafeTensorsError("TensorNotFound", message, { path, tensor: name });
  }
  if (tensors.size === weightMap.size) return [];
  const unlisted = tensors.keys().filter((name) => !weightMap.has(name)).take(3).toArray();
  const count = tensors.size - weightMap.size;
  return [`${count} tensors are in the shards but not in the index, such as "${unlisted.join('", "')}"`];
}

/**
 * The same files with the names that a save left out as aliases: `name → kept name` in a file's metadata, where the
 * kept name is a tensor and the name is none.
 */
export function restoreAliases(catalog: Catalog): Catalog {
  const tensors = new Map(catalog.tensors);
  for (const metadata of catalog.metadata.values()) {
    for (const [name, kept] of metadata) {
      const tensor = catalog.tensors.get(kept);
      if (tensor && !tensors.has(name)) tensors.set(name, { ...tensor, name, aliasOf: kept });
    }
  }
  return { ...catalog, tensors };
}
