/**
 * Integer casts of tensors and models.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen, HostTensor, SafeTensorsError, serialize } from "../../mod.ts";
import "../support/open_library.ts";

Deno.test("to() casts integers to integers, and names a value that does not fit", async () => {
  const ids = HostTensor.from({
    name: "ids",
    shape: [2, 3],
    data: new BigInt64Array([0n, -1n, 7n, 8n, 9n, 5n]),
  });
  const narrow = await ids.to({ dtype: "I32" });
  assertEquals([narrow.dtype, narrow.shape, narrow.name], ["I32", [2, 3], "ids"]);
  assertEquals(narrow.data, new Int32Array([0, -1, 7, 8, 9, 5]));
  assertEquals((await narrow.to({ dtype: "I64" })).data, ids.data);
  const message = 'Cannot cast tensor "ids" from I64 to U8: element [0,1] is -1, outside of 0 to 255; ' +
    "saturate: true makes it the nearest of these";
  await assertRejects(() => ids.to({ dtype: "U8" }), RangeError, message);
  assertEquals((await ids.to({ dtype: "U8", saturate: true })).data, new Uint8Array([0, 0, 7, 8, 9, 5]));
  await assertRejects(() => ids.to({ dtype: "I32", saturate: 1 as never }), TypeError, "saturate must be");
  for (const dtype of ["F32", "C64"] as const) {
    const error = await assertRejects(() => ids.to({ dtype }), SafeTensorsError);
    assertEquals(error.code, "UnsupportedCast");
  }
});

Deno.test("to() casts a large tensor in several turns, and gives the position of the value in all of it", async () => {
  const size = 300_001;
  const data = new BigInt64Array(size).map((_, index) => BigInt(index));
  const ids = HostTensor.from({ name: "ids", shape: [size], data });
  assertEquals((await ids.to({ dtype: "U32" })).data, new Uint32Array(size).map((_, index) => index));
  data[299_999] = 2n ** 40n;
  const message = "element [299999] is 1099511627776, outside of 0 to 4294967295";
  await assertRejects(() => ids.to({ dtype: "U32" }), RangeError, message);
});

Deno.test("getTensor(), getSlice(), getRows() and getSharded() cast integers", async () => {
  const path = await Deno.makeTempFile({ suffix: ".safetensors" });
  const ids = { dtype: "I64", shape: [3, 2], data: new BigInt64Array([1n, 2n, 3n, 4n, 500n, 6n]) } as const;
  const mask = { dtype: "BOOL", shape: [2], data: new Uint8Array([0, 1]) } as const;
  await Deno.writeFile(path, serialize({ ids, mask }));
  for (const lazy of [false, true]) {
    await using model = await fastsafeOpen(path, { lazy, dtype: "F16" });
    const whole = await model.getTensor("ids", { dtype: "I32" });
    assertEquals(whole.data, new Int32Array([1, 2, 3, 4, 500, 6]));
    assertEquals((await model.getTensor("mask", { dtype: "I16" })).data, new Int16Array([0, 1]));
    const slice = await model.getSlice("ids", [0, 2], 1, { dtype: "U8" });
    assertEquals([slice.shape, slice.data], [[2], new Uint8Array([2, 4])]);
    const rows = await model.getRows("ids", [2, 0], { dtype: "U8", saturate: true });
    assertEquals(rows.data, new Uint8Array([255, 6, 1, 2]));
    for (const from of ["group", "file"] as const) {
      const part = await model.getSharded("ids", 0, { dtype: "I16", from });
      assertEquals(part.data, new Int16Array([1, 2, 3, 4, 500, 6]));
    }
    await assertRejects(() => model.getTensor("ids", { dtype: "I8" }), RangeError, "element [2,0] is 500");
    assertEquals((await model.getTensor("ids")).data, ids.data);
  }
  await Deno.remove(path);
});
