/**
 * Saves to folders without space, read-only folders and folders without permission.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { saveFile, WriteError } from "../../mod.ts";
import { privileged, runChild } from "../support/child.ts";
import { useNativeEngine, usePortableEngine } from "../support/engine.ts";
import { tempFolder } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { run, smallFileSystem, whyNoMounts } from "../support/mounts.ts";
import { suite } from "../support/skip.ts";
import { OLD, save, tensorsOf } from "./scenes.ts";
import { assertFile, assertFiles, namesIn, pairs, referenceFile, written } from "./support.ts";

const ENOSPC = 28, EROFS = 30, EACCES = 13;

const engines = [["native", useNativeEngine], ["portable", usePortableEngine]] as const;
await useNativeEngine();
const noMounts = await whyNoMounts();

suite("saves to a file system without space, or that is read-only", "mounts", noMounts, () => {
  for (const [engine, use] of engines) {
    Deno.test(`a save without space fails and keeps the old files [${engine}]`, async () => {
      await use();
      await using place = await smallFileSystem();
      const { path } = place;
      const old = tensorsOf(2, OLD);
      const { paths } = await save(path, old);
      const before = namesIn(path);
      const large = written([
        { name: "a", dtype: "U8", shape: [3 * 2 ** 20] },
        { name: "b", dtype: "U8", shape: [3 * 2 ** 20] },
        { name: "c", dtype: "U8", shape: [3 * 2 ** 20] },
      ]);
      for (const maxShardBytes of [2 ** 22, 2 ** 30]) {
        const options = { maxShardBytes, overwrite: true };
        const error = await assertRejects(
          () => saveFile(pairs(large), `${path}/model.safetensors`, options),
          WriteError,
          "no space left on device (ENOSPC): free some space, or save elsewhere",
        );
        assertEquals(error.errno, ENOSPC);
        assert(error.path.startsWith(`${path}/model`), error.path);
        assertEquals(namesIn(path), before);
        assertEquals(openDescriptors(path), 0);
        await assertFiles(paths.slice(0, -1), old);
      }
      await saveFile(pairs(large.slice(1)), `${path}/model.safetensors`, { overwrite: true });
      await assertFile(`${path}/model.safetensors`, referenceFile(large.slice(1)));
    });

    Deno.test(`a save to a read-only file system is rejected [${engine}]`, async () => {
      await use();
      await using place = await smallFileSystem();
      await save(place.path, tensorsOf(1, OLD));
      assertEquals(await run("mount", "-o", "remount,ro", place.path), null);
      for (const name of ["model", "other"]) {
        const error = await assertRejects(
          () => saveFile({}, `${place.path}/${name}.safetensors`, { overwrite: true }),
          WriteError,
          `Cannot create "${place.path}/${name}.safetensors": read-only file system (EROFS)`,
        );
        assertEquals([error.errno, namesIn(place.path)], [EROFS, ["model.safetensors"]]);
      }
    });
  }
});

suite("saves to a folder that may not be written", "unprivileged", privileged(), () => {
  Deno.test("a save to a folder without write permission is rejected", async () => {
    await using folder = await tempFolder();
    await Deno.chmod(folder.path, 0o555);
    for (const flags of [["-A"], ["--allow-read", "--allow-write"]]) {
      const { stdout, stderr } = await runChild("save_refused.ts", {
        flags,
        args: [`${folder.path}/x`],
        env: { HOME: Deno.env.get("HOME") ?? "", PATH: Deno.env.get("PATH") ?? "" },
        unprivileged: true,
      });
      const { message, errno } = JSON.parse(stdout || stderr);
      assertEquals([message, errno], [
        `Cannot create "${folder.path}/x": permission denied (EACCES)`,
        EACCES,
      ]);
    }
    assertEquals(namesIn(folder.path), []);
  });
});

Deno.test("a save asks Deno for the permission to write, with both engines", async () => {
  await using folder = await tempFolder();
  const env = { HOME: Deno.env.get("HOME") ?? "", PATH: Deno.env.get("PATH") ?? "" };
  const elsewhere = `--allow-write=${folder.path}/elsewhere`;
  for (const flags of [["--allow-read", "--allow-ffi", "--allow-env"], ["--allow-read", elsewhere]]) {
    const { stdout, stderr } = await runChild("save_refused.ts", { flags, args: [`${folder.path}/x`], env });
    const { name, message } = JSON.parse(stdout || stderr);
    assertEquals(name, "NotCapable");
    assertStringIncludes(message, `write access to "${folder.path}"`);
  }
  assertEquals(namesIn(folder.path), []);
});
