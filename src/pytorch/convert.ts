/** Converts PyTorch checkpoints to safetensors files, in bounded memory. */
import { type ByteSize, checkByteSize } from "../base/byte_size.ts";
import { checkBoolean, checkFunction, checkKeys, checkSignal, keysOf } from "../base/check.ts";
import type { DType } from "../base/dtype.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { handled } from "../base/handled.ts";
import type { Progress } from "../base/progress.ts";
import { quote } from "../base/text.ts";
import { sortInSteps, STEP } from "../base/steps.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { compareIndexes, MergedTensors, openInput, readFileHeader } from "../files/catalog.ts";
import { openRemote } from "../deno/remote.ts";
import {
  checkFiles,
  type FileNames,
  isRemote,
  type PathLike,
  resolveInputs,
  toLocalPath,
  toPath,
} from "../files/inputs.ts";
import { checkNetwork, type NetworkOptions } from "../files/network_options.ts";
import { basename } from "../base/paths.ts";
import { PYTORCH } from "../files/model_folder.ts";
import { LocalNames } from "../files/native/local_names.ts";
import { absolutePath } from "../files/native/local_path.ts";
import { closeAll, type Source, type SourceFile } from "../files/source.ts";
import { castBytes, castTarget } from "../format/cast.ts";
import { compareLayout } from "../format/header_writer.ts";
import type { Engine } from "../load/engine.ts";
import { selectEngine } from "../load/native/select.ts";
import { castLength } from "../load/request.ts";
import { besideNamed } from "../save/save.ts";
import { saveFile } from "../save/save_file.ts";
import type { SavableTensor } from "../save/source.ts";
import {
  type CheckpointOptions,
  checkpointOptions,
  type CheckpointTensor,
  fileStem,
  readCheckpoint,
} from "./checkpoint.ts";
import type { SkippedValue } from "./flatten.ts";
import { byteReader, liesReady, openStorage, tensorBytes } from "./storages.ts";
import { readBlock, viewBlocks } from "./strided.ts";

/* ---- Reads a checkpoint's tensor in parts, so that its size does not bound the memory ---- */

/** Bytes of one read of a tensor that needs no rearranging, and the number of reads at the same time. */
const PART = 8 * 2 ** 20, AHEAD = 4;

/** Bytes of one block of a tensor that is rearranged. */
const BLOCK = 64 * 2 ** 20;

/** Reuses the memory of parts, because the first write to new memory costs more than a read into used memory. */
class PartPool {
  readonly #engine: Engine;
  readonly #free: Uint8Array<ArrayBuffer>[] = [];

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** Returns memory of this length. */
  take(length: number): Uint8Array<ArrayBuffer> {
    const whole = length > PART ? undefined : this.#free.pop();
    if (whole) return whole.subarray(0, length);
    const { buffer, base } = this.#engine.allocate(Math.max(length, PART));
    return new Uint8Array(buffer, base, length);
  }

  /** Takes back memory that is not in use any more. */
  release({ buffer, byteOffset, byteLength }: Uint8Array<ArrayBuffer>): void {
    if (byteLength <= PART) this.#free.push(new Uint8Array(buffer, byteOffset, PART));
  }
}

/**
 * Yields the elements of a tensor in order, contiguous and little-endian, in parts of whole elements. The caller
 * gives each part back to the pool.
 */
function tensorParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  return liesReady(tensor) ? readyParts(tensor, file, pool) : assembledParts(tensor, file, pool);
}

async function* readyParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const total = tensorBytes(tensor);
  const reads: Promise<Uint8Array<ArrayBuffer>>[] = [];
  const read = async (offset: number) => {
    const bytes = pool.take(Math.min(PART, total - offset));
    await file.read(tensor.fileOffset + offset, bytes);
    return bytes;
  };
  let next = 0;
  try {
    for (let at = 0; at < total; at += PART) {
      for (; next < total && reads.length < AHEAD; next += PART) {
        const started = read(next);
        started.catch(() => {}); // the await below throws it
        reads.push(started);
      }
      yield await reads.shift()!;
    }
  } finally {
    await Promise.allSettled(reads); // the caller may close the file after this
  }
}

async function* assembledParts(
  tensor: CheckpointTensor,
  file: SourceFile,
  pool: PartPool,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  const storage = await openStorage(file, tensor);
  for (const block of viewBlocks(tensor, BLOCK)) {
    const target = pool.take(block.byteLength);
    await readBlock(storage, tensor, block, target);
    yield target;
  }
}

