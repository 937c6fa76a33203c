/**
 * The stand-in's own test, a C program.
 */
import { run } from "../support/objects.ts";
import { buildStandIn } from "../support/stand_in.ts";

/** Defines a test that builds it with these flags and runs it. */
export function selfTest(name: string, flags: readonly string[]): void {
  Deno.test(`the stand-in for 3FS does what it says (${name})`, async () => {
    const { folder } = await buildStandIn("3fs", flags);
    await run(`${folder}/self_test`, []);
  });
}
