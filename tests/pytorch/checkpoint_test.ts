import { assert, assertEquals } from "@std/assert";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  bool,
  concat,
  dict,
  FLOATS,
  fourFloats,
  get,
  global,
  int,
  ints,
  legacyCheckpoint,
  list,
  none,
  orderedDict,
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
  contiguousBytes,
  exists,
  load,
  memoryReader,
  OWN_DATA,
  PYTORCH_DATA,
  REAL_DATA,
} from "./support.ts";

const WRITTEN = {
  zip: ["dtypes", "nested", "parameters", "state_dict", "tied", "views"],
  legacy: ["legacy"],
};

for (const [kind, names] of Object.entries(WRITTEN)) {
  for (const name of names) {
    Deno.test(`readCheckpoint() finds every tensor of ${name}.pt`, async () => {
      const expected = new URL(`${name}.expected.json`, PYTORCH_DATA);
      const checkpoint = await assertMatches(new URL(`${name}.pt`, PYTORCH_DATA), expected);
      assertEquals(checkpoint.container, kind);
    });
  }
}

const OWN = ["lazy", "leaves", "no_checksums", "protocol_4", "protocol_4_legacy", "small_floats", "strides"];
for (const name of [...OWN, "training"]) {
  Deno.test(`readCheckpoint() finds every tensor of checkpoints/${name}.pt`, async () => {
    await assertMatches(new URL(`${name}.pt`, OWN_DATA), new URL(`${name}.expected.json`, OWN_DATA));
  });
}

for (const name of ["lpips_alex.pth", "lpips_vgg.pth"]) {
  const url = new URL(name, REAL_DATA);
  Deno.test({
    name: `readCheckpoint() finds every tensor of the published ${name}`,
    ignore: !exists(url),
    fn: async () => {
      const checkpoint = await assertMatches(url, new URL(`${name}.expected.json`, REAL_DATA));
      assertEquals(checkpoint.container, "legacy");
    },
  });
}

Deno.test("readCheckpoint() reads the state dict beside epoch and optimizer, and lists these", async () => {
  const [{ skipped, tensors }] = await load(new URL("nested.pt", PYTORCH_DATA));
  assertEquals(tensors.size, 9);
  assertEquals(skipped, [{ name: "epoch", kind: "int 3" }, { name: "optimizer", kind: "dict of 1 entry" }]);
});

Deno.test("readCheckpoint() lists leaves that are not tensors, and their types", async () => {
  const [{ skipped }] = await load(new URL("leaves.pt", OWN_DATA));
  assertEquals(skipped.map(({ name, kind }) => [name, kind]), [
    ["size", "torch.Size"],
    ["device", "torch.device"],
    ["dtype", "dtype torch.complex128"],
    ["bytes", "bytes"],
    ["bytearray", "bytearray"],
    ["set", "set"],
    ["complex", "complex"],
    ["large", "int 1180591620717411303424"],
    ["negative", "int -1099511627776"],
    ["float", "float 1.5"],
    ["none", "None"],
    ["flag", "bool True"],
    ["text", 'str "é𝄞"'],
    ["list", "list of 3 values"],
    ["counter", "Counter of 2 entries"],
    ["pair.1", 'str "left out"'],
  ]);
});

Deno.test("readCheckpoint() maps tied tensors to their alias target", async () => {
  const [{ aliases, tensors }] = await load(new URL("tied.pt", PYTORCH_DATA));
  assertEquals([...aliases], [["lm_head.weight", "embed.weight"]]);
  assertEquals(tensors.get("lm_head.weight")!.fileOffset, tensors.get("embed.weight")!.fileOffset);
});

Deno.test("readCheckpoint() keeps the first name by UTF-8 of several tied ones", async () => {
  const shared = put(0, fourFloats());
  const value = record({ "\u{1d11e}": shared, "\uffff": get(0), b: get(0) });
  const { aliases } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...aliases], [["\uffff", "b"], ["\u{1d11e}", "b"]]);
});

