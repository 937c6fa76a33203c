/**
 * Calls that end before their bytes have moved: what MPI may still write to stays, and nothing is called after its end.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { findLaunchers, type Launcher, runRanks } from "./ranks.ts";

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

const PROGRAM = "ending_program.ts";
/** By TCP, Open MPI moves large messages piece by piece, so that one can stand still in the midst of it. */
const TCP = { OMPI_MCA_btl: "tcp,self" };
const GARBAGE = { DENO_V8_FLAGS: "--expose-gc" };

for (const [family, reason] of missing) suite(`Endings over ${family}`, "mpi", reason, () => {});
for (const launcher of found) suite("Endings", "mpi", null, () => endingTests(launcher));

function endingTests(launcher: Launcher): void {
  const title = `MpiGroup over ${launcher.family}`;

  Deno.test(`${title} changes no memory but the call's after abort() in the midst of it`, async () => {
    const { code, stderr, ranks } = await runRanks(launcher, 2, PROGRAM, ["foreign"], { ...TCP, ...GARBAGE });
    assertEquals([code, stderr], [0, ""]);
    assertEquals(ranks.map((said) => said.after), ["done", "done"]);
    assertEquals(ranks[1]!.ended, "GroupError: Rank 1 failed: enough");
    assertMatch(ranks[0]!.ended, /^(done|GroupError: Rank 1 failed: enough)$/); // its bytes may all be on their way
    assertEquals(ranks[1]!.changed, [-1, -1], "bytes of arrays that no call was given were changed");
  });

  Deno.test(`${title} does nothing on abort() after close()`, async () => {
    const env = { MALLOC_PERTURB_: "85" }; // so that the use of freed memory shows
    const { code, stderr, ranks } = await runRanks(launcher, 1, PROGRAM, ["after close"], env);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(ranks, [{
      rank: 0,
      aborted: "done",
      used: "UseAfterCloseError: Cannot use the group: it has been closed",
      closed: "done",
    }]);
  });

  Deno.test(`${title} is closed between the two calls of a model's operation`, async () => {
    for (const turns of [0, 10, 20, 40]) {
      const env = { MALLOC_PERTURB_: "85" };
      const outcome = await runRanks(launcher, 2, PROGRAM, ["close between", `${turns}`], env);
      assertEquals([outcome.code, outcome.stderr], [0, ""]);
      assertEquals(outcome.ranks.map((said) => said.closed), ["done", "done"]);
      for (const { got } of outcome.ranks) {
        assertMatch(got, /^(done$|UseAfterCloseError: |GroupError: Rank \d )/);
      }
    }
  });

  Deno.test(`${title} ends with status 0 and without a word by Deno.exit(0) while calls wait and bytes move`, async () => {
    for (const size of [2, 3]) {
      const { code, stderr } = await runRanks(launcher, size, PROGRAM, ["exit"]);
      assertEquals([code, stderr], [0, ""]);
    }
  });

  Deno.test(`${title} goes on with one group while a rank is late in another's split()`, async () => {
    const { code, stderr, ranks } = await runRanks(launcher, 2, PROGRAM, ["late"]);
    assertEquals([code, stderr], [0, ""]);
    assertEquals(ranks.map((said) => said.said), [
      ["barrier done", "abort done", "split done"],
      ["barrier done", "failed barrier GroupError: Rank 0 failed: gave up", "split done"],
    ]);
  });

  Deno.test(`${title} does not end a call of NCCL on its ranks when one leaves that has done its part`, async () => {
    const { code, stderr, ranks } = await runRanks(launcher, 3, PROGRAM, ["leave"]);
    assertEquals([code, stderr], [0, ""]);
    const then = "GroupError: Rank 2 is gone: it left the group before barrier()";
    assertEquals(
      ranks,
      [0, 1].map((rank) => {
        return { rank, cancelled: false, looked: null, paired: "done", then };
      }),
    );
  });
}
