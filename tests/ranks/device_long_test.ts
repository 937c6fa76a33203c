/**
 * Loading to CUDA devices on several ranks: over MPI, which moves device memory through pinned memory where it does not
 * take it, and over NCCL. On the stand-ins for CUDA and NCCL; or, with `deno task test:gpu`, on this machine's GPU, which
 * all ranks share: NCCL refuses that, and is tried by a rank alone.
 */
import { assertEquals } from "@std/assert";
import { findCuda } from "../../ffi/cuda.ts";
import { openLibrary } from "../../ffi/library.ts";
import { openNccl } from "../../ffi/nccl.ts";
import { standInEnv } from "../cuda/support.ts";
import { findLaunchers, type Outcome, runAtAddress, runRanks } from "./group/ranks.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { checkSaid, writeModel } from "./said.ts";
import { buildStandIn } from "../support/stand_in.ts";

const PROGRAM = "../load_program.ts";
const SIZES = [1, 2, 3, 4];

const { shim } = await openLibrary(); // built once, before the ranks
const { found, missing } = findLaunchers();

/** Runs the program on ranks of which each has the device, and checks what they got. */
async function check(size: number, way: string, run: (words: string[]) => Promise<Outcome>): Promise<void> {
  await using model = await tempFolder();
  const { names, tensors } = await writeModel(model.path, size);
  const { code, stderr, ranks } = await run([way, "cuda", model.path, ...names]);
  assertEquals([code, stderr, ranks.length], [0, "", size]);
  await checkSaid(model.path, tensors, size);
  for (let rank = 0; rank < size; rank++) {
    const { left } = JSON.parse(Deno.readTextFileSync(`${model.path}/said.${rank}`));
    if (left) assertEquals(left, { deviceBytes: 0, violations: 0 }, `what rank ${rank} leaves`);
  }
}

async function onStandIns(): Promise<void> {
  const standIns = await buildStandIn("cuda");
  const { folder } = await buildStandIn("nccl");
  const library = `${folder}/libfst_sim_nccl.so`;
  const env = {
    ...standInEnv(standIns.folder),
    FASTSAFETENSORS_CUDART_LIB: library,
    FASTSAFETENSORS_CUDA_LIB: library,
    FASTSAFETENSORS_CUFILE_LIB: library,
    FASTSAFETENSORS_NCCL_LIB: library,
  };
  suite("Loading to devices on several ranks", "native", standIns.missing, () => {
    for (const size of SIZES) {
      Deno.test(`${size} ranks load to devices over NCCL (stand-in)`, () =>
        check(size, "nccl", (words) => runAtAddress(size, PROGRAM, words, env)));
    }
  });
  for (const [family, reason] of missing) suite(`Loading to devices over ${family}`, "mpi", reason, () => {});
  for (const launcher of found) {
    suite(`Loading to devices over ${launcher.family}`, "native", standIns.missing, () => {
      for (const size of SIZES) {
        Deno.test(`${size} ranks load to devices over ${launcher.family} (stand-in)`, () =>
          check(size, "mpi", (words) => runRanks(launcher, size, PROGRAM, words, env)));
        Deno.test(`${size} ranks of ${launcher.family} load to devices over NCCL (stand-in)`, () =>
          check(size, "mpi-nccl", (words) => runRanks(launcher, size, PROGRAM, words, env)));
      }
    });
  }
}

async function onThisGpu(): Promise<void> {
  const cuda = shim ? await findCuda(shim) : { devices: 0, reason: "there is no native library" };
  const absent = cuda.devices > 0 ? null : cuda.reason;
  const nccl = absent === null ? await openNccl(shim!) : null;
  suite("Loading over NCCL", "cuda", absent ?? (nccl && "reason" in nccl ? nccl.reason : null), () => {
    Deno.test("a rank alone loads over NCCL [CUDA]", () =>
      check(1, "nccl", (words) => runAtAddress(1, PROGRAM, words)));
  });
  for (const [family, reason] of missing) suite(`Loading over ${family} [CUDA]`, "cuda", reason, () => {});
  for (const launcher of found) {
    suite(`Loading over ${launcher.family}`, "cuda", absent, () => {
      Deno.test(`2 ranks load to one device over ${launcher.family} [CUDA]`, () =>
        check(2, "mpi", (words) => runRanks(launcher, 2, PROGRAM, words)));
    });
  }
}

if (Deno.env.get("FASTSAFETENSORS_TEST_GPU") === "real") await onThisGpu();
else if (shim) await onStandIns();
else suite("Loading to devices on several ranks", "native", "there is no native library", () => {});
