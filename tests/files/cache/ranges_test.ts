import { assert, assertEquals } from "@std/assert";
import { Ranges } from "../../../src/files/cache/ranges.ts";

function of(...ranges: [start: number, stop: number][]): Ranges {
  const set = new Ranges();
  for (const [start, stop] of ranges) set.add(start, stop);
  return set;
}

const listed = (set: Ranges) => Array.from(set, ({ start, stop }) => [start, stop]);

Deno.test("Ranges joins ranges that touch or overlap, in any order", () => {
  assertEquals(listed(of([0, 10], [20, 30])), [[0, 10], [20, 30]]);
  assertEquals(listed(of([20, 30], [0, 10])), [[0, 10], [20, 30]]);
  assertEquals(listed(of([0, 10], [20, 30], [10, 20])), [[0, 30]]);
  assertEquals(listed(of([0, 10], [20, 30], [40, 50], [5, 45])), [[0, 50]]);
  assertEquals(listed(of([5, 6], [5, 6], [7, 7])), [[5, 6]]);
  assertEquals(of([0, 10], [20, 30]).bytes, 20);
});

Deno.test("Ranges.has() is true only for ranges without a gap", () => {
  const set = of([0, 10], [20, 30]);
  for (const [start, stop] of [[0, 10], [3, 4], [20, 30], [29, 30], [15, 15]]) assert(set.has(start!, stop!));
  for (const [start, stop] of [[0, 11], [9, 21], [10, 20], [19, 30], [30, 31]]) {
    assert(!set.has(start!, stop!), `${start}-${stop}`);
  }
});

Deno.test("Ranges.split() yields every piece of a range once, in order", () => {
  const set = of([10, 20], [30, 40]);
  const split = (start: number, stop: number) =>
    Array.from(set.split(start, stop), ({ start, stop, has }) => [start, stop, has]);
  assertEquals(split(0, 50), [[0, 10, false], [10, 20, true], [20, 30, false], [30, 40, true], [
    40,
    50,
    false,
  ]]);
  assertEquals(split(12, 15), [[12, 15, true]]);
  assertEquals(split(22, 25), [[22, 25, false]]);
  assertEquals(split(15, 35), [[15, 20, true], [20, 30, false], [30, 35, true]]);
  assertEquals(split(20, 30), [[20, 30, false]]);
  assertEquals(split(10, 20), [[10, 20, true]]);
  assertEquals(split(5, 5), []);
  assertEquals(Array.from(new Ranges().split(3, 7)), [{ start: 3, stop: 7, has: false }]);
});

Deno.test("Ranges agrees with a set of single bytes for random ranges", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 48271) % 2147483647) % below;
  const set = new Ranges();
  const bytes = new Set<number>();
  for (let round = 0; round < 300; round++) {
    const start = random(2000), stop = start + random(20);
    set.add(start, stop);
    for (let at = start; at < stop; at++) bytes.add(at);
    const from = random(2000), to = from + 1 + random(100);
    const covered: boolean[] = [];
    for (const piece of set.split(from, to)) {
      assertEquals(piece.start, from + covered.length);
      for (let at = piece.start; at < piece.stop; at++) covered.push(piece.has);
    }
    assertEquals(covered, Array.from({ length: to - from }, (_, at) => bytes.has(from + at)));
    assertEquals(set.has(from, to), covered.every((has) => has));
  }
  assertEquals(set.bytes, bytes.size);
});
