/**
 * PyTorch checkpoints (.pt, .pth, .bin) as tensors at known places of a file, without running any of the
 * pickle inside. Nothing but names and places is read; the tensors' own bytes are the business of whoever
 * loads them.
 */
import { dtypeBits } from "../format/dtype.ts";
import { compareUtf8, quote } from "../format/text.ts";
import type { ByteReader } from "./byte_reader.ts";
import { checkpointError } from "./checkpoint_error.ts";
import { type CheckpointTensor, elementCount } from "./checkpoint_tensor.ts";
import type { Container } from "./container.ts";
import { flattenStateDict, type SkippedValue } from "./flatten.ts";
import { openLegacyContainer } from "./legacy_container.ts";
import { type CheckpointLimits, checkpointLimits } from "./limits.ts";
import { Op } from "./opcodes.ts";
import { expansionLimit, rebuildTensor } from "./rebuild.ts";
import { openZipContainer } from "./zip_container.ts";

export type { CheckpointLimits, CheckpointTensor, SkippedValue };

/** What a checkpoint holds. */
export interface Checkpoint {
  /** The file. */
  readonly path: string;
  /** Its kind: the zip archive of PyTorch 1.6 and later, or the pickles in a row before that. */
  readonly container: "zip" | "legacy";
  /** Every tensor by name, in the order of the state dict, aliases included. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** The values that are not tensors and are left out. */
  readonly skipped: readonly SkippedValue[];
  /**
   * Of tensors that are the same view of the same storage, all but one: its name → the name that is kept,
   * which is the first in the order of UTF-8 bytes, as in the reference's `save_model`. A file that is
   * written needs only the kept ones, and this as metadata. Tensors that merely overlap are none of these:
   * each is written.
   */
  readonly aliases: ReadonlyMap<string, string>;
}

/** How a checkpoint is read: the bounds that keep a hostile file from costing much. */
export type CheckpointOptions = CheckpointLimits;

/** Enough of a file to tell what it is; the mark of a tar archive stands at 257. */
const MAGIC_BYTES = 512;
const ZIP_MAGIC = "PK\x03\x04";
const TAR_MAGIC = "ustar";
const TAR_MAGIC_AT = 257;

/**
 * Reads what a checkpoint holds. An outer `{"state_dict": …}` is unwrapped; the names of nested dicts and
 * lists are joined with dots.
 *
 * @param reader the file
 * @param options bounds on what it may cost
 * @returns the tensors; every range given lies in the file
 * @throws {SafeTensorsError} "WrongFormat" for other files; "InvalidPickle" for a pickle with opcodes,
 * globals or calls that tensors do not need; "InvalidCheckpoint" for a file that contradicts itself;
 * "UnsupportedCheckpoint" for what no safetensors file can hold, and beyond the limits
 * @throws {ReadError} where the file cannot be read
 */
export async function readCheckpoint(
  reader: ByteReader,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const { path } = reader;
  const limits = checkpointLimits(options);
  const container = await openContainer(reader, limits);
  const { tensors: calls, skipped } = flattenStateDict(container.value, path, limits);

  const context = { path, container, maxExpandedBytes: limits.maxExpandedBytes };
  const tensors = new Map<string, CheckpointTensor>();
  for (const [name, call] of calls) tensors.set(name, rebuildTensor(call, name, context));
  const aliases = findAliases(tensors);
  checkTotal(tensors, aliases, reader, limits);
  return { path, container: container.kind, tensors, skipped, aliases };
}

async function openContainer(reader: ByteReader, limits: Required<CheckpointLimits>): Promise<Container> {
  const { path, size } = reader;
  const bytes = await reader.read(0, Math.min(MAGIC_BYTES, size));
  const latin1 = String.fromCharCode(...bytes);
  if (latin1.startsWith(ZIP_MAGIC)) return openZipContainer(reader, limits);
  if (latin1.startsWith(TAR_MAGIC, TAR_MAGIC_AT)) {
    throw checkpointError(
      "UnsupportedCheckpoint",
      path,
      "it is a tar archive, the format of PyTorch 0.1: load it in an old PyTorch and save it again",
    );
  }
  if (bytes[0] === Op.PROTO) return openLegacyContainer(reader, limits);
  throw checkpointError(
    "WrongFormat",
    path,
    `it is no PyTorch checkpoint: it starts with ${startOf(latin1)}`,
  );
}

/** The first characters of a file, for a message. */
function startOf(latin1: string): string {
  return latin1 === "" ? "nothing, being empty" : quote(latin1.slice(0, 8));
}

function findAliases(tensors: ReadonlyMap<string, CheckpointTensor>): Map<string, string> {
  // Empty tensors share no memory.
  const filled = tensors.values().filter(({ shape }) => !shape.includes(0));
  const aliases = new Map<string, string>();
  for (const neighbours of Map.groupBy(filled, ({ storage }) => storage).values()) {
    if (neighbours.length === 1) continue;
    for (const same of Map.groupBy(neighbours, viewKey).values()) {
      const [kept, ...others] = same.map(({ name }) => name).sort(compareUtf8);
      for (const name of others) aliases.set(name, kept!);
    }
  }
  return aliases;
}

/** The same for tensors of one storage that are the same view of it, and only for these. */
function viewKey(tensor: CheckpointTensor): string {
  const { fileOffset, dtype, shape, strides, conjugate, negative } = tensor;
  // The stride of a dimension of size 1 is never taken.
  const taken = strides.map((stride, i) => shape[i] === 1 ? 0 : stride);
  return [fileOffset, dtype, shape.join(), taken.join(), conjugate, negative].join(" ");
}

function checkTotal(
  tensors: ReadonlyMap<string, CheckpointTensor>,
  aliases: ReadonlyMap<string, string>,
  reader: ByteReader,
  limits: Required<CheckpointLimits>,
): void {
  const limit = expansionLimit(reader.size, limits.maxExpandedBytes);
  let total = 0;
  for (const tensor of tensors.values()) {
    if (aliases.has(tensor.name)) continue;
    total += elementCount(tensor.shape) * dtypeBits(tensor.dtype) / 8;
  }
  if (total <= limit) return;
  throw checkpointError(
    "UnsupportedCheckpoint",
    reader.path,
    `its tensors take ${total} bytes out of a file of ${reader.size}: ${limit} are allowed (maxExpandedBytes)`,
  );
}
