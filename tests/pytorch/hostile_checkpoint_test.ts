import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafeTensorsError } from "../../src/errors.ts";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  bool,
  concat,
  dict,
  emptyTuple,
  float,
  FLOATS,
  fourFloats,
  get,
  global,
  int,
  ints,
  legacyCheckpoint,
  list,
  little,
  none,
  orderedDict,
  type Part,
  persistent,
  pickle,
  put,
  record,
  reduce,
  storage,
  str,
  tensor,
  tuple,
  utf8,
  zip,
  zipCheckpoint,
} from "./builders.ts";
import { assertRefused, exists, memoryReader, REAL_DATA } from "./support.ts";

const floats = storage("torch.FloatStorage", "0", 4);

/** A checkpoint of one tensor "w". */
function one(value: Part, parts: Parameters<typeof zipCheckpoint>[1] = {}): Uint8Array {
  return zipCheckpoint(record({ w: value }), parts);
}

const LEGACY = [{ key: "0", data: FLOATS, count: 4 }];

// Containers

Deno.test("readCheckpoint() rejects a global that is not listed, and names it", async () => {
  const bytes = one(reduce("os.system", str("touch /tmp/owned")));
  await assertRefused(bytes, "InvalidPickle", ['global "os.system"', "nothing is run"]);
  const legacy = legacyCheckpoint(reduce("posix.system", str("id")), []);
  await assertRefused(legacy, "InvalidPickle", 'global "posix.system"');
});

Deno.test("readCheckpoint() rejects an opcode that is not listed, and names it and its offset", async () => {
  await assertRefused(zipCheckpoint(utf8("I1\n")), "InvalidPickle", "opcode INT (0x49) at offset 2");
  await assertRefused(legacyCheckpoint(utf8("I1\n"), []), "InvalidPickle", "opcode INT (0x49) at offset");
});

Deno.test("readCheckpoint() rejects compressed and encrypted entries", async () => {
  const value = record({ w: fourFloats() });
  const compressed = zipCheckpoint(value, { pickleEntry: { method: 8 } });
  await assertRefused(compressed, "UnsupportedCheckpoint", '"model/data.pkl" is compressed');
  const encrypted = zipCheckpoint(value, { pickleEntry: { flags: 0x809 } });
  await assertRefused(encrypted, "UnsupportedCheckpoint", '"model/data.pkl" is encrypted');
});

Deno.test("readCheckpoint() rejects a data.pkl whose CRC-32 is wrong", async () => {
  const bytes = one(fourFloats(), { pickleEntry: { crc: 0x12345678 } });
  await assertRefused(bytes, "InvalidCheckpoint", ['"model/data.pkl" is damaged', "12345678 expected"]);
  // Zero means "not computed" only where no entry has a checksum.
  const zero = one(fourFloats(), { pickleEntry: { crc: 0 } });
  await assertRefused(zero, "InvalidCheckpoint", ['"model/data.pkl" is damaged', "00000000 expected"]);
});

Deno.test("readCheckpoint() rejects a flipped bit anywhere in data.pkl", async () => {
  const bytes = one(fourFloats());
  const at = 64;
  const length = pickle(record({ w: fourFloats() })).length;
  for (let i = 0; i < length; i++) {
    const flipped = bytes.slice();
    flipped[at + i]! ^= 1 << (i % 8);
    await assertRefused(flipped, "InvalidCheckpoint", '"model/data.pkl" is damaged');
  }
});

Deno.test("readCheckpoint() rejects storage keys that are paths", async () => {
  for (const key of ["../data.pkl", "0/../../x", "/etc/passwd", "", "0x1", "-1", "1\n", "٣"]) {
    const value = tensor(storage("torch.FloatStorage", key, 4), [4], [1]);
    await assertRefused(
      one(value),
      "InvalidCheckpoint",
      `storage key ${JSON.stringify(key)} is not a number`,
    );
  }
});

Deno.test("readCheckpoint() rejects a storage without a record", async () => {
  await assertRefused(one(fourFloats("7")), "InvalidCheckpoint", 'storage "7" has no record "data/7"');
});

Deno.test("readCheckpoint() rejects a record whose size is not that of its storage", async () => {
  for (const numel of [3, 5, 0, 2 ** 40]) {
    const value = tensor(storage("torch.FloatStorage", "0", numel), [0], [1]);
    await assertRefused(one(value), "InvalidCheckpoint", `a record of 16 bytes, ${numel * 4} expected`);
  }
});

