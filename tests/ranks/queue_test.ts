import { assert, assertEquals, assertRejects } from "@std/assert";
import { GroupError } from "../../mod.ts";
import { SingleGroup } from "../../src/ranks/mod.ts";
import { RankQueue, together } from "../../src/ranks/queue.ts";
import { type FakeGroup, onRanks, runRanks } from "../support/fake_group.ts";
import { assertBlames } from "./support.ts";

/** What an operation has given up, in order. */
function watched(given: string[], name: string): Disposable {
  return { [Symbol.dispose]: () => void given.push(name) };
}

Deno.test("RankQueue.run() prepares and moves one operation after another", async () => {
  const orders = await onRanks(2, async (group) => {
    const queue = RankQueue.of(group);
    assertEquals(RankQueue.of(group), queue); // one for all that load over the group
    const order: string[] = [];
    const operate = (name: string, delay: number) =>
      queue.run({
        label: name,
        async prepare() {
          order.push(`prepare ${name}`);
          await new Promise((resolve) => setTimeout(resolve, delay * (group.rank + 1)));
          return name;
        },
        async move(prepared) {
          await group.barrier(prepared);
          order.push(`move ${prepared}`);
          return prepared.toUpperCase();
        },
      });
    assertEquals(await Promise.all([operate("a", 5), operate("b", 0), operate("c", 1)]), ["A", "B", "C"]);
    return order;
  });
  for (const order of orders) {
    assertEquals(order, ["prepare a", "move a", "prepare b", "move b", "prepare c", "move c"]);
  }
});

Deno.test("RankQueue.run() gives up what it holds, whatever happens", async () => {
  const run = (group: FakeGroup, given: string[], fails: string) =>
    RankQueue.of(group).run({
      label: fails,
      prepare({ always, onFailure }) {
        always.use(watched(given, "always"));
        onFailure.use(watched(given, "result"));
        return fails === "prepare" && group.rank === 1 ? Promise.reject(new Error("no")) : Promise.resolve();
      },
      async move() {
        await group.barrier();
        if (fails === "move" && group.rank === 1) throw new Error("no");
        if (fails === "move") await group.barrier();
      },
    });
  const given = [0, 1].map(() => [] as string[]);
  await onRanks(2, (group) => run(group, given[group.rank]!, "nothing"));
  assertEquals(given, [["always"], ["always"]]); // the result is the caller's

  given.forEach((list) => list.splice(0));
  await runRanks(2, (group) => run(group, given[group.rank]!, "prepare"));
  assertEquals(given.map((list) => list.toSorted()), [["always", "result"], ["always", "result"]]);

  // Bytes may still arrive: that memory must not be used for anything else.
  given.forEach((list) => list.splice(0));
  const { results } = await runRanks(2, (group) => run(group, given[group.rank]!, "move"));
  assertEquals(given, [[], []]);
  assertBlames(results[0]!, 1, "no"); // told by aborting the group: nobody else would know
  assert(results[1]!.status === "rejected");
});

Deno.test("RankQueue.run() reports the failure of one rank to all, and later operations run", async () => {
  await onRanks(3, async (group) => {
    const cause = new TypeError("of rank 1");
    const failing = RankQueue.of(group).run({
      label: "x",
      prepare: () => group.rank === 1 ? Promise.reject(cause) : Promise.resolve(),
      move: () => Promise.reject(new Error("must not come to this")),
    });
    const error = await assertRejects(() => failing, GroupError, "Rank 1 failed: of rank 1");
    assertEquals([error.rank, error.reason], [1, "of rank 1"]);
    assertEquals(error.cause, group.rank === 1 ? cause : undefined);
    const next = {
      label: "y",
      prepare: () => Promise.resolve(5),
      move: (five: number) => Promise.resolve(five),
    };
    assertEquals(await RankQueue.of(group).run(next), 5);
  });
});

Deno.test("RankQueue.run() refuses by a check without a word to the others", async () => {
  const { results, trace } = await runRanks(2, (group) =>
    RankQueue.of(group).run({
      label: "x",
      check() {
        throw new RangeError("on every rank alike");
      },
      prepare: () => Promise.resolve(),
      move: () => Promise.resolve(),
    }));
  for (const result of results) assert(result.status === "rejected" && result.reason instanceof RangeError);
  assertEquals(trace, []);
});

Deno.test("together() does something on all ranks, or takes it back", async () => {
  const undone: number[] = [];
  const { results } = await runRanks(3, (group) =>
    together(
      group,
      { label: "open" },
      () => group.rank === 2 ? Promise.reject(new Error("no")) : Promise.resolve(group.rank),
      (rank) => Promise.resolve(void undone.push(rank)),
    ));
  for (const result of results) assertBlames(result, 2, "no");
  assertEquals(undone.toSorted(), [0, 1]);
  // Without a group, and in a group of one, it is just done.
  const undo = () => Promise.reject(new Error("must not come to this"));
  assertEquals(await together(undefined, { label: "open" }, () => Promise.resolve(1), undo), 1);
  assertEquals(await together(new SingleGroup(), { label: "open" }, () => Promise.resolve(2), undo), 2);
});
