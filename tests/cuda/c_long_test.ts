/**
 * The C tests of CUDA (*_test.c) on the stand-ins, the stand-ins' own test, and that of the kernels (kernels_test.cpp),
 * which needs no stand-in: plain, and under the sanitizers. Native library and stand-ins are built alike.
 */
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { C_FLAGS, nativeObjects, run, sanitizerFlags, SANITIZERS } from "../support/objects.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn } from "../support/stand_in.ts";

const ROOT = new URL("../../", import.meta.url).pathname;

const { path: cc, missing } = await compiler();

/** Defines a test that builds and runs them all; the name tells the builds apart. */
function cTests(name: string, flags: readonly string[]): void {
  Deno.test(`the C tests of CUDA pass (${name}) [CUDA stand-in]`, async (t) => {
    await using folder = await tempFolder();
    const { path } = folder;
    const standIn = await buildStandIn("cuda", flags);
    const all = [...C_FLAGS, ...flags];
    const { library } = await nativeObjects(cc, flags);
    await t.step("self_test of the stand-in", () => run(`${standIn.folder}/self_test`, []));
    for (const test of ["lane_test", "device_test", "context_test"]) {
      await t.step(test, async () => {
        const program = `${path}/${test}`, source = `${ROOT}tests/cuda/${test}.c`;
        const libraries = [library, `${standIn.folder}/libfst_sim_cuda.so`, "-lpthread", "-ldl"];
        const rpath = `-Wl,-rpath,${standIn.folder}`;
        await run(cc, [...all, "-o", program, source, ...libraries, rpath]);
        const env = { FST_SIM_KERNELS: `${standIn.folder}/libfst_sim_kernels.so`, TMPDIR: path };
        await run(program, [], { cwd: ROOT, env });
      });
    }
    await t.step("kernels_test", async () => {
      const program = `${path}/kernels_test`, source = `${ROOT}tests/cuda/kernels_test.cpp`;
      const all = ["-std=c++17", "-Wall", "-Wextra", "-Werror", `-I${ROOT}native`, `-I${ROOT}tests/native`];
      await run("c++", [...all, ...flags, "-o", program, source, library, "-lpthread", "-ldl"]);
      await run(program, []);
    });
  });
}

suite("the C tests of CUDA", "cuda", missing, () => {
  cTests("plain", ["-O2"]);
  for (const sanitizer of SANITIZERS) cTests(`${sanitizer} sanitizer`, sanitizerFlags(sanitizer));
});
