/**
 * The files that are read: found in a folder, or made; and the stand-in for 3FS, for rehearsals.
 */
import { ProgressBar } from "../../src/cli/progress_bar.ts";
import { writeSyntheticModel } from "../../src/cli/synthetic_model.ts";
import type { Range } from "./sweep.ts";

/** All safetensors files of a folder, whole. */
export async function filesIn(folder: string): Promise<Range[]> {
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const paths = names.filter((name) => name.endsWith(".safetensors")).sort().map((name) =>
    `${folder}/${name}`
  );
  return await Promise.all(paths.map(async (path) => {
    return { path, offset: 0, length: (await Deno.stat(path)).size };
  }));
}

/** Makes a model of so many bytes, in four files. */
export async function makeFiles(folder: string, bytes: number): Promise<Range[]> {
  using bar = new ProgressBar("Writing");
  await writeSyntheticModel(folder, { bytes, onProgress: (done) => bar.update(done, bytes) });
  return await filesIn(folder);
}

const STAND_IN = new URL("../../tests/sim/3fs/build.sh", import.meta.url).pathname;

/**
 * Builds the stand-in for 3FS, and makes a folder into its mount, for this process and those that it starts.
 *
 * @param settings variables of the stand-in that have no value yet
 */
export async function useStandIn(
  work: string,
  mount: string,
  settings: Readonly<Record<string, string>>,
): Promise<void> {
  const { success, stderr } = await new Deno.Command("sh", { args: [STAND_IN, `${work}/stand-in`] }).output();
  if (!success) throw new Error(`Cannot build the stand-in for 3FS:\n${new TextDecoder().decode(stderr)}`);
  await Deno.mkdir(`${mount}/3fs-virt/iovs`, { recursive: true });
  Deno.env.set("HF3FS_LIB_DIR", `${work}/stand-in`);
  Deno.env.set("FST_SIM_3FS_MOUNT", mount);
  for (const [name, value] of Object.entries(settings)) {
    if (Deno.env.get(name) === undefined) Deno.env.set(name, value);
  }
}
