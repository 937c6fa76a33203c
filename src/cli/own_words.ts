/**
 * Errors of the library in the words of the command line: advice names commands and options, not functions.
 */
import { OutOfMemoryError, SafeTensorsError } from "../../mod.ts";
import { PROGRAM } from "./help.ts";

/** The message of an error, for somebody who called a command. */
export function inOwnWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (error instanceof OutOfMemoryError) {
    return error.message.replace(/load fewer names, or open with lazy: true$/, "--names loads fewer tensors");
  }
  if (!(error instanceof SafeTensorsError) || error.advice === undefined) return error.message;
  const advice = adviceOn(error);
  return advice === undefined ? error.message : error.message.slice(0, -error.advice.length) + advice;
}

function adviceOn({ code, format, path = "FILE" }: SafeTensorsError): string | undefined {
  if (format === "pytorch") return `convert it: ${PROGRAM} convert -i ${inShell(path)}`;
  if (format === "safetensors") return `nothing is to be converted: ${PROGRAM} load ${inShell(path)}`;
  return code === "FileExists" ? "--overwrite replaces it" : undefined;
}

/** A path as a shell reads it. */
function inShell(path: string): string {
  return /^[\w./@%+=:,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`;
}
