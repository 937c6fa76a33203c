/**
 * PyTorch checkpoints as tensors at known places of a file, without running any of the pickle inside. Nothing but names
 * and places is read; whoever loads the tensors reads their bytes.
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
 * The name of a file without its folder and without what says that it is a checkpoint: "model" for `model.pt`,
 * `model.ckpt` and `model.pth.tar`. Any suffix that begins with a letter counts, which the 5 of "model-1.5" does not.
 */
export function fileStem(path: string): string {
  const name = path.replace(/\/+$/, "").replace(/^.*\//s, "");
  const stem = name.replace(/\.tar$/i, "").replace(/\.[a-z]\w{0,15}$/i, "");
  // A file that is named ".pt" is still named that.
  return stem || name;
}

export type { CheckpointLimits, CheckpointTensor };

/** What a checkpoint holds. */
export interface Checkpoint {
  /** The file. */
  readonly path: string;
  /** Its kind: the zip archive of PyTorch 1.6 and later, or the pickles in a row before that. */
  readonly container: "zip" | "legacy";
  /** Every tensor by name, in the order of the state dict, aliases included. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** Tensors of the state dict that cannot be read: their names, and what to throw where one is asked for. */
  readonly refused: ReadonlyMap<string, SafeTensorsError>;
  /** The values that are left out, the tensors that cannot be read among them. */
  readonly skipped: readonly SkippedValue[];
  /** What a user should know about the names. */
  readonly notes: readonly string[];
  /**
   * Of tensors that are the same view of the same storage, all but one: its name → the name that is kept,
   * which is the first in the order of UTF-8 bytes, as in the reference's `save_model`. A file that is
   * written needs only the kept ones, and this as metadata. Tensors that merely overlap are none of these:
   * each is written.
   */
  readonly aliases: ReadonlyMap<string, string>;
}

/** How a checkpoint is read. */
export interface CheckpointOptions {
  /**
   * Which part of what was saved is read, by its name, such as "state_dict_ema" or, deeper, "ema.model"; "" reads
   * everything. Default: the dict "state_dict" where the file has one, else everything.
   */
  root?: string;
  /** Bounds that keep a hostile file from costing much. */
  limits?: CheckpointLimits;
}

/** The keys of {@linkcode CheckpointOptions}. */
export const CHECKPOINT_KEYS: readonly string[] = keysOf<CheckpointOptions>({ root: true, limits: true });

/**
 * The options of a checkpoint among those of a call, checked before anything is opened.
 *
 * @throws {TypeError} for a value of a wrong kind
 * @throws {RangeError} for a limit that is negative or NaN
 */
export function checkpointOptions(options: CheckpointOptions): CheckpointOptions {
  const { root, limits } = options;
  if (root !== undefined && typeof root !== "string") {
    throw new TypeError(`root must be the name of a part of the checkpoint, got ${describeValue(root)}`);
  }
  return { ...root === undefined ? {} : { root }, limits: checkpointLimits(limits ?? {}) };
}

/** Tensors between two looks at the clock. */
const TURN_STEPS = 1024;

const ZIP_MAGIC = "PK\x03\x04";
const TAR_MAGIC = "ustar";
const TAR_MAGIC_AT = 257;
/** How a legacy file of pickle protocols 0 and 1 starts, which have no PROTO: PyTorch's magic number in digits. */
const TEXT_MAGIC = "L119547037146038801333356L\n";

/**
 * Reads what a checkpoint holds. The names of nested dicts and lists are joined with dots; the tensors of modules are
 * named as by their `state_dict()`; a tensor that was saved by itself has the name of the file, without its suffix.
 *
 * @param reader the file
 * @returns the tensors; every range given lies in the file
 * @throws {SafeTensorsError} "WrongFormat" for other files; "InvalidPickle" for a pickle that is not one;
 * "InvalidCheckpoint" for a file that contradicts itself; "UnsupportedCheckpoint" where nothing in it can be read;
 * "LimitExceeded"; "TensorNotFound" for a root that is not there
 * @throws {ReadError} where the file cannot be read
 * @throws {TypeError} for an option of a wrong kind
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

/** How a file begins, where nothing more is known of it. */
function startOf(latin1: string): string {
  if (latin1 === "") return "it is empty";
  return /^\0+$/.test(latin1) ? "it begins with zeros alone" : `it begins with ${quote(latin1.slice(0, 8))}`;
}

/** The error about a tar archive: PyTorch 0.1 wrote these, and other tools pack checkpoints into them. */
function tarError(path: string, latin1: string): Error {
  const first = latin1.slice(0, latin1.indexOf("\0"));
  const old = ["sys_info", "pickle", "tensors", "storages"].includes(first);
  const advice = old
    ? "the format of PyTorch 0.1: load it in an old PyTorch and save it again"
    : `the first file in it is ${quote(first)}: unpack it (tar -xf) and take the checkpoint in it`;
  return checkpointError("UnsupportedCheckpoint", path, `it is a tar archive, ${advice}`);
}

/** The names of tensors that are the same view of the same storage as another one. */
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
    const [kept, ...others] = await finishInTurns(sortInSteps(names, compareUtf8));
    for (const name of others) {
      if (++steps % TURN_STEPS === 0) await turn.pause();
      aliases.set(name, kept!);
    }
  }
  return aliases;
}

/** The same for tensors that are the same view of one storage, and only for these. */
function viewKey(tensor: CheckpointTensor): string {
  const { storage, fileOffset, dtype, shape, strides, conjugate, negative } = tensor;
  // The stride of a dimension of size 1 is never taken.
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
