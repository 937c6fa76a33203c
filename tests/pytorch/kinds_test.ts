/**
 * Checkpoints that are not a plain dict of tensors. PyTorch wrote the files; builders create those that current
 * versions do not write.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { crc32, deflateRawSync } from "node:zlib";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  bool,
  concat,
  dict,
  emptyTuple,
  FLOATS,
  floats,
  fourFloats,
  get,
  global,
  int,
  ints,
  legacyCheckpoint,
  list,
  none,
  orderedDict,
  type Part,
  persistent,
  put,
  record,
  reduce,
  storage,
  str,
  tensor,
  tuple,
  utf8,
  zipCheckpoint,
} from "./builders.ts";
import {
  assertMatches,
  assertRefused,
  contiguousBytes,
  load,
  memoryReader,
  OWN_DATA,
  PYTORCH_DATA,
} from "./support.ts";

const own = (name: string) => new URL(name, OWN_DATA);

const KINDS: Readonly<Record<string, string>> = {
  inert: "beside values of all kinds",
  inert_1: "written by protocol 1",
  inert_3: "written by protocol 3",
  inert_4: "written by protocol 4",
  inert_5: "written by protocol 5",
  inert_legacy: "in the legacy container beside values of all kinds",
  inert_legacy_1: "in the legacy container written by protocol 1",
  keys: "under keys of all kinds, named as by str()",
  two_dtypes: "that shows the bytes of another one in another dtype",
  bare: "that was saved by itself, named after the file",
  bare_parameter: "that was saved by itself as a parameter",
  parameter_containers: "of a ParameterDict and a ParameterList",
  module: "of a whole module, named as by state_dict()",
  module_legacy: "of a whole module in the legacy container",
  module_within: "of a module within a dict",
  refused: "beside those that no safetensors file can hold",
  roots: "of the state_dict among several parts",
  deep: "that is 400 levels deep",
  deflated: "in a zip archive with compressed entries",
};

for (const [name, what] of Object.entries(KINDS)) {
  Deno.test(`readCheckpoint() finds every tensor ${what}`, async () => {
    await assertMatches(own(`${name}.pt`), own(`${name}.expected.json`));
  });
}

const INERT = [
  ["scalar", "numpy scalar"],
  ["array", "numpy.ndarray"],
  ["dtype", "numpy.dtype"],
  ["namespace", "argparse.Namespace"],
  ["date", "datetime.datetime"],
  ["path", "pathlib.PurePosixPath"],
  ["function", "function or class torch.nn.functional.relu"],
  ["class", "function or class __main__.Settings"],
  ["settings", "__main__.Settings", 1],
  ["log", "defaultdict of 1 entry"],
  ["hparams", "__main__.AttributeDict of 1 entry"],
  ["attributes.width", "int 3"],
  ["queue.1", "int 1"],
  ["set", "set"],
  ["frozenset", "frozenset"],
  ["bytes", "bytes"],
  ["bytearray", "bytearray"],
  ["range", "range"],
  ["slice", "slice"],
  ["huge", "int of 376 bytes"],
  ["surrogate", 'str "a\\ud800b"'],
] as const;

for (const name of ["inert", "inert_1", "inert_3", "inert_4", "inert_5", "inert_legacy", "inert_legacy_1"]) {
  Deno.test(`readCheckpoint() lists the values of ${name}.pt that are not tensors by name and type`, async () => {
    const [{ skipped }] = await load(own(`${name}.pt`));
    // Protocols 0 to 2 use the names of Python 2, and protocol 1 writes a large int as digits.
    const kinds = skipped.map(({ kind }) =>
      kind.replace("904 digits", "376 bytes").replace("xrange", "range")
    );
    const found = skipped.map(({ name, tensors }, i) => [name, kinds[i], ...tensors ? [tensors] : []]);
    assertEquals(found, INERT.map((one) => [...one]));
  });
}

Deno.test("readCheckpoint() lists each tensor that safetensors cannot represent with its reason", async () => {
  const [{ refused, skipped }] = await load(own("refused.pt"));
  const kinds = {
    complex128: "complex128 tensor",
    complex32: "complex32 tensor",
    quantised: "quantised tensor",
    sparse: "sparse tensor",
    csr: "sparse tensor",
    nested: "nested tensor",
    meta: "meta tensor",
    storage: "bare storage",
    uninitialised: "parameter without a shape",
  };
  const listed = Object.entries(kinds).map(([name, kind]) => ({ name, kind, isTensor: true as const }));
  assertEquals(skipped, listed);
  for (const name of Object.keys(kinds)) {
    const error = refused.get(name)!;
    assertEquals([error.code, error.tensor], ["UnsupportedCheckpoint", name]);
    assertStringIncludes(error.message, `tensor "${name}"`);
  }
});

Deno.test("readCheckpoint() rejects a file without readable tensors, with the reason of the first", async () => {
  const value = record({ a: tensor(storage("torch.ComplexDoubleStorage", "0", 1), [1], [1]), b: floats });
  await assertRefused(zipCheckpoint(value), "UnsupportedCheckpoint", ['tensor "a"', "complex128"]);
});

Deno.test("readCheckpoint() lists tensors of unknown constructors with their reason", async () => {
  const hooks = orderedDict({});
  const unknown = {
    function: reduce(
      "torch._tensor._rebuild_from_type_v2",
      global("a.rebuild"),
      global("a.T"),
      emptyTuple,
      none,
    ),
    wrapped: reduce("torch._utils._rebuild_parameter", reduce("a.make", fourFloats()), bool(true), hooks),
    storage: tensor(storage("a.Storage", "1", 4), [4], [1]),
    state: concat(fourFloats(), tuple(int(1)), utf8("b")),
    name: fourFloats(),
  };
  const half = concat(utf8("X"), Uint8Array.of(3, 0, 0, 0, 0xed, 0xa0, 0x80));
  const entries = Object.entries(unknown).map((
    [name, part],
  ): [Part, Part] => [name === "name" ? half : str(name), part]);
  const bytes = zipCheckpoint(dict([str("w"), fourFloats()], ...entries));
  const { tensors, refused } = await readCheckpoint(memoryReader(bytes));
  assertEquals([...tensors.keys()], ["w"]);
  assertEquals([...refused.keys()], ["function", "wrapped", "storage", "state", "\ud800"]);
});

Deno.test("readCheckpoint() leaves out calls of PyTorch's names that make no tensor, and lists them", async () => {
  const newObject = (callee: string, ...args: Part[]) => {
    return concat(global(callee), tuple(...args), Uint8Array.of(0x81));
  };
  const names = [
    "torch.FloatStorage",
    "torch.float32",
    "torch.Tensor",
    "torch.storage.UntypedStorage",
    "torch.Size",
    "torch.device",
  ];
  const pair = list(str("a"), fourFloats());
  const cases: [kind: string, value: Part, tensors?: number][] = [
    ...names.flatMap((name): [string, Part, number?][] => [
      [name, reduce(name, int(3))],
      [name, newObject(name, int(3))],
      [name, reduce(name, fourFloats()), 1],
    ]),
    ["OrderedDict", reduce("collections.OrderedDict", list(pair), list()), 1],
    ["OrderedDict", newObject("collections.OrderedDict", list(), list())],
    ["OrderedDict of 0 entries", reduce("collections.OrderedDict", dict())],
  ];
  for (const [kind, value, tensors] of cases) {
    const bytes = zipCheckpoint(record({ w: fourFloats(), x: value }));
    const found = await readCheckpoint(memoryReader(bytes));
    assertEquals([[...found.tensors.keys()], [...found.refused.keys()]], [["w"], []], kind);
    assertEquals(found.skipped, [{ name: "x", kind, ...tensors ? { tensors } : {} }]);
  }
});

Deno.test("readCheckpoint() counts the tensors of the parts that it leaves out", async () => {
  const [{ skipped }] = await load(own("roots.pt"));
  assertEquals(skipped, [
    { name: "state_dict_ema", kind: "dict of 7 entries", tensors: 7 },
    { name: "optimizer", kind: "dict of 2 entries", tensors: 12 },
    { name: "epoch", kind: "int 3" },
  ]);
});

Deno.test("readCheckpoint() reads the part that the option root names", async () => {
  const ema = await assertMatches(own("roots.pt"), own("roots_ema.expected.json"), {
    root: "state_dict_ema",
  });
  assertEquals(ema.skipped.map(({ name }) => name), ["state_dict", "optimizer", "epoch"]);
  const [all] = await load(own("roots.pt"), { root: "" });
  assertEquals(all.tensors.size, 7 + 7 + 12);
  assert(all.tensors.has("state_dict.0.weight") && all.tensors.has("optimizer.state.0.exp_avg"));
  const [state] = await load(own("roots.pt"), { root: "optimizer.state" });
  assertEquals(state.tensors.size, 12);
  assert(state.tensors.has("0.exp_avg"));
  const names = ["optimizer.param_groups", "state_dict", "state_dict_ema", "epoch"];
  assertEquals(state.skipped.map(({ name }) => name).toSorted(), names.toSorted());
});

Deno.test("readCheckpoint() reads a root whose name has dots, and the attributes of an object", async () => {
  const object = concat(reduce("a.Holder"), record({ w: fourFloats() }), utf8("b"));
  const value = record({
    a: record({ b: record({ x: fourFloats() }) }),
    "a.b": record({ y: fourFloats() }),
    object,
  });
  const names = async (root: string) => {
    return [...(await readCheckpoint(memoryReader(zipCheckpoint(value)), { root })).tensors.keys()];
  };
  assertEquals(await names("a.b"), ["y"]);
  assertEquals(await names("object"), ["w"]);
});

Deno.test("readCheckpoint() lists the roots if the given one does not exist", async () => {
  const url = own("roots.pt");
  for (const root of ["ema", "state_dict.0", "epoch", "state_dict.0.weight", "optimizer.state.9"]) {
    const error = await assertRejects(() => load(url, { root }), SafeTensorsError);
    assertEquals(error.code, "TensorNotFound");
    const roots = '"state_dict" (7 tensors), "state_dict_ema" (7 tensors), "optimizer" (12 tensors)';
    assertStringIncludes(error.message, roots);
  }
});

Deno.test("readCheckpoint() lists possible roots if all tensors are in objects of unknown classes", async () => {
  const holder = concat(reduce("a.Holder"), record({ w: fourFloats(), v: fourFloats() }), utf8("b"));
  await assertRefused(
    zipCheckpoint(record({ holder, epoch: int(1) })),
    "UnsupportedCheckpoint",
    '"holder" (2 tensors)',
  );
  await assertRefused(zipCheckpoint(holder), "UnsupportedCheckpoint", [
    "it holds a.Holder with 2 tensors",
    "root",
  ]);
});

Deno.test("readCheckpoint() returns both tensors if different keys make one name", async () => {
  const other = tensor(floats, [2], [1]);
  const value = record({
    "a.b": fourFloats(),
    a: record({ b: other }),
    n: dict([int(0), fourFloats()], [str("0"), other]),
  });
  const { tensors, notes } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  const shapes = [...tensors].map(([name, { shape }]) => [name, ...shape]);
  assertEquals(shapes, [["a.b", 4], ["a.b~2", 2], ["n.0", 4], ["n.0~2", 2]]);
  assertEquals(notes.length, 1);
  assertStringIncludes(notes[0]!, '"a.b": the second one is renamed to "a.b~2"; so are 1 others');
});

Deno.test("readCheckpoint() reads tensors in the forms of older PyTorch versions", async () => {
  const hooks = orderedDict({});
  const size = (...counts: number[]) => reduce("torch.Size", ints(counts));
  const v2 = (...args: Part[]) => reduce("torch._utils._rebuild_tensor_v2", ...args, bool(false), hooks);
  const made = (type: string, ...state: Part[]) => {
    return concat(global(type), emptyTuple, Uint8Array.of(0x81), tuple(...state), utf8("b"));
  };
  const raw = made("torch.FloatTensor", floats, int(0), ints([2, 2]), ints([2, 1]));
  const value = record({
    size: v2(floats, int(0), size(2, 2), ints([2, 1])),
    list: v2(floats, int(0), list(int(2), int(2)), list(int(2), int(1))),
    class: raw,
    cuda: made("torch.cuda.FloatTensor", floats, int(0), ints([2, 2]), ints([2, 1])),
    plain: made("torch.Tensor", floats, int(0), ints([2, 2]), ints([2, 1])),
    variable: made("torch.nn.parameter.Parameter", raw, none, none, bool(true), hooks),
    hooks: concat(
      reduce("torch._utils._rebuild_parameter", raw, bool(true), hooks),
      tuple(bool(true), none, hooks),
      utf8("b"),
    ),
    type: reduce(
      "torch._tensor._rebuild_from_type",
      global("torch._utils._rebuild_tensor_v2"),
      global("my.Subclass"),
      tuple(floats, int(0), ints([2, 2]), ints([2, 1]), bool(false), hooks),
      record({}),
    ),
  });
  const reader = memoryReader(zipCheckpoint(value));
  const { tensors, skipped } = await readCheckpoint(reader);
  assertEquals(skipped, []);
  for (const found of tensors.values()) {
    assertEquals([found.dtype, found.shape], ["F32", [2, 2]]);
    assertEquals(await contiguousBytes(reader, found), FLOATS);
  }
  assertEquals(tensors.size, 8);
});

Deno.test("readCheckpoint() reads storages whose keys are words", async () => {
  const value = record({ w: fourFloats("encoder_weight-1") });
  const reader = memoryReader(zipCheckpoint(value, { storages: { "encoder_weight-1": FLOATS } }));
  assertEquals(await contiguousBytes(reader, (await readCheckpoint(reader)).tensors.get("w")!), FLOATS);
});

Deno.test("readCheckpoint() reads the classes of modules in a legacy file by their names", async () => {
  const type = persistent(tuple(str("module"), global("net.Net"), str("net.py"), str("class Net: ...")));
  const state = record({
    _parameters: record({ w: fourFloats(), b: none }),
    _buffers: record({}),
    _modules: record({}),
  });
  const net = concat(type, emptyTuple, Uint8Array.of(0x81), state, utf8("b"));
  const bytes = legacyCheckpoint(net, [{ key: "0", data: FLOATS, count: 4 }]);
  assertEquals([...(await readCheckpoint(memoryReader(bytes))).tensors.keys()], ["w"]);
});

Deno.test("readCheckpoint() visits a shared state once", async () => {
  // Each object has the previous one twice in its state: 2^60 objects, if each were visited.
  const objects = Array.from({ length: 60 }, (_, i) => {
    const state = record({ a: get(i), b: get(i) });
    return put(i + 1, concat(global("a.B"), emptyTuple, Uint8Array.of(0x81), state, utf8("b")));
  });
  const value = record({ first: put(0, none), all: list(...objects), w: fourFloats() });
  const { skipped } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals(skipped.at(-1), { name: "all", kind: "list of 60 values" });
});

Deno.test("readCheckpoint() counts the tensors in shared values without visiting them again", async () => {
  // Each level doubles: 2^60 tensors, if each were visited.
  const levels = Array.from({ length: 60 }, (_, depth) => put(depth + 1, tuple(get(depth), get(depth))));
  const bomb = tuple(put(0, list(fourFloats())), ...levels);
  const value = record({ state_dict: record({ w: fourFloats() }), bomb });
  const { skipped } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assert(skipped[0]!.tensors! > 2 ** 59);
});

// Containers

Deno.test("readCheckpoint() accepts up to 64 KiB of any bytes after the archive", async () => {
  const bytes = await Deno.readFile(new URL("state_dict.pt", PYTORCH_DATA));
  const { size } = (await readCheckpoint(memoryReader(bytes))).tensors;
  for (const tail of [utf8("\n"), new Uint8Array(2 ** 16 - 1), utf8("PK\x05\x06")]) {
    assertEquals((await readCheckpoint(memoryReader(concat(bytes, tail)))).tensors.size, size);
  }
  await assertRefused(
    concat(bytes, new Uint8Array(2 ** 16 + 100)),
    "InvalidCheckpoint",
    "more than 65535 bytes",
  );
});

Deno.test("readCheckpoint() rejects a file of two archives, in which readers can find different ends", async () => {
  const first = zipCheckpoint(record({ w: fourFloats() }));
  // The directory of the first archive stays at the offset in its end record, before the second archive.
  const [start, end] = [new DataView(first.buffer).getUint32(first.length - 6, true), first.length];
  const second = first.slice(start);
  new DataView(second.buffer).setUint32(second.length - 6, end, true);
  await assertRefused(concat(first, second), "InvalidCheckpoint", "two end records");
  const within = zipCheckpoint(record({ w: fourFloats() }), { archive: { comment: first.slice(-22) } });
  await assertRefused(within, "InvalidCheckpoint", "");
});

/** A checkpoint of a deflated storage, with `change` applied to the archive's fields. */
function deflated(change: { data?: Uint8Array; size?: number; crc?: number } = {}): Uint8Array<ArrayBuffer> {
  const data = new Uint8Array(Float32Array.from({ length: 5000 }, (_, i) => i % 7).buffer);
  const packed = change.data ?? new Uint8Array(deflateRawSync(data));
  const size = change.size ?? data.length;
  const from = storage("torch.FloatStorage", "1", size / 4);
  const value = record({
    turned: tensor(from, [50, 100], [1, 50]),
    tail: tensor(from, [10], [1], 4990),
    w: fourFloats(),
  });
  const crc = change.crc ?? crc32(data);
  const entry = { name: "model/data/1", data: packed, method: 8, size, packedSize: packed.length, crc };
  return zipCheckpoint(value, { more: [entry] });
}

