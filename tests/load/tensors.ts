/**
 * Whole tensors: every dtype, unusual shapes and positions, any order.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type DType, DTYPES, SafeTensorsError } from "../../mod.ts";
import { assertBytes, assertTensor, noise, type TensorSpec, writeFile } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

interface Expected {
  dtype: DType;
  shape: number[];
  sha256: string;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** Loads a file and compares it with the checksums beside it. */
async function assertChecksums(path: string, expectedPath: string): Promise<void> {
  const expected: Record<string, Expected> = JSON.parse(await Deno.readTextFile(expectedPath));
  for (const lazy of [false, true]) {
    await using model = await fastsafeOpen(path, { lazy });
    assertEquals(model.keys().sort(), Object.keys(expected).sort());
    for (const [name, { dtype, shape, sha256: sum }] of Object.entries(expected)) {
      const tensor = await model.getTensor(name);
      assertEquals([tensor.dtype, tensor.shape, await sha256(tensor.bytes)], [dtype, shape, sum], name);
    }
  }
}

const DATA = new URL("../data/", import.meta.url).pathname;
const REAL = new URL("../../../shared/data/real/", import.meta.url).pathname;

/** A few tensors of every dtype, with shapes that leave all offsets unaligned. */
const EVERY_DTYPE: TensorSpec[] = DTYPES.flatMap((dtype): TensorSpec[] => [
  { name: `${dtype}.matrix`, dtype, shape: [3, 8] },
  { name: `${dtype}.empty`, dtype, shape: [0, 7] },
  { name: `${dtype}.row`, dtype, shape: [1, 4, 1] },
]);

