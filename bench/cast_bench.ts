/**
 * Casts of 64 Mi elements: fused into the load, and of a tensor that is in memory already.
 */
import { type DType, fastsafeOpen, type FloatDType, HostTensor, serialize } from "../mod.ts";
import { tempFolder } from "./temp_folder.ts";

const ELEMENTS = 2 ** 26;
const folder = tempFolder();

const CASTS: readonly (readonly [from: DType, elementBytes: number, to: FloatDType])[] = [
  ["BF16", 2, "F32"],
  ["F16", 2, "F32"],
  ["F8_E4M3", 1, "BF16"],
  ["F32", 4, "BF16"],
  ["F32", 4, "F16"],
];

for (const [from, elementBytes, to] of CASTS) {
  const path = `${folder}/${from}.safetensors`;
  const data = new Uint8Array(ELEMENTS * elementBytes).fill(0x3c); // 1.0 or a little less or more, in each of them
  await Deno.writeFile(path, serialize({ x: { dtype: from, shape: [ELEMENTS], data } }));

  Deno.bench(
    { name: `${from} to ${to} while loading`, group: `${from} to ${to}`, n: 5, warmup: 1 },
    async () => {
      await using model = await fastsafeOpen(path, { dtype: to });
      await model.whenLoaded();
    },
  );

  const small = new HostTensor("x", from, [2 ** 20], data.slice(0, 2 ** 20 * elementBytes));
  Deno.bench({ name: `${from} to ${to} in memory, 1 Mi elements`, n: 10, warmup: 2 }, async () => {
    await small.to({ dtype: to });
  });
}
