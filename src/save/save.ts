/**
 * Tensors into files: in parallel, and so that nobody ever sees half of one.
 */
import { basename } from "../base/paths.ts";
import { absolutePath } from "../files/native/local_path.ts";
import { STEP, type Steps } from "../base/steps.ts";
import { checkBoolean, checkFunction, checkInteger, checkKeys, checkSignal, keysOf } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { castTarget } from "../format/cast.ts";
import type { DType } from "../base/dtype.ts";
import type { MetadataInput } from "../format/header_writer.ts";
import { quote } from "../base/text.ts";
import { handled } from "../base/handled.ts";
import { type PathLike, toPath } from "../files/inputs.ts";
import { finishInTurns } from "../base/turn.ts";
import { type Progress, ProgressCounter, type Work } from "../base/progress.ts";
import { AtomicSet } from "./atomic_set.ts";
import { OutputStream } from "./output_stream.ts";
import { indexPathOf, shardSteps } from "./shards.ts";
import { type SaveInput, type SaveSource, sourceSteps, type TensorShape } from "./source.ts";
import { supersededBy } from "./superseded.ts";
import { selectWriteEngine } from "./select_write_engine.ts";
import { isFolder } from "../files/native/write_error.ts";
import { writeTensors } from "./write_tensors.ts";

/** Options of {@linkcode saveFile}. */
export interface SaveOptions {
  /** The `__metadata__` of every file. Default: none. */
  metadata?: MetadataInput;
  /** Tensor bytes of one file at most; more go into shards with an index. Default: one file. */
  maxShardBytes?: number;
  /** Casts floating tensors on the way, rounded to nearest even. Default: they stay as they are. */
  dtype?: DType;
  /** What a stream of tensors will bring, before `dtype` casts it: needed where it is not a model. */
  shapes?: Iterable<TensorShape>;
  /**
   * Replaces what is there, a set of any number of shards included; mode and, where permitted, owner stay. Default
   * false: an existing file is an error.
   */
  overwrite?: boolean;
  /** Waits until the files are on storage before they appear, past the page cache where that can be. Default true. */
  sync?: boolean;
  /** Writes in flight, 1 to 16. Default 8, without the native library 2. */
  maxThreads?: number;
  /** Ends the save; what was written is removed. */
  signal?: AbortSignal;
  /** Called about 20 times a second while the save runs, and once at its end. */
  onProgress?: (progress: Progress) => void;
}

/** What was saved. */
export interface SaveReport {
  /** The files, the index last. */
  readonly paths: readonly string[];
  /** Tensors written. */
  readonly tensors: number;
  /** Bytes of all files. */
  readonly bytes: number;
  /** Seconds in all. */
  readonly seconds: number;
  /** `bytes / seconds / 1e9`. */
  readonly gigabytesPerSecond: number;
  /** Tensors left out because they are the same memory as another: name → the one that was written. */
  readonly aliases: ReadonlyMap<string, string>;
}

/**
 * Saves tensors in the safetensors format.
 *
 * Tensors that are the same memory are written once; the metadata then has `name → kept name` for the others. The
 * files appear under their names only when all of them are complete: if anything fails before, what was there is
 * untouched, and nothing is left behind. If the process is killed, the next save to the folder removes what it has
 * left; if that was while a set of several files got their names, the next save over it does the rest, or the command
 * `repair`, and until then it is not opened.
 *
 * A folder that is not there is made. A link is followed: the file behind it is replaced. What is there and is no regular
 * file, such as a device, is refused.
 *
 * The memory of the tensors must stay as it is until the save is over. Handles that a model gives out on the way are
 * disposed of; those that you give are yours.
 *
 * @param tensors a record, a map or pairs of name and tensor; a model, or a stream of pairs with the option `shapes`,
 *   is written as it comes, and may be larger than memory
 * @param path the file; with several shards, what their names are made from
 * @throws {SafeTensorsError} "FileExists"; "InterruptedSave" if an interrupted save has left something there and
 *   `overwrite` is not given; "InvalidTensorView" if data and shape do not fit; "DuplicateName"; what
 *   else the format refuses
 * @throws {TypeError} if something is not a tensor, its typed array is not that of its dtype, or an option is unknown
 * @throws {WriteError} if the system refuses, such as without space, or the target is not a regular file
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, saveFile } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const folder = await Deno.makeTempDir();
 * await saveFile({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }, `${folder}/x.safetensors`);
 *
 * await using model = await fastsafeOpen(folder);
 * assertEquals((await model.getTensor("x")).data, new Float32Array([1, 2]));
 * ```
 */
