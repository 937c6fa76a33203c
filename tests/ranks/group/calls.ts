/**
 * What the ranks of calls_program.ts must have got.
 */
import { assert, assertEquals } from "@std/assert";
import { LENGTHS, manyLengths, scatterLengths } from "./calls_program.ts";
import { digest, type Outcome, pattern } from "./ranks.ts";

/** Checks what every rank said of every call. */
export async function checkCalls(
  { code, stderr, ranks }: Outcome,
  family: string,
  size: number,
): Promise<void> {
  assertEquals([code, stderr], [0, ""]);
  assertEquals(
    ranks.map((said) => [said.rank, said.size, said.kind, said.family]),
    each(size, (rank) => {
      return [rank, size, "mpi", family];
    }),
  );
  const roots = each(size, (root) => root);
  const broadcasts = await Promise.all(
    roots.flatMap((root) => LENGTHS.map((n) => digest(pattern(root + 1, n)))),
  );
  const many = await Promise.all(
    manyLengths(size).map(({ length }, index) => digest(pattern(index + 70, length))),
  );
  for (const said of ranks) {
    const { rank } = said;
    assertEquals(said.broadcasts, broadcasts);
    assertEquals(said.many, many);
    assertEquals(said.between, [0xee, 0xee, 0xee, 0xee], "bytes beside a block were overwritten");
    assertEquals(said.scatters, await Promise.all(roots.map((root) => digest(partOf(root, rank, size)))));
    if (size > 1) assertEquals(said.ring, await digest(ringPart((rank + size - 1) % size)));
    assertEquals(
      said.gathered,
      each(size, (other) => {
        return { rank: other, text: "é".repeat(other), list: [other, null, true] };
      }),
    );
    assertEquals(said.long, each(size, (other) => 60_000 * (other + 1)));
    assertEquals(said.order, [0, 1, 2, 3]);
    assertEquals(said.inOrder, await Promise.all([0, 1, 2, 3].map((seed) => digest(pattern(seed, 100)))));
    assertEquals(said.split, await splitOf(rank, size));
    assertEquals(said.refusal, { name: "GroupError", rank: size - 1, reason: "no memory" });
  }
  const last = Math.max(...ranks.map((said) => said.barrier.came));
  assert(ranks.every((said) => said.barrier.left >= last), "nobody leaves a barrier before all have come");
  const waited = ranks.filter(({ barrier }) => barrier.left - barrier.came > 200);
  assert(waited.every(({ barrier }) => barrier.ticks >= 5), "the event loop stands still in a barrier");
}

/** What rank `rank` must get of what `root` scatters. */
function partOf(root: number, rank: number, size: number): Uint8Array<ArrayBuffer> {
  const lengths = scatterLengths(size, root);
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const start = lengths.slice(0, rank).reduce((sum, length) => sum + length, 0);
  return pattern(root + 40, total).slice(start, start + lengths[rank]!);
}

/** The buffer into whose middle the rank before has sent. */
function ringPart(sender: number): Uint8Array<ArrayBuffer> {
  const buffer = new Uint8Array(3010).fill(0xee);
  buffer.set(pattern(sender + 90, 3000), 5);
  return buffer;
}

/** Ranks of one parity, the highest first. */
async function splitOf(rank: number, size: number) {
  const members = each(size, (other) => other).filter((other) => other % 2 === rank % 2).reverse();
  return {
    rank: members.indexOf(rank),
    size: members.length,
    digest: await digest(pattern(members[0]! + 60, 2500)),
  };
}

function each<T>(size: number, make: (rank: number) => T): T[] {
  return Array.from({ length: size }, (_, rank) => make(rank));
}
