/**
 * Many saves in a row, good ones and bad ones: memory, descriptors, threads and files do not grow.
 */
import { assert, assertEquals } from "@std/assert";
import { buildShim } from "../../ffi/build.ts";
import { runChild } from "../support/child.ts";
import { compiler } from "../support/compiler.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Of 3.6 MB each: had they left that behind, it would be more than a gigabyte. */
const SAVES = 400;

/** How much more there may be after them: the allocator takes its time until it reuses all that it has. */
const MEBIBYTE = 2 ** 20;
const ALLOWED = {
  rss: 64 * MEBIBYTE,
  heapUsed: 2 * MEBIBYTE,
  external: MEBIBYTE,
  descriptors: 0,
  threads: 8,
};

function leakTest(engine: "native" | "portable"): void {
  Deno.test(`${SAVES} saves in a row leave nothing behind [${engine}]`, async () => {
    await using folder = await tempFolder();
    await using cache = await tempFolder();
    const { code, stdout, stderr } = await runChild("repeat_save.ts", {
      flags: ["-A", "--v8-flags=--expose-gc"],
      args: [engine, folder.path, String(SAVES)],
      env: {
        DENO_DIR: cache.path,
        ...engine === "native" ? { FASTSAFETENSORS_LIB: await buildShim() } : {},
      },
    });
    assertEquals([code, stderr], [0, ""]);
    const { before, after, files } = JSON.parse(stdout);
    for (const [what, allowed] of Object.entries(ALLOWED)) {
      const grown = after[what] - before[what];
      assert(grown <= allowed, `${what} grew by ${grown}, from ${before[what]} to ${after[what]}`);
    }
    assertEquals(files, 5); // three shards, their index, and a copy
  });
}

const { missing } = await compiler();

suite(`${SAVES} saves on the native engine`, "native", missing, () => leakTest("native"));
leakTest("portable");
