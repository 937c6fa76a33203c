/**
 * Loads to WebGPU on several ranks, which share tensors over MPI: through host memory, since process groups cannot
 * write to a GPUBuffer.
 */
import { assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { findLaunchers, runRanks } from "../ranks/group/ranks.ts";
import { checkSaid, writeModel } from "../ranks/said.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { missing } from "./support.ts";

const native = (await openLibrary()).shim === null ? "the native library is missing" : null; // built once, before the ranks

suite("Loading to WebGPU on several ranks", "webgpu", missing ?? native, () => {
  for (const launcher of findLaunchers().found) {
    Deno.test(`2 ranks load to WebGPU over ${launcher.family}`, async () => {
      await using model = await tempFolder();
      const { names, tensors } = await writeModel(model.path, 2);
      const words = ["mpi", "webgpu", model.path, ...names];
      const { code, stderr, ranks } = await runRanks(
        launcher,
        2,
        "../load_program.ts",
        words,
      );
      assertEquals([code, ranks.length], [0, 2], stderr); // drivers write to stderr too
      await checkSaid(model.path, tensors, 2);
    });
  }
});
