/**
 * Many saves in a row, successful and failing ones: memory, descriptors, threads and files do not grow.
 */
import { assertEquals } from "@std/assert";
import { compiler } from "../support/compiler.ts";
import { assertLeavesNothing } from "../support/leaks.ts";
import { tempFolder } from "../support/models.ts";
import { suite } from "../support/skip.ts";

/** Saves of 3.6 MB each: a leak would exceed a gigabyte. */
const SAVES = 400;

function leakTest(engine: "native" | "portable"): void {
  Deno.test(`${SAVES} saves in a row do not leak [${engine}]`, async () => {
    await using folder = await tempFolder();
    const { files } = await assertLeavesNothing("repeat_save.ts", engine, folder.path, SAVES);
    assertEquals(files, 5); // three shards, their index, and a copy
  });
}

const { missing } = await compiler();

suite(`${SAVES} saves on the native engine`, "native", missing, () => leakTest("native"));
leakTest("portable");
