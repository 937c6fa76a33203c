/**
 * The load suite for ordinary files, over files on 3FS, without an option for 3FS.
 */
import { assert } from "@std/assert";
import { loadSuite } from "../load_suite.ts";
import { placeFolders } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { assertNothingLeft, use3fs } from "./support.ts";

const { missing, standIn } = await use3fs();

suite("The load suite on 3FS", "native", missing, () => {
  placeFolders(standIn.mount);
  loadSuite("3fs");
  Deno.test("the load suite reads through 3FS, and releases all its resources", () => {
    const { reads, mostInFlight } = standIn.report().counts;
    assert(reads > 1000 && mostInFlight > 1, `${reads} reads, ${mostInFlight} in flight`);
    assertNothingLeft(standIn);
  });
});