Deno.test("readCheckpoint() unpacks a compressed storage once for all its tensors", async () => {
  const reader = memoryReader(deflated());
  const { tensors } = await readCheckpoint(reader);
  const reads = reader.reads.length;
  assertEquals(
    new Float32Array((await contiguousBytes(reader, tensors.get("tail")!)).buffer).at(-1),
    4999 % 7,
  );
  const turned = new Float32Array((await contiguousBytes(reader, tensors.get("turned")!)).buffer);
  assertEquals([turned[0], turned[1], turned[100]], [0, 50 % 7, 1]);
  assertEquals(await contiguousBytes(reader, tensors.get("w")!), FLOATS);
  // One read for the storage of two tensors, and one for "w".
  assertEquals(reader.reads.length, reads + 2);
});

Deno.test("a compressed storage that is damaged or has another unpacked size is rejected", async () => {
  const whole = new Uint8Array(deflateRawSync(new Uint8Array(20_000)));
  const cases = {
    "CRC-32": deflated({ crc: 5 }),
    "does not unpack to the 20004 bytes": deflated({ size: 20_004 }),
    "does not unpack to the 20000 bytes": deflated({
      data: new Uint8Array(deflateRawSync(new Uint8Array(20_004))),
    }),
    "is damaged: ": deflated({ data: new Uint8Array(1000).fill(0xff) }),
    'storage "1"': deflated({ data: whole.slice(0, -3) }),
  };
  for (const [part, bytes] of Object.entries(cases)) {
    const reader = memoryReader(bytes);
    const { tensors } = await readCheckpoint(reader);
    const error = await assertRejects(
      () => contiguousBytes(reader, tensors.get("turned")!),
      SafeTensorsError,
    );
    assertEquals(error.code, "InvalidCheckpoint");
    assertStringIncludes(error.message, part);
  }
});

Deno.test("readCheckpoint() rejects compressed entries with an impossible or too large size", async () => {
  await assertRefused(deflated({ size: 2 ** 30 }), "InvalidCheckpoint", "which is impossible");
  const packed = new Uint8Array(2 ** 20);
  const bomb = deflated({ data: packed, size: packed.length * 1000 });
  await assertRefused(bomb, "LimitExceeded", ["its compressed storages unpack to", "maxExpandedBytes"], {
    maxExpandedBytes: 2 ** 20,
  });
  const pickle = new Uint8Array(deflateRawSync(new Uint8Array(2 ** 20)));
  const long = zipCheckpoint(none, {
    pickleEntry: { data: pickle, method: 8, size: 2 ** 20, packedSize: pickle.length },
  });
  await assertRefused(long, "LimitExceeded", "(limit maxPickleBytes)", { maxPickleBytes: 2 ** 16 });
});