export function tensorTests(test: DefineTest, engine: EngineName): void {
  test("fastsafeOpen() loads all 22 dtypes of a file by the reference implementation", async () => {
    const path = `${DATA}reference/all_dtypes`;
    await assertChecksums(`${path}.safetensors`, `${path}.expected.json`);
  });

  realFileTests(test, engine);

  test("fastsafeOpen() loads every dtype at every alignment", async (folder) => {
    for (const misalignment of [0, 1, 2, 3, 5, 7]) {
      const path = `${folder}/${misalignment}.safetensors`;
      const tensors = await writeFile(path, EVERY_DTYPE, { misalignment });
      await using model = await fastsafeOpen(path);
      for (const tensor of tensors) {
        const actual = await model.getTensor(tensor.name);
        assertTensor(actual, tensor);
        const { data } = actual; // a typed array: its position must be aligned
        assertBytes(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), tensor.bytes, tensor.name);
      }
    }
  });

  test("HostTensor.data is the typed array of its dtype", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const arrays: [DType, Uint8Array<ArrayBuffer>, unknown][] = [
      ["BOOL", new Uint8Array([1]), new Uint8Array([1])],
      ["U8", new Uint8Array([255]), new Uint8Array([255])],
      ["I8", new Uint8Array([255]), new Int8Array([-1])],
      ["I16", new Uint8Array([0xfe, 0xff]), new Int16Array([-2])],
      ["U16", new Uint8Array([0xfe, 0xff]), new Uint16Array([65534])],
      ["F16", new Uint8Array([0, 0x3e]), new Float16Array([1.5])],
      ["BF16", new Uint8Array([0xc0, 0x3f]), new Uint16Array([0x3fc0])],
      ["I32", new Uint8Array([0xfd, 0xff, 0xff, 0xff]), new Int32Array([-3])],
      ["U32", new Uint8Array([0xfd, 0xff, 0xff, 0xff]), new Uint32Array([4294967293])],
      ["F32", new Uint8Array([0, 0, 0xc0, 0x3f]), new Float32Array([1.5])],
      ["F64", new Uint8Array([0, 0, 0, 0, 0, 0, 0xf8, 0x3f]), new Float64Array([1.5])],
      ["I64", new Uint8Array(8).fill(255), new BigInt64Array([-1n])],
      ["U64", new Uint8Array(8).fill(255), new BigUint64Array([2n ** 64n - 1n])],
      ["C64", new Uint8Array([0, 0, 0xc0, 0x3f, 0, 0, 0, 0xc0]), new Float32Array([1.5, -2])],
      ["F8_E4M3", new Uint8Array([0x38]), new Uint8Array([0x38])],
    ];
    const specs = arrays.map(([dtype, bytes]): TensorSpec => ({ name: dtype, dtype, shape: [1], bytes }));
    await writeFile(path, specs, { misalignment: 3 });
    await using model = await fastsafeOpen(path);
    for (const [dtype, , expected] of arrays) {
      assertEquals((await model.getTensor(dtype)).data as unknown, expected, dtype);
    }
  });

  test("fastsafeOpen() aligns an I32 that follows a U8 of odd length", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [
      { name: "odd", dtype: "U8", shape: [5] },
      { name: "numbers", dtype: "I32", shape: [1000] },
      { name: "odd too", dtype: "BOOL", shape: [3] },
      { name: "doubles", dtype: "F64", shape: [33, 3] },
      { name: "halves", dtype: "F16", shape: [1] },
    ]);
    await using model = await fastsafeOpen(path);
    for (const tensor of tensors) {
      const actual = await model.getTensor(tensor.name);
      assertTensor(actual, tensor);
      assertEquals(actual.data.length, tensor.shape.reduce((product, size) => product * size));
    }
  });

  test("fastsafeOpen() loads empty tensors at every position", async (folder) => {
    const empty = (name: string): TensorSpec => ({ name, dtype: "F32", shape: [0] });
    const full = (name: string, length: number): TensorSpec => ({ name, dtype: "U8", shape: [length] });
    const models = [
      [],
      [empty("a")],
      [empty("a"), empty("b"), empty("c")],
      [empty("a"), full("x", 3), empty("b"), empty("c"), full("y", 4096), empty("d")],
      [full("x", 8192), { name: "e", dtype: "I64", shape: [3, 0, 5] } as const, full("y", 1)],
    ];
    for (const [index, specs] of models.entries()) {
      const path = `${folder}/${index}.safetensors`;
      const tensors = await writeFile(path, specs);
      for (const lazy of [false, true]) {
        await using model = await fastsafeOpen(path, { lazy, blockBytes: 4096 });
        const seen = new Set<string>();
        for await (const [name] of model) seen.add(name);
        assertEquals(seen, new Set(tensors.map(({ name }) => name)));
        for (const tensor of tensors.toReversed()) {
          const actual = await model.getTensor(tensor.name);
          assertTensor(actual, tensor);
          assertEquals(actual.data.byteLength, tensor.bytes.byteLength);
        }
      }
    }
  });

  test("fastsafeOpen() loads scalars, 64 dimensions and odd names", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const names = ["", "__proto__", "constructor", "1", "0", "a\u0000b", "ключ", "🦕", 'quo"te\\', "\u2028"];
    const tensors = await writeFile(path, [
      { name: "scalar", dtype: "F64", shape: [] },
      { name: "deep", dtype: "U8", shape: new Array(64).fill(1) },
      ...names.map((name): TensorSpec => ({ name, dtype: "I16", shape: [2] })),
    ]);
    await using model = await fastsafeOpen(path);
    assertEquals(model.keys(), tensors.map(({ name }) => name));
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
    assertEquals((await model.getTensor("scalar")).data.length, 1);
  });

  test("fastsafeOpen() loads tensors that cross and share blocks", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const sizes = [1, 4095, 4096, 4097, 3, 100_000, 8192, 1, 1, 300_001, 12_288];
    const specs = sizes.map((size, index): TensorSpec => ({ name: `t${index}`, dtype: "U8", shape: [size] }));
    const tensors = await writeFile(path, specs, { padding: 1000, misalignment: 1 });
    for (const blockBytes of [4096, 8192, 65_536, 4 * 2 ** 20]) {
      for (const maxThreads of [1, 3, 16]) {
        await using model = await fastsafeOpen(path, { blockBytes, maxThreads });
        for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
      }
    }
  });

  test("fastsafeOpen() loads many small files and many small tensors", async (folder) => {
    const paths: string[] = [];
    const tensors = [];
    for (let file = 0; file < 40; file++) {
      const path = `${folder}/${file}.safetensors`;
      const specs = Array.from({ length: 30 }, (_, index): TensorSpec => {
        return { name: `${file}.${index}`, dtype: index % 3 ? "F16" : "U8", shape: [index * 7] };
      });
      tensors.push(...await writeFile(path, specs, { misalignment: file % 8 }));
      paths.push(path);
    }
    await using model = await fastsafeOpen(paths);
    const seen = new Map<string, unknown>();
    for await (const [name, tensor] of model) {
      seen.set(name, tensor);
      assertEquals(tensor.name, name);
    }
    assertEquals(seen.size, tensors.length);
    for (const tensor of tensors) assertTensor(await model.getTensor(tensor.name), tensor);
    assertEquals(model.stats().tensors, tensors.length);
  });

  test("getTensor() returns the same bytes in any order, and for parallel requests", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 50 }, (_, index): TensorSpec => {
      return { name: `layers.${index}`, dtype: "BF16", shape: [index + 1, 33] };
    });
    const tensors = await writeFile(path, specs, { misalignment: 2 });
    for (const lazy of [false, true]) {
      for (
        const order of [
          tensors,
          tensors.toReversed(),
          tensors.toSorted((a, b) => a.bytes[0]! - b.bytes[0]!),
        ]
      ) {
        await using model = await fastsafeOpen(path, { lazy, blockBytes: 4096 });
        for (const tensor of order.slice(0, 8)) assertTensor(await model.getTensor(tensor.name), tensor);
        const all = await Promise.all([...order, ...order].map(({ name }) => model.getTensor(name)));
        for (const [index, tensor] of [...order, ...order].entries()) assertTensor(all[index]!, tensor);
      }
    }
  });

  test("fastsafeOpen() opens one file several times in parallel", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, [{ name: "x", dtype: "U8", shape: [2_000_000] }]);
    const bytes = await Promise.all(Array.from({ length: 12 }, async (_, index) => {
      await using model = await fastsafeOpen(path, { blockBytes: 4096 * (index + 1), lazy: index % 2 === 0 });
      return (await model.getTensor("x")).bytes;
    }));
    for (const copy of bytes) assertBytes(copy, tensor!.bytes, "x");
    assert(bytes[0]!.buffer !== bytes[1]!.buffer);
    bytes[0]!.fill(0);
    assertBytes(bytes[1]!, tensor!.bytes, "x");
  });

  test("iteration yields every tensor once, in the order of completion", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 60 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "U8", shape: [5000 + index] };
    });
    const tensors = await writeFile(path, specs);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy, maxThreads: 1, blockBytes: 4096 });
      const order: string[] = [];
      for await (const [name, tensor] of model) {
        assertTensor(tensor, tensors.find((written) => written.name === name)!);
        order.push(name);
      }
      assertEquals(order, tensors.map(({ name }) => name)); // one lane reads the file from its start
    }
    await using model = await fastsafeOpen(path, { maxThreads: 8, blockBytes: 4096 });
    const names = async () => await Array.fromAsync(model, ([name]) => name);
    const [first, second] = await Promise.all([names(), names()]);
    assertEquals([first, new Set(first).size], [second, tensors.length]);
    assertEquals(await names(), first);
  });

  test("HostTensor.to() and toFloat32() cast copies", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "half", dtype: "F16", shape: [2], bytes: new Uint8Array([0, 0x3e, 0, 0xc0]) },
      { name: "int", dtype: "I32", shape: [1] },
    ]);
    await using model = await fastsafeOpen(path);
    const half = await model.getTensor("half");
    assertEquals(half.toFloat32(), new Float32Array([1.5, -2]));
    assertEquals((await half.to({ dtype: "F64" })).data, new Float64Array([1.5, -2]));
    assertEquals((await half.to({ dtype: "F16" })).bytes.buffer, half.bytes.buffer); // shares the memory
    const single = await half.to({ dtype: "F32" });
    assertEquals(single.toFloat32().buffer, single.bytes.buffer);
    const error = await assertRejects(
      async () => (await model.getTensor("int")).to({ dtype: "F32" }),
      SafeTensorsError,
    );
    assertEquals([error.code, error.tensor], ["UnsupportedCast", "int"]);
  });

  test("tensors do not share writable memory", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, [
      { name: "a", dtype: "U8", shape: [4097] },
      { name: "b", dtype: "U8", shape: [4097] },
      { name: "c", dtype: "F32", shape: [64], bytes: noise(256, 3) },
    ]);
    await using model = await fastsafeOpen(path);
    (await model.getTensor("b")).bytes.fill(0xaa);
    assertTensor(await model.getTensor("a"), tensors[0]!);
    assertTensor(await model.getTensor("c"), tensors[2]!);
  });
}

function realFileTests(test: DefineTest, engine: EngineName): void {
  const absent = ["silero_vad_16k.safetensors", "a.safetensors", "b.safetensors"].filter((name) => {
    return !exists(`${REAL}${name}`);
  });
  const missing = absent.length > 0 ? `../shared/data/real lacks ${absent.join(", ")}` : null;
  suite(`fastsafeOpen() on published models [${engine}]`, "real-data", missing, () => {
    test("fastsafeOpen() loads a published model with the expected checksums", async () => {
      await assertChecksums(`${REAL}silero_vad_16k.safetensors`, `${REAL}silero_vad_16k.expected.json`);
    });

    test("fastsafeOpen() loads the two files of fastsafetensors' examples", async () => {
      const rows = Float16Array.from({ length: 16 * 8 }, (_, index) => Math.floor(index / 8));
      await using model = await fastsafeOpen([`${REAL}a.safetensors`, `${REAL}b.safetensors`]);
      assertEquals(model.keys(), ["a0", "b0"]);
      for (const name of model.keys()) {
        const { dtype, shape, data } = await model.getTensor(name);
        assertEquals([dtype, shape, data], ["F16", [16, 8], rows]);
      }
    });
  });
}
