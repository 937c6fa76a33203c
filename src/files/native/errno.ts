/**
 * The error numbers of the system, whichever way a refusal came.
 */
import { constants } from "node:os";
import { SystemError } from "../../../ffi/files.ts";

/** The system's error number of an error; 0 if the system had no part in it. Deno's errors carry its name, as `code`. */
export function errnoOf(error: Error): number {
  if (error instanceof SystemError) return error.errno;
  // Errors of Deno's own are without a code.
  if (error instanceof Deno.errors.AlreadyExists) return constants.errno.EEXIST;
  if (error instanceof Deno.errors.IsADirectory) return constants.errno.EISDIR;
  const { code } = error as { code?: unknown };
  return Object.entries(constants.errno).find(([name]) => name === code)?.[1] ?? 0;
}
