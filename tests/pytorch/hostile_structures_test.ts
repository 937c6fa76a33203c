/**
 * Dicts and lists around the tensors that are endless, unnamed, or have a duplicate name.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  concat,
  dict,
  emptyTuple,
  floats,
  fourFloats,
  get,
  int,
  list,
  none,
  one,
  orderedDict,
  put,
  record,
  reduce,
  str,
  tuple,
  utf8,
  zipCheckpoint,
} from "./builders.ts";
import { assertRefused, memoryReader } from "./support.ts";

Deno.test("readCheckpoint() rejects objects without named tensors", async () => {
  await assertRefused(zipCheckpoint(int(3)), "UnsupportedCheckpoint", "it holds int 3");
  await assertRefused(zipCheckpoint(floats), "UnsupportedCheckpoint", "it is a bare storage");
});

Deno.test("readCheckpoint() rejects a duplicate key in a dict", async () => {
  const same = dict([str("w"), fourFloats()], [str("w"), fourFloats()]);
  await assertRefused(zipCheckpoint(same), "InvalidCheckpoint", 'two of its tensors are named "w"');
  const inner = orderedDict({ w: fourFloats() });
  const twice = dict([str("state_dict"), inner], [str("state_dict"), inner]);
  await assertRefused(zipCheckpoint(twice), "InvalidCheckpoint", 'it has two values named "state_dict"');
});

Deno.test("readCheckpoint() rejects an OrderedDict whose items are not pairs", async () => {
  for (const pair of [int(1), tuple(str("a")), list(str("a"), none, none)]) {
    const value = reduce("collections.OrderedDict", list(pair));
    await assertRefused(zipCheckpoint(value), "InvalidPickle", "values that are not pairs");
  }
});

Deno.test("readCheckpoint() returns the tensors of structures that contain themselves once", async () => {
  const itself = concat(put(0, record({ w: fourFloats() })), str("a"), get(0), utf8("s"));
  const first = await readCheckpoint(memoryReader(zipCheckpoint(itself)));
  assertEquals([...first.tensors.keys()], ["w"]);
  assertEquals(first.skipped, [{ name: "a", kind: "dict of 2 entries that contains it" }]);
  const around = concat(put(0, list()), tuple(record({ x: get(0), w: fourFloats() })), utf8("a"));
  const second = await readCheckpoint(memoryReader(zipCheckpoint(record({ a: around }))));
  assertEquals([...second.tensors.keys()], ["a.0.0.w"]);
  assertEquals(second.skipped, [{ name: "a.0.0.x", kind: "list of 1 value that contains it" }]);
});

Deno.test("readCheckpoint() accepts a container that occurs twice but not within itself", async () => {
  const value = record({ a: put(0, record({ w: fourFloats() })), b: get(0), c: list(get(0), get(0)) });
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["a.w", "b.w", "c.0.w", "c.1.w"]);
});

Deno.test("readCheckpoint() rejects deep nesting", async () => {
  const depth = 50_000;
  const lists = concat(new Uint8Array(depth).fill(0x5d), new Uint8Array(depth - 1).fill(0x61));
  await assertRefused(one(lists), "LimitExceeded", ["nests too deep", "1024 levels", "maxNesting"]);
  const tuples = concat(emptyTuple, new Uint8Array(depth).fill(0x85));
  await assertRefused(one(tuples), "LimitExceeded", "nests too deep");
  const marks = new Uint8Array(depth).fill(0x28);
  await assertRefused(one(marks), "LimitExceeded", ["opcode MARK", "nests too deep"]);
});

Deno.test("readCheckpoint() rejects structures that repeat one value endlessly", async () => {
  const levels = Array.from({ length: 30 }, (_, depth) => {
    return put(depth + 1, tuple(...Array.from({ length: 10 }, () => get(depth))));
  });
  const laughs = zipCheckpoint(list(put(0, tuple(fourFloats())), ...levels));
  await assertRefused(laughs, "LimitExceeded", ["1048576 allowed", "maxValues"]);
  const dicts = Array.from({ length: 30 }, (_, depth) => {
    return put(depth + 1, record({ a: get(depth), b: get(depth) }));
  });
  const bytes = zipCheckpoint(list(put(0, list()), ...dicts));
  await assertRefused(bytes, "LimitExceeded", "5000 allowed (limit maxValues)", { maxValues: 5000 });
});

Deno.test("readCheckpoint() rejects a long key that would be part of many names", async () => {
  const leaves = list(...Array.from({ length: 100 }, () => none));
  const bytes = zipCheckpoint(record({ ["k".repeat(2 ** 20)]: leaves }));
  await assertRefused(bytes, "UnsupportedCheckpoint", "the names in it have more than 67108864 characters");
});

Deno.test("readCheckpoint() rejects limits that are not numbers, or do not exist", async () => {
  const reader = memoryReader(one(fourFloats()));
  const read = (limits: unknown) => readCheckpoint(reader, { limits } as never);
  await assertRejects(() => read({ maxOpcodes: NaN }), RangeError, "maxOpcodes");
  await assertRejects(() => read({ maxNesting: -1 }), RangeError, "maxNesting");
  await assertRejects(() => read({ maxNesting: "8" }), TypeError, "limits.maxNesting must be a number");
  await assertRejects(() => read({ maxOpcode: 1 }), TypeError, "maxOpcodes");
});
