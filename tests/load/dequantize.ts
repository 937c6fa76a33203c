/**
 * The option `dequantize`, with the products of tests/data/scaled.json, which PyTorch has computed.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createHash } from "node:crypto";
import { HostTensor, type LoadStats, quantize, ReadError, SafeTensorsError, saveFile } from "../../mod.ts";
import { type TensorSpec, writeFile, writeShards } from "../support/models.ts";
import { fastsafeOpen } from "./api_in_use.ts";
import type { DefineTest } from "./context.ts";
import { assertScaled, codesOf, readScaled, type ScaledCase, toBytes } from "../support/scaled.ts";

/** The weight and the scale of a case, as tensors of a file. */
function specsOf(
  { dtype, shape, scaleDtype, scaleShape, scale }: ScaledCase,
  weight: string,
  scaleName: string,
): TensorSpec[] {
  return [
    { name: weight, dtype, shape, bytes: codesOf(dtype, shape) },
    { name: scaleName, dtype: scaleDtype, shape: scaleShape, bytes: toBytes(scale, scaleDtype) },
  ];
}

/** A weight of ones and a scale of twos. */
const ONES: readonly TensorSpec[] = [
  { name: "x.weight", dtype: "F8_E4M3", shape: [2, 2], bytes: new Uint8Array(4).fill(0x38) },
  { name: "x.weight_scale_inv", dtype: "F32", shape: [1, 1], bytes: toBytes([0x40000000], "F32") },
  { name: "norm", dtype: "F32", shape: [2], bytes: toBytes([0x3f800000, 0x40400000], "F32") },
];