Deno.test("readCheckpoint() rejects one storage under two types, or two sizes", async () => {
  const other = tensor(storage("torch.IntStorage", "0", 4), [4], [1]);
  const types = zipCheckpoint(record({ a: fourFloats(), b: other }));
  await assertRefused(types, "InvalidCheckpoint", ['storage "0"', "torch.FloatStorage", "torch.IntStorage"]);
  const longer = tensor(storage("torch.FloatStorage", "0", 5), [4], [1]);
  const sizes = zipCheckpoint(record({ a: fourFloats(), b: longer }));
  await assertRefused(sizes, "InvalidCheckpoint", ["16 bytes of", "20 bytes of"]);
});

Deno.test("readCheckpoint() rejects a missing, unreadable or too new version", async () => {
  await assertRefused(one(fourFloats(), { version: null }), "InvalidCheckpoint", 'no record "version"');
  for (const version of ["11\n", "0\n", "-1", "", "3.0", " 3", "99999999999"]) {
    await assertRefused(one(fourFloats(), { version }), "UnsupportedCheckpoint", "1 to 10 expected");
  }
});

Deno.test("readCheckpoint() rejects a byte order that it does not know", async () => {
  for (const byteorder of ["middle", "", "little\n"]) {
    await assertRefused(one(fourFloats(), { byteorder }), "UnsupportedCheckpoint", "its byte order is");
  }
});

Deno.test("readCheckpoint() rejects records that are longer than they may be", async () => {
  const long = { version: "3".repeat(65) };
  await assertRefused(one(fourFloats(), long), "UnsupportedCheckpoint", '"model/version" has 65 bytes');
  const options = { maxPickleBytes: 20 };
  await assertRefused(one(fourFloats()), "UnsupportedCheckpoint", '"model/data.pkl" has', options);
  const legacy = legacyCheckpoint(record({ w: fourFloats() }), LEGACY);
  await assertRefused(legacy, "UnsupportedCheckpoint", "maxPickleBytes", options);
});

Deno.test("readCheckpoint() rejects TorchScript archives, whatever else they are", async () => {
  const more = [{ name: "model/constants.pkl", data: pickle(emptyTuple), method: 8 }];
  const bytes = one(fourFloats(), { more });
  await assertRefused(bytes, "UnsupportedCheckpoint", [
    "TorchScript",
    '"model/constants.pkl"',
    "state_dict()",
  ]);
});

Deno.test({
  name: "readCheckpoint() rejects the published TorchScript archive silero_vad.jit",
  ignore: !exists(new URL("silero_vad.jit", REAL_DATA)),
  fn: async () => {
    const bytes = await Deno.readFile(new URL("silero_vad.jit", REAL_DATA));
    await assertRefused(bytes, "UnsupportedCheckpoint", ["TorchScript", "constants.pkl"]);
  },
});

Deno.test("readCheckpoint() rejects zip archives that are no checkpoints", async () => {
  await assertRefused(zip([{ name: "a/b.npy", data: FLOATS }]), "WrongFormat", '"a/data.pkl"');
  await assertRefused(zip([{ name: "data.pkl", data: FLOATS }]), "WrongFormat", '"archive/data.pkl"');
  const nothing = concat(utf8("PK\x03\x04"), zip([], { directoryOffset: 4 }));
  await assertRefused(nothing, "WrongFormat", '"archive/data.pkl"');
  // An archive without entries starts with its end record.
  await assertRefused(zip([]), "WrongFormat", "no PyTorch checkpoint");
});

Deno.test("readCheckpoint() rejects tar archives", async () => {
  const bytes = new Uint8Array(1024);
  bytes.set(utf8("storages"));
  bytes.set(utf8("ustar\x0000"), 257);
  await assertRefused(bytes, "UnsupportedCheckpoint", "tar archive");
});

Deno.test("readCheckpoint() rejects other files, with how they start", async () => {
  const header = utf8('{"w":{}}');
  await assertRefused(concat(little(header.length, 8), header), "WrongFormat", "no PyTorch checkpoint");
  await assertRefused(new Uint8Array(), "WrongFormat", "being empty");
  await assertRefused(utf8("GGUF v3"), "WrongFormat", '"GGUF v3"');
  await assertRefused(pickle(int(5)), "WrongFormat", "magic number");
});

Deno.test("readCheckpoint() rejects a checkpoint cut short at any byte", async () => {
  for (const bytes of [one(fourFloats()), legacyCheckpoint(record({ w: fourFloats() }), LEGACY)]) {
    assertEquals((await readCheckpoint(memoryReader(bytes))).tensors.size, 1);
    for (let length = 0; length < bytes.length; length++) {
      const reader = memoryReader(bytes.slice(0, length));
      const { code } = await assertRejects(() => readCheckpoint(reader), SafeTensorsError);
      assert(["WrongFormat", "InvalidPickle", "InvalidCheckpoint"].includes(code), code);
    }
  }
});

