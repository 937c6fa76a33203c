/**
 * Casts on the GPU, during the load and afterwards, with exactly the bits that were computed without the package.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { type DType, dtypeBits, DTYPES, fastsafeOpen, type FloatDType, SafeTensorsError } from "../../mod.ts";
import { castBytes } from "../../src/format/cast.ts";
import { assertIntegerCasts } from "../support/integer_casts.ts";
import { FLOATS, isFloat, readJson, type SmallFloat } from "../support/floats.ts";
import { assertBytes, noise, tensorLength, type TensorSpec, writeFile } from "../support/models.ts";
import { assertOnGpu, toHost, webgpuSuite } from "./support.ts";

const SUB_BYTE = ["F4", "F6_E2M3", "F6_E3M2"] as const;
const SMALL: readonly SmallFloat[] = ["F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"];

type Codes = Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>;

/** A tensor of these codes. */
function tensorOf(name: string, dtype: DType, codes: Codes | BigUint64Array<ArrayBuffer>): TensorSpec {
  return { name, dtype, shape: [codes.length], bytes: new Uint8Array(codes.buffer) };
}

/** Codes of a sub-byte dtype in bytes, the first in the lowest bits. */
function pack(codes: readonly number[], dtype: typeof SUB_BYTE[number]): Uint8Array<ArrayBuffer> {
  const bits = dtypeBits(dtype);
  const binary = codes.map((code) => code.toString(2).padStart(bits, "0")).reverse().join("");
  return Uint8Array.from({ length: binary.length / 8 }, (_, index) => {
    const end = binary.length - 8 * index;
    return Number.parseInt(binary.slice(end - 8, end), 2);
  });
}

/**
 * Loads tensors with a cast, and loads them without one and casts them afterwards; compares both with the expected
 * bytes.
 */
async function assertCasts(
  folder: string,
  specs: readonly TensorSpec[],
  to: FloatDType,
  expected: ReadonlyMap<string, Uint8Array>,
): Promise<void> {
  const path = `${folder}/casts.safetensors`;
  await writeFile(path, specs, { misalignment: 1 });
  {
    await using model = await fastsafeOpen(path, { device: "webgpu", dtype: to, blockBytes: 4096 });
    for (const { name } of specs) {
      const tensor = await toHost(await model.getTensor(name));
      assertEquals(tensor.dtype, to, name);
      assertBytes(tensor.bytes, expected.get(name)!, `${name} loaded as ${to}`);
    }
  }
  await using model = await fastsafeOpen(path, { device: "webgpu" });
  for (const { name } of specs) {
    using tensor = await model.getTensor(name);
    const cast = await toHost(await tensor.to({ dtype: to }));
    assertEquals(cast.dtype, to, name);
    assertBytes(cast.bytes, expected.get(name)!, `${name} cast to ${to}`);
  }
}

function u32(values: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint32Array.from(values).buffer);
}
function u16(values: readonly number[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Uint16Array.from(values).buffer);
}

