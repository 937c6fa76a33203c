import { assert, assertEquals, assertMatch } from "@std/assert";
import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { findLaunchers, type Launcher, runRanks, WaitingTimes } from "./ranks.ts";

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

const SIZE = 3;
const times = new WaitingTimes();

/** What the last rank does, what the others then say of it, and what is its reason. */
const FAILURES: readonly { mode: string; message: RegExp; alsoTold?: boolean }[] = [
  { mode: "throw", message: /^Rank 2 failed: the file is truncated$/ },
  { mode: "reject", message: /^Rank 2 failed: the file is truncated$/ },
  { mode: "exit", message: /^Rank 2 failed: it ended with exit status 3$/ },
  {
    mode: "leave",
    message: /^Rank 2 is gone: it left the group before broadcast\(\) of 1048576 bytes/,
  },
  {
    mode: "close",
    message: /^Rank 2 is gone: it left the group before broadcast\(\) of 1048576 bytes/,
  },
  { mode: "abort", message: /^Rank 2 failed: no memory$/ },
  {
    mode: "hang",
    message:
      /^Rank 2 is missing: no answer for 2 seconds to broadcast\(\) of 1048576 bytes from rank 0 \("weights"\)$/,
  },
  {
    mode: "order",
    message:
      /Rank 2 calls barrier\(\) \("elsewhere"\), rank 0 calls broadcast\(\) of 1048576 bytes from rank 0/,
    alsoTold: true,
  },
  {
    mode: "bytes",
    message: /Rank 2 calls broadcast\(\) of 1048575 bytes .*, rank 0 calls broadcast\(\) of 1048576 bytes/,
    alsoTold: true,
  },
  {
    mode: "root",
    message: /Rank 2 calls .* from rank 1 .*, rank 0 calls .* from rank 0 /,
    alsoTold: true,
  },
  {
    mode: "label",
    message: /Rank 2 calls .*\("biases"\), rank 0 calls .*\("weights"\)$/,
    alsoTold: true,
  },
  {
    mode: "pair",
    message: /Rank 2 calls send\(\) of 1048576 bytes, rank [01] calls broadcast\(\) of 1048576 bytes/,
    alsoTold: true,
  },
  {
    mode: "length",
    message: /In a scatter\(\) from rank 0 \("rows"\) rank 2 expects 11 bytes, the root has 10 for it$/,
    alsoTold: true,
  },
  {
    mode: "blocks",
    message: /Rank 2 and rank 0 call broadcastAll\(\) of blocks that are not all the same$/,
    alsoTold: true,
  },
  {
    mode: "transfer",
    message: /^Rank 2 failed: Cannot broadcast a block: its buffer was transferred meanwhile$/,
  },
];

for (const [family, reason] of missing) suite(`MpiGroup failures over ${family}`, "mpi", reason, () => {});
for (const launcher of found) suite(`MpiGroup failures`, "mpi", null, () => failureTests(launcher));

function failureTests(launcher: Launcher): void {
  const title = `MpiGroup over ${launcher.family}`;
  for (const { mode, message, alsoTold } of FAILURES) {
    Deno.test(`${title} names the rank when one does this: ${mode}`, async () => {
      const outcome = await runRanks(launcher, SIZE, "failing_program.ts", [mode]);
      assert(outcome.code !== 0 || mode === "close" || mode === "leave", outcome.stderr);
      const received = outcome.ranks.filter((said) => said.rank < 2 || alsoTold);
      assertEquals(received.map((said) => said.rank), alsoTold ? [0, 1, 2] : [0, 1], outcome.stderr);
      for (const said of received) {
        assertEquals([said.name, said.blamed], ["GroupError", 2]);
        assertMatch(said.message, message);
      }
      times.add(`${launcher.family}, ${mode}`, received);
    });
  }

  Deno.test(`${title} names both ranks when two send to each other first`, async () => {
    const { ranks, stderr } = await runRanks(launcher, 2, "failing_program.ts", ["send"]);
    assertEquals(ranks.map((said) => [said.rank, said.name, said.blamed]), [
      [0, "GroupError", 1],
      [1, "GroupError", 0],
    ], stderr);
    assertMatch(
      ranks[0]!.message,
      /Rank 1 calls send\(\) of 1048576 bytes, rank 0 calls send\(\) of 1048576 bytes$/,
    );
  });

  Deno.test(`${title} ends when a rank stands still while bytes move`, async () => {
    const { code, ranks: all, stderr } = await runRanks(launcher, SIZE, "failing_program.ts", ["stop"]);
    assert(code !== 0);
    // The launcher wakes rank 2 up before it kills it, which may leave it the time to say that it has failed, too.
    const ranks = all.filter((said) => said.rank < 2);
    assertEquals(ranks.map((said) => [said.rank, said.name]), [[0, "GroupError"], [1, "GroupError"]], stderr);
    for (const said of ranks) {
      assertMatch(said.message, /((is|are) missing: no answer|nothing moved) for 2 seconds/);
    }
    times.add(`${launcher.family}, stop in the midst of it`, ranks);
  });

  for (const mode of ["kill", "kill between"]) {
    Deno.test(`${title} ends when a rank is killed: ${mode}`, async () => {
      const outcome = await runRanks(launcher, SIZE, "failing_program.ts", [mode]);
      assert(outcome.code !== 0);
      times.addWhole(`${launcher.family}, ${mode}`, outcome);
    });
  }
}
