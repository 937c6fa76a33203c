/**
 * Refusals of the system while writing, as errors that say what was tried.
 */
import { SystemError } from "../../ffi/files.ts";
import { systemErrorText } from "../../ffi/status.ts";
import { SafeTensorsError, WriteError } from "../errors.ts";

const EEXIST = 17, ENOSPC = 28;

/** The error of an action on a path; Deno's own permission errors are passed on as they are. */
export function writeError(error: unknown, action: string, path: string): unknown {
  if (error instanceof Deno.errors.NotCapable || !(error instanceof Error)) return error;
  if (error instanceof WriteError || error instanceof SafeTensorsError) return error;
  if (error instanceof Deno.errors.AlreadyExists) return fileExists(path, error);
  if (!(error instanceof SystemError)) {
    return new WriteError(`Cannot ${action} "${path}": ${error.message}`, { path, cause: error });
  }
  const { errno } = error;
  if (errno === EEXIST) return fileExists(path, error);
  const remedy = errno === ENOSPC ? ": free some space, or save elsewhere" : "";
  return new WriteError(`Cannot ${action} "${path}": ${systemErrorText(errno)}${remedy}`, {
    path,
    errno,
    cause: error,
  });
}

/** The refusal to replace a file without being asked to. */
export function fileExists(path: string, cause?: Error): SafeTensorsError {
  const message = `Cannot save "${path}": it exists: pass overwrite: true to replace it`;
  return new SafeTensorsError("FileExists", message, { path, cause });
}