Deno.test("readCheckpoint() does not treat overlapping, reshaped or empty tensors as tied", async () => {
  const floats = storage("torch.FloatStorage", "0", 4);
  const value = record({
    whole: tensor(floats, [4], [1]),
    half: tensor(floats, [2], [1]),
    other: tensor(floats, [2], [1], 2),
    square: tensor(floats, [2, 2], [2, 1]),
    turned: tensor(floats, [2, 2], [1, 2]),
    empty: tensor(floats, [0], [1]),
    nothing: tensor(floats, [0], [1]),
  });
  const { aliases } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals(aliases.size, 0);
});

Deno.test("readCheckpoint() ignores strides of dimensions of size 1 in tied tensors", async () => {
  const floats = storage("torch.FloatStorage", "0", 4);
  const value = record({ a: tensor(floats, [1, 4], [4, 1]), b: tensor(floats, [1, 4], [1, 1]) });
  const { aliases, tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...aliases], [["b", "a"]]);
  assert(tensors.get("b")!.contiguous);
});

Deno.test("readCheckpoint() joins the keys and indices of nested containers with dots", async () => {
  const one = fourFloats();
  const value = record({
    layers: list(record({ w: one }), tuple(one, int(1))),
    "": record({ x: one }),
    ints: dict([int(5), one], [int(-1), one], [none, one], [bool(true), one]),
  });
  const { tensors, skipped } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  const names = ["layers.0.w", "layers.1.0", ".x", "ints.5", "ints.-1", "ints.None", "ints.True"];
  assertEquals([...tensors.keys()], names);
  assertEquals(skipped, [{ name: "layers.1.1", kind: "int 1" }]);
});

Deno.test("readCheckpoint() reads a list of tensors", async () => {
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(list(fourFloats(), fourFloats()))));
  assertEquals([...tensors.keys()], ["0", "1"]);
});

Deno.test("readCheckpoint() does not use a state_dict that is not a dict as root", async () => {
  const value = record({ state_dict: str("x"), w: fourFloats() });
  const { tensors, skipped } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["w"]);
  assertEquals(skipped, [{ name: "state_dict", kind: 'str "x"' }]);
});

Deno.test("readCheckpoint() keeps a tensor whose name also exists beside the state dict", async () => {
  const value = record({ state_dict: orderedDict({ epoch: fourFloats() }), epoch: int(3) });
  const { tensors, skipped } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["epoch"]);
  assertEquals(skipped, [{ name: "epoch", kind: "int 3" }]);
});

Deno.test("readCheckpoint() reads an OrderedDict of pairs from Python 2", async () => {
  const pairs = list(list(str("a"), fourFloats()), tuple(str("b"), fourFloats()));
  const value = reduce("collections.OrderedDict", pairs);
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["a", "b"]);
});

Deno.test("readCheckpoint() unwraps every wrapper of a parameter", async () => {
  const rebuild = "torch._utils._rebuild_parameter";
  const floats = storage("torch.FloatStorage", "0", 4);
  const hooks = orderedDict({});
  const plain = tuple(floats, int(0), ints([4]), ints([1]), bool(false), hooks);
  const value = record({
    plain: reduce(rebuild, fourFloats(), bool(true), hooks),
    state: reduce(`${rebuild}_with_state`, fourFloats(), bool(true), hooks, record({})),
    type: reduce(
      "torch._tensor._rebuild_from_type_v2",
      global("torch._utils._rebuild_tensor_v2"),
      global("torch.Tensor"),
      plain,
      record({ note: int(1) }),
    ),
    old: concat(global("torch.nn.parameter.Parameter"), tuple(fourFloats(), bool(true)), [0x81]),
    oldest: reduce("torch._utils._rebuild_tensor", floats, int(0), ints([4]), ints([1])),
  });
  const { tensors, aliases } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  assertEquals([...tensors.keys()], ["plain", "state", "type", "old", "oldest"]);
  assertEquals(aliases.size, 4);
});

