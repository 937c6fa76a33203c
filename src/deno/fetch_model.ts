/**
 * Fetches the files of a model into the cache, without loading tensors.
 */
import { WriteError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import { openCatalog, pathOf } from "../files/catalog.ts";
import type { CacheFile } from "../files/cache/cache_file.ts";
import type { ByteRange } from "../files/cache/ranges.ts";
import type { RemoteFile } from "../files/http/remote_file.ts";
import { checkFiles, isRemote, resolveInputs } from "../files/inputs.ts";
import { SAFETENSORS } from "../files/model_folder.ts";
import { type CacheOption, type CheckedNetworkOptions, checkNetwork } from "../files/network_options.ts";
import { closeAll, type SourceFile } from "../files/source.ts";
import { fetchRanges, type FileRanges } from "../load/fetch.ts";
import { openRemote, type Remote } from "./remote.ts";
import { findEngine } from "./select_source_and_device.ts";

/** Options of {@linkcode fetchModel}. */
export interface FetchModelOptions {
  /** The tensors to fetch. Default: whole files. */
  readonly names?: ((name: string) => boolean) | undefined;
  readonly cache?: CacheOption | undefined;
  readonly network?: CheckedNetworkOptions;
  /** Ends the fetch; bytes that have come stay in the cache. */
  readonly signal: AbortSignal;
  /** Called with the bytes that are in the cache, of those that are wanted. */
  readonly onProgress?: (bytes: number, totalBytes: number) => void;
}

/** The result of {@linkcode fetchModel}. */
export interface FetchReport {
  /** Number of files. */
  readonly files: number;
  /** Bytes that were wanted. */
  readonly bytes: number;
  /** Bytes of them that came over the network; the others were in the cache. */
  readonly fetched: number;
  readonly seconds: number;
  /** Notes for the user. */
  readonly notes: readonly string[];
}

/** A file with the ranges that are wanted of it. */
interface Wanted {
  readonly file: SourceFile;
  readonly ranges: readonly ByteRange[];
  /** Null if the whole file is in the cache. */
  readonly cache: CacheFile | null;
}

/**
 * Fetches files. The result comes after whole files have their final names in the cache.
 *
 * @throws {TypeError} if a path is that of a local file
 * @throws {SafeTensorsError} "ChecksumMismatch"
 * @throws {RemoteError} if a server refuses
 * @throws {WriteError} if the files cannot be kept
 */
export async function fetchModel(
  paths: readonly string[],
  { names, cache = true, network = checkNetwork(), signal, onProgress }: FetchModelOptions,
): Promise<FetchReport> {
  const start = performance.now();
  for (const path of checkFiles(paths, { size: 1 })) {
    if (!isRemote(path)) throw new TypeError(`Cannot fetch ${quote(path)}: it is not on a server`);
  }
  using remote = await openRemote(paths, { network, cache, signal, isStrict: true, device: "cpu" });
  const wanted = await openWanted(remote, paths, names, signal);
  let report: Omit<FetchReport, "seconds">;
  try {
    report = await fetchWanted(remote, wanted, signal, onProgress);
  } catch (error) {
    await closeAll(wanted.map(({ file }) => file)).catch(() => {}); // the first error counts
    throw error;
  }
  await closeAll(wanted.map(({ file }) => file));
  signal.throwIfAborted();
  return { ...report, seconds: (performance.now() - start) / 1000 };
}

/** Opens the files, and finds the ranges that are wanted of each. */
async function openWanted(
  { names: fileNames, source }: Remote,
  paths: readonly string[],
  names: ((name: string) => boolean) | undefined,
  signal: AbortSignal,
): Promise<Wanted[]> {
  const inputs = await resolveInputs(fileNames, paths, { size: 1 }, SAFETENSORS);
  if (!names) {
    const files: SourceFile[] = [];
    try {
      for (const path of inputs.paths) {
        signal.throwIfAborted();
        files.push(await source.open(path));
      }
      return files.map((file) => wantedOf(file, [{ start: 0, stop: file.size }]));
    } catch (error) {
      await closeAll(files).catch(() => {});
      throw error;
    }
  }
  const catalog = await openCatalog(source, inputs, signal);
  const ranges = new Map<string, ByteRange[]>();
  for (const tensor of catalog.tensors.values()) {
    if (!names(tensor.name)) continue;
    const path = pathOf(catalog, tensor);
    const range = { start: tensor.fileOffset, stop: tensor.fileOffset + tensor.byteLength };
    ranges.set(path, [...ranges.get(path) ?? [], range]);
  }
  return catalog.files.map((file) => wantedOf(file, ranges.get(file.path) ?? []));
}

function wantedOf(file: SourceFile, ranges: readonly ByteRange[]): Wanted {
  const { cache } = file as SourceFile & Pick<RemoteFile, "cache">;
  return { file, ranges, cache: cache ?? null };
}

async function fetchWanted(
  { source }: Remote,
  wanted: readonly Wanted[],
  signal: AbortSignal,
  onProgress?: (bytes: number, totalBytes: number) => void,
): Promise<Omit<FetchReport, "seconds">> {
  const notes =
    () => [...new Set([...source.notes ?? [], ...wanted.flatMap(({ file }) => file.takeNotes?.() ?? [])])];
  for (const { file, cache } of wanted) {
    if (cache === null && file.way?.(0, file.size) !== "cache") throw notKept(file.path, notes());
  }
  const missing = wanted.flatMap(({ file, ranges, cache }): FileRanges[] => {
    const pieces = cache ? ranges.flatMap(({ start, stop }) => [...cache.pieces(start, stop - start)]) : [];
    const others = pieces.filter(({ has }) => !has);
    return others.length > 0 ? [{ file, ranges: others }] : [];
  });
  const bytes = bytesOf(wanted), fetched = bytesOf(missing);
  onProgress?.(bytes - fetched, bytes);
  const engine = await findEngine({ source });
  await fetchRanges(engine, missing, {
    signal,
    onProgress: (done) => onProgress?.(bytes - fetched + done, bytes),
  });
  for (const { file, ranges, cache } of wanted) {
    const isThere = ranges.every(({ start, stop }) => cache?.has(start, stop - start) ?? true);
    if (!isThere) throw notKept(file.path, notes());
  }
  return { files: wanted.length, bytes, fetched, notes: notes() };
}

function bytesOf(files: readonly { readonly ranges: readonly ByteRange[] }[]): number {
  return files.reduce(
    (sum, { ranges }) => sum + ranges.reduce((sum, { start, stop }) => sum + stop - start, 0),
    0,
  );
}

function notKept(path: string, notes: readonly string[]): WriteError {
  const why = notes.length > 0 ? notes.join("; ") : "the server does not say its version";
  return new WriteError(`Cannot fetch ${quote(path)}: ${why}`, { path });
}
