/**
 * The errors of lanes that cannot read a file.
 */
import type { PlanFailure } from "../../../ffi/plan_memory.ts";
import { ringErrorText } from "../../../ffi/usrbio.ts";
import { ReadError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";

/**
 * Makes the error for a failure of a local file.
 *
 * @param tensor the name of the tensor whose bytes could not be read
 * @param byteLength bytes of the segment that failed
 */
export function readFailure(
  { kind, offset, expected, actual, errno }: PlanFailure,
  path: string,
  tensor: string,
  byteLength: number,
): ReadError {
  const at = `${expected || byteLength} bytes expected at offset ${offset}`;
  const reason = {
    system: `${at}: ${ringErrorText(errno)}`,
    truncated: `${at}, ${actual} found: was it truncated?`,
    changed: `the file was changed after its header was read`,
  }[kind as "system" | "truncated" | "changed"];
  const message = `Cannot read ${quote(path)} (tensor ${quote(tensor)}): ${reason}`;
  return new ReadError(message, { path, offset, expected, actual, errno });
}
