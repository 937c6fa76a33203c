/**
 * Storages and tensors with invalid sizes, dtypes or references.
 */
import {
  bool,
  concat,
  dict,
  emptyTuple,
  float,
  floats,
  fourFloats,
  global,
  int,
  ints,
  none,
  one,
  orderedDict,
  type Part,
  persistent,
  record,
  reduce,
  storage,
  str,
  tensor,
  tuple,
  utf8,
  zipCheckpoint,
} from "./builders.ts";
import { assertRefused } from "./support.ts";

Deno.test("readCheckpoint() rejects persistent ids that are not of storages", async () => {
  const ids = [
    int(5),
    emptyTuple,
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

Deno.test("readCheckpoint() rejects meta storages, storages of an unknown type and bare storages", async () => {
  const meta = persistent(tuple(str("storage"), global("torch.FloatStorage"), str("0"), str("meta"), int(4)));
  await assertRefused(one(tensor(meta, [4], [1])), "UnsupportedCheckpoint", 'storage "0" is a meta storage');
  await assertRefused(one(tensor(storage("a.Storage", "0", 4), [4], [1])), "UnsupportedCheckpoint", [
    'storage "0"',
    'unknown type "a.Storage"',
  ]);
  await assertRefused(
    one(floats),
    "UnsupportedCheckpoint",
    'tensor "w" of checkpoint "memory.pt": it is a bare storage',
  );
});

// Tensors

Deno.test("readCheckpoint() rejects sizes, strides and offsets that are negative or not ints", async () => {
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
  const asDict = v2(floats, int(0), record({}), ints([1]), bool(false), hooks);
  await assertRefused(asDict, "InvalidPickle", "its size is dict of 0 entries: a tuple expected");
});

Deno.test("readCheckpoint() rejects tensors that exceed their storage", async () => {
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

Deno.test("readCheckpoint() rejects ranks that differ, or exceed PyTorch's limit", async () => {
  await assertRefused(one(tensor(floats, [4], [])), "InvalidCheckpoint", "1 dimensions but 0 strides");
  const ones = Array.from({ length: 65 }, () => 1);
  await assertRefused(one(tensor(floats, ones, ones)), "InvalidCheckpoint", "65 dimensions: 64 are allowed");
});

Deno.test("readCheckpoint() rejects a tensor of 2^40 elements that are one element", async () => {
  const giants: [number[], number[]][] = [
    [[2 ** 40], [0]],
    [[2 ** 20, 2 ** 20], [0, 0]],
    [[2 ** 40, 4], [0, 1]],
    [[2 ** 52, 2 ** 52, 2 ** 52], [0, 0, 0]],
  ];
  for (const [size, stride] of giants) {
    const parts = ['tensor "w"', "out of a storage of 16", "maxExpandedBytes"];
    await assertRefused(one(tensor(floats, size, stride)), "LimitExceeded", parts);
    const infinite = { maxExpandedBytes: Infinity };
    const { length } = size.filter((count) => count > 2 ** 48);
    if (length > 0) {
      await assertRefused(one(tensor(floats, size, stride)), "LimitExceeded", parts, infinite);
    }
  }
});

Deno.test("readCheckpoint() rejects many expansions that are too large together", async () => {
  const entries = Array.from({ length: 3 }, (_, i) => [`w${i}`, tensor(floats, [2 ** 27 - i], [0])]);
  const bytes = zipCheckpoint(record(Object.fromEntries(entries)));
  await assertRefused(bytes, "LimitExceeded", [
    "its tensors take 1610612724 bytes",
    "maxExpandedBytes",
  ]);
});

Deno.test("readCheckpoint() rejects dtypes that safetensors does not have", async () => {
  await assertRefused(
    one(tensor(storage("torch.ComplexDoubleStorage", "0", 1), [1], [1])),
    "UnsupportedCheckpoint",
    [
      "complex128",
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

Deno.test("readCheckpoint() rejects F4 tensors that split pairs", async () => {
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

Deno.test("readCheckpoint() rejects metadata other than conj and neg, and neg for unsigned dtypes", async () => {
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
  await assertRefused(negative, "UnsupportedCheckpoint", "which I64 does not support");
});

Deno.test("readCheckpoint() rejects calls with wrong arguments", async () => {
  const calls = [
    reduce("torch._utils._rebuild_tensor_v2"),
    reduce("torch._utils._rebuild_tensor_v2", floats, int(0), ints([4]), ints([1])),
    reduce("torch._utils._rebuild_tensor", floats, int(0), ints([4]), ints([1]), none),
    reduce("torch._utils._rebuild_tensor_v3", floats, int(0), ints([4]), ints([1]), none, none),
    reduce("torch._utils._rebuild_parameter"),
    reduce("torch._utils._rebuild_parameter", floats, bool(true), none),
    reduce("torch._utils._rebuild_parameter", int(1), bool(true), none),
    reduce("torch._tensor._rebuild_from_type_v2", global("torch.float32"), none, emptyTuple, none),
    reduce("torch._tensor._rebuild_from_type_v2", global("collections.OrderedDict"), none, emptyTuple, none),
    reduce("torch._tensor._rebuild_from_type_v2", global("torch._utils._rebuild_tensor"), none, none, none),
  ];
  for (const call of calls) {
    await assertRefused(one(call), "InvalidPickle", "arguments that it does not take");
  }
  const wrong = reduce("torch._utils._rebuild_tensor", int(1), int(0), ints([4]), ints([1]));
  await assertRefused(one(wrong), "InvalidPickle", "it is made of int 1: a storage expected");
});

Deno.test("readCheckpoint() rejects tensors that are wrapped too often, or have a state", async () => {
  let value = fourFloats();
  for (let i = 0; i < 20; i++) value = reduce("torch._utils._rebuild_parameter", value, bool(true), none);
  await assertRefused(one(value), "InvalidPickle", "wrapped too often");
  const built = concat(fourFloats(), tuple(int(1)), utf8("b"));
  await assertRefused(one(built), "UnsupportedCheckpoint", "a state of its own");
});
