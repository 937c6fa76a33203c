/**
 * Casts of integers on a GPU, which go through host memory.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { fastsafeOpen } from "../../mod.ts";
import { writeFile } from "./models.ts";

/** Casts three integers on a device, also with values that do not fit. */
export async function assertIntegerCasts(folder: string, device: "cuda" | "webgpu"): Promise<void> {
  const path = `${folder}/model.safetensors`;
  const bytes = new Uint8Array(new BigInt64Array([1n, -2n, 300n]).buffer);
  await writeFile(path, [{ name: "ids", dtype: "I64", shape: [3], bytes }]);
  await using model = await fastsafeOpen(path, { device });
  using ids = await model.getTensor("ids");
  using cast = await ids.to({ dtype: "I16" });
  using narrow = await model.getTensor("ids", { dtype: "I8", saturate: true });
  assertEquals((await cast.copyToHost()).bytes, new Uint8Array([1, 0, 0xfe, 0xff, 0x2c, 1]));
  assertEquals((await narrow.copyToHost()).bytes, new Uint8Array([1, 0xfe, 127]));
  await assertRejects(() => ids.to({ dtype: "U8" }), RangeError, "element [1] is -2");
}
