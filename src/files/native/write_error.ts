/**
 * Refusals of the system while writing, as errors that say what was tried.
 */
import { constants } from "node:os";
import { systemErrorText } from "../../../ffi/status.ts";
import { errnoOf } from "./errno.ts";
import { SafeTensorsError, WriteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";

const { EEXIST, EISDIR, ENAMETOOLONG, ENOSPC } = constants.errno;

/** The error of an action on a path; Deno's own permission errors are passed on as they are. */
export function writeError(error: unknown, action: string, path: string): unknown {
  if (error instanceof Deno.errors.NotCapable || !(error instanceof Error)) return error;
  if (error instanceof WriteError || error instanceof SafeTensorsError) return error;
  const errno = errnoOf(error);
  if (errno === EEXIST) return fileExists(path, error);
  const reason = errno > 0 ? systemErrorText(errno) : error.message;
  const remedy = errno === ENOSPC ? ": free some space, or save elsewhere" : "";
  return new WriteError(`Cannot ${action} ${quote(path)}: ${reason}${remedy}`, { path, errno, cause: error });
}

/** The refusal to replace a file without being asked to. */
export function fileExists(path: string, cause?: Error): SafeTensorsError {
  const advice = "pass overwrite: true to replace it";
  return new SafeTensorsError("FileExists", `Cannot save ${quote(path)}: it exists`, { path, cause, advice });
}

/** The refusal to put a file where a folder is. */
export function isFolder(path: string): WriteError {
  return new WriteError(`Cannot save ${quote(path)}: it is a folder`, { path, errno: EISDIR });
}

/** The refusal of a name that no file system takes. */
export function longName(path: string): WriteError {
  return new WriteError(`Cannot save ${quote(path)}: its name is longer than 255 bytes`, {
    path,
    errno: ENAMETOOLONG,
  });
}

/** Throws if there are not as many bytes any more as when their writing was asked for. */
export function checkThere(bytes: Uint8Array, byteLength: number): void {
  if (bytes.byteLength !== byteLength) {
    throw new TypeError("Cannot write bytes: their buffer was transferred");
  }
}
