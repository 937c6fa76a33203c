/**
 * What is in a set of opened files: every tensor with its place.
 */
import { ReadError, SafeTensorsError } from "./errors.ts";
import type { DType } from "./format/dtype.ts";
import type { Header } from "./format/header.ts";
import { headerLength, parseHeader } from "./format/header_reader.ts";
import { type Inputs, missingShard } from "./inputs.ts";
import type { Source, SourceFile } from "./source/source.ts";

/** A tensor in a file. */
export interface CatalogTensor {
  /** Its name. */
  readonly name: string;
  /** Element type in the file. */
  readonly dtype: DType;
  /** Elements along each dimension. */
  readonly shape: readonly number[];
  /** Index into the catalog's files. */
  readonly file: number;
  /** Where its first byte stands in the file. */
  readonly fileOffset: number;
  /** Its bytes in the file. */
  readonly byteLength: number;
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
}

/** Files that are being opened at once. */
const OPENING = 8;

/**
 * Opens files and reads their headers. After an error none of them is open.
 *
 * @throws {SafeTensorsError} if a header is bad, a name occurs twice, or files and index disagree
 * @throws {ReadError} if the system refuses
 */
export async function openCatalog<F extends SourceFile>(
  source: Source<F>,
  inputs: Inputs,
  signal?: AbortSignal,
): Promise<Catalog<F>> {
  const { paths } = inputs;
  const files: F[] = new Array(paths.length);
  const headers: Header[] = new Array(paths.length);
  let next = 0;
  let failed = false;
  const openNext = async () => {
    while (next < paths.length && !failed) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        const file = await source.open(paths[index]!);
        files[index] = file;
        headers[index] = await readFileHeader(file);
      } catch (error) {
        failed = true;
        throw missingShard(error, inputs.indexPath);
      }
    }
  };
  try {
    const results = await Promise.allSettled(Array.from({ length: OPENING }, openNext));
    for (const result of results) if (result.status === "rejected") throw result.reason;
    return assemble(files, headers, inputs);
  } catch (error) {
    for (const file of files) file?.close();
    throw error;
  }
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

function assemble<F extends SourceFile>(files: F[], headers: readonly Header[], inputs: Inputs): Catalog<F> {
  const tensors = new Map<string, CatalogTensor>();
  const metadata = new Map<string, ReadonlyMap<string, string>>();
  for (const [file, header] of headers.entries()) {
    const { path } = files[file]!;
    metadata.set(path, header.metadata);
    for (const { name, dtype, shape, begin, end } of header.tensors.values()) {
      const first = tensors.get(name);
      if (first) {
        const message = `Cannot open "${path}": tensor "${name}" is also in "${files[first.file]!.path}"`;
        throw new SafeTensorsError("DuplicateName", message, { path, tensor: name });
      }
      const fileOffset = header.dataStart + begin;
      tensors.set(name, { name, dtype, shape, file, fileOffset, byteLength: end - begin });
    }
  }
  return { files, tensors, metadata, notes: compareIndex(files, tensors, inputs) };
}

/** Every tensor of the index must be in the shard that it names; what the index does not know is worth a note. */
function compareIndex(
  files: readonly SourceFile[],
  tensors: ReadonlyMap<string, CatalogTensor>,
  { weightMap, indexPath }: Inputs,
): string[] {
  if (!weightMap) return [];
  for (const [name, path] of weightMap) {
    const tensor = tensors.get(name);
    if (tensor && files[tensor.file]!.path === path) continue;
    const where = tensor ? `, it is in "${files[tensor.file]!.path}"` : "";
    const message = `Cannot find tensor "${name}": the index "${indexPath}" says it is in "${path}"${where}`;
    throw new SafeTensorsError("TensorNotFound", message, { path, tensor: name });
  }
  if (tensors.size === weightMap.size) return [];
  const unlisted = tensors.keys().filter((name) => !weightMap.has(name)).take(3).toArray();
  const count = tensors.size - weightMap.size;
  return [`${count} tensors are in the shards but not in the index, such as "${unlisted.join('", "')}"`];
}
