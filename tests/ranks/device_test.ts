/**
 * Loading to CUDA devices on several ranks, on the stand-ins for CUDA and NCCL: over MPI, which moves device memory
 * through pinned memory, and over NCCL.
 */
import { assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { buildStandIns, standInEnv } from "../cuda/support.ts";
import { findLaunchers, type Outcome, runAtAddress, runRanks } from "../group/ranks.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { checkSaid, writeModel } from "./said.ts";

const PROGRAM = "../ranks/load_program.ts";
const NCCL = new URL("../sim/nccl/build.sh", import.meta.url).pathname;

const native = (await openLibrary()).shim === null ? "there is no native library" : null; // built once, before the ranks
const standIns = await buildStandIns();
const missing = native ?? standIns.missing;
const folder = Deno.makeTempDirSync();
addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
if (missing === null) new Deno.Command(NCCL, { args: [folder] }).outputSync();
const library = `${folder}/libfst_sim_nccl.so`;
const env = {
  ...standInEnv(standIns.folder),
  FASTSAFETENSORS_CUDART_LIB: library,
  FASTSAFETENSORS_CUDA_LIB: library,
  FASTSAFETENSORS_CUFILE_LIB: library,
  FASTSAFETENSORS_NCCL_LIB: library,
};

/** Runs the program on ranks of which each has the device, and checks what they got. */
async function check(size: number, way: string, run: (words: string[]) => Promise<Outcome>): Promise<void> {
  await using model = await tempFolder();
  const { names, tensors } = await writeModel(model.path, size);
  const { code, stderr, ranks } = await run([way, "cuda", model.path, ...names]);
  assertEquals([code, stderr, ranks.length], [0, "", size]);
  await checkSaid(model.path, tensors, size);
  for (let rank = 0; rank < size; rank++) {
    const { left } = JSON.parse(Deno.readTextFileSync(`${model.path}/said.${rank}`));
    assertEquals(left, { deviceBytes: 0, violations: 0 }, `what rank ${rank} leaves`);
  }
}

suite("Loading to devices on several ranks", "native", missing, () => {
  for (const size of [2, 3]) {
    Deno.test(`${size} ranks load to devices over NCCL (stand-in)`, () =>
      check(size, "nccl", (words) => runAtAddress(size, PROGRAM, words, env)));
  }
  for (const launcher of findLaunchers().found) {
    Deno.test(`2 ranks load to devices over ${launcher.family} (stand-in)`, () =>
      check(2, "mpi", (words) => runRanks(launcher, 2, PROGRAM, words, env)));
  }
});
