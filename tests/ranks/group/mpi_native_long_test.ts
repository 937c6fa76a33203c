/**
 * The MPI part of the shim as a C program under each launcher: plain, and under the sanitizers where
 * `FASTSAFETENSORS_TEST_REQUIRE` lists "sanitizers".
 */
import { assert, assertEquals } from "@std/assert";
import { SOURCES } from "../../../ffi/sources.ts";
import { compiler } from "../../support/compiler.ts";
import { tempFolder } from "../../support/models.ts";
import { isRequired, suite } from "../../support/skip.ts";
import { findLaunchers, type Launcher, runCommand } from "./ranks.ts";

const ROOT = new URL("../../../", import.meta.url).pathname;
const UNITS = Object.keys(SOURCES).filter((name) =>
  /^(ranks\/mpi_.*|core\/(library|environment)|cuda\/(?:context|cudart|cufile|device|driver))\.c$/.test(name)
);
const { found, missing } = findLaunchers();
const { path: cc, missing: noCompiler } = await compiler();
const unasked = isRequired("sanitizers") ? null : "FASTSAFETENSORS_TEST_REQUIRE does not list sanitizers";

/** The libraries have leaks and races of their own, and are not built to be watched. */
const SANITIZER_OPTIONS = {
  ASAN_OPTIONS: "detect_leaks=0",
  TSAN_OPTIONS: "ignore_noninstrumented_modules=1",
  UCX_MEM_EVENTS: "n", // below MPICH; its hooks of mmap come before ThreadSanitizer is ready
};

for (const [family, reason] of missing) suite(`The C calls over ${family}`, "mpi", reason, () => {});
suite("The C calls over MPI", "native", noCompiler, () => {
  calls("plain", ["-O2"]);
  for (const sanitizer of ["address,undefined", "thread"]) {
    suite(`The C calls over MPI (${sanitizer} sanitizer)`, "sanitizers", unasked, () => {
      calls(`${sanitizer} sanitizer`, ["-O1", "-g", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"]);
    });
  }
});

function calls(name: string, flags: readonly string[]): void {
  for (const launcher of found) {
    Deno.test(`the C calls pass over ${launcher.family} (${name})`, async () => {
      await using folder = await tempFolder();
      const program = `${folder.path}/mpi_calls`;
      const sources = [
        `${ROOT}tests/ranks/group/mpi_calls.c`,
        ...UNITS.map((unit) => `${ROOT}native/${unit}`),
      ];
      const args = [
        "-std=gnu11",
        "-Wall",
        "-Wextra",
        "-Werror",
        ...flags,
        `-I${ROOT}native`,
        "-o",
        program,
        ...sources,
      ];
      const built = await new Deno.Command(cc, { args: [...args, "-lpthread", "-ldl"] }).output();
      assert(built.success, new TextDecoder().decode(built.stderr));
      for (const size of [1, 3]) await check(launcher, size, program);
    });
  }
}

async function check(launcher: Launcher, size: number, program: string): Promise<void> {
  // Older ThreadSanitizers know only the usual places in memory, which a kernel may spread more widely.
  const line = ["setarch", "-R", program];
  const { code, ranks, stderr } = await runCommand(launcher, size, line, SANITIZER_OPTIONS);
  assertEquals([code, ranks], [0, Array.from({ length: size }, (_, rank) => ({ rank }))], stderr);
}
