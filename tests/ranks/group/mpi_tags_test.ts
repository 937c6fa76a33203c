import { assertEquals } from "@std/assert";
import type { MpiProcess } from "../../../ffi/mpi.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { rankFailure } from "../../../src/ranks/group/call_failure.ts";
import { MpiWorld } from "../../../src/ranks/group/mpi_world.ts";

Deno.test("MpiWorld drops the bytes of a failed group, but not with tags that another group uses", async () => {
  const tables: number[][] = [];
  const shim = {
    fst_mpi_last_words: () => {},
    fst_mpi_send: () => 0,
    fst_mpi_receive: () => 0n,
    fst_mpi_set_tags: (all: Int32Array) => tables.push([...all]),
  } as unknown as Shim;
  // With 7 tags the fourth group of two ranks has those of the first again.
  const process = { rank: 0, size: 2, path: "", family: "", cudaAware: false, tags: 7 } satisfies MpiProcess;
  const world = new MpiWorld(shim, process);
  const first = world.join({ id: 0, ranks: [0, 1], timeoutSeconds: 1 });
  const second = world.join({ id: 3, ranks: [0, 1], timeoutSeconds: 1 });
  assertEquals([first.tag, second.tag], [0, 0]);
  await first.control.fail(rankFailure(0, "a test"));
  assertEquals(tables.at(-1), [0, 2, 0]);
  await first.control.close();
  assertEquals(tables.at(-1), [0, 2, 0]);
  await second.control.close();
  assertEquals(tables.at(-1), [0, 2, 1]);
});
