/** The errors of this room, all worded alike. */
import { SafeTensorsError } from "../errors.ts";
import { quote } from "../format/text.ts";

/**
 * What may be wrong with a checkpoint: its pickle, its container, something in it that no safetensors file
 * can hold, or that it is another kind of file altogether.
 */
export type CheckpointErrorCode =
  | "InvalidPickle"
  | "InvalidCheckpoint"
  | "UnsupportedCheckpoint"
  | "WrongFormat";

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
