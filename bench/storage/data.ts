/**
 * The files to read: found in a folder, or created; and the stand-in for 3FS, for trial runs.
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

/** Creates a model of so many bytes, in four files. */
export async function makeFiles(folder: string, bytes: number): Promise<Range[]> {
  using bar = new ProgressBar("Writing");
  await writeSyntheticModel(folder, { bytes, onProgress: (done) => bar.update(done, bytes) });
  return await filesIn(folder);
}

const SIM = new URL("../../tests/sim/", import.meta.url).pathname;

/** GB/s of the stand-ins for 3FS and for CUDA, for equal times of reads and copies. */
const SAME_RATE = "0.5";

/**
 * Builds the stand-in for 3FS, and turns a folder into its mount, for this process and its children, until the result
 * is disposed. It does not check or delay, unless the environment requests it, since the benchmark measures rates.
 */
export async function useStandIn(work: string, mount: string): Promise<AsyncDisposable> {
  const virtual = `${mount}/3fs-virt`;
  const isNew = !await Deno.stat(virtual).catch(() => null);
  await build("3fs", `${work}/3fs`);
  await Deno.mkdir(`${virtual}/iovs`, { recursive: true });
  Deno.env.set("HF3FS_LIB_DIR", `${work}/3fs`);
  Deno.env.set("FST_SIM_3FS_MOUNT", await Deno.realPath(mount));
  setDefaults({
    FST_SIM_3FS_CHECKS: "0",
    FST_SIM_3FS_DELAY_US: "0",
    FST_SIM_3FS_WORKERS: String(Math.max(2, navigator.hardwareConcurrency)),
  });
  return {
    async [Symbol.asyncDispose]() {
      if (isNew) await Deno.remove(virtual, { recursive: true });
    },
  };
}

/** Also builds the stand-in for CUDA, and sets equal times per byte for both. */
export async function useSlowStandIns(work: string): Promise<void> {
  await build("cuda", `${work}/cuda`);
  const library = `${work}/cuda/libfst_sim_cuda.so`;
  for (const name of ["CUDART", "CUDA", "CUFILE"]) Deno.env.set(`FASTSAFETENSORS_${name}_LIB`, library);
  setDefaults({
    FST_SIM_CHECKS: "0",
    FST_SIM_DELAY_US: "0",
    FST_SIM_COPY_GBPS: SAME_RATE,
    FST_SIM_3FS_GBPS: SAME_RATE,
  });
}

async function build(name: string, folder: string): Promise<void> {
  const { success, stderr } = await new Deno.Command("sh", { args: [`${SIM}${name}/build.sh`, folder] })
    .output();
  if (success) return;
  throw new Error(`Cannot build the stand-in tests/sim/${name}:\n${new TextDecoder().decode(stderr)}`);
}

/** The variables without a value. */
function setDefaults(variables: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(variables)) {
    if (Deno.env.get(name) === undefined) Deno.env.set(name, value);
  }
}