export function saveFile(
  tensors: SaveInput,
  path: PathLike,
  options: SaveOptions = {},
): Promise<SaveReport> {
  return handled(save(tensors, path, options));
}

async function save(tensors: SaveInput, path: PathLike, options: SaveOptions): Promise<SaveReport> {
  const startedAt = performance.now();
  checkOptions(options);
  const { signal, overwrite = false, sync = true, maxShardBytes, maxThreads } = options;
  signal?.throwIfAborted();
  const named = toPath(path);
  const target = absolutePath(named); // wherever the program goes meanwhile
  if (named.endsWith("/")) throw isFolder(named);
  const source = await finishInTurns(sourceSteps(tensors, options.dtype, options.shapes));
  const metadata = await finishInTurns(withAliases(options.metadata, source.aliases));
  const { shards, index } = await finishInTurns(
    shardSteps(source.items.values(), target, maxShardBytes ?? Infinity, metadata),
  );
  const files = index ? [...shards, { path: index.path, size: index.bytes.byteLength }] : shards;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);

  const engine = await selectWriteEngine();
  const direct = engine.prefersDirect(bytes, sync);
  const set = await AtomicSet.create(engine, target, files, [target, indexPathOf(target)], {
    overwrite,
    sync,
    direct,
    signal,
  });
  const progress = new ProgressCounter({ onProgress: options.onProgress, startedAt });
  progress.expect(totals(source, bytes));
  const stream = new OutputStream({
    writers: maxThreads ?? engine.writers,
    memory: (byteLength) => engine.memory(byteLength),
    onWritten: (byteLength) => {
      progress.bytes += byteLength;
      progress.reportNowAndThen();
    },
    signal,
  });
  try {
    const { outputs } = set;
    if (index) await stream.put({ output: outputs.at(-1)!, offset: 0, from: "U8", to: "U8" }, index.bytes);
    await writeTensors(source, { shards, outputs, stream, progress, signal });
    progress.report();
    await set.commit(() => supersededBy(target));
  } catch (error) {
    await stream.settle();
    await set.discard();
    throw error;
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const gigabytesPerSecond = bytes / seconds / 1e9;
  const paths = besideNamed(named, files.map((file) => file.path));
  return { paths, tensors: source.items.size, bytes, seconds, gigabytesPerSecond, aliases: source.aliases };
}

/** The files of a save, named as the user has named their folder. */
export function besideNamed(named: string, paths: readonly string[]): string[] {
  const folder = named.slice(0, named.length - basename(named).length);
  return paths.map((path) => folder + basename(path));
}

/** What there is to write: heads and index as they are, tensors before a cast. */
function totals({ items }: SaveSource, bytes: number): Work {
  const growth = items.values().reduce((sum, { sourceBytes, fileBytes }) => sum + sourceBytes - fileBytes, 0);
  return { tensors: items.size, bytes: bytes + growth };
}

const KEYS = keysOf<SaveOptions>({
  metadata: true,
  maxShardBytes: true,
  dtype: true,
  shapes: true,
  overwrite: true,
  sync: true,
  maxThreads: true,
  signal: true,
  onProgress: true,
});

function checkOptions(options: SaveOptions): void {
  checkKeys("saveFile()", options, KEYS);
  checkInteger("maxShardBytes", options.maxShardBytes, { byDefault: 1, least: 1 });
  checkInteger("maxThreads", options.maxThreads, { byDefault: 1, least: 1, most: 16 });
  checkBoolean("overwrite", options.overwrite);
  checkBoolean("sync", options.sync);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  castTarget("F32", options.dtype);
}

/** The metadata of the files: the user's, and of every alias the name that was kept. */
function* withAliases(
  metadata: MetadataInput | undefined,
  aliases: ReadonlyMap<string, string>,
): Steps<MetadataInput | undefined> {
  if (aliases.size === 0) return metadata;
  const all = new Map(metadata instanceof Map ? metadata : Object.entries(metadata ?? {}));
  let step = 0;
  for (const [name, kept] of aliases) {
    if (++step % STEP === 0) yield;
    const other = all.get(name);
    if (other !== undefined && other !== kept) {
      const message =
        `Cannot save tensor ${quote(name)}: it is the same memory as ${
          quote(kept)
        }, which the metadata should say, but ` +
        `there ${quote(name)} is ${JSON.stringify(other)}: rename one of the two`;
      throw new SafeTensorsError("DuplicateName", message, { tensor: name });
    }
    all.set(name, kept);
  }
  return all;
}
