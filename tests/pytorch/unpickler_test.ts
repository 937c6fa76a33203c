import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { SafeTensorsError, type SafeTensorsErrorCode } from "../../src/errors.ts";
import type { CheckpointLimits } from "../../src/pytorch/limits.ts";
import { PickleCall, PickleDict, PickleList, PickleTuple } from "../../src/pytorch/pickle_value.ts";
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

function refuse(
  bytes: Uint8Array,
  parts: string | string[],
  code: SafeTensorsErrorCode = "InvalidPickle",
  limits: CheckpointLimits = {},
): void {
  const error = assertThrows(() => unpickle(bytes, "memory.pt", limits), SafeTensorsError);
  assertEquals(error.code, code, error.message);
  for (const part of ["memory.pt", ...[parts].flat()]) assertStringIncludes(error.message, part);
}

function valueOf(...parts: Uint8Array[]): unknown {
  return unpickle(pickle(...parts), "memory.pt").value;
}

Deno.test("unpickle() reads scalars", () => {
  assertEquals(valueOf(none), null);
  assertEquals(valueOf(bool(true)), true);
  assertEquals(valueOf(Uint8Array.of(0x4b, 255)), 255);
  assertEquals(valueOf(Uint8Array.of(0x4d, 0xff, 0xff)), 65535);
  for (const value of [0, -1, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 2 ** 53 - 1, -(2 ** 53) + 1]) {
    assertEquals(valueOf(int(value)), value);
  }
  for (const value of [2n ** 53n, -(2n ** 64n), 2n ** 2039n - 1n]) assertEquals(valueOf(int(value)), value);
  assertEquals(valueOf(Uint8Array.of(0x8a, 0)), 0);
  assertEquals(valueOf(str("é\ufeff𝄞")), "é\ufeff𝄞");
  assertEquals(valueOf(utf8("U\x03abc")), "abc");
});

