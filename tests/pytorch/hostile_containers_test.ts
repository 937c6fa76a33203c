/**
 * Damaged and malicious containers: zip archives and legacy files.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { readCheckpoint } from "../../src/pytorch/checkpoint.ts";
import {
  concat,
  emptyTuple,
  FLOATS,
  fourFloats,
  int,
  legacyCheckpoint,
  list,
  little,
  none,
  one,
  pickle,
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

const LEGACY = [{ key: "0", data: FLOATS, count: 4 }];

Deno.test("readCheckpoint() does not import or call the globals of a pickle, and lists them as left out", async () => {
  const call = record({ w: fourFloats(), evil: reduce("os.system", str("touch /tmp/owned")) });
  for (const bytes of [zipCheckpoint(call), legacyCheckpoint(call, LEGACY)]) {
    const { tensors, skipped } = await readCheckpoint(memoryReader(bytes));
    assertEquals([...tensors.keys()], ["w"]);
    assertEquals(skipped, [{ name: "evil", kind: "os.system" }]);
  }
  await assertRefused(
    zipCheckpoint(reduce("posix.system", str("id"))),
    "UnsupportedCheckpoint",
    "posix.system",
  );
  assert(!exists(new URL("file:///tmp/owned")));
});

Deno.test("readCheckpoint() rejects an invalid opcode with its name and offset", async () => {
  await assertRefused(
    zipCheckpoint(Uint8Array.of(0xff)),
    "InvalidPickle",
    "opcode 0xff at offset 2 does not exist",
  );
  await assertRefused(
    zipCheckpoint(Uint8Array.of(0x97)),
    "InvalidPickle",
    "opcode NEXT_BUFFER (0x97) at offset 2",
  );
  await assertRefused(
    legacyCheckpoint(Uint8Array.of(0x97), []),
    "InvalidPickle",
    "NEXT_BUFFER (0x97) at offset",
  );
});

Deno.test("readCheckpoint() rejects encrypted entries, and compression methods other than deflate", async () => {
  const value = record({ w: fourFloats() });
  const compressed = zipCheckpoint(value, { pickleEntry: { method: 12 } });
  await assertRefused(compressed, "UnsupportedCheckpoint", '"model/data.pkl" is compressed with method 12');
  const encrypted = zipCheckpoint(value, { pickleEntry: { flags: 0x809 } });
  await assertRefused(encrypted, "UnsupportedCheckpoint", '"model/data.pkl" is encrypted');
});

Deno.test("readCheckpoint() rejects a data.pkl whose CRC-32 is wrong", async () => {
  const bytes = one(fourFloats(), { pickleEntry: { crc: 0x12345678 } });
  await assertRefused(bytes, "InvalidCheckpoint", ['"model/data.pkl" is damaged', "12345678 expected"]);
  // Zero means "not computed" only if no entry has a checksum.
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
  for (const key of ["../data.pkl", "0/../../x", "/etc/passwd", "", ".", "..", "a\\b", "1\n"]) {
    const value = tensor(storage("torch.FloatStorage", key, 4), [4], [1]);
    await assertRefused(
      one(value),
      "InvalidCheckpoint",
      `storage key ${JSON.stringify(key)} is not a name of a record`,
    );
  }
});

Deno.test("readCheckpoint() rejects a storage without a record", async () => {
  await assertRefused(one(fourFloats("7")), "InvalidCheckpoint", 'storage "7" has no record "data/7"');
});

Deno.test("readCheckpoint() rejects a record whose size differs from its storage", async () => {
  for (const numel of [3, 5, 0, 2 ** 40]) {
    const value = tensor(storage("torch.FloatStorage", "0", numel), [0], [1]);
    await assertRefused(one(value), "InvalidCheckpoint", `a record of 16 bytes, ${numel * 4} expected`);
  }
});

Deno.test("readCheckpoint() rejects a storage with two sizes", async () => {
  for (const type of ["torch.FloatStorage", "torch.ByteStorage"]) {
    const other = tensor(storage(type, "0", 5), [4], [1]);
    const sizes = zipCheckpoint(record({ a: fourFloats(), b: other }));
    await assertRefused(sizes, "InvalidCheckpoint", ["16 bytes of torch.FloatStorage", ` bytes of ${type}`]);
  }
});

Deno.test("readCheckpoint() rejects a missing, unreadable or too new version", async () => {
  await assertRefused(one(fourFloats(), { version: null }), "InvalidCheckpoint", 'no record "version"');
  for (const version of ["11\n", "0\n", "-1", "", "3.0", " 3", "99999999999"]) {
    await assertRefused(one(fourFloats(), { version }), "UnsupportedCheckpoint", "1 to 10 expected");
  }
});

Deno.test("readCheckpoint() rejects an unknown byte order", async () => {
  for (const byteorder of ["middle", "", "little\n"]) {
    await assertRefused(one(fourFloats(), { byteorder }), "UnsupportedCheckpoint", "its byte order is");
  }
});

Deno.test("readCheckpoint() rejects records longer than their limit", async () => {
  const long = { version: "3".repeat(65) };
  await assertRefused(one(fourFloats(), long), "UnsupportedCheckpoint", '"model/version" has 65 bytes');
  const options = { maxPickleBytes: 20 };
  await assertRefused(
    one(fourFloats()),
    "LimitExceeded",
    ['"model/data.pkl" has', "maxPickleBytes"],
    options,
  );
  const legacy = legacyCheckpoint(record({ w: fourFloats() }), LEGACY);
  await assertRefused(legacy, "LimitExceeded", "maxPickleBytes", options);
});

Deno.test("readCheckpoint() rejects TorchScript archives", async () => {
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

Deno.test("readCheckpoint() rejects zip archives that are not checkpoints", async () => {
  await assertRefused(zip([{ name: "a/b.npy", data: FLOATS }]), "WrongFormat", '"a/data.pkl"');
  await assertRefused(zip([{ name: "data.pkl", data: FLOATS }]), "WrongFormat", '"archive/data.pkl"');
  const nothing = concat(utf8("PK\x03\x04"), zip([], { directoryOffset: 4 }));
  await assertRefused(nothing, "WrongFormat", '"archive/data.pkl"');
  // An archive without entries starts with its end record.
  await assertRefused(zip([]), "WrongFormat", "not a PyTorch checkpoint");
});

Deno.test("readCheckpoint() rejects tar archives", async () => {
  const bytes = new Uint8Array(1024);
  bytes.set(utf8("storages"));
  bytes.set(utf8("ustar\x0000"), 257);
  await assertRefused(bytes, "UnsupportedCheckpoint", ["tar archive", "PyTorch 0.1"]);
  bytes.set(utf8("model.ckpt\0"));
  await assertRefused(bytes, "UnsupportedCheckpoint", ["tar archive", '"model.ckpt": unpack it']);
});

Deno.test("readCheckpoint() rejects other files, and shows their first bytes", async () => {
  const header = utf8('{"w":{}}');
  await assertRefused(concat(little(header.length, 8), header), "WrongFormat", "it is a safetensors file");
  await assertRefused(new Uint8Array(), "WrongFormat", "it is empty");
  await assertRefused(new Uint8Array(64), "WrongFormat", "zeros only");
  await assertRefused(utf8("GGUF v3"), "WrongFormat", "GGUF");
  await assertRefused(utf8("version https://git-lfs.github.com/spec/v1\n"), "WrongFormat", "git lfs pull");
  await assertRefused(utf8("\n<!DOCTYPE html>"), "WrongFormat", "web page");
  await assertRefused(Uint8Array.of(1, 2, 3, 255), "WrongFormat", "it begins with");
  await assertRefused(pickle(int(5)), "WrongFormat", "magic number");
});

Deno.test("readCheckpoint() rejects a checkpoint truncated at any byte", async () => {
  for (const bytes of [one(fourFloats()), legacyCheckpoint(record({ w: fourFloats() }), LEGACY)]) {
    assertEquals((await readCheckpoint(memoryReader(bytes))).tensors.size, 1);
    for (let length = 0; length < bytes.length; length++) {
      const reader = memoryReader(bytes.slice(0, length));
      const { code } = await assertRejects(() => readCheckpoint(reader), SafeTensorsError);
      assert(["WrongFormat", "InvalidPickle", "InvalidCheckpoint"].includes(code), code);
    }
  }
});

Deno.test("readCheckpoint() rejects bytes after the pickle, and many after the last legacy storage", async () => {
  const data = concat(pickle(record({ w: fourFloats() })), [0]);
  await assertRefused(one(none, { pickleEntry: { data } }), "InvalidPickle", "1 bytes follow the STOP");
  const legacy = legacyCheckpoint(record({ w: fourFloats() }), LEGACY);
  assertEquals((await readCheckpoint(memoryReader(concat(legacy, new Uint8Array(2 ** 16))))).tensors.size, 1);
  const long = concat(legacy, new Uint8Array(2 ** 16 + 1));
  await assertRefused(long, "InvalidCheckpoint", "65537 bytes follow its last storage");
});

Deno.test("readCheckpoint() rejects legacy files whose parts contradict each other", async () => {
  const value = record({ w: fourFloats() });
  const cases: [Uint8Array, string][] = [
    [legacyCheckpoint(value, LEGACY, { keys: list() }), 'storage "0" is missing from its storage keys'],
    [legacyCheckpoint(value, LEGACY, { keys: list(str("0"), str("0")) }), "occurs twice in its storage keys"],
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

Deno.test("readCheckpoint() rejects legacy views that exceed their storage", async () => {
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
