/**
 * The C tests (*_test.c) against the objects of the native library.
 */
import { C_FLAGS, nativeObjects, run } from "../support/objects.ts";
import { tempFolder } from "../support/models.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
const TESTS = [...Deno.readDirSync(`${ROOT}tests/native`)].map(({ name }) => name)
  .filter((name) => name.endsWith("_test.c")).sort();

/**
 * Defines a test that builds and runs all C tests.
 *
 * @param name the name of the build
 * @param runner the command that runs their programs, if this machine's processor cannot
 */
export function cTests(
  name: string,
  flags: readonly string[],
  cc: string,
  runner: readonly string[] = [],
): void {
  Deno.test(`the C tests pass (${name})`, async (t) => {
    await using folder = await tempFolder();
    const { paths: objects } = await nativeObjects(cc, flags);
    for (const test of TESTS) {
      await t.step(test, async () => {
        const program = `${folder.path}/${test.replace(/\.c$/, "")}`;
        const source = `${ROOT}tests/native/${test}`;
        await run(cc, [
          ...C_FLAGS,
          ...flags,
          "-o",
          program,
          source,
          ...objects,
          "-lpthread",
          "-ldl",
          "-lm",
        ]);
        const [command, ...args] = [...runner, program];
        await run(command!, args, { cwd: ROOT, env: { CC: cc } }); // they build their stand-ins with it
      });
    }
  });
}