export function dequantizeTests(test: DefineTest): void {
  const { dequantized } = readScaled();
  for (const [index, one] of dequantized.entries()) {
    const what = `${one.dtype} [${one.shape}] with a scale of ${one.scaleDtype} [${one.scaleShape}]`;
    test(`dequantize gives the bits of PyTorch: ${what}, case ${index}`, async (folder) => {
      const path = `${folder}/model.safetensors`;
      await writeFile(path, specsOf(one, "x.weight", "x.weight_scale_inv"), { misalignment: index % 3 });
      const dequantize = one.block ? { block: one.block } : true;
      for (const lazy of [false, true]) {
        for (const dtype of [undefined, "BF16", "F32", "F16"] as const) {
          await using model = await fastsafeOpen(path, { dequantize, lazy, ...dtype ? { dtype } : {} });
          assertEquals(model.keys(), ["x.weight"]);
          const tensor = await model.getTensor("x.weight");
          assertEquals([tensor.dtype, tensor.shape], [dtype ?? "BF16", one.shape]);
          assertScaled((await tensor.copyToHost()).bytes, one[dtype ?? "BF16"], tensor.dtype);
          const other = await model.getTensor("x.weight", { dtype: "F32" });
          assertScaled((await other.copyToHost()).bytes, one.F32, "F32");
        }
      }
    });
  }

  test("dequantize finds the scale by the names of DeepSeek, compressed-tensors and Transformers", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [weight, scale] = ONES as [TensorSpec, TensorSpec];
    const names = [
      ["a.weight", "a.weight_scale_inv"],
      ["b.weight", "b.weight_scale"],
      ["c.gate_up_proj", "c.gate_up_proj_scales_inv"],
      ["d.weight", "d.scale"],
    ];
    const others: TensorSpec[] = [
      { ...weight, name: "alone.weight" },
      { ...weight, name: "counted.weight" },
      { ...scale, name: "counted.weight_scale", dtype: "I32" },
      { ...scale, name: "plain_scale" },
      { ...ONES[2]!, name: "plain" },
    ];
    await writeFile(path, [
      ...others,
      ...names.flatMap(([name, scaleName]) => [{ ...weight, name: name! }, { ...scale, name: scaleName! }]),
    ]);
    await using model = await fastsafeOpen(path, { dequantize: true, dtype: "F32" });
    assertEquals(model.keys(), [...others.map(({ name }) => name), ...names.map(([name]) => name!)]);
    for (const [name, scaleName] of names) {
      const { data } = await model.getTensor(name!) as HostTensor;
      assertEquals([...data], [2, 2, 2, 2], name);
      const error = await assertRejects(() => model.getTensor(scaleName!), SafeTensorsError);
      assertEquals(error.code, "TensorNotFound");
      const message = `it is the scale of tensor "${name}", which the option dequantize multiplies by it`;
      assert(error.message.includes(message), error.message);
    }
  });

  test("info() and stats() of a dequantized tensor have what is in the file", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, ONES);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { dequantize: true, lazy });
      const { dtype, shape, byteLength, targetDtype } = model.info("x.weight");
      assertEquals([dtype, shape, byteLength, targetDtype], ["F8_E4M3", [2, 2], 4, "BF16"]);
      assertEquals((await model.getTensor("norm")).dtype, "F32"); // only the option dtype casts it
      await model.getTensor("x.weight");
      await model.whenLoaded();
      const { bytes, tensors }: LoadStats = model.stats();
      assertEquals([bytes, tensors], [12, 2]);
    }
  });

  test("slices, rows and parts by a shard plan of a dequantized tensor are those of the product", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const one = dequantized[1]!; // [130, 140] in blocks of [128, 128]
    await writeFile(path, specsOf(one, "x.weight", "x.weight_scale_inv"));
    await using eager = await fastsafeOpen(path, { dequantize: true });
    const whole = (await (await eager.getTensor("x.weight")).copyToHost()).bytes;
    const rows = (first: number, last: number) => whole.slice(first * 280, last * 280);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { dequantize: true, lazy });
      const slice = await model.getSlice("x.weight", [127, 130], [120, 136]);
      const expected = [127, 128, 129].flatMap((row) => [...whole.slice(row * 280 + 240, row * 280 + 272)]);
      assertEquals([slice.shape, [...(await slice.copyToHost()).bytes]], [[3, 16], expected]);
      const row = await model.getRows("x.weight", [129, 0]);
      assertEquals((await row.copyToHost()).bytes, new Uint8Array([...rows(129, 130), ...rows(0, 1)]));
      // A lazy model reads only from the first element of a slice to the last one.
      if (lazy) assertEquals(model.stats().bytes, (2 * 140 + 16) + 2 * 140);
      const group = { rank: 1, size: 3 } as never;
      await using part = await fastsafeOpen(path, {
        dequantize: true,
        lazy,
        group,
        shardPlan: { "x.weight": 0 },
      });
      const own = await part.getTensor("x.weight");
      assertEquals([own.shape, (await own.copyToHost()).bytes], [[44, 140], rows(44, 88)]);
    }
    assertEquals(createHash("sha256").update(whole).digest("hex"), one.BF16);
  });

  test("the scale of a tensor can be in another shard", async (folder) => {
    const [weight, scale, norm] = ONES as [TensorSpec, TensorSpec, TensorSpec];
    const { indexPath } = await writeShards(folder, [[weight, norm], [scale]]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(indexPath, { dequantize: true, dtype: "F16", lazy });
      assertEquals(model.keys(), ["x.weight", "norm"]);
      for (const dtype of ["F16", "F32", "F16"] as const) {
        const tensor = await model.getTensor("x.weight", { dtype });
        assertEquals([...(await tensor.copyToHost()).toFloat32()], [2, 2, 2, 2]);
        await model.whenLoaded();
      }
      const part = await model.getSharded("x.weight", 0, { from: "file" });
      assertEquals([...(await part.copyToHost()).toFloat32()], [2, 2, 2, 2]);
    }
  });

  test("a scale that does not fit refuses its tensor only", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const bad: TensorSpec[] = [
      { name: "bad.weight", dtype: "F8_E4M3", shape: [5, 7] },
      { name: "bad.weight_scale_inv", dtype: "F32", shape: [3, 3] },
    ];
    await writeFile(path, [...bad, ...ONES]);
    await using model = await fastsafeOpen(path, { dequantize: true });
    assertEquals(model.keys(), ["x.weight", "norm"]);
    const error = await assertRejects(() => model.getTensor("bad.weight"), SafeTensorsError);
    assertEquals([error.code, error.tensor], ["InvalidTensorView", "bad.weight"]);
    const message =
      'Cannot dequantize tensor "bad.weight": its scale of shape [3,3] does not fit its shape [5,7]';
    assertEquals(error.message, message);
    await using other = await fastsafeOpen(path, { dequantize: { block: [2, 3] }, names: "bad.weight" });
    assertEquals(other.keys(), ["bad.weight"]);
  });

  test("a model without scales says so, and refuses wrong values of the option", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, ONES.slice(2));
    await using model = await fastsafeOpen(path, { dequantize: true });
    assert(model.stats().notes.includes("dequantize: no tensor of 8-bit floats has a scale"));
    for (
      const value of ["yes", 1, { blocks: [1, 1] }, { block: 128 }, { block: [0, 1] }, { block: [1, 2, 3] }]
    ) {
      await assertRejects(() => fastsafeOpen(path, { dequantize: value as never }), TypeError, "block");
    }
  });

  test("a quantized tensor of a file that was cut is an error of that tensor", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const long: TensorSpec = { name: "y.weight", dtype: "F8_E4M3", shape: [3000, 1000] };
    await writeFile(path, [...ONES, { ...ONES[1]!, name: "y.weight_scale" }, long]);
    await using model = await fastsafeOpen(path, { dequantize: true, lazy: true });
    await Deno.truncate(path, (await Deno.stat(path)).size - 2_500_000);
    await assertRejects(() => model.getTensor("y.weight"), ReadError);
  });

  test("a cast without the scales is noted", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, ONES);
    const note = 'The option dtype casts tensors of 8-bit floats without their scales, such as "x.weight": ' +
      "dequantize: true multiplies by them";
    for (
      const [options, notes] of [[{}, []], [{ dtype: "F16" }, [note]], [
        { dtype: "F16", dequantize: true },
        [],
      ]] as const
    ) {
      await using model = await fastsafeOpen(path, options);
      await model.whenLoaded();
      assertEquals(model.stats().notes.filter((one) => one.includes("8-bit")), [...notes]);
    }
  });

  test("a model that was quantized while it was saved is dequantized while it is loaded and saved", async (folder) => {
    const w = HostTensor.from({ shape: [3, 130], data: new Float32Array(390).map((_, index) => index - 64) });
    const b = HostTensor.from({ shape: [2], data: new Float32Array([1, 2]) });
    await saveFile({ "l.weight": w, "l.bias": b }, `${folder}/model.safetensors`, {
      async map(name, tensor) {
        if (!name.endsWith(".weight")) return tensor;
        const { weight, scale } = await quantize(tensor);
        return { [name]: weight, [`${name}_scale_inv`]: scale };
      },
    });
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(`${folder}/model.safetensors`, {
        dequantize: true,
        lazy,
        dtype: "F32",
      });
      await saveFile(model, `${folder}/copy.safetensors`, { overwrite: true });
    }
    await using copy = await fastsafeOpen(`${folder}/copy.safetensors`);
    assertEquals(copy.keys().sort(), ["l.bias", "l.weight"]);
    const values = (await (await copy.getTensor("l.weight")).copyToHost()).as("F32").data;
    for (const [index, value] of values.entries()) {
      const error = Math.abs(value - (index - 64));
      assert(error <= Math.abs(index - 64) / 16 + 0.01, `${index}: ${value}`);
    }
  });
}
