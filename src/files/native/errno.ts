/**
 * The system's error numbers of errors from Deno.
 */
import { constants } from "node:os";
import { systemErrorText } from "../../../ffi/status.ts";
import { SystemError } from "../../../ffi/files.ts";

/** Returns the system's error number of an error; 0 if it has none. Errors of Deno have the name of the number as `code`. */
export function errnoOf(error: Error): number {
  if (error instanceof SystemError) return error.errno;
  // Some errors of Deno do not have a code.
  if (error instanceof Deno.errors.AlreadyExists) return constants.errno.EEXIST;
  if (error instanceof Deno.errors.IsADirectory) return constants.errno.EISDIR;
  const { code } = error as { code?: unknown };
  return Object.entries(constants.errno).find(([name]) => name === code)?.[1] ?? 0;
}

/** Describes an error: the system's text for its number, or else its own message. */
export function systemReason(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const errno = errnoOf(error);
  return errno > 0 ? systemErrorText(errno) : error.message;
}
