/**
 * A folder for the data of a benchmark, removed when the process ends, also by Ctrl-C.
 */

/** Makes one. */
export function tempFolder(): string {
  const folder = Deno.makeTempDirSync({ prefix: "fastsafetensors-bench-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => Deno.exit(1));
  return folder;
}
