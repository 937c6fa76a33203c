/**
 * quantize(), with the results of tests/data/scaled.json, which PyTorch has computed.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { HostTensor, quantize, SafeTensorsError } from "../../mod.ts";
import { readScaled, toBytes } from "../support/scaled.ts";
import "../support/open_library.ts";

for (
  const [index, { dtype, shape, kind, values, weight, scaleShape, scale }] of readScaled().quantized.entries()
) {
  const what = typeof kind === "string" ? kind : `blocks of [${kind.block}]`;
  Deno.test(`quantize() gives the bits of PyTorch: ${dtype} [${shape}] by ${what}, case ${index}`, async () => {
    const bytes = toBytes(values, "F32");
    const tensor = new HostTensor("x.weight", "F32", shape, bytes.slice());
    const result = await quantize(tensor, { dtype, scale: kind });
    assertEquals([result.weight.dtype, result.weight.shape, result.weight.name], [dtype, shape, "x.weight"]);
    assertEquals(result.weight.bytes, new Uint8Array(weight));
    const name = `x.weight_scale${typeof kind === "string" ? "" : "_inv"}`;
    assertEquals([result.scale.dtype, result.scale.shape, result.scale.name], ["F32", scaleShape, name]);
    assertEquals(result.scale.bytes, toBytes(scale, "F32"));
    assertEquals(tensor.bytes, bytes); // unchanged
  });
}

Deno.test("quantize() has DeepSeek's blocks by default, and takes any floating dtype and empty tensors", async () => {
  const half = HostTensor.from({ shape: [130, 129], data: new Float16Array(130 * 129).fill(2) });
  const { weight, scale } = await quantize(half);
  assertEquals([weight.dtype, scale.shape], ["F8_E4M3", [2, 2]]);
  assertEquals(weight.bytes, new Uint8Array(130 * 129).fill(0x7e)); // 448
  assertEquals(scale.data, new Float32Array(4).fill(2 / 448));
  for (const [kind, shape] of [["row", [0, 1]], ["column", [0, 4]], ["tensor", [1]]] as const) {
    const none = HostTensor.from({ shape: [0, 4], data: new Float32Array(0) });
    assertEquals((await quantize(none, { scale: kind })).scale.shape, shape);
  }
  const scalar = HostTensor.from({ shape: [], data: new Float32Array([-3]) });
  assertEquals((await quantize(scalar, { scale: "tensor" })).weight.bytes, new Uint8Array([0xfe]));
});

Deno.test("quantize() refuses values that are not finite, too few dimensions, and wrong options", async () => {
  const vector = HostTensor.from({ name: "v", shape: [3], data: new Float32Array([1, NaN, Infinity]) });
  await assertRejects(
    () => quantize(vector, { scale: "tensor" }),
    RangeError,
    'Cannot quantize tensor "v": element 1 is NaN',
  );
  await assertRejects(() => quantize(vector), TypeError, "rows and columns need two dimensions");
  const ids = HostTensor.from({ shape: [1, 1], data: new Int32Array(1) });
  await assertRejects(() => quantize(ids), SafeTensorsError, "from I32 to F32");
  const wrong = [{ dtype: "F16" }, { dtype: "F8_E8M0" }, { scale: "rows" }, { scale: { block: [1] } }, {
    block: 1,
  }];
  for (const options of wrong) {
    await assertRejects(() => quantize(vector, options as never), TypeError);
  }
});
