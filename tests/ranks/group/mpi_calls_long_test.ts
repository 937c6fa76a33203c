import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { checkCalls } from "./calls.ts";
import { findLaunchers, type Launcher, runRanks } from "./ranks.ts";

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

for (const [family, reason] of missing) suite(`MpiGroup over ${family}`, "mpi", reason, () => {});
for (const launcher of found) {
  suite(`MpiGroup over ${launcher.family}`, "mpi", null, () => callTests(launcher));
}

function callTests(launcher: Launcher): void {
  for (const size of [1, 2, 3, 4]) {
    Deno.test(`MpiGroup over ${launcher.family} makes every call on ${size} ranks`, async () => {
      await checkCalls(await runRanks(launcher, size, "calls_program.ts", ["1000"]), launcher.family, size);
    });
  }

  Deno.test(`MpiGroup over ${launcher.family} gives the same with pieces of any length`, async () => {
    for (const pieceBytes of [64, 2 ** 30]) {
      await checkCalls(
        await runRanks(launcher, 2, "calls_program.ts", [`${pieceBytes}`]),
        launcher.family,
        2,
      );
    }
  });
}
