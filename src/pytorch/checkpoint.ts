/**
 * Finds the tensors of a PyTorch checkpoint in its file, without running the pickle. Only names and places are
 * read here; a load or a conversion reads the tensor bytes.
 */
import { describeValue, keysOf } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { sortInSteps } from "../base/steps.ts";
import { compareUtf8, quote } from "../base/text.ts";
import { finishInTurns, Turn } from "../base/turn.ts";
import { describeContent, TELLING_BYTES } from "../format/file_hints.ts";
import type { ByteReader } from "./bytes.ts";
import {
  checkpointError,
  type CheckpointLimits,
  checkpointLimits,
  expansionLimit,
  limitError,
} from "./errors.ts";
import { flattenStateDict, type SkippedValue } from "./flatten.ts";
import { openLegacyContainer } from "./legacy.ts";
import { Op } from "./opcodes.ts";
import { rebuildTensor } from "./rebuild.ts";
import { type CheckpointTensor, type Container, tensorBytes } from "./storages.ts";
import { openZipContainer } from "./zip.ts";

/* ---- The names of checkpoint files ---- */

/**
 * The name of a file without its folder and its checkpoint suffixes: "model" for `model.pt`, `model.ckpt` and
 * `model.pth.tar`. A suffix begins with a letter, so the ".5" of "model-1.5" is part of the name.
 */
