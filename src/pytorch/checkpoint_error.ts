/** The errors of this folder, all worded alike. */
import { SafeTensorsError } from "../base/errors.ts";
import { quote } from "../base/text.ts";
import type { CheckpointLimits } from "./limits.ts";

/**
 * What may be wrong with a checkpoint: its pickle, its container, something in it that no safetensors file
 * can hold, more of something than a limit allows, or that it is another kind of file altogether.
 */
export type CheckpointErrorCode =
  | "InvalidPickle"
  | "InvalidCheckpoint"
  | "UnsupportedCheckpoint"
  | "LimitExceeded"
  | "WrongFormat"
  | "TensorNotFound";

/** An error about the checkpoint `path`, and about one `tensor` of it where that is given. */
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

/** An error about a limit: `detail` says what there is and how much is allowed. */
export function limitError(
  path: string,
  detail: string,
  limit: keyof CheckpointLimits,
  tensor?: string,
): SafeTensorsError {
  return checkpointError("LimitExceeded", path, `${detail} (limit ${limit})`, tensor);
}
