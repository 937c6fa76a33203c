/**
 * Saves in which a system call fails, on the shim with fault injection (tests/native/added/added.h): each call of each
 * kind.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafeTensorsError, type SaveOptions, WriteError } from "../../mod.ts";
import { useFaultEngine } from "../support/engine.ts";
import { tempFolder } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";
import {
  act,
  assertOldOrNew,
  NEW,
  OLD,
  openedAs,
  prepare,
  repairAll,
  save,
  type Scene,
  SCENES,
  tensorsOf,
} from "./scenes.ts";
import { assertFile, namesIn, referenceFile } from "./support.ts";

const faults = await useFaultEngine();

const EPERM = 1, EIO = 5, EINTR = 4, EINVAL = 22, ENOSPC = 28, EOPNOTSUPP = 95;

/** The content of a folder: names and bytes. */
function contents(folder: string): Map<string, string> {
  return new Map(namesIn(folder).map((name) => [name, Deno.readFileSync(`${folder}/${name}`).toBase64()]));
}

/** Lets each call fail once; returns the number of calls. */
async function failEach(call: string, errno: number, scene: Scene, options: SaveOptions): Promise<number> {
  for (let nth = 1;; nth++) {
    await using folder = await tempFolder();
    const { path } = folder;
    await prepare(path, scene);
    const before = contents(path);
    let error: unknown;
    {
      using _ = faults.set(`${call}:${nth}:${errno}`);
      error = await act(path, scene, options).then(() => null, (error) => error);
    }
    assertEquals(openDescriptors(path), 0);
    if (error === null) {
      assertEquals(await assertOldOrNew(path, scene), NEW);
      return nth - 1;
    }
    const what = `${call} ${nth} of ${scene.what}`;
    assert(error instanceof WriteError, `${what}: ${error}`);
    assertEquals(error.errno, errno, what);
    assert(error.path === path || error.path.startsWith(`${path}/`), `${what}: ${error.path}`);
    assert(error.message.includes(`"${error.path}"`) && !error.message.includes(".tmp"), error.message);
    assert(error.message.includes(errno === EIO ? "i/o error (EIO)" : "free some space"), error.message);
    assertEquals(contents(path), before, what);
    await act(path, scene, options);
    assertEquals(await assertOldOrNew(path, scene), NEW);
  }
}

suite("saves in which a system call fails", "native", faults.missing, () => {
  for (const scene of SCENES) {
    Deno.test(`a save of ${scene.what} in which any system call fails keeps the old files`, async () => {
      const files = scene.new === 1 ? 1 : scene.new + 1;
      const isSet = scene.new > 1 || scene.old > 1;
      const old = scene.old > 1 ? scene.old + 1 : scene.old;
      const journal = isSet ? 1 : 0;
      assertEquals(await failEach("create", EIO, scene, {}), files + journal);
      assertEquals(await failEach("allocate", ENOSPC, scene, {}), files);
      assert(await failEach("pwrite", ENOSPC, scene, {}) >= files + journal);
      // The files, the journal and its name, and the renames.
      assertEquals(await failEach("fsync", EIO, scene, {}), files + 2 * journal + 1);
      assertEquals(await failEach("rename", EIO, scene, {}), isSet ? files + old + 1 : 1);
      assertEquals(await failEach("fsync", EIO, scene, { sync: false }), 0);
      assertEquals(await failEach("rename", EIO, scene, { sync: false }), isSet ? files + old + 1 : 1);
    });
  }

  Deno.test("repair or the next save of the set completes a commit that can neither continue nor be undone", async () => {
    const scene = SCENES.find(({ what }) => what === "a set over one of more files")!;
    for (const next of ["repair", "save"]) {
      for (let nth = 2; nth <= 8; nth++) {
        await using folder = await tempFolder();
        const { path } = folder;
        await prepare(path, scene);
        {
          using _ = faults.set(`rename:${nth}:${EIO},rename:${nth + 1}:${EIO}`);
          await assertRejects(() => act(path, scene), WriteError, nth === 2 ? "EIO" : "nor put back");
        }
        assertEquals(openDescriptors(path), 0);
        // Before the first rename a commit can be undone.
        if (nth > 2) await assertRejects(() => openedAs(path, scene), SafeTensorsError, "was interrupted");
        if (next === "repair") {
          await repairAll(path);
          assertEquals(await openedAs(path, scene), nth === 2 ? OLD : NEW);
        }
        await save(`${path}`, tensorsOf(0, NEW), { overwrite: true });
        assertEquals(namesIn(path), ["model.safetensors"]);
      }
    }
  });

  Deno.test("a save succeeds if a system call is missing, is interrupted or completes partly", async () => {
    const scene = SCENES.find(({ what }) => what === "a set over one of as many files")!;
    const specs = [
      `allocate:*:${EOPNOTSUPP}`,
      `opendirect:*:${EINVAL}`,
      `pwrite:2:${EINTR},pwrite:4:${EINTR}`,
      "pwrite:*:short=1000",
      "pwrite:*:short=4096",
      `fsync:6:${EINVAL}`, // of a folder
      ...[1, 2, 3, 4, 5, 6, 7, 8].map((nth) => `rename:${nth}:${EINVAL}`),
      `rename:*:${EINVAL}`,
      // Also without hard links.
      `rename:*:plain,link:*:${EPERM}`,
    ];
    for (const spec of specs) {
      for (const sync of [true, false]) {
        await using folder = await tempFolder();
        await prepare(folder.path, scene);
        {
          using _ = faults.set(spec);
          await act(folder.path, scene, { sync });
        }
        assertEquals(await assertOldOrNew(folder.path, scene), NEW, spec);
      }
    }
  });

  Deno.test("pages that cannot be written directly are written through the page cache", async () => {
    await using folder = await tempFolder();
    const size = 20 * 2 ** 20 + 5;
    const bytes = new Uint8Array(size);
    for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
    const tensor = { name: "x", dtype: "U8", shape: [size], bytes } as const;
    const expected = referenceFile([tensor]);
    for (
      const spec of [
        `pwrite:2:${EINVAL},pwrite:4:${EINVAL}`,
        "pwrite:*:short=8192",
        "pwrite:*:short=700000",
        `opendirect:1:${EINVAL}`,
      ]
    ) {
      using _ = faults.set(spec);
      await save(folder.path, [tensor], { maxShardBytes: 2 ** 30, overwrite: true });
      await assertFile(`${folder.path}/model.safetensors`, expected);
    }
  });
});
