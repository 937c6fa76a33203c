/**
 * Slices, shards and joins on the GPU, compared with those of the CPU.
 */
import { assertEquals, assertRejects } from "@std/assert";
import { type DType, fastsafeOpen, SafeTensorsError, type SliceIndex } from "../../mod.ts";
import { SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { shardSlice } from "../../src/format/slices.ts";
import { assertBytes, type TensorSpec, writeFile } from "../support/models.ts";
import { toHost, WatchedDevice, webgpuSuite } from "./support.ts";

/** Slices of tensors of [6, 5, 8] that are rows, columns, steps, scalars and empty; whole words or not. */
const SLICES: readonly SliceIndex[][] = [
  [],
  [[1, 4]],
  [null, [1, 4]],
  [null, null, [2, 7]],
  [[0, 6, 2], [4, 0]],
  [[0, 6, 2], [0, 5, 3], [1, 8, 2]],
  [3],
  ["...", 5],
  [-1, -1, -1],
  [null, [0, 5, 4], 0],
];

webgpuSuite("Slices and joins on WebGPU", (test) => {
  test("getSlice() returns the CPU's result, at every alignment", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const dtypes = ["U8", "BF16", "F32", "I64", "F4", "F6_E2M3"] as const;
    await writeFile(path, dtypes.map((dtype): TensorSpec => ({ name: dtype, dtype, shape: [6, 5, 8] })), {
      misalignment: 3,
    });
    await using host = await fastsafeOpen(path);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "webgpu", lazy, blockBytes: 4096 });
      for (const name of dtypes) {
        for (const slices of SLICES) {
          let expected;
          try {
            expected = await host.getSlice(name, ...slices);
          } catch (error) {
            await assertRejects(
              () => model.getSlice(name, ...slices),
              SafeTensorsError,
              (error as Error).message,
            );
            continue;
          }
          using actual = await model.getSlice(name, ...slices);
          const what = `${name}[${JSON.stringify(slices)}], lazy: ${lazy}`;
          assertEquals([actual.dtype, actual.shape], [expected.dtype, expected.shape], what);
          assertBytes((await actual.copyToHost()).bytes, expected.bytes, what);
        }
      }
    }
  });

  test("getSlice() supports slices with several dispatches, or thousands of copies", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [
      { name: "bytes", dtype: "U8", shape: [300, 1001] },
      { name: "words", dtype: "F32", shape: [300, 250] },
    ]);
    await using host = await fastsafeOpen(path);
    using watched = await WatchedDevice.create({
      limits: { maxStorageBufferBindingSize: 16_384, maxComputeWorkgroupsPerDimension: 40 },
    });
    await using model = await fastsafeOpen(path, { device: watched.device });
    for (const name of ["bytes", "words"]) {
      for (
        const slices of [
          [[1, 299]],
          [null, [1, 249]],
          [[0, 300, 2], [0, 250, 3]],
          [[3, 300, 99], 7],
        ] as SliceIndex[][]
      ) {
        const expected = await host.getSlice(name, ...slices);
        const actual = await toHost(await model.getSlice(name, ...slices));
        assertBytes(actual.bytes, expected.bytes, `${name}[${JSON.stringify(slices)}]`);
      }
      // Also with a cast.
      if (name === "bytes") continue;
      using whole = await model.getTensor(name);
      const cast = await toHost(await whole.to({ dtype: "BF16" }));
      assertBytes(cast.bytes, (await (await host.getTensor(name)).to({ dtype: "BF16" })).bytes, name);
    }
  });

  test("getMultiCols() joins tensors like the CPU", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const shapes: Record<string, [DType, number[], number[], number]> = {
      rows: ["BF16", [3, 7], [2, 7], 0],
      columns: ["BF16", [5, 3], [5, 4], 1],
      words: ["F32", [70, 3], [70, 1], 1],
      few: ["F32", [2, 3], [2, 5], 1],
      bytes: ["U8", [9, 2, 1], [9, 2, 5], 2],
      none: ["U8", [4, 0], [4, 3], 1],
      nothing: ["U8", [0, 2], [0, 3], 1],
      nibbles: ["F4", [3, 4], [3, 2], 1],
    };
    await writeFile(
      path,
      Object.entries(shapes).flatMap(([name, [dtype, a, b]]): TensorSpec[] => [
        { name: `${name}.a`, dtype, shape: a },
        { name: `${name}.b`, dtype, shape: b },
      ]),
      { misalignment: 1 },
    );
    await using hostLoader = new SafeTensorsFileLoader(null);
    await using loader = new SafeTensorsFileLoader(null, { device: "webgpu" });
    await Promise.all([hostLoader, loader].map((each) => each.addFilenames({ 0: path })));
    await using host = await hostLoader.copyFilesToDevice();
    await using gpu = await loader.copyFilesToDevice();
    for (const [name, [dtype, , , dimension]] of Object.entries(shapes)) {
      const names = [`${name}.a`, `${name}.b`, `${name}.a`];
      const expected = await host.getMultiCols(names, dimension);
      using actual = await gpu.getMultiCols(names, dimension);
      assertEquals([actual.name, actual.dtype, actual.shape], [expected.name, dtype, expected.shape]);
      assertBytes((await actual.copyToHost()).bytes, expected.bytes, name);
    }
    await assertRejects(() => gpu.getMultiCols(["nibbles.a", "nibbles.a"], 2), RangeError, "dimension 2");
  });

  test("getSharded() returns this rank's part, and getSlice() the part of any rank", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [written] = await writeFile(path, [{ name: "x", dtype: "BF16", shape: [7, 3] }]);
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(path, { device: "webgpu", lazy });
      for (const dimension of [0, 1]) {
        assertBytes((await toHost(await model.getSharded("x", dimension))).bytes, written!.bytes, "x");
      }
      for (const rank of [0, 1, 2]) {
        const { start, stop } = shardSlice([7, 3], 0, rank, 3);
        const rows = await toHost(await model.getSlice("x", [start, stop]));
        assertEquals([rows.shape, rows.bytes], [
          [stop - start, 3],
          written!.bytes.slice(start * 6, stop * 6),
        ]);
        const column = await toHost(await model.getSlice("x", null, [rank, rank + 1]));
        const expected = Array.from({ length: 7 }, (_, row) => {
          return [...written!.bytes.subarray(row * 6 + rank * 2, row * 6 + rank * 2 + 2)];
        });
        assertEquals([column.shape, [...column.bytes]], [[7, 1], expected.flat()]);
      }
    }
  });
});
