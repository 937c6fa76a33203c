/**
 * Many saves in a row, good ones and bad ones: memory, descriptors, threads and files do not grow.
 */
import { assertEquals } from "@std/assert";
import { compiler } from "../support/compiler.ts";
import { assertLeavesNothing } from "../support/leaks.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Of 3.6 MB each: had they left that behind, it would be more than a gigabyte. */
const SAVES = 400;

function leakTest(engine: "native" | "portable"): void {
  Deno.test(`${SAVES} saves in a row leave nothing behind [${engine}]`, async () => {
    await using folder = await tempFolder();
    const { files } = await assertLeavesNothing("repeat_save.ts", engine, folder.path, SAVES);
    assertEquals(files, 5); // three shards, their index, and a copy
  });
}

const { missing } = await compiler();

suite(`${SAVES} saves on the native engine`, "native", missing, () => leakTest("native"));
leakTest("portable");