/** Options of {@linkcode convertPyTorch}. */
export interface ConvertOptions extends CheckpointOptions {
  /** Casts floating-point tensors to this dtype. Default: no cast. */
  dtype?: DType;
  /**
   * The most tensor bytes in one file: a number, or text such as "5GB"; a larger result is written as shards with an
   * index. Default: one file.
   */
  maxShardBytes?: ByteSize;
  /** Replaces existing files. Default false: an existing file is an error. */
  overwrite?: boolean;
  /** Reads and checks the checkpoint and writes nothing. Default false. */
  dryRun?: boolean;
  /** Reads the result back and compares the bytes of every tensor. Default false. */
  validate?: boolean;
  /** Cancels the conversion; the written files are removed. */
  signal?: AbortSignal;
  /** Called about 20 times a second while writing, and once at its end. */
  onProgress?: (progress: Progress) => void;
  /** Options for a checkpoint on a server. */
  network?: NetworkOptions;
}

const CONVERT_KEYS = keysOf<ConvertOptions>({
  root: true,
  limits: true,
  dtype: true,
  maxShardBytes: true,
  overwrite: true,
  dryRun: true,
  validate: true,
  signal: true,
  onProgress: true,
  network: true,
});

/** The result of a conversion. */
export interface ConvertReport {
  /** The files written, the index last; for a dry run the file that would be written, without shard names. */
  readonly paths: readonly string[];
  /** Tensors written. */
  readonly tensors: number;
  /** Bytes of these tensors in the checkpoint. */
  readonly bytes: number;
  /** Bytes of these tensors in the result; the option `dtype` changes them. */
  readonly writtenBytes: number;
  /** Dtypes of these tensors in the checkpoint → in the result. */
  readonly dtypes: ReadonlyMap<DType, DType>;
  /** Skipped names, because they are the same tensor as another: name → the written name. */
  readonly aliases: ReadonlyMap<string, string>;
  /**
   * The skipped parts of the checkpoint: values that are not tensors, parts that are not read, tensors that cannot
   * be read.
   */
  readonly skipped: readonly SkippedValue[];
  /**
   * Notes for the user: about the choice of the files, about their contents, and differences between them and an
   * index.
   */
  readonly notes: readonly string[];
  /** Whether the result was read back and compared. */
  readonly validated: boolean;
  /** Seconds in all. */
  readonly seconds: number;
}

/**
 * Converts a PyTorch checkpoint to a safetensors file, or shards with an index. The pickle is not run. The bytes
 * stream through bounded memory, however large the checkpoint is.
 *
 * A tensor with several names is written once; the metadata has its other names as `name → written name`, beside
 * `format: "pt"`. Values that tensors do not need are skipped, and so is a tensor that no safetensors file can
 * hold.
 *
 * @param input a checkpoint, a folder of one, or a `pytorch_model.bin.index.json`
 * @param output the file to write; default is `input` with the suffix `.safetensors` instead of its own, such as
 *   `.pt` or `.pth.tar`; for a folder or an index `model.safetensors` in that folder
 * @throws {TypeError} for an unknown option or an option of the wrong type
 * @throws {SafeTensorsError} the errors of {@linkcode openPyTorch} and {@linkcode saveFile}; "InvalidTensorView"
 *   if the result, read back, has other bytes
 * @throws {ReadError} if the checkpoint cannot be read
 * @throws {WriteError} if the result cannot be written
 */
export function convertPyTorch(
  input: PathLike,
  output?: PathLike,
  options: ConvertOptions = {},
): Promise<ConvertReport> {
  return handled(convert(input, output, options));
}

async function convert(
  input: PathLike,
  output: PathLike | undefined,
  options: ConvertOptions,
): Promise<ConvertReport> {
  const startedAt = performance.now();
  checkKeys("convertPyTorch()", options, CONVERT_KEYS);
  for (const name of ["overwrite", "dryRun", "validate"] as const) checkBoolean(name, options[name]);
  checkSignal("signal", options.signal);
  checkFunction("onProgress", options.onProgress);
  checkByteSize("maxShardBytes", options.maxShardBytes);
  const { dtype, dryRun = false, validate = false, signal } = options;
  castTarget("F32", dtype);
  const checked = checkpointOptions(options);
  const network = checkNetwork(options.network);
  const { folder } = new LocalNames(); // relative paths start at the present working folder, even if it changes meanwhile
  const named = toPath(input);
  const path = output === undefined ? await defaultOutput(named, folder) : toLocalPath(output);
  const engine = await selectEngine();
  using remote = isRemote(named) ? await openRemote([named], { network, signal }) : null;
  const { names, source } = remote ?? { names: new LocalNames(folder), source: engine.source };
  const opened = await openCheckpoints(source, input, names, checked, signal);
  try {
    const { written, aliases, skipped, notes } = opened;
    let paths: readonly string[] = [path];
    if (!dryRun) {
      const { maxShardBytes, overwrite = false, onProgress } = options;
      const pool = new PartPool(engine);
      const saved = await saveFile(streamOf(written, pool), absolutePath(path, folder), {
        shapes: opened.shapes,
        metadata: opened.metadata,
        overwrite,
        ...dtype === undefined ? {} : { dtype },
        ...maxShardBytes === undefined ? {} : { maxShardBytes },
        ...signal ? { signal } : {},
        ...onProgress ? { onProgress } : {},
      });
      if (validate) await compare(source, saved.paths, written, pool, dtype, signal);
      paths = besideNamed(path, saved.paths);
    }
    return {
      paths,
      tensors: written.length,
      ...await sizesOf(written, dtype),
      aliases,
      skipped,
      notes,
      validated: validate && !dryRun,
      seconds: (performance.now() - startedAt) / 1000,
    };
  } finally {
    await closeAll(opened.files);
  }
}

