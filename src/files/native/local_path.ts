/**
 * What local files have in common, whichever engine reads them: where a path leads, what may be opened, and what a
 * refusal means.
 */
import { systemErrorText } from "../../../ffi/status.ts";
import { errnoOf } from "./errno.ts";
import { ReadError, UseAfterCloseError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { resolve } from "../../base/paths.ts";
import { workingFolder } from "./working_folder.ts";

/** A path that stays the same wherever the program goes; as it is where there is no folder to count from. */
export function absolutePath(path: string, folder: string | undefined = workingFolder()): string {
  return folder === undefined ? path : resolve(folder, path);
}

/** Throws if a path names a folder, or what is not a regular file: a pipe could be waited for without end. */
export function refuseSpecial(path: string, info: Deno.FileInfo): void {
  if (info.isDirectory) throw new Deno.errors.IsADirectory(`Is a directory: ${quote(path)}`);
  if (info.isFile) return;
  const kinds = [
    [info.isFifo, " but a named pipe (FIFO)"],
    [info.isSocket, " but a socket"],
    [info.isCharDevice || info.isBlockDevice, " but a device"],
  ] as const;
  const kind = kinds.find(([is]) => is)?.[1] ?? "";
  throw new ReadError(`Cannot open ${quote(path)}: it is not a regular file${kind}`, { path });
}

/** A refusal of the system, or of Deno, as a {@linkcode ReadError} that says what was tried. */
export function readError(
  error: unknown,
  action: "open" | "read",
  path: string,
  range: { offset?: number; expected?: number } = {},
): Error {
  if (error instanceof Deno.errors.NotCapable || error instanceof ReadError) return error;
  if (!(error instanceof Error) || error instanceof UseAfterCloseError) return error as Error;
  const errno = errnoOf(error);
  const reason = errno > 0 ? systemErrorText(errno) : error.message;
  return new ReadError(`Cannot ${action} ${quote(path)}: ${reason}`, { path, errno, ...range, cause: error });
}

/** The error of a file that has fewer bytes than were expected of it. */
export function tooShort(path: string, offset: number, expected: number, actual: number): ReadError {
  const message = `Cannot read ${
    quote(path)
  }: ${expected} bytes expected at offset ${offset}, ${actual} found: was it truncated?`;
  return new ReadError(message, { path, offset, expected, actual });
}
