/**
 * The stand-in's own test: plain, and under the sanitizers where `FASTSAFETENSORS_TEST_REQUIRE` lists "sanitizers".
 */
import { assert } from "@std/assert";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { isRequired, suite } from "../support/skip.ts";

const SIM = new URL("../sim/3fs/", import.meta.url).pathname;

const { missing } = await compiler();
const unasked = isRequired("sanitizers") ? null : "FASTSAFETENSORS_TEST_REQUIRE does not list sanitizers";

async function run(command: string, args: readonly string[]): Promise<void> {
  const { success, stdout, stderr } = await new Deno.Command(command, { args: [...args] }).output();
  const printed = new TextDecoder().decode(new Uint8Array([...stdout, ...stderr]));
  // Older ThreadSanitizers know only the usual places in memory, which a kernel may spread more widely.
  if (printed.includes("unexpected memory mapping") && command !== "setarch") {
    return await run("setarch", ["-R", command, ...args]);
  }
  assert(success, printed);
}

function selfTest(name: string, flags: readonly string[]): void {
  Deno.test(`the stand-in for 3FS does what it says (${name})`, async () => {
    await using folder = await tempFolder();
    await run("sh", [`${SIM}build.sh`, folder.path, ...flags]);
    await run(`${folder.path}/self_test`, []);
  });
}

suite("The stand-in for 3FS", "native", missing, () => {
  selfTest("plain", []);
  for (const sanitizer of ["address,undefined", "thread"]) {
    suite(`The stand-in for 3FS (${sanitizer} sanitizer)`, "sanitizers", unasked, () => {
      selfTest(`${sanitizer} sanitizer`, [`-fsanitize=${sanitizer}`, "-fno-sanitize-recover=all"]);
    });
  }
});
