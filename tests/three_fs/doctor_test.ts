/**
 * The report of `doctor` on 3FS: on its library, and on files on a mount.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { doctor } from "../../src/doctor/mod.ts";
import { runCli } from "../cli/support.ts";
import { setEnv } from "../support/environment.ts";
import { tempFolder } from "../support/models.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const machine = await use3fs();

/** The report on files at these paths. */
async function usesOf(...paths: string[]) {
  return (await doctor(paths)).storage.map(({ usrbio }) => usrbio);
}

usrbioSuite("doctor and 3FS", machine, (test, standIn) => {
  const library = `${standIn?.folder}/libhf3fs_api_shared.so`;

  test("doctor() reports the library, and places that are read through 3FS", async (folder) => {
    await using outside = await tempFolder();
    await Deno.mkdir(`${folder}/empty`);
    for (const path of [folder, outside.path]) await Deno.writeTextFile(`${path}/x`, "x");
    const { usrbio, storage, remedies } = await doctor([folder, `${folder}/empty`, outside.path]);
    assertEquals(usrbio, { library, reason: "", mounts: [] });
    const { mount: mountPoint } = standIn;
    assertEquals(storage.map(({ usrbio }) => usrbio), [
      { mountPoint, used: true, reason: "" },
      { mountPoint, used: null, reason: "" },
      null,
    ]);
    assertEquals(remedies.filter((remedy) => remedy.includes("3FS, and read")), []);
  });

  test("doctor() reports the reason that files on 3FS are not read through it", async (folder) => {
    const path = `${folder}/x`;
    await Deno.writeTextFile(path, "x");
    const { mount: mountPoint } = standIn;
    {
      using _ = standIn.fail("iorcreate4:*:-5");
      const [use] = await usesOf(path);
      assertEquals([use?.mountPoint, use?.used], [mountPoint, false]);
      assertStringIncludes(use!.reason, `the mount "${mountPoint}" does not answer: `);
    }
    for (
      const [backend, reason] of [
        ["posix", 'FASTSAFETENSORS_BACKEND is "posix"'],
        ["usrbio", ""],
        ["cpp", 'FASTSAFETENSORS_BACKEND must be "auto", "usrbio", "posix" or "mock", got "cpp"'],
      ] as const
    ) {
      using _ = setEnv({ FASTSAFETENSORS_BACKEND: backend });
      assertEquals(await usesOf(path), [{ mountPoint, used: reason === "", reason }]);
    }
  });

  test("the command doctor prints the report on 3FS", async (folder) => {
    await Deno.writeTextFile(`${folder}/x`, "x");
    const { stdout } = await runCli("doctor", folder);
    assertStringIncludes(stdout, `read through its rings by ${library}\n`);
    assertStringIncludes(stdout, `, 3FS mounted at ${standIn.mount}, read through its rings\n`);
    using _ = setEnv({ FASTSAFETENSORS_BACKEND: "posix" });
    const { stdout: posix } = await runCli("doctor", folder);
    assertStringIncludes(posix, ', ordinary reads: FASTSAFETENSORS_BACKEND is "posix"\n');
    assertStringIncludes(
      posix,
      `- "${folder}" is on 3FS, and read by ordinary reads, slower: FASTSAFETENSORS_`,
    );
  });
});