/** A tensor to write, and its file. */
interface Written {
  readonly name: string;
  readonly tensor: CheckpointTensor;
  readonly file: SourceFile;
  /** The name of a tensor of the file that is the same. */
  readonly aliasOf: string | undefined;
}

interface OpenedCheckpoints {
  readonly files: readonly SourceFile[];
  /** All tensors except the aliases, in the order of the state dict. */
  readonly written: readonly Written[];
  /** The tensors of `written`. */
  readonly shapes: readonly CheckpointTensor[];
  /** The metadata of the result. */
  readonly metadata: ReadonlyMap<string, string>;
  readonly aliases: ReadonlyMap<string, string>;
  readonly skipped: readonly SkippedValue[];
  readonly notes: readonly string[];
}

async function openCheckpoints(
  source: Source,
  input: PathLike,
  names: FileNames,
  options: CheckpointOptions,
  signal: AbortSignal | undefined,
): Promise<OpenedCheckpoints> {
  checkFiles(input, { size: 1 });
  const inputs = await resolveInputs(names, input, { size: 1 }, PYTORCH);
  const files: SourceFile[] = [];
  const merged = new MergedTensors<Written>(inputs.indexes, ({ file }) => file.path);
  /** The names of all tensors, also of unreadable ones, and the path of their file. */
  const paths = new Map<string, string>();
  const skipped: SkippedValue[] = [];
  const notes = [...inputs.notes];
  const turn = new Turn();
  let steps = 0;
  try {
    for (const path of inputs.paths) {
      signal?.throwIfAborted();
      const file = await openInput(source, path, inputs);
      files.push(file);
      const checkpoint = await readCheckpoint(byteReader(file), options);
      for (const tensor of checkpoint.tensors.values()) {
        if (++steps % STEP === 0) await turn.pause();
        const { name } = tensor;
        merged.add({ name, tensor, file, aliasOf: checkpoint.aliases.get(name) });
      }
      for (const name of checkpoint.refused.keys()) paths.set(name, path);
      for (const value of checkpoint.skipped) skipped.push(value);
      notes.push(...checkpoint.notes.map((note) => `${quote(path)}: ${note}`));
    }
  } catch (error) {
    await closeAll(files);
    throw error;
  }
  const { tensors } = merged;
  const written: Written[] = [];
  const shapes: CheckpointTensor[] = [];
  const metadata = new Map([["format", "pt"]]);
  const aliases = new Map<string, string>();
  for (const one of tensors.values()) {
    if (++steps % STEP === 0) await turn.pause();
    paths.set(one.name, one.file.path);
    // No error if an index takes the tensor of that name from another file.
    const isAlias = one.aliasOf !== undefined && tensors.get(one.aliasOf)!.file === one.file;
    if (isAlias) {
      aliases.set(one.name, one.aliasOf!);
      metadata.set(one.name, one.aliasOf!);
    } else {
      written.push(one);
      shapes.push(one.tensor);
    }
  }
  const known = { notes: [...notes, ...merged.notes()] };
  return {
    files,
    written,
    shapes,
    metadata,
    aliases,
    skipped,
    notes:
      (await finishInTurns(compareIndexes(known, paths, (name) => paths.get(name)!, inputs.indexes))).notes,
  };
}

async function* streamOf(
  written: readonly Written[],
  pool: PartPool,
): AsyncGenerator<readonly [string, SavableTensor], void, void> {
  // The order of the result lets the writer join small tensors into large writes.
  const inOrder = sortInSteps(written, (a, b) => compareLayout(a.tensor, b.tensor));
  for (const { tensor, file } of await finishInTurns(inOrder)) {
    const { name, dtype, shape } = tensor;
    yield [name, {
      dtype,
      shape,
      parts: () => tensorParts(tensor, file, pool),
      written: (part) => pool.release(part),
    }];
  }
}

