/**
 * A folder for the data of a benchmark, removed when the process ends.
 */

/** Makes one. */
export function tempFolder(): string {
  const folder = Deno.makeTempDirSync({ prefix: "fastsafetensors-bench-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  return folder;
}
