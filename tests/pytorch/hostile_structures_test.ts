/**
 * Dicts and lists around the tensors that have no end, no names, or two of one name.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  concat,
  dict,
  emptyTuple,
  float,
  floats,
  fourFloats,
  get,
  global,
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

Deno.test("readCheckpoint() rejects objects that are no dict of tensors", async () => {
  await assertRefused(zipCheckpoint(fourFloats()), "UnsupportedCheckpoint", "one tensor without a name");
  await assertRefused(zipCheckpoint(int(3)), "UnsupportedCheckpoint", "it holds int 3");
  await assertRefused(zipCheckpoint(floats), "UnsupportedCheckpoint", "it holds storage");
});

Deno.test("readCheckpoint() rejects two tensors of one name", async () => {
  const same = dict([str("w"), fourFloats()], [str("w"), fourFloats()]);
  await assertRefused(zipCheckpoint(same), "InvalidCheckpoint", 'two of its tensors are named "w"');
  const joined = record({ "a.b": fourFloats(), a: record({ b: fourFloats() }) });
  await assertRefused(zipCheckpoint(joined), "InvalidCheckpoint", 'two of its tensors are named "a.b"');
  const inner = orderedDict({ w: fourFloats() });
  const twice = dict([str("state_dict"), inner], [str("state_dict"), inner]);
  await assertRefused(zipCheckpoint(twice), "InvalidCheckpoint", 'it has two values named "state_dict"');
});

Deno.test("readCheckpoint() rejects keys that have no name", async () => {
  for (const key of [emptyTuple, float(1), global("torch.float32"), list()]) {
    const value = record({ a: dict([key, fourFloats()]) });
    await assertRefused(zipCheckpoint(value), "UnsupportedCheckpoint", 'a key of "a" is');
  }
});

Deno.test("readCheckpoint() rejects an OrderedDict made of something other than pairs", async () => {
  for (const pair of [int(1), tuple(str("a")), list(str("a"), none, none)]) {
    const value = reduce("collections.OrderedDict", list(pair));
    await assertRefused(zipCheckpoint(value), "InvalidPickle", "pairs expected");
  }
});

Deno.test("readCheckpoint() rejects structures that contain themselves", async () => {
  const itself = concat(put(0, record({})), str("a"), get(0), utf8("s"));
  await assertRefused(zipCheckpoint(itself), "InvalidCheckpoint", '"a" contains itself');
  const around = concat(put(0, list()), tuple(record({ x: get(0) })), utf8("a"));
  await assertRefused(zipCheckpoint(record({ a: around })), "InvalidCheckpoint", '"a.0.0.x" contains itself');
});

Deno.test("readCheckpoint() allows a container that is met twice but not within itself", async () => {
  const value = record({ a: put(0, record({ w: fourFloats() })), b: get(0), c: list(get(0), get(0)) });
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["a.w", "b.w", "c.0.w", "c.1.w"]);
});

Deno.test("readCheckpoint() rejects deep nests", async () => {
  const depth = 50_000;
  const lists = concat(new Uint8Array(depth).fill(0x5d), new Uint8Array(depth - 1).fill(0x61));
  const name = `"w${".0".repeat(39)}`;
  await assertRefused(one(lists), "UnsupportedCheckpoint", [name, "nests too deep", "maxNesting"]);
  const tuples = concat(emptyTuple, new Uint8Array(depth).fill(0x85));
  await assertRefused(one(tuples), "UnsupportedCheckpoint", "nests too deep");
  const marks = new Uint8Array(depth).fill(0x28);
  await assertRefused(one(marks), "InvalidPickle", ["opcode MARK", "nests too deep"]);
});

Deno.test("readCheckpoint() rejects structures that repeat one value endlessly", async () => {
  const levels = Array.from({ length: 30 }, (_, depth) => {
    return put(depth + 1, tuple(...Array.from({ length: 10 }, () => get(depth))));
  });
  const laughs = zipCheckpoint(list(put(0, tuple(fourFloats())), ...levels));
  await assertRefused(laughs, "UnsupportedCheckpoint", ["1048576 allowed", "maxValues"]);
  const dicts = Array.from({ length: 30 }, (_, depth) => {
    return put(depth + 1, record({ a: get(depth), b: get(depth) }));
  });
  const bytes = zipCheckpoint(list(put(0, list()), ...dicts));
  await assertRefused(bytes, "UnsupportedCheckpoint", "5000 allowed (maxValues)", { maxValues: 5000 });
});

Deno.test("readCheckpoint() rejects a long key that would be part of very many names", async () => {
  const leaves = list(...Array.from({ length: 100 }, () => none));
  const bytes = zipCheckpoint(record({ ["k".repeat(2 ** 20)]: leaves }));
  await assertRefused(bytes, "UnsupportedCheckpoint", "the names in it have more than 67108864 characters");
});

Deno.test("readCheckpoint() rejects limits that are no numbers", async () => {
  const reader = memoryReader(one(fourFloats()));
  await assertRejects(() => readCheckpoint(reader, { maxOpcodes: NaN }), RangeError, "maxOpcodes");
  await assertRejects(() => readCheckpoint(reader, { maxNesting: -1 }), RangeError, "maxNesting");
});
