/**
 * The C test of lanes to CUDA devices (lane_test.c) on the stand-ins: plain, and under the sanitizers where
 * `FASTSAFETENSORS_TEST_REQUIRE` lists "sanitizers". Shim and stand-ins are built alike.
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

function laneTest(name: string, flags: readonly string[]): void {
  Deno.test(`lanes to CUDA devices pass their C test (${name}) [CUDA stand-in]`, async () => {
    await using folder = await tempFolder();
    const { path } = folder;
    await run("sh", ["tests/sim/cuda/build.sh", path, ...flags]);
    const program = `${path}/lane_test`;
    const libraries = [`${path}/libfst_sim_cuda.so`, `-Wl,-rpath,${path}`, "-lpthread", "-ldl", "-lm"];
    await run(cc, [...FLAGS, ...flags, "-o", program, "tests/cuda/lane_test.c", ...UNITS, ...libraries]);
    await run(program, [], { FST_SIM_KERNELS: `${path}/libfst_sim_kernels.so`, TMPDIR: path });
  });
}

suite("lanes to CUDA devices", "cuda", missing, () => {
  laneTest("plain", ["-O1"]);
  for (const sanitizer of ["address,undefined", "thread"]) {
    suite(`lanes to CUDA devices (${sanitizer} sanitizer)`, "sanitizers", unasked, () => {
      laneTest(`${sanitizer} sanitizer`, [
        "-O1",
        "-g",
        `-fsanitize=${sanitizer}`,
        "-fno-sanitize-recover=all",
      ]);
    });
  }
});