Deno.test("readCheckpoint() swaps the components of a big-endian file", async () => {
  const types = {
    FloatStorage: 4,
    ShortStorage: 2,
    DoubleStorage: 8,
    CharStorage: 1,
    ComplexFloatStorage: 4,
  };
  const components = {
    FloatStorage: 3,
    ShortStorage: 3,
    DoubleStorage: 3,
    CharStorage: 3,
    ComplexFloatStorage: 6,
  };
  const storages: Record<string, Uint8Array> = {};
  const tensors = Object.entries(types).map(([type, size], key) => {
    // Component c is the bytes size·c+1 …, most significant first: in little-endian order they come reversed.
    const length = size * components[type as keyof typeof types];
    storages[key] = Uint8Array.from({ length }, (_, i) => i + 1);
    return [type, tensor(storage(`torch.${type}`, String(key), 3), [3], [1])] as const;
  });
  const bytes = zipCheckpoint(record(Object.fromEntries(tensors)), { storages, byteorder: "big" });
  const reader = memoryReader(bytes);
  const checkpoint = await readCheckpoint(reader);
  for (const [type, size] of Object.entries(types)) {
    const found = checkpoint.tensors.get(type)!;
    const count = components[type as keyof typeof types];
    const expected = Array.from({ length: count }, (_, c) => {
      return Array.from({ length: size }, (_, i) => c * size + size - i);
    });
    assertEquals(found.byteSwap, size === 1 ? 0 : size as 2 | 4 | 8);
    assertEquals([...await contiguousBytes(reader, found)], expected.flat(), type);
  }
});

Deno.test("readCheckpoint() swaps by the dtype of the tensor if the storage is untyped", async () => {
  const untyped = storage("torch.storage.UntypedStorage", "0", 16);
  const v3 = (dtype: string, count: number) => {
    const args = [untyped, int(0), ints([count]), ints([1]), bool(false), orderedDict({}), global(dtype)];
    return reduce("torch._utils._rebuild_tensor_v3", ...args);
  };
  const value = record({ short: v3("torch.uint16", 8), long: v3("torch.uint64", 2) });
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value, { byteorder: "big" })));
  assertEquals([...tensors.values()].map(({ byteSwap }) => byteSwap), [2, 8]);
});

Deno.test("readCheckpoint() treats a file without byteorder as little-endian", async () => {
  const bytes = zipCheckpoint(record({ w: fourFloats() }), { byteorder: null });
  const { tensors } = await readCheckpoint(memoryReader(bytes));
  assertEquals(tensors.get("w")!.byteSwap, 0);
});

Deno.test("readCheckpoint() accepts .data/version as version", async () => {
  const more = [{ name: "model/.data/version", data: utf8("10\n") }];
  const bytes = zipCheckpoint(record({ w: fourFloats() }), { version: null, more });
  assertEquals((await readCheckpoint(memoryReader(bytes))).tensors.size, 1);
});

Deno.test("readCheckpoint() does not swap a legacy storage's bytes", async () => {
  const storages = [{ key: "7", data: FLOATS, count: 4 }];
  const bytes = legacyCheckpoint(record({ w: fourFloats("7") }), storages, { littleEndian: false });
  const reader = memoryReader(bytes);
  const { tensors } = await readCheckpoint(reader);
  assertEquals(await contiguousBytes(reader, tensors.get("w")!), FLOATS);
});

