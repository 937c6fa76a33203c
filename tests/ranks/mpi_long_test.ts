/**
 * Loading over MPI, in processes of their own: what every rank got, against parts that were picked element by element.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { findLaunchers, type Launcher, runRanks, WaitingTimes } from "./group/ranks.ts";
import { tempFolder, type TensorSpec } from "../support/models.ts";
import { suite } from "../support/skip.ts";
import { checkSaid, writeFiles, writeModel } from "./said.ts";

/** What the last rank does, and what the others say of it. */
const FAILURES: readonly { mode: string; message: RegExp; cause?: string; isLast?: boolean }[] = [
  { mode: "throw", message: /^Rank 2 failed: of the user$/ },
  { mode: "exit", message: /^Rank 2 failed: it ended with exit status 3$/ },
  { mode: "abort", message: /^Rank 2 failed: changed my mind$/ },
  {
    mode: "truncated",
    message: /^Rank 2 failed: Cannot read ".*f2".*was it truncated\?$/,
    isLast: true,
    cause: "ReadError",
  },
  {
    mode: "memory",
    message: /^Rank 2 failed: Cannot load: \d+ bytes of memory are needed/,
    isLast: true,
    cause: "OutOfMemoryError",
  },
  { mode: "break", message: /^Rank 2 failed: it ended the iteration early$/ },
  { mode: "hang", message: /^Rank 2 is missing: no answer for 2 seconds to agree\(\) \("getTensor\(/ },
  {
    mode: "order",
    message: /Rank 2 calls agree\(\) \("getSharded\(.*, rank 0 calls agree\(\) \("getTensor\(/,
    isLast: true,
  },
  { mode: "files", message: /^The ranks do not open the same files: file 1 of rank 2 is /, isLast: true },
];

const times = new WaitingTimes();
const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

for (const [family, reason] of missing) suite(`loading over ${family}`, "mpi", reason, () => {});
for (const launcher of found) suite(`loading over ${launcher.family}`, "mpi", null, () => define(launcher));

function define(launcher: Launcher): void {
  for (const size of [1, 2, 3, 4]) {
    Deno.test(`${size} ranks load over ${launcher.family}`, async () => {
      await using folder = await tempFolder();
      const { names, tensors } = await writeModel(folder.path, size);
      const words = ["mpi", "cpu", folder.path, ...names];
      const { code, stderr, ranks } = await runRanks(launcher, size, "../load_program.ts", words);
      assertEquals([code, stderr, ranks.length], [0, "", size]);
      await checkSaid(folder.path, tensors, size);
    });
  }

  for (const { mode, message, isLast, cause } of FAILURES) {
    Deno.test(`3 ranks over ${launcher.family} name the one that fails: ${mode}`, async () => {
      await using folder = await tempFolder();
      const specs = [0, 1, 2].map((file) =>
        Array.from({ length: 6 }, (_, index): TensorSpec => {
          return { name: `${file}.${index}`, dtype: "U8", shape: [2000] };
        })
      );
      const names = await writeFiles(folder.path, specs);
      const { ranks, stderr } = await runRanks(launcher, 3, "../failing_program.ts", [
        mode,
        folder.path,
        ...names,
      ]);
      const received = ranks.filter(({ rank }) => rank < 2 || isLast);
      assertEquals(received.map(({ rank }) => rank), isLast ? [0, 1, 2] : [0, 1], stderr);
      for (const said of received) {
        assertEquals([said.name, said.blamed], ["GroupError", 2], JSON.stringify(said));
        assertMatch(said.message, message);
        assertEquals(said.cause, said.rank === 2 ? cause ?? null : null);
      }
      times.add(`${launcher.family}, ${mode}`, received);
    });
  }

  Deno.test(`3 ranks over ${launcher.family} end when one is killed`, async () => {
    await using folder = await tempFolder();
    const { names } = await writeModel(folder.path, 3);
    const words = ["kill", folder.path, ...names];
    const outcome = await runRanks(launcher, 3, "../failing_program.ts", words);
    assert(outcome.code !== 0);
    times.addWhole(`${launcher.family}, kill`, outcome);
  });
}
