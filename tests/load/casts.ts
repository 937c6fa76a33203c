/**
 * Casts during a load, compared with values that were computed without the package.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DTYPES, ReadError, SafeTensorsError } from "../../mod.ts";
import type { ProcessGroup } from "../../src/ranks/mod.ts";
import {
  decode,
  encode,
  type FloatDType,
  FLOATS,
  isFloat,
  readJson,
  type SmallFloat,
} from "../support/floats.ts";
import { assertBytes, assertTensor, noise, type TensorSpec, writeFile } from "../support/models.ts";
import type { DefineTest, EngineName } from "./context.ts";
import { fastsafeOpen } from "./api_in_use.ts";

/** Numbers that every dtype except F8_E8M0 can approximate, of both signs, with both zeros. */
function someNumbers(count: number): number[] {
  const bytes = noise(count * 4, 11);
  const words = new Uint32Array(bytes.buffer);
  return Array.from(words, (word, index) => {
    if (index < 2) return index === 0 ? 0 : -0;
    const value = (1 + (word >>> 8) / 2 ** 24) * 2 ** ((word & 15) - 9); // 2^-9 to 2^7
    return index % 2 ? -value : value;
  });
}

/** The bits of F32, F16 and BF16 numbers, and of F8 codes. */
function u32(values: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
function u16(values: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint16Array.from(values).buffer);
}
function u64(values: readonly string[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(BigUint64Array.from(values, (hex) => BigInt(`0x${hex}`)).buffer);
}

/** The numbers in a file, and the expected numbers after a cast. */
function castCase(
  numbers: readonly number[],
  from: FloatDType,
  to: FloatDType,
): [Uint8Array<ArrayBuffer>, Uint8Array] {
  const usable = from === "F8_E8M0" || to === "F8_E8M0" ? numbers.filter((value) => value > 0) : numbers;
  const source = encode(usable, from);
  return [source, from === to ? source : encode(decode(source, from), to)];
}

interface Casts {
  f32: number[];
  from_f32: Record<SmallFloat, number[]>;
  f64: string[];
  from_f64: Record<FloatDType, number[]>;
}

interface Narrowing {
  f32_bits: number[];
  f16_bits: number[];
  bf16_bits: number[];
}

export function castTests(test: DefineTest, engine: EngineName): void {
  test("fastsafeOpen() casts every float dtype to every other one", async (folder) => {
    const numbers = someNumbers(700);
    const path = `${folder}/model.safetensors`;
    for (const to of FLOATS) {
      const cases = FLOATS.map((from) => [from, ...castCase(numbers, from, to)] as const);
      const specs = cases.map(([from, bytes]): TensorSpec => {
        return { name: from, dtype: from, shape: [bytes.byteLength / encode([1], from).byteLength], bytes };
      });
      await writeFile(path, specs, { misalignment: 1 });
      for (const lazy of [false, true]) {
        await using model = await fastsafeOpen(path, { dtype: to, lazy, blockBytes: 4096 });
        for (const [from, , expected] of cases) {
          const tensor = await model.getTensor(from);
          assertEquals(tensor.dtype, to);
          assertBytes(tensor.bytes, expected as Uint8Array, `${from} to ${to}`);
        }
      }
    }
  });

  test("fastsafeOpen() casts the hard cases as other implementations do", async (folder) => {
    const casts = readJson("casts.json") as Casts;
    const narrowing = readJson("reference/f32_narrowing.json") as Narrowing;
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "f32", dtype: "F32", shape: [casts.f32.length], bytes: u32(casts.f32) },
      { name: "f64", dtype: "F64", shape: [casts.f64.length], bytes: u64(casts.f64) },
      { name: "narrow", dtype: "F32", shape: [narrowing.f32_bits.length], bytes: u32(narrowing.f32_bits) },
    ]);
    const check = async (name: string, to: FloatDType, expected: Uint8Array) => {
      await using model = await fastsafeOpen(path, { dtype: to, names: [name] });
      assertBytes((await model.getTensor(name)).bytes, expected, `${name} to ${to}`);
    };
    await check("narrow", "F16", u16(narrowing.f16_bits));
    await check("narrow", "BF16", u16(narrowing.bf16_bits));
    for (const [to, codes] of Object.entries(casts.from_f32)) {
      await check("f32", to as FloatDType, Uint8Array.from(codes));
    }
    for (const [to, codes] of Object.entries(casts.from_f64) as [FloatDType, number[]][]) {
      await check(
        "f64",
        to,
        to === "F32" ? u32(codes) : to.startsWith("F8") ? Uint8Array.from(codes) : u16(codes),
      );
    }
  });

  test("fastsafeOpen() casts all codes of the narrow floats exactly", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const halves = Uint16Array.from({ length: 65536 }, (_, code) => code);
    await writeFile(path, [
      { name: "F16", dtype: "F16", shape: [256, 256], bytes: new Uint8Array(halves.buffer) },
      { name: "BF16", dtype: "BF16", shape: [256, 256], bytes: new Uint8Array(halves.buffer) },
    ], { misalignment: 5 });
    await using model = await fastsafeOpen(path, { dtype: "F32", blockBytes: 8192 });
    for (const [name, file] of [["F16", "f16_to_f32"], ["BF16", "bf16_to_f32"]] as const) {
      const expected = await Deno.readTextFile(new URL(`../data/reference/${file}.sha256`, import.meta.url));
      const { bytes } = await model.getTensor(name);
      const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
      assertEquals(digest.toHex(), expected.trim(), name);
    }
  });

  test("fastsafeOpen() casts floats only", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = DTYPES.map((dtype): TensorSpec => ({ name: dtype, dtype, shape: [4, 8] }));
    const tensors = await writeFile(path, specs, { misalignment: 3 });
    await using model = await fastsafeOpen(path, { dtype: "F32" });
    for (const tensor of tensors) {
      const actual = await model.getTensor(tensor.name);
      const isCast = isFloat(tensor.dtype) || (engine === "webgpu" && /^F[46]/.test(tensor.dtype));
      if (isCast) assertEquals([actual.dtype, actual.byteLength], ["F32", 128]);
      else assertTensor(actual, tensor);
    }
  });

  test("fastsafeOpen() casts tensors that span blocks and lie between others", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const numbers = someNumbers(20_000);
    const floats = encode(numbers, "BF16");
    const tensors = await writeFile(path, [
      { name: "before", dtype: "U8", shape: [4095] },
      { name: "a", dtype: "BF16", shape: [20_000], bytes: floats },
      { name: "b", dtype: "BF16", shape: [3], bytes: floats.slice(0, 6) },
      { name: "none", dtype: "BF16", shape: [0] },
      { name: "between", dtype: "I32", shape: [1025] },
      { name: "c", dtype: "F16", shape: [20_000], bytes: encode(numbers, "F16") },
      { name: "after", dtype: "BOOL", shape: [1] },
    ]);
    for (const blockBytes of [4096, 12_288, 2 ** 20]) {
      for (const stagingBytes of [65_536, 2 ** 26]) {
        await using model = await fastsafeOpen(path, {
          dtype: "F32",
          blockBytes,
          stagingBytes,
          maxThreads: 5,
        });
        const wide = encode(decode(floats, "BF16"), "F32");
        assertBytes((await model.getTensor("a")).bytes, wide, "a");
        assertBytes((await model.getTensor("b")).bytes, wide.subarray(0, 12), "b");
        assertEquals((await model.getTensor("none")).data, new Float32Array());
        assertBytes((await model.getTensor("c")).bytes, encode(decode(tensors[5]!.bytes, "F16"), "F32"), "c");
        for (const index of [0, 4, 6]) {
          assertTensor(await model.getTensor(tensors[index]!.name), tensors[index]!);
        }
      }
    }
  });

  test("getTensor() casts one tensor, and rejects impossible casts", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const source = encode(someNumbers(100), "BF16");
    await writeFile(path, [
      { name: "x", dtype: "BF16", shape: [100], bytes: source },
      { name: "n", dtype: "I32", shape: [4] },
    ]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { lazy });
      const double = await model.getTensor("x", { dtype: "F64" });
      assertBytes(double.bytes, encode(decode(source, "BF16"), "F64"), "x");
      assertEquals((await model.getTensor("x")).dtype, "BF16");
      assertEquals((await model.getTensor("n", { dtype: "I32" })).dtype, "I32");
      const error = await assertRejects(
        () => model.getTensor("n", { dtype: "F32" }),
        SafeTensorsError,
        "I32 to F32",
      );
      assertEquals([error.code, error.tensor], ["UnsupportedCast", "n"]);
      const other = await assertRejects(() => model.getTensor("x", { dtype: "I32" }), SafeTensorsError);
      assertEquals([other.code, other.tensor], ["UnsupportedCast", "x"]);
      assert(!(await model.getSlice("x", [0, 2])).bytes.every((byte) => byte === 0));
    }
  });

  test("a tensor with another dtype than the model's has the same bytes, loaded or lazy", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const numbers = [1.2345678, 1e-30, -199.7, 65.53, 2 ** -140, 0.1];
    const source = encode(numbers, "F32");
    const codes = Uint8Array.from({ length: 256 }, (_, code) => code);
    await writeFile(path, [
      { name: "x", dtype: "F32", shape: [3, 2], bytes: source },
      { name: "codes", dtype: "F8_E5M2", shape: [256], bytes: codes },
      { name: "n", dtype: "I32", shape: [4] },
    ]);
    for (const own of ["F16", "BF16", "F8_E4M3", "F32", "F64", undefined] as const) {
      await using lazy = await fastsafeOpen(path, own ? { dtype: own, lazy: true } : { lazy: true });
      await using loaded = await fastsafeOpen(path, own ? { dtype: own } : {});
      await loaded.whenLoaded();
      for (const dtype of FLOATS.filter((dtype) => dtype !== "F8_E8M0")) {
        const expected = dtype === "F32" ? source : encode(decode(source, "F32"), dtype);
        const rows = expected.slice(expected.length / 3);
        const both = [];
        for (const model of [lazy, loaded]) {
          const tensor = await model.getTensor("x", { dtype });
          assertEquals([tensor.name, tensor.dtype, tensor.shape], ["x", dtype, [3, 2]]);
          assertBytes(tensor.bytes, expected, `${own} opened, x as ${dtype}`);
          const slice = await model.getSlice("x", [1, 3], { dtype });
          assertEquals([slice.dtype, slice.shape], [dtype, [2, 2]]);
          assertBytes(slice.bytes, rows, `${own} opened, rows of x as ${dtype}`);
          both.push((await model.getTensor("codes", { dtype })).bytes);
        }
        assertBytes(both[1]!, both[0]!, `${own} opened, codes as ${dtype}`);
      }
      for (const model of [lazy, loaded]) {
        assertEquals((await model.getTensor("n", { dtype: "I32" })).dtype, "I32");
        await assertRejects(() => model.getSlice("n", 0, { dtype: "F32" }), SafeTensorsError, "I32 to F32");
        await assertRejects(
          () => model.getSlice("x", 0, { dtpye: "F32" } as never),
          TypeError,
          "did you mean dtype",
        );
      }
    }
  });

  test("a part by a shard plan with another dtype has the same bytes, loaded or lazy", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const source = encode(someNumbers(40), "F32");
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [4, 10], bytes: source }]);
    const group = { rank: 1, size: 2 } as ProcessGroup;
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { dtype: "F8_E4M3", lazy, shardPlan: { x: 0 }, group });
      assertBytes((await model.getTensor("x", { dtype: "F32" })).bytes, source.slice(80), "x");
      assertBytes((await model.getSlice("x", 1, { dtype: "F32" })).bytes, source.slice(120), "row of x");
      const double = await model.getSharded("x", 0, { from: "file" });
      assertEquals([double.dtype, double.shape], ["F8_E4M3", [2, 10]]);
    }
  });

  test("getTensor() names the missing file of a tensor that it must read again", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [4] }]);
    await using model = await fastsafeOpen(path, { dtype: "F16" });
    await model.whenLoaded();
    await Deno.remove(path);
    await assertRejects(() => model.getTensor("x", { dtype: "F32" }), ReadError, path);
    assertEquals((await model.getTensor("x")).dtype, "F16");
    await writeFile(path, [{ name: "x", dtype: "F32", shape: [5] }]);
    await assertRejects(() => model.getTensor("x", { dtype: "F32" }), ReadError, "F32 [5] at offset");
  });
}