/** The event loop gets a turn after the comparison of this many tensors. */
const COMPARED_PER_TURN = 64;

/** Compares the written bytes with those of the checkpoint. */
async function compare(
  source: Source,
  paths: readonly string[],
  written: readonly Written[],
  pool: PartPool,
  dtype: DType | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const places = new Map<string, { file: SourceFile; offset: number; dtype: DType }>();
  const files: SourceFile[] = [];
  const turn = new Turn();
  let steps = 0;
  try {
    for (const path of paths) {
      if (path.endsWith(".json")) continue;
      const file = await source.open(path);
      files.push(file);
      const header = await readFileHeader(file);
      for (const { name, dtype, begin } of header.tensors.values()) {
        places.set(name, { file, offset: header.dataStart + begin, dtype });
        if (++steps % STEP === 0) await turn.pause();
      }
    }
    for (const { tensor, file } of written) {
      if (++steps % COMPARED_PER_TURN === 0) await turn.pause();
      const place = places.get(tensor.name);
      if (place?.dtype !== castTarget(tensor.dtype, dtype)) throw different(tensor.name);
      let { offset } = place;
      for await (const part of tensorParts(tensor, file, pool)) {
        signal?.throwIfAborted();
        const expected = cast(part, tensor.dtype, place.dtype);
        const found = pool.take(expected.byteLength);
        await place.file.read(offset, found);
        if (!sameBytes(expected, found)) throw different(tensor.name);
        offset += found.byteLength;
        for (const bytes of [part, found]) pool.release(bytes);
      }
    }
  } finally {
    await closeAll(files);
  }
}

/** Bytes and dtypes of tensors in the checkpoint, and in the result. */
async function sizesOf(
  written: readonly Written[],
  dtype: DType | undefined,
): Promise<Pick<ConvertReport, "bytes" | "writtenBytes" | "dtypes">> {
  const turn = new Turn();
  const dtypes = new Map<DType, DType>();
  let bytes = 0, writtenBytes = 0;
  for (const [index, { tensor }] of written.entries()) {
    if (index % STEP === 0) await turn.pause();
    const length = tensorBytes(tensor);
    const target = castTarget(tensor.dtype, dtype);
    bytes += length;
    writtenBytes += castLength(length, tensor.dtype, target);
    dtypes.set(tensor.dtype, target);
  }
  return { bytes, writtenBytes, dtypes };
}

function cast(bytes: Uint8Array<ArrayBuffer>, from: DType, to: DType): Uint8Array<ArrayBuffer> {
  if (from === to) return bytes;
  const target = new Uint8Array(castLength(bytes.byteLength, from, to));
  castBytes(bytes, from, target, to);
  return target;
}

function sameBytes(a: Uint8Array<ArrayBuffer>, b: Uint8Array<ArrayBuffer>): boolean {
  // Eight bytes at a time: both parts begin at a multiple of eight.
  const words = Math.floor(a.byteLength / 8);
  const left = new BigUint64Array(a.buffer, a.byteOffset, words);
  const right = new BigUint64Array(b.buffer, b.byteOffset, words);
  for (let index = 0; index < words; index++) if (left[index] !== right[index]) return false;
  for (let index = words * 8; index < a.byteLength; index++) if (a[index] !== b[index]) return false;
  return true;
}

function different(name: string): SafeTensorsError {
  const message = `Cannot trust the result: tensor ${
    quote(name)
  } reads back with other bytes than the checkpoint has`;
  return new SafeTensorsError("InvalidTensorView", message, { tensor: name });
}

/** The default output: beside the input file, or in the input folder. */
async function defaultOutput(input: string, from: string | undefined): Promise<string> {
  if (isRemote(input)) { // in the working folder
    const name = basename(input.replace(/[?#].*$/s, ""));
    const isFile = PYTORCH.files.some((suffix) => name.toLowerCase().endsWith(suffix));
    return `${isFile ? fileStem(name) : "model"}.safetensors`;
  }
  const path = input.replace(/(?<!^)\/+$/, "");
  const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/") + 1) : "";
  if (path.endsWith(".json")) return `${folder}model.safetensors`;
  const info = await Deno.stat(absolutePath(path, from)).catch(() => null); // opening it reports the error
  if (info?.isDirectory) return `${path === "/" ? "" : path}/model.safetensors`;
  return `${folder}${fileStem(path)}.safetensors`;
}
