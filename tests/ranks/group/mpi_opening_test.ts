import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { findLaunchers, type Launcher, runRanks } from "./ranks.ts";

const { found, missing } = findLaunchers();
await openLibrary(); // built once, not by several ranks at the same time

/** No launcher at all. */
const ALONE: Launcher = { family: "", command: "", args: [], library: "" };

for (const [family, reason] of missing) suite(`MpiGroup.create() with ${family}`, "mpi", reason, () => {});
for (const launcher of found) suite("MpiGroup.create()", "mpi", null, () => openingTests(launcher));

function openingTests(launcher: Launcher): void {
  const { family, library } = launcher;

  Deno.test(`MpiGroup.create() finds the library of the launcher of ${family}`, async () => {
    const { ranks, stderr } = await runRanks(launcher, 2, "opening_program.ts", []);
    assertEquals(ranks.map((said) => [said.size, said.family]), [[2, family], [2, family]], stderr);
    assertMatch(ranks[0]!.library, /^\/.*libmpi/);
    assertMatch(
      ranks[1]!.device,
      /^DeviceError: Cannot move memory of cuda:99 over MPI: .*; give the bytes from host/,
    );
  });

  Deno.test(`a group of one with ${family} needs no launcher, and ends no process by a call that is not awaited`, async () => {
    const { ranks, code, stderr } = await runRanks(ALONE, 1, "opening_program.ts", [], {
      FASTSAFETENSORS_MPI_LIB: library,
    });
    assertEquals([code, stderr], [0, ""]);
    assertEquals(ranks.map((said) => [said.size, said.family]), [[1, family]]);
    if (family !== "MPICH") return; // Open MPI handles only signals that nothing else does
    // SIGILL, SIGBUS, SIGFPE and SIGSEGV: UCX, which MPICH uses, would handle them in place of V8 and Deno.
    const faults = (mask: string) => BigInt(`0x${mask}`) & (1n << 3n | 1n << 6n | 1n << 7n | 1n << 10n);
    const { before, after } = ranks[0]!.handlers;
    assertEquals(faults(after), faults(before), "the handled signals of faults");
  });

  for (const other of found.filter((other) => other !== launcher)) {
    Deno.test(`MpiGroup.create() refuses ${family} under the launcher of ${other.family}`, async () => {
      const { ranks } = await runRanks(other, 2, "opening_program.ts", [], {
        FASTSAFETENSORS_MPI_LIB: library,
      });
      assertEquals(ranks.map((said) => [said.rank, said.name, said.library]), [
        [0, "DeviceError", "mpi"],
        [1, "DeviceError", "mpi"],
      ]);
      assertMatch(
        ranks[0]!.message,
        /^Cannot use MPI: the launcher started 2 ranks \(\w+\), and ".*" \(.*\) sees 1: /,
      );
      assertStringIncludes(ranks[0]!.message, `(${family})`);
    });
  }
}

Deno.test("MpiGroup.create() says what it looked for where there is no MPI", async () => {
  const { ranks } = await runRanks(ALONE, 1, "opening_program.ts", [], {
    FASTSAFETENSORS_MPI_LIB: "/nowhere/libmpi.so",
  });
  assertEquals([ranks[0]!.name, ranks[0]!.library], ["DeviceError", "mpi"]);
  assertStringIncludes(
    ranks[0]!.message,
    'Cannot use MPI: FASTSAFETENSORS_MPI_LIB names "/nowhere/libmpi.so"',
  );
});
