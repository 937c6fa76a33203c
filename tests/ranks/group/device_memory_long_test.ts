import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { buildStandIn } from "../../support/stand_in.ts";
import { checkMoves } from "./moves.ts";
import { findLaunchers, runAtAddress, runRanks, WaitingTimes } from "./ranks.ts";

const PROGRAM = "device_program.ts";
const times = new WaitingTimes();

const library = (await openLibrary()).shim === null ? "there is no native library" : null; // built once, before the ranks
const nccl = await buildStandIn("nccl");
const missing = library ?? nccl.missing;
const standIn = `${nccl.folder}/libfst_sim_nccl.so`;
const env = {
  FASTSAFETENSORS_NCCL_LIB: standIn,
  FASTSAFETENSORS_CUDART_LIB: standIn,
  FASTSAFETENSORS_CUDA_LIB: standIn,
};

/** What the last rank does, and what the others then say. */
const FAILURES = [
  {
    mode: "throw",
    message: /^Rank 2 (failed: its process has ended|is gone: it left the group before broadcast\(\))/,
  },
  { mode: "kill", message: /^Rank 2 failed: its process has ended$/ },
  { mode: "abort", message: /^Rank 2 failed: no memory$/ },
  { mode: "order", message: /Rank 2 calls barrier\(\), rank 0 calls broadcast\(\) of 100000 bytes/ },
  { mode: "hang", message: /^Rank 2 is missing: no answer for 2 seconds to broadcast\(\) of 100000 bytes/ },
  {
    mode: "link",
    message: /^Rank 2 failed: broadcast\(\) of 100000 bytes .*remote process exited or there was/,
  },
];

suite("Device memory between ranks (stand-in)", "native", missing, () => {
  for (const size of [1, 2, 3]) {
    Deno.test(`NcclGroup makes every call on ${size} ranks that meet over TCP (stand-in)`, async () => {
      await checkMoves(await runAtAddress(size, PROGRAM, ["nccl", "calls"], env), "nccl", size);
    });
  }

  for (const { mode, message } of FAILURES) {
    Deno.test(`NcclGroup names the rank when one does this: ${mode} (stand-in)`, async () => {
      const { ranks, stderr } = await runAtAddress(3, PROGRAM, ["nccl", mode], env);
      // A rank that has its bytes already may be done with the call when a link fails.
      const received = ranks.filter((said) => said.rank < (mode === "link" ? 1 : 2));
      const expected = received.map(() => ["GroupError", 2]);
      assertEquals(received.map((said) => [said.name, said.blamed]), expected, stderr);
      assertEquals(received.length, mode === "link" ? 1 : 2, stderr);
      for (const said of received) assertMatch(said.message, message);
      times.add(`NCCL stand-in over TCP, ${mode}`, received);
    });
  }

  Deno.test("NcclGroup.create() says on every rank what is missing", async () => {
    const { ranks } = await runAtAddress(2, PROGRAM, ["nccl", "calls"], {
      ...env,
      FASTSAFETENSORS_NCCL_LIB: "/nowhere/libnccl.so",
    });
    for (const said of ranks) {
      assertEquals(said.name, "DeviceError");
      assertMatch(said.message, /^Cannot use NCCL: FASTSAFETENSORS_NCCL_LIB names "\/nowhere\/libnccl\.so"/);
    }
    assertEquals(ranks.length, 2);
  });
});

const launchers = findLaunchers();
for (const [family, reason] of launchers.missing) {
  suite(`Device memory over ${family}`, "mpi", reason, () => {});
}
for (const launcher of launchers.found) {
  suite(`Device memory over ${launcher.family} (stand-in)`, "native", missing, () => {
    Deno.test(`NcclGroup makes every call on the ranks of ${launcher.family} (stand-in)`, async () => {
      await checkMoves(await runRanks(launcher, 2, PROGRAM, ["mpi-nccl", "calls"], env), "nccl", 2);
    });

    Deno.test(`MpiGroup over ${launcher.family} moves device memory through host memory (stand-in)`, async () => {
      for (const size of [1, 3]) {
        await checkMoves(await runRanks(launcher, size, PROGRAM, ["mpi", "calls"], env), "mpi", size);
      }
    });

    for (
      const [call, nth, code, text, action] of [
        [
          "cudaHostRegister",
          1,
          1,
          "cudaErrorInvalidValue (1): invalid argument",
          "pin 90000 bytes of memory",
        ],
        ["cudaMemcpyAsync", 2, 1, "cudaErrorInvalidValue (1): invalid argument", "copy (from|to) the device"],
        [
          "cudaEventSynchronize",
          1,
          719,
          "cudaErrorLaunchFailure (719): unspecified launch failure",
          "copy (from|to) the device",
        ],
      ] as const
    ) {
      Deno.test(`MpiGroup over ${launcher.family} tells of the device's error: ${call}() (stand-in)`, async () => {
        const variables = { ...env, FST_SIM_FAIL: `${call}:${nth}:${code}` };
        const { ranks, stderr } = await runRanks(launcher, 2, PROGRAM, ["mpi", "once"], variables);
        assert(ranks.length > 0, stderr);
        for (const said of ranks) {
          assertEquals(said.name, "GroupError", stderr);
          const reason = `broadcast() of 100000 bytes from rank 0 ("weights"): Cannot `;
          assertStringIncludes(said.message, `Rank ${said.blamed} failed: ${reason}`, stderr);
          const cause = said.message.slice(`Rank ${said.blamed} failed: ${reason}`.length);
          assertMatch(cause, new RegExp(`^${action}: `), stderr);
          assertStringIncludes(cause, `: ${text} (fastsafetensors CUDA stand-in)`, stderr);
        }
      });
    }

    Deno.test(`NcclGroup on the ranks of ${launcher.family} names the rank that throws (stand-in)`, async () => {
      const { ranks, stderr } = await runRanks(launcher, 3, PROGRAM, ["mpi-nccl", "throw"], env);
      assertEquals(ranks.map((said) => [said.rank, said.blamed, said.message]), [
        [0, 2, "Rank 2 failed: the file is truncated"],
        [1, 2, "Rank 2 failed: the file is truncated"],
      ], stderr);
    });
  });
}