Deno.test("readCheckpoint() rejects bytes after the pickle, and after the last legacy storage", async () => {
  const data = concat(pickle(record({ w: fourFloats() })), [0]);
  await assertRefused(one(none, { pickleEntry: { data } }), "InvalidPickle", "1 bytes follow the STOP");
  const legacy = concat(legacyCheckpoint(record({ w: fourFloats() }), LEGACY), [0]);
  await assertRefused(legacy, "InvalidCheckpoint", "1 bytes follow its last storage");
});

Deno.test("readCheckpoint() rejects legacy files whose parts do not fit each other", async () => {
  const value = record({ w: fourFloats() });
  const cases: [Uint8Array, string][] = [
    [legacyCheckpoint(value, LEGACY, { keys: list() }), 'storage "0" is missing from its storage keys'],
    [legacyCheckpoint(value, LEGACY, { keys: list(str("0"), str("0")) }), "twice in its storage keys"],
    [
      legacyCheckpoint(value, LEGACY, { keys: list(str("1")) }),
      'no tensor refers to its storage key str "1"',
    ],
    [legacyCheckpoint(value, LEGACY, { keys: list(int(0)) }), "no tensor refers to its storage key int 0"],
    [legacyCheckpoint(value, LEGACY, { keys: none }), "a list expected"],
    [legacyCheckpoint(value, LEGACY, { system: none }), "a dict expected"],
    [legacyCheckpoint(value, [{ ...LEGACY[0]!, count: 5 }]), "has 5 elements in the file, 4 expected"],
    [legacyCheckpoint(value, [{ ...LEGACY[0]!, count: -1 }]), "has -1 elements in the file"],
    [legacyCheckpoint(value, [{ ...LEGACY[0]!, data: FLOATS.slice(1) }]), "it is cut short"],
  ];
  for (const [bytes, message] of cases) await assertRefused(bytes, "InvalidCheckpoint", message);
  const newer = legacyCheckpoint(value, LEGACY, { protocol: 1002 });
  await assertRefused(newer, "UnsupportedCheckpoint", "its protocol is int 1002");
  await assertRefused(legacyCheckpoint(value, LEGACY, { magic: 5n }), "WrongFormat", "magic number");
});

Deno.test("readCheckpoint() rejects legacy views that leave their storage", async () => {
  for (const [first, count] of [[3, 2], [5, 0], [0, 5], [2 ** 52, 2 ** 52]]) {
    const part = tuple(str("v"), int(first!), int(count!));
    const value = tensor(storage("torch.FloatStorage", "0", 4, part), [0], [1]);
    const bytes = legacyCheckpoint(record({ w: value }), LEGACY);
    await assertRefused(bytes, "InvalidCheckpoint", 'a view of storage "0"');
  }
  for (const part of [int(1), tuple(str("v"), int(-1), int(1)), tuple(str("v"))]) {
    const value = tensor(storage("torch.FloatStorage", "0", 4, part), [0], [1]);
    await assertRefused(legacyCheckpoint(record({ w: value }), LEGACY), "InvalidPickle", "is shared by");
  }
});

// Storages

Deno.test("readCheckpoint() rejects persistent ids that are not of storages", async () => {
  const ids = [
    int(5),
    emptyTuple,
    tuple(str("storage"), global("torch.float32"), str("0"), str("cpu"), int(4)),
    tuple(str("storage"), global("torch.FloatStorage"), int(0), str("cpu"), int(4)),
    tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("cpu"), int(-4)),
    tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("cpu"), float(4)),
    tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("cpu"), int(2n ** 70n)),
    tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("cpu")),
    tuple(str("other"), global("torch.FloatStorage"), str("0"), str("cpu"), int(4)),
  ];
  for (const id of ids) await assertRefused(one(persistent(id)), "InvalidPickle", "persistent id");
  const large = storage("torch.DoubleStorage", "0", 2 ** 52);
  await assertRefused(one(tensor(large, [0], [1])), "InvalidCheckpoint", "claims 4503599627370496 elements");
});

Deno.test("readCheckpoint() rejects modules, meta storages and bare storages", async () => {
  const module = persistent(
    tuple(str("module"), global("torch.Tensor"), str("net.py"), str("class Net: ...")),
  );
  await assertRefused(one(module), "UnsupportedCheckpoint", ["a whole module", "state_dict()"]);
  const meta = persistent(tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("meta"), int(4)));
  await assertRefused(one(tensor(meta, [4], [1])), "UnsupportedCheckpoint", 'storage "0" is a meta storage');
  await assertRefused(one(floats), "UnsupportedCheckpoint", '"w" is a bare storage');
});

