/** Opens PyTorch checkpoints as models, with the same lanes and devices as safetensors files. */
import type { Assemble, CatalogTensor, FileContents } from "../files/catalog.ts";
import type { DeviceOption } from "../base/device_name.ts";
import type { TensorOn } from "../device/tensors.ts";
import { quote } from "../base/text.ts";
import { handled } from "../base/handled.ts";
import { STEP } from "../base/steps.ts";
import type { Files } from "../files/inputs.ts";
import { Turn } from "../base/turn.ts";
import type { SafeTensorsModel } from "../model/model.ts";
import { PYTORCH } from "../files/model_folder.ts";
import { selectSourceAndDevice } from "../deno/select_source_and_device.ts";
import type { FileKind } from "../deno/open_files.ts";
import { openModel } from "../deno/open_model.ts";
import { OPEN_KEYS, type OpenOptions } from "../deno/options.ts";
import {
  type Checkpoint,
  CHECKPOINT_KEYS,
  type CheckpointOptions,
  checkpointOptions,
  type CheckpointTensor,
  readCheckpoint,
} from "./checkpoint.ts";
import { byteReader, liesReady, openStorage, tensorBytes } from "./storages.ts";
import { summarizeSkipped } from "./flatten.ts";
import { readBlock, viewBlocks } from "./strided.ts";

/**
 * Opens PyTorch checkpoints (.pt, .pth, .bin, .ckpt, .pth.tar or any other name) and starts to load them, as
 * {@linkcode fastsafeOpen} does with safetensors files: the tensors lie uncompressed at known places, so they are
 * read in parallel, to any device.
 *
 * The pickle is not run: functions and classes are only names here. Values that tensors do not need are skipped,
 * and
 * `stats().notes` lists them. A tensor that no safetensors file can hold is also skipped; a request for it is the
 * error. The tensors of a module have the names of its `state_dict()`. Names that share a tensor share its memory.
 * {@linkcode SafeTensorsModel.metadata} has for each file `format: "pt"` and, for every such name, the name that a
 * saved file would have.
 *
 * @param files a file, a folder, a `pytorch_model.bin.index.json`, a list of these, or files by rank
 * @returns the model; close it, or bind it with `await using`
 * @throws {SafeTensorsError} "WrongFormat" if a file has another format; "InvalidPickle" or "InvalidCheckpoint" if
 *   it is damaged; "UnsupportedCheckpoint" if no tensor of it can be read; "LimitExceeded"; "DuplicateName",
 *   "MissingShard" or "TensorNotFound" if files and index disagree, or `root` does not exist
 * @throws {TypeError} for an unknown option or an option of the wrong type
 * @throws {ReadError} if a file cannot be opened or read
 * @throws {OutOfMemoryError} if the tensors do not fit in memory
 */
export function openPyTorch<D extends DeviceOption = "cpu">(
  files: Files,
  options: OpenOptions<D> & CheckpointOptions = {},
): Promise<SafeTensorsModel<TensorOn<D>>> {
  return handled(openModel(files, options, {
    call: "openPyTorch()",
    select: selectSourceAndDevice<D>,
    keys: [...OPEN_KEYS, ...CHECKPOINT_KEYS],
    kind: () => checkpointFiles(options),
  }));
}

/** @throws {TypeError} if an option has the wrong type */
function checkpointFiles(options: CheckpointOptions): FileKind {
  const checked = checkpointOptions(options);
  return {
    naming: PYTORCH,
    list: async (file, index) => await contentsOf(await readCheckpoint(byteReader(file), checked), index),
  };
}

async function contentsOf(checkpoint: Checkpoint, file: number): Promise<FileContents> {
  const { path, tensors, refused, aliases, skipped, notes } = checkpoint;
  const turn = new Turn();
  const listed: CatalogTensor[] = [];
  const metadata = new Map([["format", "pt"]]);
  for (const tensor of tensors.values()) {
    if (listed.length % STEP === 0) await turn.pause();
    const aliasOf = aliases.get(tensor.name);
    listed.push(catalogTensor(tensor, file, aliasOf));
    if (aliasOf !== undefined) metadata.set(tensor.name, aliasOf);
  }
  return {
    metadata,
    refused,
    notes: [...skipped.length === 0 ? [] : [`left out: ${summarizeSkipped(skipped)}`], ...notes]
      .map((note) => `${quote(path)}: ${note}`),
    tensors: listed,
  };
}

function catalogTensor(tensor: CheckpointTensor, file: number, aliasOf: string | undefined): CatalogTensor {
  const { name, dtype, shape, fileOffset } = tensor;
  return {
    name,
    dtype,
    shape: Object.freeze(shape),
    file,
    fileOffset,
    byteLength: tensorBytes(tensor),
    ...aliasOf === undefined ? {} : { aliasOf },
    ...liesReady(tensor) ? {} : { assemble: assembler(tensor) },
  };
}

function assembler(tensor: CheckpointTensor): Assemble {
  return async (file, target, signal) => {
    const storage = await openStorage(file, tensor);
    for (const block of viewBlocks(tensor, Infinity)) await readBlock(storage, tensor, block, target, signal);
  };
}