Deno.test("unpickle() reads containers, memo and calls as plain data", () => {
  const value = valueOf(
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

Deno.test("unpickle() reads what the data opcodes of protocol 4 say", () => {
  const short = (text: string) => concat([0x8c, text.length], utf8(text));
  const value = valueOf(
    concat([0x80, 4, 0x95], little(99, 8), short("torch"), [0x94], short("Size"), [0x93], [0x94], emptyTuple),
    concat(utf8("R"), utf8("h\x01"), [0x86]),
  );
  assertInstanceOf(value, PickleTuple);
  assertEquals((value.items[0] as PickleCall).callee.path, "torch.Size");
  assertEquals(value.items[1], (value.items[0] as PickleCall).callee);
});

Deno.test("unpickle() starts where it is told and says where it ended, with all persistent ids", () => {
  const one = pickle(int(1));
  const bytes = concat(one, pickle(list(persistent(int(2)), persistent(int(3)))), one);
  const { end, persistentIds } = unpickle(bytes, "memory.pt", {}, one.length);
  assertEquals(end, bytes.length - one.length);
  assertEquals(persistentIds.map(({ id }) => id), [2, 3]);
});

Deno.test("unpickle() rejects every opcode that is not listed, with its name and offset", () => {
  const others = {
    ...{
      POP: "0",
      POP_MARK: "1",
      DUP: "2",
      BINBYTES: "B",
      SHORT_BINBYTES: "C",
      FLOAT: "F",
      INT: "I",
      LONG: "L",
    },
    ...{ PERSID: "P", STRING: "S", BINSTRING: "T", UNICODE: "V", DICT: "d", GET: "g", INST: "i", LIST: "l" },
    ...{ OBJ: "o", PUT: "p", EXT1: "\x82", EXT2: "\x83", EXT4: "\x84", LONG4: "\x8b", BINUNICODE8: "\x8d" },
    ...{ BINBYTES8: "\x8e", ADDITEMS: "\x90", FROZENSET: "\x91", NEWOBJ_EX: "\x92", BYTEARRAY8: "\x96" },
    ...{ NEXT_BUFFER: "\x97", READONLY_BUFFER: "\x98" },
  };
  for (const [name, code] of Object.entries(others)) {
    refuse(pickle(none, Uint8Array.of(code.charCodeAt(0))), `opcode ${name} (0x`);
    refuse(pickle(none, Uint8Array.of(code.charCodeAt(0))), "at offset 3 is not one that");
  }
  refuse(pickle(Uint8Array.of(0xff)), "opcode 0xff at offset 2");
  let listed = 0;
  for (let code = 0; code < 256; code++) {
    const error = assertThrows(() => unpickle(Uint8Array.of(code), "memory.pt"), SafeTensorsError);
    if (!error.message.includes("is not one that")) listed++;
  }
  assertEquals(listed, 38);
});

Deno.test("unpickle() rejects globals that are not listed, by name, and runs nothing", () => {
  for (
    const path of ["os.system", "builtins.eval", "__builtin__.eval", "posix.system", "torch.load", "a.b.c"]
  ) {
    refuse(pickle(reduce(path, str("touch /tmp/owned"))), [`global "${path}" at offset 2`, "not looked up"]);
  }
  refuse(pickle(concat(str("os"), str("system"), [0x93])), 'global "os.system"');
  // Names that every JavaScript object answers to are no less unknown.
  for (const path of ["torch.__proto__", "constructor.prototype", "torch.constructor", ".toString"]) {
    refuse(pickle(global(path)), `global "${path}"`);
  }
});

Deno.test("unpickle() rejects globals that stand for what no safetensors file can hold", () => {
  const expected = {
    "torch._utils._rebuild_sparse_tensor": "sparse tensors",
    "torch._utils._rebuild_qtensor": "quantised tensors",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta tensors",
    "torch._utils._rebuild_nested_tensor": "nested tensors",
    "torch.ComplexDoubleStorage": "ComplexDouble",
    "torch.storage.TypedStorage": "bare storages",
    "torch.nn.modules.linear.Linear": "a whole module",
  };
  for (const [path, what] of Object.entries(expected)) {
    refuse(pickle(global(path)), [what, path, "at offset 2"], "UnsupportedCheckpoint");
  }
});

Deno.test("unpickle() rejects calls of what is not for calling", () => {
  for (
    const path of ["torch.FloatStorage", "torch.float32", "torch.Tensor", "torch.storage.UntypedStorage"]
  ) {
    refuse(pickle(reduce(path)), ["opcode REDUCE", path]);
    refuse(pickle(global(path), emptyTuple, Uint8Array.of(0x81)), ["opcode NEWOBJ", path]);
  }
  refuse(pickle(int(1), emptyTuple, utf8("R")), "calls int 1");
  refuse(pickle(global("torch.Size"), list(), utf8("R")), "a tuple expected");
  refuse(pickle(reduce("collections.OrderedDict", record({}))), "makes collections.OrderedDict of dict");
  refuse(pickle(reduce("collections.OrderedDict", list(), list())), "makes collections.OrderedDict");
});

Deno.test("unpickle() rejects a pickle cut short at any byte", () => {
  const bytes = pickle(record({ a: reduce("torch.Size", tuple(int(1), int(2 ** 40))), b: put(300, none) }));
  for (let length = 0; length < bytes.length; length++) {
    refuse(bytes.slice(0, length), `ends at offset ${length}, before its STOP`);
  }
});

Deno.test("unpickle() rejects opcodes that miss their values", () => {
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
  for (const [name, bytes] of Object.entries(cases)) refuse(bytes, `opcode ${name} (0x`);
});

Deno.test("unpickle() rejects values below a mark, left over, or of the wrong type", () => {
  refuse(pickle(none, utf8("("), Uint8Array.of(0x85)), "finds the stack empty");
  refuse(pickle(none, none), "leaves values on the stack");
  refuse(pickle(utf8("("), none), "leaves values on the stack");
  refuse(pickle(record({}), none, utf8("a")), "adds to dict of 0 entries: a list expected");
  refuse(pickle(list(), none, none, utf8("s")), "sets items of list");
  refuse(pickle(dict(), utf8("("), none, utf8("u")), "a key without a value");
  refuse(pickle(int(1), none, utf8("b")), "gives a state to int 1");
  refuse(pickle(get(5)), "asks for memo 5, which was never put");
  refuse(pickle(int(1), int(2), Uint8Array.of(0x93)), "something other than two strings");
});

Deno.test("unpickle() rejects text that is not UTF-8, and protocols it does not know", () => {
  refuse(pickle(utf8("X"), little(1, 4), Uint8Array.of(0xff)), "not UTF-8");
  refuse(pickle(Uint8Array.of(0x55, 3, 0xed, 0xa0, 0x80)), "not UTF-8");
  refuse(concat([0x80, 6], none, utf8(".")), "protocol 6");
});

Deno.test("unpickle() keeps to its limits, and names them", () => {
  const many = pickle(...Array.from({ length: 100 }, () => none));
  refuse(many, ["is one too many", "maxOpcodes"], "InvalidPickle", { maxOpcodes: 50 });
  refuse(pickle(str("x".repeat(11))), "maxStringBytes", "InvalidPickle", { maxStringBytes: 10 });
  refuse(pickle(utf8("X"), little(2 ** 32 - 1, 4)), "before its STOP");
  refuse(pickle(utf8("(".repeat(257))), ["opcode MARK", "maxNesting"]);
  refuse(pickle(put(2 ** 32 - 1, none)), "beyond the largest memo");
  refuse(pickle(global(`torch.${"x".repeat(600)}`)), "names a global of");
});

Deno.test("unpickle() shares what a memo repeats instead of copying it", () => {
  // Each level is ten times the one before: 10^40 leaves if anything were copied.
  const levels = Array.from({ length: 40 }, (_, depth) => {
    return put(depth + 1, tuple(...Array.from({ length: 10 }, () => get(depth))));
  });
  const { value } = unpickle(pickle(list(put(0, tuple(none)), ...levels)), "memory.pt");
  assertInstanceOf(value, PickleList);
  assertEquals(value.items.length, 41);
});

Deno.test("unpickle() does not copy a long list for each dict that is made of it", () => {
  const pairs = Array.from({ length: 1000 }, () => tuple(str("k"), none));
  const made = Array.from({ length: 10_000 }, () => concat(get(1), get(0), utf8("R")));
  const bytes = pickle(
    tuple(put(0, tuple(list(...pairs))), put(1, global("collections.OrderedDict")), ...made),
  );
  const before = performance.now();
  unpickle(bytes, "memory.pt");
  assert(performance.now() - before < 2000);
});
