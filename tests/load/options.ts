/**
 * Invalid options are rejected before any file is opened.
 */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { OpenOptions } from "../../mod.ts";
import { assertTensor, writeFile } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import type { DefineTest } from "./context.ts";
import { fastsafeOpen, SafeTensorsFileLoader } from "./api_in_use.ts";

const SENSELESS: readonly [options: Record<string, unknown>, error: typeof Error, part: string][] = [
  [{ maxThreads: 0 }, RangeError, "maxThreads"],
  [{ maxThreads: 17 }, RangeError, "maxThreads"],
  [{ maxThreads: 1.5 }, RangeError, "maxThreads"],
  [{ maxThreads: NaN }, RangeError, "maxThreads"],
  [{ maxThreads: Infinity }, RangeError, "maxThreads"],
  [{ maxThreads: "4" }, TypeError, "maxThreads"],
  [{ blockBytes: 0 }, RangeError, "blockBytes"],
  [{ blockBytes: -4096 }, RangeError, "blockBytes"],
  [{ blockBytes: 1.5 }, RangeError, "blockBytes"],
  [{ blockBytes: 5000 }, RangeError, "multiple of 4096"],
  [{ blockBytes: NaN }, RangeError, "blockBytes"],
  [{ blockBytes: 2 ** 40 }, RangeError, "blockBytes"],
  [{ stagingBytes: 0 }, RangeError, "stagingBytes"],
  [{ stagingBytes: NaN }, RangeError, "stagingBytes"],
  [{ stagingBytes: 2 ** 50 }, RangeError, "stagingBytes"],
  [{ device: "cpu:0" }, TypeError, "cpu:0"],
  [{ device: "gpu" }, TypeError, "gpu"],
  [{ device: "" }, TypeError, "device"],
  [{ dtype: "I32" }, TypeError, "I32"],
  [{ dtype: "f32" }, TypeError, "f32"],
  [{ dtype: "float32" }, TypeError, "float32"],
  [{ dtype: "C64" }, TypeError, "C64"],
  [{ dtype: "F4" }, TypeError, "F4"],
  [{ names: 5 }, TypeError, "names"],
  [{ names: 5 }, TypeError, "5"],
];

export function optionTests(test: DefineTest): void {
  for (const [options, type, part] of SENSELESS) {
    test(`fastsafeOpen() rejects ${Deno.inspect(options)}`, async (folder) => {
      await assertRejects(() => fastsafeOpen(`${folder}/missing`, options as OpenOptions<"cpu">), type, part);
      if ("names" in options || "dtype" in options) return;
      assertThrows(() => new SafeTensorsFileLoader(null, options as OpenOptions<"cpu">), type, part);
    });
  }

  test("fastsafeOpen() accepts the smallest and the largest values of options", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [x] = await writeFile(path, [{ name: "x", dtype: "BF16", shape: [1000, 77] }], { misalignment: 1 });
    const extremes: OpenOptions<"cpu">[] = [
      { maxThreads: 1, blockBytes: 4096, stagingBytes: 65_536 },
      { maxThreads: 16, blockBytes: 2 ** 26, stagingBytes: 2 ** 32 },
      { maxThreads: 16, blockBytes: 4096, stagingBytes: 65_536, device: "cpu", dtype: "BF16" },
    ];
    for (const options of extremes) {
      await using model = await fastsafeOpen(path, options);
      assertTensor(await model.getTensor("x"), x!);
    }
  });

  test("fastsafeOpen() closes its files when a callback throws", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "BF16", shape: [1000, 77] }]);
    const names = () => {
      throw new Error("of the user");
    };
    await assertRejects(() => fastsafeOpen(path, { names }), Error, "of the user");
    assertEquals(openDescriptors(folder), 0);
  });
}
