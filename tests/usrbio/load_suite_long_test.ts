/**
 * The load suite, as it is for ordinary files, over files on 3FS: nobody asks for it, they are only there.
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
  Deno.test("the load suite has read through 3FS, and leaves nothing there", () => {
    const { reads, mostInFlight } = standIn.report().counts;
    assert(reads > 1000 && mostInFlight > 1, `${reads} reads, ${mostInFlight} in flight`);
    assertNothingLeft(standIn);
  });
});
