/**
 * Groups whose calls are aborted, closed and left at random moments, by processes that end at random moments: 20 rounds,
 * or 100 where `FASTSAFETENSORS_TEST_REQUIRE` lists "stress". More: see stress.ts.
 */
import { assertEquals } from "@std/assert";
import { compiler } from "../../support/compiler.ts";
import { isRequired, suite } from "../../support/skip.ts";
import { findLaunchers } from "./ranks.ts";
import { stress } from "./stress.ts";

const { missing: noCompiler } = await compiler();
const noLauncher = findLaunchers().found.length > 0 ? null : "there is no launcher of MPI";

suite("Stress of the groups", "mpi", noCompiler ?? noLauncher, () => {
  Deno.test("groups that are aborted, closed and left at random moments change no foreign memory and end as they are to", async () => {
    const results = await stress(isRequired("stress") ? 100 : 20, 1);
    assertEquals(
      results.flatMap(({ combination, faults }) => faults.map((fault) => `${combination}, ${fault}`)),
      [],
    );
  });
});
