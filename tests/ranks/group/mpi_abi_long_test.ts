/**
 * MPI with the standard ABI, on a stand-in over MPICH: found by its name, spoken to with its numbers, and, where it says
 * that it takes device memory, given that as it is.
 */
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { openLibrary } from "../../../ffi/library.ts";
import { suite } from "../../support/skip.ts";
import { buildStandIn } from "../../support/stand_in.ts";
import { checkCalls } from "./calls.ts";
import { checkMoves } from "./moves.ts";
import { findLaunchers, runRanks } from "./ranks.ts";

const launcher = findLaunchers().found.find(({ family }) => family === "MPICH");
await openLibrary(); // built once, not by several ranks at the same time
const mpi = await buildStandIn("mpi");
const nccl = await buildStandIn("nccl");
const missing = launcher ? mpi.missing ?? nccl.missing : "there is no MPICH to build the stand-in on";
const abi = { FASTSAFETENSORS_MPI_LIB: `${mpi.folder}/libmpi_abi.so.0` };
const cuda = `${nccl.folder}/libfst_sim_nccl.so`;

suite("MPI with the standard ABI (stand-in)", "mpi", missing, () => {
  for (const size of [1, 2, 3, 4]) {
    Deno.test(`MpiGroup over the MPI ABI makes every call on ${size} ranks (stand-in)`, async () => {
      await checkCalls(await runRanks(launcher!, size, "calls_program.ts", ["1000"], abi), "MPI ABI", size);
    });
  }

  Deno.test("MpiGroup gives device memory to a library that takes it, and pins none (stand-in)", async () => {
    for (const [takes, pinned] of [[true, 0], [false, 3 * 30_000]] as const) {
      const env = {
        ...abi,
        FASTSAFETENSORS_CUDART_LIB: cuda,
        FASTSAFETENSORS_CUDA_LIB: cuda,
        ...takes ? { FST_SIM_MPI_CUDA: cuda } : {},
      };
      const outcome = await runRanks(launcher!, 3, "device_program.ts", ["mpi", "calls"], env);
      await checkMoves(outcome, "mpi", 3);
      assertEquals(outcome.ranks.map((said) => said.pinned), [pinned, pinned, pinned]);
    }
  });

  // The first calls of all are create() and barrier(); these are of the broadcast() after them, or of barrier() if a rank
  // is so slow that the others send one more message about it.
  for (
    const [call, rank, nth] of [
      ["MPI_Isend", 1, 3], // what this rank is about to do, to rank 0
      ["MPI_Irecv", 2, 3], // whether all do the same
      ["MPI_Isend", 0, 5], // that all do the same
      ["MPI_Isend", 0, 7], // the first bytes
      ["MPI_Isend", 1, 4], // the first bytes, passed on
      ["MPI_Irecv", 2, 5],
    ] as const
  ) {
    Deno.test(`MpiGroup tells what ${call} number ${nth} of rank ${rank} gives (stand-in)`, async () => {
      const env = { ...abi, FST_SIM_MPI_FAIL: `${call}:${rank}:${nth}` };
      const { code, ranks, stderr } = await runRanks(launcher!, 3, "failing_program.ts", ["library"], env);
      const reason = /^(?:barrier\(\)|broadcast\(\) of 1048576 bytes from rank 0 \("weights"\)): (.*)$/;
      for (const said of ranks) {
        const [, cause] = said.message.replace(`Rank ${rank} failed: `, "").match(reason) ?? [];
        assertEquals(
          [said.name, said.blamed, cause],
          ["GroupError", rank, `${call}: Other MPI error`],
          stderr,
        );
      }
      // A rank that has its bytes already, or has sent them, may be done with the call.
      assert(ranks.some((said) => said.rank === rank), stderr);
      assertNotEquals(code, 0);
    });
  }

  Deno.test("MpiGroup.create() tells what MPI_Comm_idup gives, and no rank waits for long (stand-in)", async () => {
    const env = { ...abi, FST_SIM_MPI_FAIL: "MPI_Comm_idup:1:1" };
    const { code, stderr } = await runRanks(launcher!, 3, "failing_program.ts", ["library"], env);
    assertStringIncludes(stderr, "Cannot use MPI: MPI_Comm_idup: Other MPI error");
    assertStringIncludes(stderr, "Cannot use MPI: not every rank of the launcher made a group in time");
    assertNotEquals(code, 0);
  });
});
