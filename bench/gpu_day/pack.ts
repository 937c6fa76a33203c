/**
 * `deno task gpu-day --pack`: the archive for a machine with a GPU that has neither Deno nor a compiler nor a network.
 *
 * It has Deno, the sources, all modules that they import from elsewhere, and what is otherwise built at the first use: the
 * library as a release carries it, its build for tests, and the programs of the benchmarks.
 */
import { builtPath, compileShim } from "../../ffi/build.ts";
import { PLATFORMS } from "../../ffi/prebuilt.ts";
import { buildRelease, RELEASE_FLAGS } from "../../native/tools/release.ts";
import { formatBytes } from "../../src/cli/text.ts";
import { REAL_GPU_FLAGS } from "../../tests/cuda/support.ts";
import { TEST_SOURCES, WRAP_FLAGS } from "../../tests/support/test_library.ts";
import { output, SOURCES } from "../side_by_side/tools.ts";
import { tempFolder } from "../temp_folder.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

/** The largest archive, in bytes. */
const MOST_BYTES = 60 * 2 ** 20;

/** What the archive has of the repository. */
const PARTS = ["mod.ts", "deno.json", "LICENSE", "src", "ffi", "native", "links", "bench", "tests"];

/** Below these parts: what a checkout or its runs have beside the sources. */
const LEFT_OUT = ["native/build", "native/prebuilt", "bench/results", "bench/built"];

/** The modules from which the steps reach all others. */
const ENTRIES = ["bench/gpu_day.ts", "bench/gpu.ts", "bench/webgpu.ts", "tests/run.ts", "src/cli/mod.ts"];

/**
 * Makes the archive.
 *
 * @param path where it is written
 * @throws {Error} if a compiler is missing, or the archive is larger than 60 MiB
 */
export async function pack(path: string): Promise<void> {
  const work = tempFolder();
  const folder = `${work}/gpu-day`, copy = `${folder}/package`;
  for (const part of ["bin", "package", "cache/deno", "cache/fastsafetensors"]) {
    await Deno.mkdir(`${folder}/${part}`, { recursive: true });
  }
  await Deno.copyFile(Deno.execPath(), `${folder}/bin/deno`);
  await Deno.copyFile(`${ROOT}bench/gpu_day/start.sh`, `${folder}/start.sh`);
  await output("cp", ["-R", ...PARTS.map((part) => ROOT + part), copy]);
  for (const part of LEFT_OUT) await Deno.remove(`${copy}/${part}`, { recursive: true }).catch(() => {});
  await buildAll(folder, copy, work);
  await new Deno.Command(Deno.execPath(), {
    args: ["cache", "--quiet", "--no-check", ...ENTRIES.map((entry) => `${copy}/${entry}`)],
    env: { DENO_DIR: `${folder}/cache/deno` },
  }).output();
  // What Deno keeps for local modules is of use only at their paths here.
  for (const { name } of Deno.readDirSync(`${folder}/cache/deno`)) {
    if (!["remote", "npm"].includes(name)) {
      await Deno.remove(`${folder}/cache/deno/${name}`, { recursive: true });
    }
  }
  await output("tar", ["-C", work, "--owner=0", "--group=0", "-czf", path, "gpu-day"]);
  const { size } = await Deno.stat(path);
  if (size > MOST_BYTES) {
    throw new Error(`Cannot pack "${path}": ${size} bytes, at most ${MOST_BYTES} are allowed`);
  }
  console.log(
    `Wrote ${path}, ${formatBytes(size)}. On the machine: tar xzf ${
      path.split("/").at(-1)
    } && gpu-day/start.sh`,
  );
}

/** Builds what a machine without a compiler cannot build. */
async function buildAll(folder: string, copy: string, work: string): Promise<void> {
  const platform = PLATFORMS.find((name) => name === `${Deno.build.os}-${Deno.build.arch}`);
  if (platform === undefined) throw new Error("Cannot pack: the GPU day needs Linux on x86_64 or aarch64");
  await buildRelease(`${copy}/native/prebuilt`, [platform]);
  await Deno.remove(`${copy}/native/prebuilt/libfastsafetensors-${platform}.so`);

  const flags = [...WRAP_FLAGS, ...REAL_GPU_FLAGS];
  const build = await Deno.makeTempDir({ dir: work });
  const shim = await compileShim(build, { flags: [...flags, ...RELEASE_FLAGS], sources: TEST_SOURCES });
  await Deno.rename(
    shim,
    await builtPath({ flags, sources: TEST_SOURCES, folder: `${folder}/cache/fastsafetensors` }),
  );

  await Deno.mkdir(`${copy}/bench/built`);
  const programs = { ...SOURCES, peak: `${ROOT}bench/gpu/peak.c` };
  for (const [name, source] of Object.entries(programs)) {
    const args = ["-std=gnu11", "-O3", "-s", "-o", `${copy}/bench/built/${name}`, source, ...RELEASE_FLAGS];
    await output("cc", args);
  }
}
