/**
 * Functions for local files that both engines share: absolute paths, the check for regular files, and errors of reads.
 */
import { errnoOf, systemReason } from "./errno.ts";
import { ReadError, UseAfterCloseError } from "../../base/errors.ts";
import { quote } from "../../base/text.ts";
import { resolve } from "../../base/paths.ts";
import { workingFolder } from "./working_folder.ts";

/** Makes a path absolute, so that it does not depend on later changes of the working folder; unchanged without a folder. */
export function absolutePath(path: string, folder: string | undefined = workingFolder()): string {
  return folder === undefined ? path : resolve(folder, path);
}

/** Throws if a path is not that of a regular file: a read of a pipe could wait forever. */
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

/** Converts an error of the system or of Deno to a {@linkcode ReadError} with the action in its message. */
export function readError(
  error: unknown,
  action: "open" | "read",
  path: string,
  range: { offset?: number; expected?: number } = {},
): Error {
  if (error instanceof Deno.errors.NotCapable || error instanceof ReadError) return error;
  if (!(error instanceof Error) || error instanceof UseAfterCloseError) return error as Error;
  const errno = errnoOf(error);
  return new ReadError(`Cannot ${action} ${quote(path)}: ${systemReason(error)}`, {
    path,
    errno,
    ...range,
    cause: error,
  });
}

/** Makes the error for a file that has fewer bytes than expected. */
export function tooShort(path: string, offset: number, expected: number, actual: number): ReadError {
  const message = `Cannot read ${
    quote(path)
  }: ${expected} bytes expected at offset ${offset}, ${actual} found: was it truncated?`;
  return new ReadError(message, { path, offset, expected, actual });
}
