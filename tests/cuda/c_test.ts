/**
 * The C tests of CUDA (*_test.c) on the stand-ins: plain, and under the sanitizers where `FASTSAFETENSORS_TEST_REQUIRE`
 * lists "sanitizers". Shim and stand-ins are built alike.
 */
import { assert } from "@std/assert";
import { SOURCES } from "../../ffi/sources.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { isRequired, suite } from "../support/skip.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DFST_FAULTS", "-Inative", "-Itests/native"];
const UNITS = Object.keys(SOURCES).filter((name) => name.endsWith(".c")).map((name) => `native/${name}`);

const { path: cc, missing } = await compiler();
const unasked = isRequired("sanitizers") ? null : "FASTSAFETENSORS_TEST_REQUIRE does not list sanitizers";

/** Runs a command in the repository; fails with what it printed. */
async function run(
  command: string,
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, {
    args: [...args],
    cwd: ROOT,
    env,
  })
    .output();
  const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
  // Older ThreadSanitizers know only the usual places in memory, which a kernel may spread more widely.
  if (printed.includes("unexpected memory mapping") && command !== "setarch") {
    return await run("setarch", ["-R", command, ...args], env);
  }
  assert(success, `${command} ended with status ${code}:\n${printed}`);
}

function cTests(name: string, flags: readonly string[]): void {
  Deno.test(`the C tests of CUDA pass (${name}) [CUDA stand-in]`, async (t) => {
    await using folder = await tempFolder();
    const { path } = folder;
    await run("sh", ["tests/sim/cuda/build.sh", path, ...flags]);
    const all = [...FLAGS, ...flags];
    await run(cc, [
      ...all,
      "-fPIC",
      "-shared",
      "-o",
      `${path}/libshim.so`,
      ...UNITS,
      "-lpthread",
      "-ldl",
      "-lm",
    ]);
    for (const test of ["lane_test", "device_test"]) {
      await t.step(test, async () => {
        const program = `${path}/${test}`;
        const libraries = [
          `${path}/libshim.so`,
          `${path}/libfst_sim_cuda.so`,
          `-Wl,-rpath,${path}`,
          "-lpthread",
          "-ldl",
        ];
        await run(cc, [...all, "-o", program, `tests/cuda/${test}.c`, ...libraries]);
        await run(program, [], { FST_SIM_KERNELS: `${path}/libfst_sim_kernels.so`, TMPDIR: path });
      });
    }
  });
}

suite("the C tests of CUDA", "cuda", missing, () => {
  cTests("plain", ["-O1"]);
  for (const sanitizer of ["address,undefined", "thread"]) {
    suite(`the C tests of CUDA (${sanitizer} sanitizer)`, "sanitizers", unasked, () => {
      cTests(`${sanitizer} sanitizer`, ["-O1", "-g", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"]);
    });
  }
});
