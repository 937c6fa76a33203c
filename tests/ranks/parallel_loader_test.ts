/**
 * Going through the tensors of many files together: the same on every rank, and an end for all when one ends it.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { fastsafeOpen, ReadError } from "../../mod.ts";
import { ParallelLoader, type ParallelLoaderOptions } from "../../src/compat/mod.ts";
import { onRanks, runRanks } from "../support/fake_group.ts";
import { assertTensor, type TensorSpec, writeShards, type Written } from "../support/models.ts";
import { assertBlames, SPECS, test } from "./support.ts";

/** Five files, of which two ranks read three and two. */
const FIVE: TensorSpec[][] = Array.from({ length: 5 }, (_, file) =>
  Array.from({ length: 4 }, (_, index) => {
    return { name: `${file}.${index}`, dtype: "U8", shape: [1000 + 100 * file + index] };
  }));

const byName = (tensors: readonly Written[]) => new Map(tensors.map((tensor) => [tensor.name, tensor]));

for (const size of [2, 3, 4]) {
  test(`iterateWeights() gives ${size} ranks every tensor once, in one order`, async (folder) => {
    const { indexPath, tensors } = await writeShards(folder, [...SPECS, ...FIVE]);
    const expected = byName(tensors);
    const settings: ParallelLoaderOptions<"cpu">[] = [
      {},
      { queueSize: -1 },
      { queueSize: 3 },
      { maxBytesInFlight: 1 },
      { queueSize: -1, maxBytesInFlight: 2500 },
      { queueSize: 2, maxBytesInFlight: 9000 },
    ];
    for (const options of settings) {
      const orders = await onRanks(size, async (group) => {
        const order: string[] = [];
        for await (const [name, tensor] of new ParallelLoader(group, indexPath, options).iterateWeights()) {
          assertTensor(tensor, expected.get(name)!);
          order.push(name);
        }
        return order;
      });
      for (const order of orders) assertEquals(order, orders[0]);
      assertEquals(orders[0]!.toSorted(), [...expected.keys()].toSorted());
    }
  });
}

test("iterateWeights() takes one file of each rank at a time", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  const [order] = await onRanks(2, async (group) => {
    const order: string[] = [];
    for await (const [name] of new ParallelLoader(group, paths).iterateWeights()) order.push(name);
    return order;
  });
  const files = order!.map((name) => name[0]);
  assertEquals(files.slice(0, 8).toSorted(), ["0", "0", "0", "0", "1", "1", "1", "1"]);
  assertEquals(files.slice(8, 16).toSorted(), ["2", "2", "2", "2", "3", "3", "3", "3"]);
  assertEquals(files.slice(16), ["4", "4", "4", "4"]);
});

test("a rank that ends its iteration early ends it for all", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  for (const queueSize of [-1, 0, 2]) {
    const { results } = await runRanks(3, async (group) => {
      let count = 0;
      // Batches of a tensor or two: there is more to come.
      const loader = new ParallelLoader(group, paths, { queueSize, maxBytesInFlight: 2000 });
      for await (const _ of loader.iterateWeights()) if (++count === 4 && group.rank === 1) break;
      return count;
    });
    assertBlames(results[0]!, 1, "it ended the iteration early");
    assertEquals(results[1]!.status, "fulfilled");
    assertBlames(results[2]!, 1, "it ended the iteration early");
  }
});

test("ranks that all end their iteration at the same tensor just end it", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  await onRanks(3, async (group) => {
    for (const last of [1, 3, 20]) {
      let count = 0;
      for await (const _ of new ParallelLoader(group, paths).iterateWeights()) if (++count === last) break;
    }
    await group.barrier(); // the group is in order
    let count = 0;
    await using model = await fastsafeOpen(paths, { group });
    for await (const _ of model) if (++count === 2) break;
    assertEquals((await model.getTensor("0.0")).shape, [1000]);
  });
});

test("a rank that ends its iteration with the last tensor does not disturb the others", async (folder) => {
  const { paths, tensors } = await writeShards(folder, FIVE);
  const counts = await onRanks(2, async (group) => {
    let count = 0;
    for await (const _ of new ParallelLoader(group, paths).iterateWeights()) {
      if (++count === tensors.length && group.rank === 0) break;
    }
    await group.barrier();
    return count;
  });
  assertEquals(counts, [20, 20]);
});

test("an error of the consumer on one rank ends the iteration on all", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  const { results } = await runRanks(2, async (group) => {
    for await (const [name] of new ParallelLoader(group, paths, { maxBytesInFlight: 1 }).iterateWeights()) {
      if (name === "1.2" && group.rank === 0) throw new Error("no memory left");
    }
  });
  const [thrown] = results;
  assert(thrown?.status === "rejected" && thrown.reason.message === "no memory left");
  assertBlames(results[1]!, 0, "it ended the iteration early");
});

