/**
 * Tensors into files: in parallel, and so that nobody ever sees half of one.
 */
import { SafeTensorsError } from "./errors.ts";
import { castTarget } from "./format/cast.ts";
import type { DType } from "./format/dtype.ts";
import type { MetadataInput } from "./format/header_writer.ts";
import type { PathLike } from "./inputs.ts";
import { toPath } from "./inputs.ts";
import type { Progress } from "./options.ts";
import { AtomicSet } from "./save/atomic_set.ts";
import { OutputStream } from "./save/output_stream.ts";
import { indexPathOf, planShards, type Shard, type ShardPlan } from "./save/shards.ts";
import { castLength } from "./plan/request.ts";
import {
  checkLength,
  type Item,
  type SavableTensor,
  type SaveInput,
  type SaveSource,
  saveSource,
  type TensorShape,
} from "./save/source.ts";
import { supersededBy } from "./save/superseded.ts";
import { type OpenOutput, selectWriteEngine } from "./save/write_engine.ts";

/** Options of {@linkcode saveFile}. */
export interface SaveOptions {
  /** The `__metadata__` of every file. Default: none. */
  metadata?: MetadataInput;
  /** Tensor bytes of one file at most; more go into shards with an index. Default: one file. */
  maxShardBytes?: number;
  /** Casts floating tensors on the way, rounded to nearest even. Default: as they are. */
  dtype?: DType;
  /** What a stream of tensors will bring: needed where it is not a model. */
  shapes?: Iterable<TensorShape>;
  /** Replaces what is there. Default false: an existing file is an error. */
  overwrite?: boolean;
  /** Waits until the files are on storage before they appear. Default true. */
  sync?: boolean;
  /** Writes in flight, 1 to 16. Default 4. */
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
 * untouched, and nothing is left behind.
 *
 * @param tensors a record, a map or pairs of name and tensor; a model, or a stream of pairs with the option `shapes`,
 *   is written as it comes, and may be larger than memory
 * @param path the file; with several shards, what their names are made from
 * @throws {SafeTensorsError} "FileExists"; "InvalidTensorView" if data and shape do not fit; "DuplicateName"; what
 *   else the format refuses
 * @throws {WriteError} if the system refuses, such as without space
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
export async function saveFile(
  tensors: SaveInput,
  path: PathLike,
  options: SaveOptions = {},
): Promise<SaveReport> {
  const startedAt = performance.now();
  const { signal, overwrite = false, sync = true, maxShardBytes, maxThreads } = options;
  checkNumbers(maxShardBytes, maxThreads);
  if (options.dtype !== undefined) castTarget("F32", options.dtype);
  signal?.throwIfAborted();
  const target = toPath(path);
  const source = saveSource(tensors, options.dtype, options.shapes);
  const metadata = withAliases(options.metadata, source.aliases);
  const plan = planShards(source.items.values(), target, maxShardBytes ?? Infinity, metadata);
  const engine = await selectWriteEngine();
  const set = new AtomicSet(engine, target, { overwrite, sync });
  const paths = [...plan.shards.map((shard) => shard.path), ...plan.index ? [plan.index.path] : []];
  await set.prepare(overwrite ? [] : [...new Set([...paths, target, indexPathOf(target)])]);
  const superseded = overwrite ? await supersededBy(target, paths) : [];
  const progress = new SaveProgress(source, plan, options.onProgress, startedAt);
  const stream = new OutputStream(maxThreads ?? engine.writers, (bytes) => progress.add(bytes));
  try {
    await writeTensors(source, plan, set, stream, sync, progress, signal);
    if (plan.index) {
      const output = await set.create(plan.index.path, plan.index.bytes.byteLength, false);
      await output.write(plan.index.bytes, 0, "U8", "U8");
    }
    await set.commit(superseded);
  } catch (error) {
    await stream.settle();
    await set.discard();
    throw error;
  }
  progress.tell();
  const bytes = plan.shards.reduce((sum, shard) => sum + shard.size, plan.index?.bytes.byteLength ?? 0);
  const seconds = (performance.now() - startedAt) / 1000;
  const gigabytesPerSecond = bytes / seconds / 1e9;
  return { paths, tensors: source.items.size, bytes, seconds, gigabytesPerSecond, aliases: source.aliases };
}

async function writeTensors(
  source: SaveSource,
  plan: ShardPlan,
  set: AtomicSet,
  stream: OutputStream,
  sync: boolean,
  progress: SaveProgress,
  signal: AbortSignal | undefined,
): Promise<void> {
  const outputs = new Map<Shard, OpenOutput>();
  const shardOf = new Map<string, Shard>();
  for (const shard of plan.shards) {
    // Direct writes only where everything has to reach storage anyway: else the page cache is quicker.
    const output = await set.create(shard.path, shard.size, sync);
    await stream.put(output, shard.head, 0, "U8", "U8");
    outputs.set(shard, output);
    for (const name of shard.header.tensors.keys()) shardOf.set(name, shard);
  }
  const missing = new Set(source.items.keys());
  const order = plan.shards.flatMap((shard) => [...shard.header.tensors.keys()]);
  for await (const [name, tensor] of source.stream(order)) {
    signal?.throwIfAborted();
    const item = source.items.get(name);
    if (!item || !missing.delete(name)) throw unexpected(name, item !== undefined);
    if (tensor.dtype !== item.from) {
      throw new TypeError(
        `Cannot save tensor "${name}": it comes as ${tensor.dtype}, announced was ${item.from}: give saveFile the dtype`,
      );
    }
    const shard = shardOf.get(name)!;
    const offset = shard.header.dataStart + shard.header.tensors.get(name)!.begin;
    await putTensor(stream, outputs.get(shard)!, offset, item, tensor, signal);
    progress.tensors++;
  }
  await stream.finish();
  const [first] = missing;
  if (first !== undefined) {
    const message =
      `Cannot save: ${missing.size} tensors were announced and did not come, such as "${first}"`;
    throw new SafeTensorsError("TensorNotFound", message, { tensor: first });
  }
  signal?.throwIfAborted();
}

async function putTensor(
  stream: OutputStream,
  output: OpenOutput,
  offset: number,
  item: Item,
  tensor: SavableTensor,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (!("parts" in tensor)) {
    const { data } = "data" in tensor ? tensor : await tensor.copyToHost();
    checkLength(item, data);
    const bytes = new Uint8Array(data.buffer as ArrayBuffer, data.byteOffset, data.byteLength);
    return await stream.put(output, bytes, offset, item.from, item.to);
  }
  let written = 0;
  for await (const part of tensor.parts()) {
    signal?.throwIfAborted();
    if (written + part.byteLength > item.sourceBytes) break; // told below
    const at = offset + castLength(written, item.from, item.to);
    await stream.put(output, part, at, item.from, item.to, () => tensor.written?.(part));
    written += part.byteLength;
  }
  if (written === item.sourceBytes) return;
  const message =
    `Cannot save tensor "${item.name}": ${item.sourceBytes} bytes expected, its parts have others`;
  throw new SafeTensorsError("InvalidTensorView", message, { tensor: item.name });
}

function unexpected(name: string, twice: boolean): SafeTensorsError {
  const what = twice ? "came twice" : "was not announced";
  return new SafeTensorsError(
    twice ? "DuplicateName" : "TensorNotFound",
    `Cannot save: tensor "${name}" ${what}`,
    {
      tensor: name,
    },
  );
}

function checkNumbers(maxShardBytes: number | undefined, maxThreads: number | undefined): void {
  if (maxShardBytes !== undefined && !(Number.isSafeInteger(maxShardBytes) && maxShardBytes > 0)) {
    throw new RangeError(`maxShardBytes must be a positive whole number, got ${maxShardBytes}`);
  }
  if (maxThreads !== undefined && !(Number.isInteger(maxThreads) && maxThreads >= 1 && maxThreads <= 16)) {
    throw new RangeError(`maxThreads must be a whole number from 1 to 16, got ${maxThreads}`);
  }
}

function withAliases(
  metadata: MetadataInput | undefined,
  aliases: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> | undefined {
  if (metadata === undefined && aliases.size === 0) return undefined;
  return new Map([...(metadata instanceof Map ? metadata : Object.entries(metadata ?? {})), ...aliases]);
}

/** How often progress is told, in milliseconds. */
const PROGRESS_INTERVAL = 50;

/** What has been written so far, counted in bytes before a cast. */
class SaveProgress {
  tensors = 0;
  readonly #totalTensors: number;
  readonly #totalBytes: number;
  readonly #onProgress: SaveOptions["onProgress"];
  readonly #startedAt: number;
  #bytes = 0;
  #toldAt: number;

  constructor(source: SaveSource, plan: ShardPlan, onProgress: SaveOptions["onProgress"], startedAt: number) {
    this.#totalTensors = source.items.size;
    const heads = plan.shards.reduce((bytes, shard) => bytes + shard.head.byteLength, 0);
    this.#totalBytes = source.items.values().reduce((bytes, item) => bytes + item.sourceBytes, heads);
    this.#onProgress = onProgress;
    this.#startedAt = this.#toldAt = startedAt;
  }

  add(bytes: number): void {
    this.#bytes += bytes;
    if (performance.now() - this.#toldAt >= PROGRESS_INTERVAL) this.tell();
  }

  tell(): void {
    this.#toldAt = performance.now();
    this.#onProgress?.({
      bytes: this.#bytes,
      totalBytes: this.#totalBytes,
      tensors: this.tensors,
      totalTensors: this.#totalTensors,
      seconds: (this.#toldAt - this.#startedAt) / 1000,
    });
  }
}