webgpuSuite("Casts on WebGPU", (test) => {
  test("all 65,536 codes of F16 and of BF16 become the F32 of the reference", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const codes = Uint16Array.from({ length: 65_536 }, (_, code) => code);
    await writeFile(path, [tensorOf("F16", "F16", codes), tensorOf("BF16", "BF16", codes)], {
      misalignment: 5,
    });
    for (const dtype of ["F32", undefined] as const) {
      await using model = await fastsafeOpen(path, {
        device: "webgpu",
        ...dtype && { dtype },
        blockBytes: 8192,
      });
      for (const name of ["F16", "BF16"]) {
        using tensor = await model.getTensor(name);
        const { bytes } = await toHost(await tensor.to({ dtype: "F32" }));
        const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
        const file = new URL(`../data/reference/${name.toLowerCase()}_to_f32.sha256`, import.meta.url);
        assertEquals(sum, (await Deno.readTextFile(file)).trim(), name);
      }
    }
  });

  test("all codes of the F8 dtypes become the F32 of the reference", async (folder) => {
    const reference = readJson("reference/f8_to_f32_bits.json") as Record<string, (number | "nan")[]>;
    const codes = Uint8Array.from({ length: 256 }, (_, code) => code);
    const expected = new Map(SMALL.map((dtype) => {
      return [dtype, u32(reference[dtype]!.map((bits) => bits === "nan" ? 0x7fc00000 : bits))];
    }));
    await assertCasts(folder, SMALL.map((dtype) => tensorOf(dtype, dtype, codes)), "F32", expected);
  });

  test("all codes of F4 and F6 become the F32 of ml_dtypes, and its casts", async (folder) => {
    const reference = readJson("sub_byte.json") as Record<string, number[]>;
    // Four times, so that every code is at every position within a byte or a word.
    const codes = (dtype: string) =>
      [0, 1, 2, 3].flatMap((by) => {
        const all = [...reference[dtype]!.keys()];
        return [...all.slice(by), ...all.slice(0, by)];
      });
    const specs = SUB_BYTE.map((dtype): TensorSpec => {
      return { name: dtype, dtype, shape: [codes(dtype).length], bytes: pack(codes(dtype), dtype) };
    });
    const singles = new Map(SUB_BYTE.map((dtype) => {
      return [dtype, u32(codes(dtype).map((code) => reference[dtype]![code]!))];
    }));
    for (const to of FLOATS) {
      const expected = new Map(
        singles.entries().map(([dtype, bytes]) => {
          const target = new Uint8Array(bytes.length / 4 * dtypeBits(to) / 8);
          castBytes(bytes, "F32", target, to);
          return [dtype, target];
        }),
      );
      await assertCasts(folder, specs, to, expected);
    }
  });

  test("F4 and F6 are packed from the lowest bits on", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "F4", dtype: "F4", shape: [2], bytes: Uint8Array.of(0x72) }, // 2 is 1, 7 is 6
      { name: "F6", dtype: "F6_E2M3", shape: [4], bytes: Uint8Array.of(0x08, 0x04, 0x80) }, // 8, 16, 0, 32
    ]);
    await using model = await fastsafeOpen(path, { device: "webgpu", dtype: "F32" });
    assertEquals((await toHost(await model.getTensor("F4"))).data, new Float32Array([1, 6]));
    assertEquals((await toHost(await model.getTensor("F6"))).data, new Float32Array([1, 2, 0, -0]));
  });

  test("F32 and F64 narrow like other implementations", async (folder) => {
    const narrowing = readJson("reference/f32_narrowing.json") as Record<string, number[]>;
    const casts = readJson("casts.json") as {
      f32: number[];
      from_f32: Record<string, number[]>;
      f64: string[];
      from_f64: Record<string, number[]>;
    };
    const narrow = tensorOf("narrow", "F32", Uint32Array.from(narrowing["f32_bits"]!));
    await assertCasts(folder, [narrow], "F16", new Map([["narrow", u16(narrowing["f16_bits"]!)]]));
    await assertCasts(folder, [narrow], "BF16", new Map([["narrow", u16(narrowing["bf16_bits"]!)]]));
    const f32 = tensorOf("f32", "F32", Uint32Array.from(casts.f32));
    for (const [to, codes] of Object.entries(casts.from_f32)) {
      await assertCasts(folder, [f32], to as FloatDType, new Map([["f32", Uint8Array.from(codes)]]));
    }
    const f64 = tensorOf("f64", "F64", BigUint64Array.from(casts.f64, (hex) => BigInt(`0x${hex}`)));
    for (const [to, codes] of Object.entries(casts.from_f64)) {
      const expected = to === "F32" ? u32(codes) : to.startsWith("F8") ? Uint8Array.from(codes) : u16(codes);
      await assertCasts(folder, [f64], to as FloatDType, new Map([["f64", expected]]));
    }
  });

  test("all codes of the floats of 8 and 16 bits become every other float as on the CPU", async (folder) => {
    const specs = FLOATS.filter((dtype) => dtypeBits(dtype) <= 16).map((dtype) => {
      const codes = Array.from({ length: 2 ** dtypeBits(dtype) }, (_, code) => code);
      return tensorOf(
        dtype,
        dtype,
        dtypeBits(dtype) === 16 ? Uint16Array.from(codes) : Uint8Array.from(codes),
      );
    });
    for (const to of FLOATS) {
      const expected = new Map(specs.map(({ name, dtype, shape, bytes }) => {
        const target = new Uint8Array(shape[0]! * dtypeBits(to) / 8);
        castBytes(bytes!, dtype, target, to);
        return [name, target];
      }));
      await assertCasts(folder, specs, to, expected);
    }
  });

  test("every float dtype casts to every other like on the CPU, also noise", async (folder) => {
    for (const to of FLOATS) {
      const specs = FLOATS.map((dtype): TensorSpec => {
        const shape = [3, 701]; // odd: tensors end within a word
        return { name: dtype, dtype, shape, bytes: noise(tensorLength({ dtype, shape }), 5) };
      });
      const expected = new Map(specs.map(({ name, dtype, bytes }) => {
        const target = new Uint8Array(3 * 701 * dtypeBits(to) / 8);
        castBytes(bytes!, dtype, target, to);
        return [name, target];
      }));
      await assertCasts(folder, specs, to, expected);
    }
  });

  test("fastsafeOpen() casts floats, F4 and F6, and no other dtypes", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = DTYPES.map((dtype): TensorSpec => ({ name: dtype, dtype, shape: [4, 8] }));
    const tensors = await writeFile(path, specs, { misalignment: 3 });
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "webgpu", dtype: "F16", lazy });
      for (const tensor of tensors) {
        const isCast = isFloat(tensor.dtype) || SUB_BYTE.some((dtype) => dtype === tensor.dtype);
        const actual = await model.getTensor(tensor.name);
        if (!isCast) {
          await assertOnGpu(actual, tensor);
          continue;
        }
        assertEquals([actual.dtype, actual.byteLength], ["F16", 64]);
        actual[Symbol.dispose]();
      }
    }
    await using host = await fastsafeOpen(path, { dtype: "F16" });
    assertEquals((await host.getTensor("F4")).dtype, "F4"); // not on the CPU
  });

  test("slices at any byte are cast", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const floats = [...FLOATS, ...SUB_BYTE];
    const specs = floats.map((dtype): TensorSpec => {
      const shape = [9, 12, 4];
      return { name: dtype, dtype, shape, bytes: noise(tensorLength({ dtype, shape }), 6) };
    });
    await writeFile(path, specs, { misalignment: 2 });
    const slices = [[[1, 8], [1, 12, 3]], [[0, 9, 2], [3, 5]], [[4, 5]]] as const;
    for (const to of ["F32", "F16", "F8_E4M3", "F64"] as const) {
      await using lazy = await fastsafeOpen(path, {
        device: "webgpu",
        dtype: to,
        lazy: true,
        blockBytes: 4096,
      });
      await using whole = await fastsafeOpen(path, { device: "webgpu", dtype: to });
      await using host = await fastsafeOpen(path, { dtype: to });
      for (const dtype of floats) {
        for (const slice of slices) {
          const [a, b] = await Promise.all([lazy, whole].map(async (model) => {
            return await toHost(await model.getSlice(dtype, ...slice));
          }));
          assertEquals(a!.shape, b!.shape);
          assertBytes(a!.bytes, b!.bytes, `${dtype} to ${to}`);
          if (!isFloat(dtype)) continue;
          assertBytes(a!.bytes, (await host.getSlice(dtype, ...slice)).bytes, `${dtype} to ${to}`);
        }
      }
    }
  });

  test("casts cross chunks, and dispatches", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs: TensorSpec[] = [
      { name: "before", dtype: "U8", shape: [4095] },
      { name: "a", dtype: "BF16", shape: [300_001], bytes: noise(600_002, 1) },
      { name: "b", dtype: "BF16", shape: [3], bytes: noise(6, 2) },
      { name: "none", dtype: "BF16", shape: [0] },
      { name: "c", dtype: "F6_E3M2", shape: [400_004], bytes: noise(300_003, 3) },
      { name: "d", dtype: "F8_E5M2", shape: [100_003], bytes: noise(100_003, 4) },
      { name: "after", dtype: "BOOL", shape: [1] },
    ];
    const tensors = await writeFile(path, specs);
    await using whole = await fastsafeOpen(path, { device: "webgpu" });
    const expected = new Map<string, Uint8Array>();
    for (const { name, dtype, bytes, shape } of tensors) {
      if (isFloat(dtype)) {
        const target = new Uint8Array(shape[0]! * 4);
        castBytes(bytes, dtype, target, "F32");
        expected.set(name, target);
      } else if (dtype === "F6_E3M2") {
        using tensor = await whole.getTensor(name);
        expected.set(name, (await toHost(await tensor.to({ dtype: "F32" }))).bytes);
      } else {
        expected.set(name, bytes);
      }
    }
    for (
      const [blockBytes, stagingBytes] of [[4096, 65_536], [12_288, 300_000], [2 ** 22, 2 ** 26]] as const
    ) {
      await using model = await fastsafeOpen(path, {
        device: "webgpu",
        dtype: "F32",
        blockBytes,
        stagingBytes,
      });
      for (const { name } of tensors) {
        assertBytes((await toHost(await model.getTensor(name))).bytes, expected.get(name)!, name);
      }
    }
  });

  test("WebGpuTensor.to() and getTensor() cast integers through host memory", async (folder) => {
    await assertIntegerCasts(folder, "webgpu");
  });

  test("to() and getTensor() reject impossible casts", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "x", dtype: "F4", shape: [4] },
      { name: "n", dtype: "I32", shape: [4] },
    ]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "webgpu", lazy });
      for (const [name, dtype] of [["n", "F32"], ["x", "I32"], ["x", "F6_E2M3"]] as const) {
        using tensor = await model.getTensor(name);
        for (const cast of [() => tensor.to({ dtype }), () => model.getTensor(name, { dtype })]) {
          const error = await assertRejects(cast, SafeTensorsError, `Cannot cast tensor "${name}"`);
          assertEquals([error.code, error.tensor], ["UnsupportedCast", name]);
        }
      }
      using same = await model.getTensor("n", { dtype: "I32" });
      using cast = await model.getTensor("x", { dtype: "BF16" });
      assertEquals([same.dtype, cast.dtype], ["I32", "BF16"]);
    }
  });
});
