/**
 * A folder for the data of a benchmark, removed when the process ends, also by Ctrl-C.
 */

/** Creates one, in `dir` or in the system's temporary folder. */
export function tempFolder(dir?: string): string {
  const folder = Deno.makeTempDirSync({
    prefix: "fastsafetensors-bench-",
    ...dir === undefined ? {} : { dir },
  });
  globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => Deno.exit(1));
  return folder;
}
