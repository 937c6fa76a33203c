/**
 * The C tests (tests/native/*_test.c) against the shim's sources: plain, under the sanitizers where
 * `FASTSAFETENSORS_TEST_REQUIRE` lists "sanitizers", and for the other processor under qemu-user.
 */
import { assert } from "@std/assert";
import { SOURCES } from "../ffi/sources.ts";
import { compiler, crossTools } from "./support/compiler.ts";
import { tempFolder } from "./support/models.ts";
import { isRequired, suite } from "./support/skip.ts";

const ROOT = new URL("../", import.meta.url).pathname;
const FLAGS = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-DFST_FAULTS", `-I${ROOT}native`];
const UNITS = Object.keys(SOURCES).filter((name) => name.endsWith(".c"));
const TESTS = [...Deno.readDirSync(`${ROOT}tests/native`)].map(({ name }) => name)
  .filter((name) => name.endsWith("_test.c")).sort();

const { path: cc, missing } = await compiler();
const cross = crossTools();
const unasked = isRequired("sanitizers") ? null : "FASTSAFETENSORS_TEST_REQUIRE does not list sanitizers";

/** Runs a command in a folder; fails with what it printed. */
async function run(
  [command, ...args]: readonly [string, ...string[]],
  cwd: string,
  env: Record<string, string> = {},
): Promise<void> {
  const { success, code, stdout, stderr } = await new Deno.Command(command, { args, cwd, env }).output();
  const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
  // Older ThreadSanitizers know only the usual places in memory, which a kernel may spread more widely.
  if (printed.includes("unexpected memory mapping") && command !== "setarch") {
    return await run(["setarch", "-R", command, ...args], cwd, env);
  }
  assert(success, `${command} ended with status ${code}:\n${printed}`);
}

function cTests(name: string, flags: readonly string[], cc: string, runner: readonly string[] = []): void {
  Deno.test(`the C tests pass (${name})`, async (t) => {
    await using folder = await tempFolder();
    const all = [...FLAGS, ...flags];
    await run([cc, ...all, "-c", ...UNITS.map((unit) => `${ROOT}native/${unit}`)], folder.path);
    const objects = UNITS.map((unit) => unit.slice(unit.lastIndexOf("/") + 1).replace(/c$/, "o"));
    for (const test of TESTS) {
      await t.step(test, async () => {
        const program = `${folder.path}/${test.replace(/\.c$/, "")}`;
        const source = `${ROOT}tests/native/${test}`;
        await run([cc, ...all, "-o", program, source, ...objects, "-lpthread", "-ldl", "-lm"], folder.path);
        const [command, ...args] = [...runner, program];
        await run([command!, ...args], ROOT, { CC: cc }); // with which they build their stand-ins
      });
    }
  });
}

const SANITIZERS = ["address,undefined", "thread"];

suite("the C tests", "native", missing, () => {
  cTests("plain", ["-O2"], cc);
  cTests("debug build", ["-O1", "-DFST_DEBUG"], cc);
  for (const sanitizer of SANITIZERS) {
    suite(`the C tests (${sanitizer} sanitizer)`, "sanitizers", unasked, () => {
      const flags = ["-O1", "-g", `-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"];
      cTests(`${sanitizer} sanitizer`, flags, cc);
    });
  }
});

suite("the C tests for another processor", "cross", cross.missing, () => {
  cTests(`${cross.arch} under qemu-user`, ["-O2"], cross.compiler, cross.runner);
});
