/**
 * The stand-in's own test, a C program: plain, and under the sanitizers.
 */
import { compiler } from "../support/compiler.ts";
import { run, sanitizerFlags, SANITIZERS } from "../support/objects.ts";
import { suite } from "../support/skip.ts";
import { buildStandIn } from "../support/stand_in.ts";

const { missing } = await compiler();

function selfTest(name: string, flags: readonly string[]): void {
  Deno.test(`the stand-in for 3FS passes its own test (${name})`, async () => {
    const { folder } = await buildStandIn("3fs", flags);
    await run(`${folder}/self_test`, []);
  });
}

suite("The stand-in for 3FS", "native", missing, () => {
  selfTest("plain", []);
  for (const sanitizer of SANITIZERS) selfTest(`${sanitizer} sanitizer`, sanitizerFlags(sanitizer));
});
