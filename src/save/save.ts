/** Saves tensors to files: in parallel, and so that no reader ever sees an incomplete file. */
import { checkByteSize } from "../base/byte_size.ts";
import { basename } from "../base/paths.ts";
import { absolutePath } from "../files/native/local_path.ts";
import { entriesOf, STEP, type Steps } from "../base/steps.ts";
import { SafeTensorsError } from "../base/errors.ts";
import type { MetadataInput } from "../format/header_writer.ts";
import { quote } from "../base/text.ts";
import { type PathLike, toLocalPath } from "../files/inputs.ts";
import { finishInTurns } from "../base/turn.ts";
import { ProgressCounter, type Work } from "../base/progress.ts";
import { AtomicSet } from "./atomic_set.ts";
import { checkSaveOptions, type SaveOptions, type SaveReport } from "./options.ts";
import { mapTensors } from "./map_tensors.ts";
import { OutputStream } from "./output_stream.ts";
import { Scratch } from "./scratch.ts";
import { indexPathOf, shardSteps } from "./shards.ts";
import { type SaveInput, type SaveSource, sourceSteps } from "./source.ts";
import { supersededBy } from "./superseded.ts";
import { selectWriteEngine } from "./select_write_engine.ts";
import { isFolder } from "../files/native/write_error.ts";
import { writeTensors } from "./write_tensors.ts";

/** The moment of the call of {@linkcode saveFile}. */
export interface SaveCall {
  /** `performance.now()`, in milliseconds. */
  readonly startedAt: number;
  /** The folder that relative paths start at. */
  readonly folder: string | undefined;
}

/** Saves tensors as {@linkcode saveFile} does. */
export async function save(
  tensors: SaveInput,
  path: PathLike,
  options: SaveOptions,
  { startedAt, folder }: SaveCall,
): Promise<SaveReport> {
  checkSaveOptions(options);
  const { signal, overwrite = false, sync = true, maxShardBytes, maxThreads } = options;
  signal?.throwIfAborted();
  const named = toLocalPath(path);
  const target = absolutePath(named, folder); // independent of later changes of the working folder
  if (named.endsWith("/")) throw isFolder(named);
  const engine = await selectWriteEngine();
  const progress = new ProgressCounter({ onProgress: options.onProgress, startedAt });
  const setOptions = { overwrite, sync, signal };
  await using scratch = options.map ? await Scratch.create(engine, target, setOptions) : null;
  const source = scratch
    ? await mapTensors(tensors, options.map!, { dtype: options.dtype, scratch, progress, signal })
    : await finishInTurns(sourceSteps(tensors, options.dtype, options.shapes));
  const metadata = await finishInTurns(withAliases(options.metadata, source.aliases));
  const { shards, index } = await finishInTurns(
    shardSteps(
      source.items.values(),
      target,
      checkByteSize("maxShardBytes", maxShardBytes) ?? Infinity,
      metadata,
    ),
  );
  const files = index ? [...shards, { path: index.path, size: index.bytes.byteLength }] : shards;
  const bytes = files.reduce((sum, { size }) => sum + size, 0);

  const direct = engine.prefersDirect(bytes, sync);
  const set = await AtomicSet.create(engine, target, files, [target, indexPathOf(target)], {
    ...setOptions,
    direct,
  });
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

/** The files of a save, with the folder as the user wrote it. */
export function besideNamed(named: string, paths: readonly string[]): string[] {
  const folder = named.slice(0, named.length - basename(named).length);
  return paths.map((path) => folder + basename(path));
}

/** The bytes to write: headers and index, and tensors before a cast. */
function totals({ items }: SaveSource, bytes: number): Work {
  const growth = items.values().reduce((sum, { sourceBytes, fileBytes }) => sum + sourceBytes - fileBytes, 0);
  return { tensors: items.size, bytes: bytes + growth };
}

/** The metadata of the files: the user's, and for every alias the written name. */
function* withAliases(
  metadata: MetadataInput | undefined,
  aliases: ReadonlyMap<string, string>,
): Steps<MetadataInput | undefined> {
  if (aliases.size === 0) return metadata;
  const all = new Map<string, string>();
  let step = 0;
  for (
    const [key, value] of metadata instanceof Map
      ? metadata
      : entriesOf((metadata ?? {}) as Record<string, string>)
  ) {
    if (++step % STEP === 0) yield;
    all.set(key, value);
  }
  for (const [name, written] of aliases) {
    if (++step % STEP === 0) yield;
    const other = all.get(name);
    if (other !== undefined && other !== written) {
      const message =
        `Cannot save tensor ${quote(name)}: it is the same memory as ${
          quote(written)
        }, which the metadata should say, but ` +
        `there ${quote(name)} is ${JSON.stringify(other)}: rename one of the two`;
      throw new SafeTensorsError("DuplicateName", message, { tensor: name });
    }
    all.set(name, written);
  }
  return all;
}
