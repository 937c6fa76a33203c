/** Limits on the work that a checkpoint may cause, and the errors about checkpoints. */
import { checkKeys, describeValue } from "../base/check.ts";
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";

/** Limits on the work and memory that a checkpoint may cause. Raise them for a file that you trust. */
export interface CheckpointLimits {
  /** The largest size in bytes of the pickle that describes the tensors. Default 64 MiB. */
  maxPickleBytes?: number;
  /**
   * The most opcodes of that pickle. Default 8,388,608, about 280,000 tensors. An opcode makes at most one small
   * object, so this bounds the memory too: to about 1.4 GB for the worst file.
   */
  maxOpcodes?: number;
  /** The longest string in bytes. Default 16 MiB. */
  maxStringBytes?: number;
  /** The deepest nesting of containers, and of MARK opcodes. Default 1024. */
  maxNesting?: number;
  /**
   * The most tensors, other values and containers in the state dict; a shared one counts once for each use.
   * Default 1,048,576.
   */
  maxValues?: number;
  /** The most entries of a zip archive. Default 1,048,576. */
  maxEntries?: number;
  /**
   * A tensor may be larger than its storage, by dimensions of stride 0 and other overlaps: up to 64 times the
   * storage's bytes, or up to this many bytes if that is more. Default 1 GiB. The same holds for all
   * tensors together, and for the unpacked bytes of compressed zip entries, compared with the size of the file.
   */
  maxExpandedBytes?: number;
}

const DEFAULTS: Readonly<Required<CheckpointLimits>> = {
  maxPickleBytes: 64 * 2 ** 20,
  maxOpcodes: 2 ** 23,
  maxStringBytes: 16 * 2 ** 20,
  maxNesting: 1024,
  maxValues: 2 ** 20,
  maxEntries: 2 ** 20,
  maxExpandedBytes: 2 ** 30,
};

/** The names of all limits. */
const LIMITS: readonly (keyof CheckpointLimits)[] = Object.keys(DEFAULTS) as never;

/**
 * Adds the defaults of {@linkcode CheckpointLimits} to `limits`.
 *
 * @throws {TypeError} for an unknown key, and for a value that is not a number
 * @throws {RangeError} for a negative number, and for NaN
 */
export function checkpointLimits(limits: CheckpointLimits): Required<CheckpointLimits> {
  checkKeys("limits", limits, LIMITS);
  const complete = { ...DEFAULTS };
  for (const name of LIMITS) {
    const value: unknown = limits[name] ?? DEFAULTS[name];
    if (typeof value !== "number") {
      throw new TypeError(`limits.${name} must be a number, got ${describeValue(value)}`);
    }
    if (!(value >= 0)) throw new RangeError(`limits.${name} must be a number from 0 on, got ${value}`);
    complete[name] = value;
  }
  return complete;
}

/** A tensor may be this many times as large as its storage, even above `maxExpandedBytes`. */
const MAX_EXPANSION = 64;

/** The most bytes that a tensor, or all of them, may take when its storage, or the file, has `bytes`. */
export function expansionLimit(bytes: number, maxExpandedBytes: number): number {
  return Math.max(MAX_EXPANSION * bytes, maxExpandedBytes);
}

/* ---- The errors of this folder ---- */

/**
 * The kinds of errors in a checkpoint: its pickle, its container, a part that no safetensors file can hold, a
 * number above a limit, or another file format.
 */
export type CheckpointErrorCode =
  | "InvalidPickle"
  | "InvalidCheckpoint"
  | "UnsupportedCheckpoint"
  | "LimitExceeded"
  | "WrongFormat"
  | "TensorNotFound";

/** An error about the checkpoint `path`, and about one `tensor` of it if that is given. */
export function checkpointError(
  code: CheckpointErrorCode,
  path: string,
  detail: string,
  tensor?: string,
): SafeTensorsError {
  const place = `checkpoint ${quote(path)}`;
  const subject = tensor === undefined ? place : `tensor ${quote(tensor)} of ${place}`;
  return new SafeTensorsError(code, `Cannot read ${subject}: ${detail}`, { path, tensor });
}

/** An error about a limit: `detail` gives the number found and the number allowed. */
export function limitError(
  path: string,
  detail: string,
  limit: keyof CheckpointLimits,
  tensor?: string,
): SafeTensorsError {
  return checkpointError("LimitExceeded", path, `${detail} (limit ${limit})`, tensor);
}
