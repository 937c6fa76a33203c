/**
 * The errors of failed writes.
 */
import { constants } from "node:os";
import { systemErrorText } from "../../../ffi/status.ts";
import { errnoOf } from "./errno.ts";
import { SafeTensorsError, WriteError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";

const { EEXIST, EISDIR, ENAMETOOLONG, ENOSPC } = constants.errno;

/** Makes the error for an action on a path; returns Deno's permission errors unchanged. */
export function writeError(error: unknown, action: string, path: string): unknown {
  if (error instanceof Deno.errors.NotCapable || !(error instanceof Error)) return error;
  if (error instanceof WriteError || error instanceof SafeTensorsError) return error;
  const errno = errnoOf(error);
  if (errno === EEXIST) return fileExists(path, error);
  const reason = errno > 0 ? systemErrorText(errno) : error.message;
  const remedy = errno === ENOSPC ? ": free some space, or save elsewhere" : "";
  return new WriteError(`Cannot ${action} ${quote(path)}: ${reason}${remedy}`, { path, errno, cause: error });
}

/** Makes the error for a file that exists and is not replaced without an option. */
export function fileExists(path: string, cause?: Error): SafeTensorsError {
  const advice = "pass overwrite: true to replace it";
  return new SafeTensorsError("FileExists", `Cannot save ${quote(path)}: it exists`, { path, cause, advice });
}

/** Makes the error for a path that is a folder. */
export function isFolder(path: string): WriteError {
  return new WriteError(`Cannot save ${quote(path)}: it is a folder`, { path, errno: EISDIR });
}

/** Makes the error for a name that is too long for file systems. */
export function longName(path: string): WriteError {
  return new WriteError(`Cannot save ${quote(path)}: its name is longer than 255 bytes`, {
    path,
    errno: ENAMETOOLONG,
  });
}

/** Throws if the buffer was transferred after the call that writes it. */
export function checkThere(bytes: Uint8Array, byteLength: number): void {
  if (bytes.byteLength !== byteLength) {
    throw new TypeError("Cannot write bytes: their buffer was transferred");
  }
}
