/**
 * `deno task build:debug`: a build of the library that checks what it takes for granted, writes a line to stderr for each
 * call, and can be stepped through.
 *
 * Prints its path, for `FASTSAFETENSORS_LIB=$(deno task --quiet build:debug) deno task load model/`; with gdb,
 * `directory native` shows it the sources.
 */
import { buildShim } from "../../ffi/build.ts";

/** Flags of the debug build; the hooks around every function (native/core/debug.c) leave out those of single elements. */
export const DEBUG_FLAGS: readonly string[] = [
  "-O0",
  "-g",
  "-DFST_DEBUG",
  "-finstrument-functions",
  "-finstrument-functions-exclude-file-list=cast,convert,copy",
];

if (import.meta.main) console.log(await buildShim({ flags: DEBUG_FLAGS }));
