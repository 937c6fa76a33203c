import { assert, assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../../src/base/errors.ts";
import type { CheckpointLimits } from "../../src/pytorch/errors.ts";
import {
  describe,
  type PickleBytes,
  PickleCall,
  PickleDict,
  type PickleFloat,
  type PickleGlobal,
  PickleList,
  type PickleOther,
  type PickleSet,
  PickleTuple,
} from "../../src/pytorch/pickle_value.ts";
import { unpickle } from "../../src/pytorch/unpickler.ts";
import {
  bool,
  concat,
  dict,
  emptyTuple,
  get,
  global,
  int,
  list,
  little,
  none,
  persistent,
  pickle,
  put,
  record,
  reduce,
  str,
  tuple,
  utf8,
} from "./builders.ts";

async function refuse(
  bytes: Uint8Array,
  parts: string | string[],
  code: SafeTensorsErrorCode = "InvalidPickle",
  limits: CheckpointLimits = {},
): Promise<void> {
  const error = await assertRejects(() => unpickle(bytes, "memory.pt", limits), SafeTensorsError);
  assertEquals(error.code, code, error.message);
  for (const part of ["memory.pt", ...[parts].flat()]) assertStringIncludes(error.message, part);
}

async function valueOf(...parts: Uint8Array[]): Promise<unknown> {
  return (await unpickle(pickle(...parts), "memory.pt")).value;
}

Deno.test("unpickle() reads scalars", async () => {
  assertEquals(await valueOf(none), null);
  assertEquals(await valueOf(bool(true)), true);
  assertEquals(await valueOf(Uint8Array.of(0x4b, 255)), 255);
  assertEquals(await valueOf(Uint8Array.of(0x4d, 0xff, 0xff)), 65535);
  for (const value of [0, -1, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53 - 1, -(2 ** 53) + 1]) {
    assertEquals(await valueOf(int(value)), value);
  }
  for (const value of [2n ** 53n, -(2n ** 64n), 2n ** 2039n - 1n]) {
    assertEquals(await valueOf(int(value)), value);
  }
  assertEquals(await valueOf(Uint8Array.of(0x8a, 0)), 0);
  assertEquals(await valueOf(str("é\ufeff𝄞")), "é\ufeff𝄞");
  assertEquals(await valueOf(utf8("U\x03abc")), "abc");
});

Deno.test("unpickle() reads containers, memo and calls as plain data", async () => {
  const value = await valueOf(
    record({ a: put(0, list(int(1), tuple())), b: get(0), c: reduce("torch.Size", tuple()) }),
  );
  assertInstanceOf(value, PickleDict);
  const [, a, , b, , c] = value.entries;
  assertInstanceOf(a, PickleList);
  assertEquals(a, b);
  assertEquals(a.items[0], 1);
  assertInstanceOf(a.items[1], PickleTuple);
  assertInstanceOf(c, PickleCall);
  assertEquals(c.callee.path, "torch.Size");
});

Deno.test("unpickle() reads the data opcodes of protocol 4", async () => {
  const short = (text: string) => concat([0x8c, text.length], utf8(text));
  const value = await valueOf(
    concat([0x80, 4, 0x95], little(99, 8), short("torch"), [0x94], short("Size"), [0x93], [0x94], emptyTuple),
    concat(utf8("R"), utf8("h\x01"), [0x86]),
  );
  assertInstanceOf(value, PickleTuple);
  assertEquals((value.items[0] as PickleCall).callee.path, "torch.Size");
  assertEquals(value.items[1], (value.items[0] as PickleCall).callee);
});

Deno.test("unpickle() starts at the given offset and returns its end and all persistent ids", async () => {
  const one = pickle(int(1));
  const bytes = concat(one, pickle(list(persistent(int(2)), persistent(int(3)))), one);
  const { end, persistentIds } = await unpickle(bytes, "memory.pt", {}, one.length);
  assertEquals(end, bytes.length - one.length);
  assertEquals(persistentIds.map(({ id }) => id), [2, 3]);
});

Deno.test("unpickle() rejects the opcodes that refer outside the pickle, and bytes that are not opcodes", async () => {
  const others = { PERSID: utf8("Pid\n"), NEXT_BUFFER: [0x97], READONLY_BUFFER: [0x98] };
  for (const [name, bytes] of Object.entries(others)) {
    await refuse(pickle(none, Uint8Array.from(bytes)), [`opcode ${name} (0x`, "at offset 3", "outside"]);
  }
  await refuse(pickle(Uint8Array.of(0xff)), "opcode 0xff at offset 2 does not exist");
  let listed = 0;
  for (let code = 0; code < 256; code++) {
    const { message } = await assertRejects(
      () => unpickle(Uint8Array.of(code), "memory.pt"),
      SafeTensorsError,
    );
    if (!/does not exist|outside/.test(message)) listed++;
  }
  assertEquals(listed, 65);
});

Deno.test("unpickle() reads the numbers and strings of protocols 0 and 1", async () => {
  assertEquals(await valueOf(utf8("I42\n")), 42);
  assertEquals(await valueOf(utf8("I-7\n")), -7);
  assertEquals(await valueOf(utf8("I01\n")), true);
  assertEquals(await valueOf(utf8("I00\n")), false);
  assertEquals(await valueOf(utf8("L123456789012345678901234567890L\n")), 123456789012345678901234567890n);
  assertEquals((await valueOf(utf8("F-1.5e3\n")) as PickleFloat).value, -1500);
  assertEquals((await valueOf(utf8("F-inf\n")) as PickleFloat).value, -Infinity);
  assertEquals((await valueOf(utf8("Fnan\n")) as PickleFloat).value, NaN);
  assertEquals(await valueOf(utf8(String.raw`S'it\'s \x41\102\n\q'` + "\n")), "it's AB\n\\q");
  assertEquals(await valueOf(utf8('S"caf\\xc3\\xa9"\n')), "café");
  assertEquals(await valueOf(utf8(String.raw`V\u00e9\U0001d11e` + "\n")), "é𝄞");
  assertEquals(await valueOf(utf8("T"), little(300, 4), utf8("x".repeat(300))), "x".repeat(300));
  for (const line of ["Ix\n", "L\n", "F1.2.3\n", "Sno quotes\n", "S'\n", "g-1\n", "gx\n"]) {
    await refuse(pickle(utf8(line)), "opcode ");
  }
});

Deno.test("unpickle() reads the containers of protocols 0 and 1, and opcodes that discard values", async () => {
  const value = await valueOf(utf8("(lp0\nI1\nag0\n0(g0\nI2\n12"), Uint8Array.of(0x86));
  assertInstanceOf(value, PickleTuple);
  assertEquals((value.items[0] as PickleList).items, [1]);
  assert(value.items[0] === value.items[1]);
  assertEquals((await valueOf(utf8("(I1\nI2\nl")) as PickleList).items, [1, 2]);
  assertEquals((await valueOf(utf8("(I1\nI2\nd")) as PickleDict).entries, [1, 2]);
  const instance = await valueOf(utf8("(I1\niargparse\nNamespace\n"));
  assertInstanceOf(instance, PickleCall);
  assertEquals([instance.callee.path, instance.args], ["argparse.Namespace", [1]]);
  const object = await valueOf(utf8("(cargparse\nNamespace\nI1\no"));
  assertEquals(describe(object as PickleCall), "argparse.Namespace");
});

Deno.test("unpickle() reads bytes, sets, long ints and long strings of protocols 3 to 5", async () => {
  const bytes = (value: unknown) => [...(value as PickleBytes).bytes];
  assertEquals(bytes(await valueOf(utf8("C\x02ab"))), [97, 98]);
  assertEquals(bytes(await valueOf(utf8("B"), little(1, 4), utf8("a"))), [97]);
  assertEquals(bytes(await valueOf(Uint8Array.of(0x8e), little(1, 8), utf8("a"))), [97]);
  const array = await valueOf(Uint8Array.of(0x96), little(1, 8), utf8("a")) as PickleBytes;
  assertEquals([array.type, ...bytes(array)], ["bytearray", 97]);
  assertEquals(await valueOf(Uint8Array.of(0x8d), little(2, 8), utf8("é")), "é");
  const set = await valueOf(Uint8Array.of(0x8f), utf8("("), int(1), int(2), Uint8Array.of(0x90)) as PickleSet;
  assertEquals([set.type, set.items], ["set", [1, 2]]);
  const frozen = await valueOf(utf8("("), int(1), Uint8Array.of(0x91)) as PickleSet;
  assertEquals([frozen.type, frozen.items], ["frozenset", [1]]);
  assertEquals(await valueOf(Uint8Array.of(0x8b), little(9, 4), little(1n << 65n, 9)), 1n << 65n);
  const long = concat([0x8b], little(376, 4), new Uint8Array(376).fill(1));
  assertEquals(describe(await valueOf(long) as PickleOther), "int of 376 bytes");
  await refuse(pickle(Uint8Array.of(0x8e), new Uint8Array(8).fill(255)), "before its STOP");
});

Deno.test("unpickle() keeps objects of unknown classes as inert values", async () => {
  const made = async (...parts: Uint8Array[]) => await valueOf(...parts) as PickleCall;
  const path = async (...parts: Uint8Array[]) => (await made(...parts)).callee.path;
  assertEquals(await path(reduce("os.system", str("touch /tmp/owned"))), "os.system");
  assertEquals(await path(concat(str("os"), str("system"), [0x93]), emptyTuple, utf8("R")), "os.system");
  assertEquals(await path(global("a.B"), emptyTuple, Uint8Array.of(0x81)), "a.B");
  assertEquals(await path(global("a.B"), emptyTuple, record({}), Uint8Array.of(0x92)), "a.B");
  // The result of a call can be called too.
  assertEquals(await path(reduce("a.b"), emptyTuple, utf8("R")), "value of a computed type");
  assertEquals(await path(Uint8Array.of(0x82, 7), emptyTuple, utf8("R")), "value of a computed type");
  // Objects in protocols 0 and 1.
  assertEquals(
    await path(reduce("copy_reg._reconstructor", global("a.B"), global("__builtin__.object"), none)),
    "a.B",
  );
  const dict = await made(reduce("a.D"), str("k"), int(1), utf8("s("), str("l"), int(2), utf8("u"));
  assertEquals(dict.entries, ["k", 1, "l", 2]);
  const filled = await made(
    reduce("a.L"),
    int(1),
    utf8("a("),
    int(2),
    utf8("e("),
    int(3),
    Uint8Array.of(0x90),
  );
  assertEquals(filled.items, [1, 2, 3]);
  assertInstanceOf((await made(reduce("a.N"), record({ x: int(1) }), utf8("b"))).state, PickleDict);
  // Names of properties of every JavaScript object have no special meaning.
  for (const name of ["torch.__proto__", "constructor.prototype", "torch.constructor", ".toString"]) {
    assertEquals((await valueOf(global(name)) as PickleGlobal).role, "inert");
    assertEquals((await made(reduce(name), str("__proto__"), int(1), utf8("s"))).entries, ["__proto__", 1]);
  }
  assertEquals(({} as Record<string, unknown>)[1], undefined);
});

Deno.test("unpickle() rejects calls of values that are not callable", async () => {
  await refuse(pickle(int(1), emptyTuple, utf8("R")), "calls int 1");
  await refuse(pickle(list(), emptyTuple, utf8("R")), "calls list");
  await refuse(pickle(global("torch.Size"), list(), utf8("R")), "a tuple expected");
  await refuse(pickle(utf8("(o")), "calls None");
});

Deno.test("unpickle() rejects a pickle cut short at any byte", async () => {
  const bytes = pickle(record({ a: reduce("torch.Size", tuple(int(1), int(2 ** 40))), b: put(300, none) }));
  for (let length = 0; length < bytes.length; length++) {
    await refuse(bytes.slice(0, length), `ends at offset ${length}, before its STOP`);
  }
});

Deno.test("unpickle() rejects opcodes without their values", async () => {
  const cases: Record<string, Uint8Array> = {
    STOP: pickle(),
    TUPLE1: pickle(Uint8Array.of(0x85)),
    TUPLE2: pickle(none, Uint8Array.of(0x86)),
    TUPLE3: pickle(none, none, Uint8Array.of(0x87)),
    TUPLE: pickle(utf8("t")),
    APPEND: pickle(utf8("a")),
    APPENDS: pickle(list(), utf8("e")),
    SETITEM: pickle(dict(), none, utf8("(s")),
    SETITEMS: pickle(dict(), none, utf8("u")),
    BINPERSID: pickle(utf8("Q")),
    REDUCE: pickle(emptyTuple, utf8("R")),
    BUILD: pickle(none, utf8("b")),
    BINPUT: pickle(utf8("q\x00")),
    MEMOIZE: pickle(Uint8Array.of(0x94)),
    STACK_GLOBAL: pickle(str("os"), Uint8Array.of(0x93)),
  };
  for (const [name, bytes] of Object.entries(cases)) await refuse(bytes, `opcode ${name} (0x`);
});

Deno.test("unpickle() rejects values below a mark, left over, or of the wrong type", async () => {
  await refuse(pickle(none, utf8("("), Uint8Array.of(0x85)), "finds the stack empty");
  await refuse(pickle(none, none), "leaves values on the stack");
  await refuse(pickle(utf8("("), none), "leaves values on the stack");
  await refuse(pickle(record({}), none, utf8("a")), "adds to dict of 0 entries: a list expected");
  await refuse(pickle(list(), none, none, utf8("s")), "sets items of list");
  await refuse(pickle(dict(), utf8("("), none, utf8("u")), "a key without a value");
  await refuse(pickle(int(1), none, utf8("b")), "gives a state to int 1");
  await refuse(pickle(get(5)), "asks for memo 5, which was never put");
  await refuse(pickle(int(1), int(2), Uint8Array.of(0x93)), "something other than two strings");
});

Deno.test("unpickle() rejects text that is not UTF-8, and unknown protocols", async () => {
  await refuse(pickle(utf8("X"), little(1, 4), Uint8Array.of(0xff)), "not UTF-8");
  // A str of Python 2 is bytes, and Python 3 writes half of a surrogate pair like a character.
  assertEquals([...(await valueOf(Uint8Array.of(0x55, 2, 0x63, 0xe9)) as PickleBytes).bytes], [0x63, 0xe9]);
  assertEquals(
    await valueOf(utf8("X"), little(5, 4), Uint8Array.of(0x61, 0xed, 0xa0, 0x80, 0x62)),
    "a\ud800b",
  );
  await refuse(pickle(utf8("X"), little(4, 4), Uint8Array.of(0xed, 0xa0, 0x80, 0xff)), "not UTF-8");
  await refuse(concat([0x80, 6], none, utf8(".")), "protocol 6");
});

Deno.test("unpickle() enforces its limits, and names them", async () => {
  const exceed = (bytes: Uint8Array, parts: string | string[], limits: CheckpointLimits = {}) =>
    refuse(bytes, parts, "LimitExceeded", limits);
  const many = pickle(...Array.from({ length: 100 }, () => none));
  await exceed(many, ["is one too many", "(limit maxOpcodes)"], { maxOpcodes: 50 });
  for (
    const text of [
      str("x".repeat(11)),
      utf8("C\x0bxxxxxxxxxxx"),
      utf8("S'xxxxxxxxxxx'\n"),
      utf8("I00000000042\n"),
    ]
  ) {
    await exceed(pickle(text), "(limit maxStringBytes)", { maxStringBytes: 10 });
  }
  await refuse(pickle(utf8("X"), little(2 ** 32 - 1, 4)), "before its STOP");
  await exceed(pickle(utf8("(".repeat(1025))), ["opcode MARK", "(limit maxNesting)"]);
  await exceed(pickle(put(2 ** 32 - 1, none)), "beyond the largest memo");
  await refuse(pickle(global(`torch.${"x".repeat(600)}`)), "names a global of");
  await refuse(pickle(str("m".repeat(600)), str("n"), Uint8Array.of(0x93)), "names a global of");
});

Deno.test("unpickle() does not convert the digits of a long int, which takes quadratic time", async () => {
  const digits = 2 ** 22;
  for (
    const number of [
      utf8(`I${"9".repeat(digits)}\n`),
      concat([0x8b], little(digits, 4), new Uint8Array(digits).fill(7)),
    ]
  ) {
    assertStringIncludes(describe(await valueOf(number) as PickleOther), `int of ${digits} `);
  }
});

Deno.test("unpickle() shares repeated memo values without copies", async () => {
  // Each level is ten times the previous one: 10^40 leaves with copies.
  const levels = Array.from({ length: 40 }, (_, depth) => {
    return put(depth + 1, tuple(...Array.from({ length: 10 }, () => get(depth))));
  });
  const { value } = await unpickle(pickle(list(put(0, tuple(none)), ...levels)), "memory.pt");
  assertInstanceOf(value, PickleList);
  assertEquals(value.items.length, 41);
});

Deno.test("unpickle() does not copy a long list for each dict that uses it", async () => {
  const pairs = Array.from({ length: 1000 }, () => tuple(str("k"), none));
  const made = Array.from({ length: 10_000 }, () => concat(get(1), get(0), utf8("R")));
  const value = await valueOf(
    tuple(put(0, tuple(list(...pairs))), put(1, global("collections.OrderedDict")), ...made),
  );
  assertInstanceOf(value, PickleTuple);
  const [args, , ...dicts] = value.items;
  const [shared] = (args as PickleTuple).items;
  assertEquals(dicts.length, 10_000);
  for (const dict of dicts as PickleDict[]) assert(dict.initial === shared && dict.entries.length === 0);
});