// Tensors

Deno.test("readCheckpoint() rejects sizes, strides and offsets that are negative or no ints", async () => {
  const bad: [readonly (number | bigint)[], readonly (number | bigint)[], number | bigint][] = [
    [[-1], [1], 0],
    [[4], [-1], 0],
    [[4], [1], -1],
    [[2n ** 64n], [1], 0],
    [[2], [2n ** 64n], 0],
    [[1], [1], 2n ** 64n],
  ];
  for (const [size, stride, offset] of bad) {
    await assertRefused(one(tensor(floats, size, stride, offset)), "InvalidCheckpoint", [
      'tensor "w"',
      "int ",
    ]);
  }
  const hooks = orderedDict({});
  const v2 = (...args: Part[]) => one(reduce("torch._utils._rebuild_tensor_v2", ...args));
  const asFloat = v2(floats, int(0), tuple(float(4)), ints([1]), bool(false), hooks);
  await assertRefused(asFloat, "InvalidCheckpoint", "its size holds float 4");
  const asBool = v2(floats, bool(true), ints([1]), ints([1]), bool(false), hooks);
  await assertRefused(asBool, "InvalidCheckpoint", "its storage offset is bool True");
  const asList = v2(floats, int(0), list(int(4)), ints([1]), bool(false), hooks);
  await assertRefused(asList, "InvalidPickle", "its size is list of 1 value: a tuple expected");
});

Deno.test("readCheckpoint() rejects tensors that reach out of their storage", async () => {
  const bad: [readonly number[], readonly number[], number][] = [
    [[5], [1], 0],
    [[4], [1], 1],
    [[2], [4], 0],
    [[2, 2], [3, 1], 0],
    [[], [], 4],
    [[2 ** 52, 2], [2 ** 52, 1], 0],
    [[2 ** 40, 2 ** 40], [1, 1], 0],
    [[1], [1], 2 ** 53 - 1],
  ];
  for (const [size, stride, offset] of bad) {
    const parts = ['tensor "w"', 'storage "0" has 4'];
    await assertRefused(one(tensor(floats, size, stride, offset)), "InvalidCheckpoint", parts);
  }
});

Deno.test("readCheckpoint() rejects ranks that differ, or are beyond PyTorch's own", async () => {
  await assertRefused(one(tensor(floats, [4], [])), "InvalidCheckpoint", "1 dimensions but 0 strides");
  const ones = Array.from({ length: 65 }, () => 1);
  await assertRefused(one(tensor(floats, ones, ones)), "InvalidCheckpoint", "65 dimensions: 64 are allowed");
});

Deno.test("readCheckpoint() rejects a tensor of 2^40 elements made of one", async () => {
  const giants: [number[], number[]][] = [
    [[2 ** 40], [0]],
    [[2 ** 20, 2 ** 20], [0, 0]],
    [[2 ** 40, 4], [0, 1]],
    [[2 ** 52, 2 ** 52, 2 ** 52], [0, 0, 0]],
  ];
  for (const [size, stride] of giants) {
    const parts = ['tensor "w"', "out of a storage of 16", "maxExpandedBytes"];
    await assertRefused(one(tensor(floats, size, stride)), "UnsupportedCheckpoint", parts);
    const infinite = { maxExpandedBytes: Infinity };
    const { length } = size.filter((count) => count > 2 ** 48);
    if (length > 0) {
      await assertRefused(one(tensor(floats, size, stride)), "UnsupportedCheckpoint", parts, infinite);
    }
  }
});

Deno.test("readCheckpoint() rejects many expansions that are too large together", async () => {
  const entries = Array.from({ length: 3 }, (_, i) => [`w${i}`, tensor(floats, [2 ** 27 - i], [0])]);
  const bytes = zipCheckpoint(record(Object.fromEntries(entries)));
  await assertRefused(bytes, "UnsupportedCheckpoint", [
    "its tensors take 1610612724 bytes",
    "maxExpandedBytes",
  ]);
});

