/**
 * Whole tensors in buffers: every dtype, unusual shapes and positions.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { type DType, DTYPES, fastsafeOpen, OutOfMemoryError, saveFile } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { selectEngine } from "../../src/load/native/select.ts";
import { noise, type TensorSpec, writeFile, writeHole, writeShards } from "../support/models.ts";
import { advisedBytes } from "../support/process.ts";
import { assertOnGpu, toHost, WatchedDevice, webgpuSuite } from "./support.ts";

const DATA = new URL("../data/reference/", import.meta.url).pathname;

const engine = await selectEngine();

/** A few tensors of every dtype, with shapes that leave all offsets unaligned. */
const EVERY_DTYPE: TensorSpec[] = DTYPES.flatMap((dtype): TensorSpec[] => [
  { name: `${dtype}.matrix`, dtype, shape: [3, 8] },
  { name: `${dtype}.empty`, dtype, shape: [0, 7] },
  { name: `${dtype}.row`, dtype, shape: [1, 4, 1] },
]);

webgpuSuite("fastsafeOpen() to WebGPU", (test) => {
  test("fastsafeOpen() loads all 22 dtypes of a file by the reference implementation", async () => {
    const expected: Record<string, { dtype: DType; shape: number[]; sha256: string }> = JSON.parse(
      await Deno.readTextFile(`${DATA}all_dtypes.expected.json`),
    );
    for (const lazy of [false, true]) {
      await using model = await fastsafeOpen(`${DATA}all_dtypes.safetensors`, { device: "webgpu", lazy });
      assertEquals(model.keys().sort(), Object.keys(expected).sort());
      for (const [name, { dtype, shape, sha256 }] of Object.entries(expected)) {
        const { bytes, ...tensor } = await toHost(await model.getTensor(name));
        const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
        assertEquals([tensor.dtype, tensor.shape, sum], [dtype, shape, sha256], name);
      }
    }
  });

  test("fastsafeOpen() loads every dtype at every alignment", async (folder) => {
    for (const misalignment of [0, 1, 6]) {
      const path = `${folder}/${misalignment}.safetensors`;
      const tensors = await writeFile(path, EVERY_DTYPE, { misalignment });
      await using model = await fastsafeOpen(path, { device: "webgpu" });
      for (const tensor of tensors) await assertOnGpu(await model.getTensor(tensor.name), tensor);
    }
  });

  test("a tensor can be bound: its offset is aligned, its padding is zeros", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = [1, 2, 3, 4, 5, 33, 255, 256, 257, 4095, 4097].map((size): TensorSpec => {
      return { name: `t${size}`, dtype: "U8", shape: [size], bytes: noise(size, size) };
    });
    const tensors = await writeFile(path, specs, { misalignment: 3 });
    await using model = await fastsafeOpen(path, {
      device: "webgpu",
      blockBytes: 4096,
      stagingBytes: 65_536,
    });
    for (const { name, bytes } of tensors) {
      using tensor = await model.getTensor(name);
      const { device, buffer, byteOffset, byteLength, paddedByteLength } = tensor;
      assertEquals(byteOffset % device.limits.minStorageBufferOffsetAlignment, 0);
      assertEquals([byteLength, paddedByteLength], [bytes.length, Math.ceil(bytes.length / 4) * 4]);
      assertEquals([...tensor.views], [{ buffer, offset: byteOffset, size: paddedByteLength }]);
      const padded = await readBuffer(tensor.device, buffer, byteOffset, paddedByteLength);
      assertEquals(padded.slice(0, byteLength), bytes);
      assert(padded.slice(byteLength).every((byte) => byte === 0), name);
    }
  });

  test("tensors share buffers, which have the requested usage", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 50 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "F16", shape: [index] };
    });
    await writeFile(path, specs);
    const { STORAGE, COPY_SRC, COPY_DST, VERTEX } = GPUBufferUsage;
    for (const more of [0, VERTEX]) {
      await using model = await fastsafeOpen(path, { device: "webgpu", gpuBufferUsage: more });
      const tensors = await Array.fromAsync(model, ([, tensor]) => tensor);
      assertEquals(tensors.length, 50);
      assertEquals(new Set(tensors.map(({ buffer }) => buffer)).size, 1);
      using cast = await tensors[9]!.to({ dtype: "F32" });
      for (const tensor of [...tensors, cast]) {
        assertEquals(tensor.buffer.usage, STORAGE | COPY_SRC | COPY_DST | more);
        tensor[Symbol.dispose]();
      }
    }
    for (const gpuBufferUsage of [1, 2, GPUBufferUsage.MAP_READ | VERTEX, -4, 4096, 0.5]) {
      await assertRejects(
        () => fastsafeOpen(path, { device: "webgpu", gpuBufferUsage }),
        RangeError,
        "gpuBufferUsage",
      );
    }
  });

  test("fastsafeOpen() loads empty tensors at every position", async (folder) => {
    const empty = (name: string): TensorSpec => ({ name, dtype: "F32", shape: [0] });
    const full = (name: string, length: number): TensorSpec => ({ name, dtype: "U8", shape: [length] });
    const models = [
      [],
      [empty("a")],
      [empty("a"), full("x", 3), empty("b"), empty("c"), full("y", 4096), empty("d")],
      [full("x", 8192), { name: "e", dtype: "I64", shape: [3, 0, 5] } as const, full("y", 1)],
    ];
    for (const [index, specs] of models.entries()) {
      const path = `${folder}/${index}.safetensors`;
      const tensors = await writeFile(path, specs);
      for (const lazy of [false, true]) {
        await using model = await fastsafeOpen(path, {
          device: "webgpu",
          lazy,
          dtype: "F16",
          blockBytes: 4096,
        });
        for (const { name, dtype, bytes, shape } of tensors.toReversed()) {
          using tensor = await model.getTensor(name);
          assertEquals([tensor.dtype, tensor.shape], [dtype === "F32" ? "F16" : dtype, shape]);
          assertEquals([tensor.byteLength, tensor.views.length], [bytes.length, bytes.length > 0 ? 1 : 0]);
          assertEquals((await tensor.copyToHost()).bytes, bytes);
        }
        assertEquals((await Array.fromAsync(model)).length, specs.length);
      }
    }
  });

  test("fastsafeOpen() loads tensors that cross and share blocks and chunks", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const sizes = [1, 4095, 4096, 4097, 3, 100_000, 8192, 1, 1, 300_001, 12_288];
    const specs = sizes.map((size, index): TensorSpec => ({ name: `t${index}`, dtype: "U8", shape: [size] }));
    const tensors = await writeFile(path, specs, { padding: 1000, misalignment: 1 });
    for (const blockBytes of [4096, 8192, 65_536, 4 * 2 ** 20]) {
      for (const [maxThreads, stagingBytes] of [[1, 65_536], [2, 400_000], [16, 2 ** 26]] as const) {
        const options = { device: "webgpu", blockBytes, maxThreads, stagingBytes } as const;
        await using model = await fastsafeOpen(path, options);
        for (const tensor of tensors) await assertOnGpu(await model.getTensor(tensor.name), tensor);
      }
    }
  });

  test("fastsafeOpen() loads many small files and many small tensors", async (folder) => {
    const shards = Array.from(
      { length: 20 },
      (_, file) =>
        Array.from({ length: 30 }, (_, index): TensorSpec => {
          return { name: `${file}.${index}`, dtype: index % 3 ? "F16" : "U8", shape: [index * 7] };
        }),
    );
    const { tensors } = await writeShards(folder, shards, { misalignment: 5 });
    await using model = await fastsafeOpen(folder, { device: "webgpu" });
    const { device, tensors: none } = model.stats();
    assertEquals([device, none <= tensors.length], ["webgpu", true]);
    for (const tensor of tensors.filter((_, index) => index % 7 === 0)) {
      await assertOnGpu(await model.getTensor(tensor.name), tensor);
    }
    await model.whenLoaded();
    const { tensors: count, bytes } = model.stats();
    assertEquals([count, bytes], [600, tensors.reduce((sum, tensor) => sum + tensor.bytes.length, 0)]);
  });

  test("the caller's device is used unchanged, and not destroyed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [tensor] = await writeFile(path, [{ name: "x", dtype: "BF16", shape: [5, 7] }]);
    const device = await (await navigator.gpu.requestAdapter())!.requestDevice();
    assertEquals(device.features.has("shader-f16"), false);
    const model = await fastsafeOpen(path, { device });
    const x = await model.getTensor("x");
    assertEquals(x.device, device);
    await model.close();
    using half = await x.to({ dtype: "F16" }); // without shader-f16
    assertEquals(half.byteLength, 70);
    await assertOnGpu(x, tensor!);
    const lost = await Promise.race([device.lost, Promise.resolve(null)]);
    assertEquals(lost, null);
    device.destroy();
  });

  test("the buffers of a software adapter are on huge pages", async (folder) => {
    const adapter = await navigator.gpu.requestAdapter();
    const isAsked = adapter!.info.isFallbackAdapter && engine.withHugePages !== undefined;
    const path = `${folder}/model.safetensors`;
    const bytes = 300 * 2 ** 20; // larger than the blocks from which drivers allocate smaller buffers
    await writeHole(path, bytes);
    using watched = await WatchedDevice.create();
    const before = advisedBytes();
    await using model = await fastsafeOpen(path, { device: watched.device });
    await model.whenLoaded();
    const asked = advisedBytes() - before;
    if (isAsked) assert(asked > bytes - 4 * 2 ** 20, `${asked} of ${bytes} bytes`);
    else assert(asked < bytes / 2, `${asked} bytes, which are not this process's to page`);
  });

  test('device "webgpu" is one device, with all limits and shader-f16 of its adapter', async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [1] }]);
    const adapter = (await navigator.gpu.requestAdapter())!;
    const devices = await Promise.all([0, 1].map(async () => {
      await using model = await fastsafeOpen(path, { device: "webgpu" });
      using x = await model.getTensor("x");
      return x.device;
    }));
    assertEquals(devices[0], devices[1]);
    const [device] = devices;
    assertEquals(device!.limits.maxBufferSize, adapter.limits.maxBufferSize);
    assertEquals(device!.limits.maxStorageBufferBindingSize, adapter.limits.maxStorageBufferBindingSize);
    assertEquals(device!.features.has("shader-f16"), adapter.features.has("shader-f16"));
  });

  test("a tensor larger than a binding has several views; one larger than a buffer is rejected", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [large] = await writeFile(path, [
      { name: "large", dtype: "U8", shape: [5, 41_001] },
      { name: "small", dtype: "U8", shape: [3] },
    ]);
    using bindings = await WatchedDevice.create({ limits: { maxStorageBufferBindingSize: 65_536 } });
    {
      await using model = await fastsafeOpen(path, { device: bindings.device });
      using tensor = await model.getTensor("large");
      const { buffer, byteOffset: offset } = tensor;
      assertEquals([...tensor.views], [
        { buffer, offset, size: 65_536 },
        { buffer, offset: offset + 65_536, size: 65_536 },
        { buffer, offset: offset + 131_072, size: 65_536 },
        { buffer, offset: offset + 196_608, size: 8400 },
      ]);
      assertEquals((await tensor.copyToHost()).bytes, large!.bytes);
    }
    using buffers = await WatchedDevice.create({ limits: { maxBufferSize: 131_072 } });
    const error = await assertRejects(
      () => fastsafeOpen(path, { device: buffers.device }),
      OutOfMemoryError,
      'Cannot load tensor "large" to the GPU: it has 205005 bytes, and a buffer of this device at most 131072 ' +
        "(maxBufferSize): open with lazy: true and get slices of it",
    );
    assertEquals([error.requested, error.free], [205_005, 131_072]);
    assertEquals(buffers.buffers.size, 0);
    await using lazy = await fastsafeOpen(path, { device: buffers.device, lazy: true }); // the remedy
    const rows = await toHost(await lazy.getSlice("large", [1, 4]));
    assertEquals(rows.bytes, large!.bytes.slice(41_001, 4 * 41_001));
  });

  test("many tensors fill buffers up to the limit of the device", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const specs = Array.from({ length: 20 }, (_, index): TensorSpec => {
      return { name: `t${index}`, dtype: "U8", shape: [20_000 + index] };
    });
    const tensors = await writeFile(path, specs);
    using watched = await WatchedDevice.create({ limits: { maxBufferSize: 65_536 } });
    await using model = await fastsafeOpen(path, { device: watched.device });
    for (const tensor of tensors) await assertOnGpu(await model.getTensor(tensor.name), tensor);
    assertEquals(watched.buffers.size, 7);
    for (const size of watched.sizes) assert(size <= 65_536, `${size}`);
  });

  test("SafeTensorsFileLoader, ParallelLoader and saveFile support WebGPU", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const tensors = await writeFile(path, EVERY_DTYPE, { misalignment: 2 });
    await using loader = new SafeTensorsFileLoader(null, { device: "webgpu" });
    await loader.addFilenames({ 0: path });
    await using buffer = await loader.copyFilesToDevice();
    for (const tensor of tensors) await assertOnGpu(await buffer.getTensor(tensor.name), tensor);

    const seen: string[] = [];
    const parallel = new ParallelLoader(null, path, { device: "webgpu", maxBytesInFlight: 100 });
    for await (const [name, tensor] of parallel.iterateWeights()) {
      seen.push(name);
      await assertOnGpu(tensor, tensors.find((written) => written.name === name)!);
    }
    assertEquals(seen.sort(), tensors.map(({ name }) => name).sort());

    await using model = await fastsafeOpen(path, { device: "webgpu" });
    await saveFile(model, `${folder}/copy.safetensors`);
    await using copy = await fastsafeOpen(`${folder}/copy.safetensors`);
    for (const { name, bytes } of tensors) assertEquals((await copy.getTensor(name)).bytes, bytes, name);
  });
});

/** Reads the bytes of a buffer without the package. */
async function readBuffer(
  device: GPUDevice,
  buffer: GPUBuffer,
  offset: number,
  size: number,
): Promise<Uint8Array> {
  const target = device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, target, 0, size);
  device.queue.submit([encoder.finish()]);
  await target.mapAsync(GPUMapMode.READ);
  const bytes = new Uint8Array(target.getMappedRange()).slice();
  target.destroy();
  return bytes;
}