Deno.test("readCheckpoint() reads legacy storages that are views of another storage", async () => {
  const part = tuple(str("view"), int(1), int(2));
  const whole = storage("torch.FloatStorage", "7", 4, none);
  const view = storage("torch.FloatStorage", "7", 4, part);
  const value = record({ whole: tensor(whole, [4], [1]), view: tensor(view, [1], [1], 1) });
  const reader = memoryReader(legacyCheckpoint(value, [{ key: "7", data: FLOATS, count: 4 }]));
  const { tensors } = await readCheckpoint(reader);
  const { fileOffset, storageStart } = tensors.get("view")!;
  assertEquals(fileOffset - storageStart, 8);
  assertEquals(
    new Float32Array((await contiguousBytes(reader, tensors.get("view")!)).buffer),
    Float32Array.of(2),
  );
});

Deno.test("readCheckpoint() reads a legacy pickle that is longer than its first read", async () => {
  const entries = Array.from({ length: 2000 }, (_, i) => [`layer.${i}.weight`, fourFloats("7")]);
  const bytes = legacyCheckpoint(record(Object.fromEntries(entries)), [{ key: "7", data: FLOATS, count: 4 }]);
  assert(bytes.length > 2 ** 18);
  const reader = memoryReader(bytes);
  const { tensors, aliases } = await readCheckpoint(reader);
  assertEquals(tensors.size, 2000);
  assertEquals(aliases.size, 1999);
  assert(reader.reads.length < 8, `${reader.reads.length} reads`);
});

Deno.test("readCheckpoint() does not read tensor data, and reads a thousand headers with few reads", async () => {
  const storages: Record<string, Uint8Array> = {};
  const entries: Record<string, Uint8Array> = {};
  for (let i = 0; i < 1000; i++) {
    storages[i] = FLOATS;
    entries[`w${i}`] = fourFloats(String(i));
  }
  const reader = memoryReader(zipCheckpoint(record(entries), { storages }));
  assertEquals((await readCheckpoint(reader)).tensors.size, 1000);
  assert(reader.reads.length <= 8, `${reader.reads.length} reads`);
});

Deno.test("readCheckpoint() accepts the shapes and offsets that empty tensors can have in PyTorch", async () => {
  const value = record({
    w: tensor(storage("torch.FloatStorage", "0", 4), [0, 2 ** 40], [2 ** 40, 1], 2 ** 50),
  });
  const { tensors } = await readCheckpoint(memoryReader(zipCheckpoint(value)));
  const { shape, fileOffset, storageStart } = tensors.get("w")!;
  assertEquals(shape, [0, 2 ** 40]);
  assertEquals(fileOffset, storageStart);
});

Deno.test("readCheckpoint() accepts one empty storage with two types, as PyTorch writes it", async () => {
  const value = record({
    a: tensor(storage("torch.FloatStorage", "0", 0), [0], [1]),
    b: tensor(storage("torch.IntStorage", "0", 0), [0], [1]),
  });
  const bytes = zipCheckpoint(value, { storages: { 0: new Uint8Array() } });
  const { tensors } = await readCheckpoint(memoryReader(bytes));
  assertEquals([...tensors.values()].map(({ dtype }) => dtype), ["F32", "I32"]);
});

Deno.test("readCheckpoint() accepts an expansion up to 64 times its storage, or up to maxExpandedBytes", async () => {
  const floats = storage("torch.FloatStorage", "0", 4);
  const value = record({ w: tensor(floats, [256, 4], [0, 1]) });
  const reader = memoryReader(zipCheckpoint(value));
  // 256 rows of 16 bytes are 4096 bytes, 256 times the storage.
  const { tensors } = await readCheckpoint(reader, { limits: { maxExpandedBytes: 4096 } });
  const bytes = await contiguousBytes(reader, tensors.get("w")!, 64);
  assertEquals(bytes, concat(...Array.from({ length: 256 }, () => FLOATS)));
  const allowed = record({ w: tensor(floats, [64, 4], [0, 1]) });
  assertEquals(
    (await readCheckpoint(memoryReader(zipCheckpoint(allowed)), { limits: { maxExpandedBytes: 0 } })).tensors
      .size,
    1,
  );
});