export function fileStem(path: string): string {
  const name = path.replace(/\/+$/, "").replace(/^.*\//s, "");
  const stem = name.replace(/\.tar$/i, "").replace(/\.[a-z]\w{0,15}$/i, "");
  // The file name ".pt" has no other part.
  return stem || name;
}

export type { CheckpointLimits, CheckpointTensor };

/** The contents of a checkpoint. */
export interface Checkpoint {
  /** The file. */
  readonly path: string;
  /** "zip": the archive of PyTorch 1.6 and later; "legacy": the sequence of pickles before 1.6. */
  readonly container: "zip" | "legacy";
  /** Every tensor by name, in the order of the state dict, aliases included. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** Tensors of the state dict that cannot be read: their names, and the error to throw for a request. */
  readonly refused: ReadonlyMap<string, SafeTensorsError>;
  /** The skipped values, including the tensors that cannot be read. */
  readonly skipped: readonly SkippedValue[];
  /** Notes about the names, for the user. */
  readonly notes: readonly string[];
  /**
   * Names of tensors that are the same view of the same storage as another: name → the name to save. The name
   * to save is the first in the order of UTF-8 bytes, as in the reference's `save_model`. A saved file needs
   * only the tensors with that name, and this map as metadata. Tensors that only overlap are not aliases: each is
   * written.
   */
  readonly aliases: ReadonlyMap<string, string>;
}

/** Options for reading a checkpoint. */
export interface CheckpointOptions {
  /**
   * The part of the saved object to read, by its name, such as "state_dict_ema" or, deeper, "ema.model"; "" reads
   * everything. Default: the dict "state_dict" if the file has one, else everything.
   */
  root?: string;
  /** Limits on the work and memory that a hostile file can cause. */
  limits?: CheckpointLimits;
}

/** The keys of {@linkcode CheckpointOptions}. */
export const CHECKPOINT_KEYS: readonly string[] = keysOf<CheckpointOptions>({ root: true, limits: true });

/**
 * Picks the options of a checkpoint from those of a call, and checks them before any file is opened.
 *
 * @throws {TypeError} for a value of the wrong type
 * @throws {RangeError} for a limit that is negative or NaN
 */
export function checkpointOptions(options: CheckpointOptions): CheckpointOptions {
  const { root, limits } = options;
  if (root !== undefined && typeof root !== "string") {
    throw new TypeError(`root must be the name of a part of the checkpoint, got ${describeValue(root)}`);
  }
  return { ...root === undefined ? {} : { root }, limits: checkpointLimits(limits ?? {}) };
}

/** The event loop gets a turn after this many tensors. */
const TURN_STEPS = 1024;

const ZIP_MAGIC = "PK\x03\x04";
const TAR_MAGIC = "ustar";
const TAR_MAGIC_AT = 257;
/** The start of a legacy file in pickle protocol 0 or 1, which have no PROTO: PyTorch's magic number in digits. */
const TEXT_MAGIC = "L119547037146038801333356L\n";

/**
 * Reads the contents of a checkpoint. Keys of nested dicts and lists are joined with dots. The tensors of a module
 * have the names of its `state_dict()`. A tensor that was saved alone has the name of the file, without its
 * suffix.
 *
 * @param reader the file
 * @returns the tensors; all their ranges lie in the file
 * @throws {SafeTensorsError} "WrongFormat" for other files; "InvalidPickle" for an invalid pickle;
 * "InvalidCheckpoint" for a file that contradicts itself; "UnsupportedCheckpoint" if no tensor of it can be read;
 * "LimitExceeded"; "TensorNotFound" for a `root` that does not exist
 * @throws {ReadError} if the file cannot be read
 * @throws {TypeError} for an option of the wrong type
 */
export async function readCheckpoint(
  reader: ByteReader,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const { path } = reader;
  const { root } = options;
  const limits = checkpointLimits(options.limits ?? {});
  const container = await openContainer(reader, limits);
  const flat = await flattenStateDict(container.value, { path, limits, root, stem: fileStem(path) });

  const context = { path, container, maxExpandedBytes: limits.maxExpandedBytes };
  const tensors = new Map<string, CheckpointTensor>();
  const refused = new Map<string, SafeTensorsError>();
  const skipped = [...flat.skipped];
  const turn = new Turn();
  let steps = 0;
  for (const [name, { value }] of flat.tensors) {
    if (++steps % TURN_STEPS === 0) await turn.pause();
    const tensor = rebuildTensor(value, name, context);
    if ("error" in tensor) {
      refused.set(name, tensor.error);
      skipped.push({ name, kind: tensor.kind, isTensor: true });
    } else tensors.set(name, tensor);
  }
  if (tensors.size === 0) { for (const error of refused.values()) throw error; }
  const aliases = await findAliases(tensors);
  await checkTotal(tensors, aliases, reader, limits);
  return { path, container: container.kind, tensors, refused, skipped, notes: flat.notes, aliases };
}

async function openContainer(reader: ByteReader, limits: Required<CheckpointLimits>): Promise<Container> {
  const { path, size } = reader;
  const bytes = await reader.read(0, Math.min(TELLING_BYTES, size));
  const latin1 = String.fromCharCode(...bytes);
  if (latin1.startsWith(ZIP_MAGIC)) return openZipContainer(reader, limits);
  if (latin1.startsWith(TAR_MAGIC, TAR_MAGIC_AT)) throw tarError(path, latin1);
  if (bytes[0] === Op.PROTO || latin1.startsWith(TEXT_MAGIC)) return openLegacyContainer(reader, limits);
  const content = describeContent(bytes);
  if (content?.kind === "safetensors") {
    const details = { path, format: "safetensors", advice: "open it with fastsafeOpen" } as const;
    throw new SafeTensorsError(
      "WrongFormat",
      `Cannot read ${quote(path)}: it is a safetensors file`,
      details,
    );
  }
  const found = content && content.kind !== "pytorch" ? content.text : startOf(latin1);
  throw checkpointError("WrongFormat", path, `it is not a PyTorch checkpoint: ${found}`);
}

/** Describes the start of a file of unknown format. */
function startOf(latin1: string): string {
  if (latin1 === "") return "it is empty";
  return /^\0+$/.test(latin1) ? "it begins with zeros only" : `it begins with ${quote(latin1.slice(0, 8))}`;
}

/** The error about a tar archive: PyTorch 0.1 wrote tar archives, and other tools pack checkpoints into them. */
function tarError(path: string, latin1: string): Error {
  const first = latin1.slice(0, latin1.indexOf("\0"));
  const old = ["sys_info", "pickle", "tensors", "storages"].includes(first);
  const advice = old
    ? "the format of PyTorch 0.1: load it in an old PyTorch and save it again"
    : `the first file in it is ${quote(first)}: unpack it (tar -xf) and open the checkpoint in it`;
  return checkpointError("UnsupportedCheckpoint", path, `it is a tar archive, ${advice}`);
}

/** Finds the names of tensors that are the same view of the same storage as another tensor. */
async function findAliases(tensors: ReadonlyMap<string, CheckpointTensor>): Promise<Map<string, string>> {
  const turn = new Turn();
  const byStorage = new Map<string, CheckpointTensor[]>();
  let steps = 0;
  for (const tensor of tensors.values()) {
    if (++steps % TURN_STEPS === 0) await turn.pause();
    if (tensor.shape.includes(0)) continue; // empty tensors share no memory
    const neighbours = byStorage.get(tensor.storage);
    if (neighbours) neighbours.push(tensor);
    else byStorage.set(tensor.storage, [tensor]);
  }
  const views = new Map<string, string[]>();
  for (const neighbours of byStorage.values()) {
    if (neighbours.length === 1) continue;
    for (const tensor of neighbours) {
      if (++steps % TURN_STEPS === 0) await turn.pause();
      const key = viewKey(tensor);
      const same = views.get(key);
      if (same) same.push(tensor.name);
      else views.set(key, [tensor.name]);
    }
  }
  const aliases = new Map<string, string>();
  for (const names of views.values()) {
    if (names.length === 1) continue;
    const [original, ...others] = await finishInTurns(sortInSteps(names, compareUtf8));
    for (const name of others) {
      if (++steps % TURN_STEPS === 0) await turn.pause();
      aliases.set(name, original!);
    }
  }
  return aliases;
}

/** A key that is equal only for tensors that are the same view of one storage. */
function viewKey(tensor: CheckpointTensor): string {
  const { storage, fileOffset, dtype, shape, strides, conjugate, negative } = tensor;
  // The stride of a dimension of size 1 has no effect.
  const taken = strides.map((stride, i) => shape[i] === 1 ? 0 : stride);
  return [storage, fileOffset, dtype, shape.join(), taken.join(), conjugate, negative].join(" ");
}

async function checkTotal(
  tensors: ReadonlyMap<string, CheckpointTensor>,
  aliases: ReadonlyMap<string, string>,
  reader: ByteReader,
  limits: Required<CheckpointLimits>,
): Promise<void> {
  const limit = expansionLimit(reader.size, limits.maxExpandedBytes);
  const turn = new Turn();
  let total = 0, steps = 0;
  for (const tensor of tensors.values()) {
    if (++steps % TURN_STEPS === 0) await turn.pause();
    if (aliases.has(tensor.name)) continue;
    total += tensorBytes(tensor);
  }
  if (total <= limit) return;
  const detail = `its tensors take ${total} bytes out of a file of ${reader.size}: ${limit} are allowed`;
  throw limitError(reader.path, detail, "maxExpandedBytes");
}