test("a file that is cut short ends the iteration on all ranks", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  const { results } = await runRanks(3, async (group) => {
    let count = 0;
    const loader = new ParallelLoader(group, paths, { maxBytesInFlight: 2000 });
    for await (const _ of loader.iterateWeights()) {
      if (++count === 2 && group.rank === 0) await Deno.truncate(paths[4]!, 3000);
    }
  });
  for (const [rank, result] of results.entries()) {
    const error = assertBlames(result, 1, paths[4]!);
    assertEquals(error.cause instanceof ReadError, rank === 1);
  }
});

test("an abort on one rank ends the iteration on all", async (folder) => {
  const { paths } = await writeShards(folder, FIVE);
  const reason = new Error("enough");
  const { results } = await runRanks(2, async (group) => {
    const controller = new AbortController();
    const options = { signal: controller.signal, maxBytesInFlight: 2000 };
    let count = 0;
    for await (const _ of new ParallelLoader(group, paths, options).iterateWeights()) {
      if (++count === 3 && group.rank === 1) controller.abort(reason);
    }
  });
  assertBlames(results[0]!, 1, "enough");
  assertEquals(results[1], { status: "rejected", reason });
});

test("iterateWeights() has at most as much in memory as it may", async (folder) => {
  // 40 tensors of 64 KiB each in two files; live batches of 256 KiB each.
  const specs = [0, 1].map((file) =>
    Array.from({ length: 20 }, (_, index): TensorSpec => {
      return { name: `${file}.${index}`, dtype: "U8", shape: [65536] };
    })
  );
  const { paths } = await writeShards(folder, specs);
  for (const [queueSize, batches] of [[-1, 5], [0, 10], [2, 20]] as const) {
    await onRanks(2, async (group) => {
      const lines: string[] = [];
      const debugLog = (line: string) => void lines.push(line);
      const options = { queueSize, maxBytesInFlight: 256 * 1024, debugLog };
      for await (const _ of new ParallelLoader(group, paths, options).iterateWeights());
      const loads = lines.map((line) => /^(\d+) tensors, (\d+) bytes in/.exec(line)).filter((match) =>
        match !== null
      );
      assertEquals(loads.length, batches);
      assert(loads.every(([, , bytes]) => Number(bytes) <= 256 * 1024 / (queueSize + 2)));
    });
  }
});

test("ParallelLoader counts the bytes that tensors have after a cast", async (folder) => {
  // 8 tensors of 1000 bytes in the file, 2000 in memory: one for each of two live batches, not two.
  const specs = Array.from({ length: 8 }, (_, index): TensorSpec => {
    return { name: `${index}`, dtype: "BF16", shape: [500] };
  });
  const { paths } = await writeShards(folder, [specs.slice(0, 4), specs.slice(4)]);
  for (const [dtype, loads] of [["BF16", 4], ["F32", 8]] as const) {
    const lines: string[] = [];
    const options = { dtype, maxBytesInFlight: 4000, debugLog: (line: string) => void lines.push(line) };
    for await (const _ of new ParallelLoader(null, paths, options).iterateWeights());
    assertEquals(lines.filter((line) => /^\d+ tensors?, \d+ bytes in/.test(line)).length, loads, dtype);
  }
});

test("ParallelLoader refuses a queueSize that makes no sense", () => {
  for (const queueSize of [-2, 0.5, NaN, Infinity]) {
    assertThrows(() => new ParallelLoader(null, "x", { queueSize }), RangeError, "queueSize");
  }
});

test("iterateWeights() of one process reads ahead by queueSize", async (folder) => {
  const { paths, tensors } = await writeShards(folder, FIVE);
  const expected = byName(tensors);
  for (const queueSize of [-1, 0, 1, 5]) {
    const seen: string[] = [];
    const loader = new ParallelLoader(null, paths, { queueSize, maxBytesInFlight: 7000 });
    for await (const [name, tensor] of loader.iterateWeights()) {
      assertTensor(tensor, expected.get(name)!);
      seen.push(name);
    }
    assertEquals(seen.toSorted(), [...expected.keys()].toSorted());
    for await (const _ of loader.iterateWeights()) break;
  }
  await Deno.truncate(paths[3]!, 2000);
  await assertRejects(
    async () => {
      for await (const _ of new ParallelLoader(null, paths, { queueSize: 3 }).iterateWeights());
    },
    Error,
    paths[3]!,
  );
});