Deno.test("readCheckpoint() rejects dtypes that no safetensors file can hold", async () => {
  await assertRefused(
    one(tensor(storage("torch.ComplexDoubleStorage", "0", 1), [1], [1])),
    "UnsupportedCheckpoint",
    [
      "ComplexDouble",
    ],
  );
  const untyped = storage("torch.storage.UntypedStorage", "0", 16);
  const v3 = (dtype: Part, from = untyped) => {
    const args = [from, int(0), ints([1]), ints([1]), bool(false), orderedDict({}), dtype];
    return one(reduce("torch._utils._rebuild_tensor_v3", ...args));
  };
  for (const dtype of ["torch.complex128", "torch.complex32", "torch.uint4", "torch.bits8", "torch.qint8"]) {
    await assertRefused(v3(global(dtype)), "UnsupportedCheckpoint", ['tensor "w"', dtype]);
  }
  await assertRefused(v3(str("float32")), "InvalidPickle", 'its dtype is str "float32"');
  await assertRefused(v3(global("torch.FloatStorage")), "InvalidPickle", "its dtype is storage");
  await assertRefused(
    v3(global("torch.float32"), floats),
    "InvalidPickle",
    "its storage is torch.FloatStorage",
  );
  await assertRefused(one(tensor(untyped, [1], [1])), "InvalidPickle", "nothing says its dtype");
});

Deno.test("readCheckpoint() rejects F4 tensors whose pairs do not stay together", async () => {
  const bytes = storage("torch.storage.UntypedStorage", "0", 16);
  for (const [size, stride] of [[[], []], [[4, 4], [1, 4]], [[8], [2]]]) {
    const args = [
      bytes,
      int(0),
      ints(size!),
      ints(stride!),
      bool(false),
      none,
      global("torch.float4_e2m1fn_x2"),
    ];
    const value = reduce("torch._utils._rebuild_tensor_v3", ...args);
    await assertRefused(one(value), "UnsupportedCheckpoint", "an F4 tensor must be contiguous");
  }
});

Deno.test("readCheckpoint() rejects metadata other than conj and neg, and negatives of what has no sign", async () => {
  const meta = (value: Part, type = "torch.FloatStorage") => {
    return one(tensor(storage(type, "0", type === "torch.FloatStorage" ? 4 : 2), [1], [1], 0, value));
  };
  await assertRefused(
    meta(record({ zero: bool(true) })),
    "UnsupportedCheckpoint",
    'its metadata has str "zero"',
  );
  await assertRefused(meta(record({ conj: int(1) })), "UnsupportedCheckpoint", "as int 1");
  await assertRefused(meta(dict([none, none])), "UnsupportedCheckpoint", "its metadata has None");
  await assertRefused(meta(int(1)), "InvalidPickle", "its metadata is int 1");
  const many = dict(...Array.from({ length: 9 }, (): [Part, Part] => [str("neg"), bool(true)]));
  await assertRefused(meta(many), "UnsupportedCheckpoint", "more than conj and neg");
  const negative = meta(record({ neg: bool(true) }), "torch.LongStorage");
  await assertRefused(negative, "UnsupportedCheckpoint", "which I64 cannot");
});

Deno.test("readCheckpoint() rejects calls with arguments that their functions do not take", async () => {
  const calls = [
    reduce("torch._utils._rebuild_tensor_v2"),
    reduce("torch._utils._rebuild_tensor_v2", floats, int(0), ints([4]), ints([1])),
    reduce("torch._utils._rebuild_tensor", floats, int(0), ints([4]), ints([1]), none),
    reduce("torch._utils._rebuild_tensor_v3", floats, int(0), ints([4]), ints([1]), none, none),
    reduce("torch._utils._rebuild_parameter"),
    reduce("torch._utils._rebuild_parameter", floats, bool(true), none),
    reduce("torch._utils._rebuild_parameter", reduce("torch.Size", emptyTuple)),
    reduce("torch._tensor._rebuild_from_type_v2", global("torch.Size"), none, emptyTuple, none),
    reduce("torch._tensor._rebuild_from_type_v2", global("torch._utils._rebuild_tensor"), none, none, none),
  ];
  for (const call of calls) {
    await assertRefused(one(call), "InvalidPickle", "arguments that it does not take");
  }
  const wrong = reduce("torch._utils._rebuild_tensor", int(1), int(0), ints([4]), ints([1]));
  await assertRefused(one(wrong), "InvalidPickle", "it is made of int 1: a storage expected");
});

Deno.test("readCheckpoint() rejects tensors wrapped too often, or with a state of their own", async () => {
  let value = fourFloats();
  for (let i = 0; i < 20; i++) value = reduce("torch._utils._rebuild_parameter", value, bool(true), none);
  await assertRefused(one(value), "InvalidPickle", "wrapped too often");
  const built = concat(fourFloats(), tuple(int(1)), utf8("b"));
  await assertRefused(one(built), "UnsupportedCheckpoint", "a state of its own");
});

// Structures

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
  const name = `"w${".0".repeat(59)}`;
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
