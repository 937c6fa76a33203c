/**
 * The course and the end of a load to the GPU: streaming, signals, closing, and devices that fail meanwhile.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  DeviceError,
  fastsafeOpen,
  OutOfMemoryError,
  type Progress,
  ReadError,
  UseAfterCloseError,
} from "../../mod.ts";
import { ParallelLoader } from "../../src/compat/mod.ts";
import {
  assertTensor,
  noise,
  type TensorSpec,
  writeFile,
  writeHole,
  type Written,
} from "../support/models.ts";
import { assertOnGpu, toHost, WatchedDevice, webgpuSuite } from "./support.ts";

/** Makes a load take many chunks. */
const SMALL_CHUNKS = { blockBytes: 4096, stagingBytes: 65_536, maxThreads: 2 };

const SPECS: TensorSpec[] = Array.from({ length: 40 }, (_, index) => {
  return { name: `t${index}`, dtype: "BF16", shape: [index + 1, 1001] };
});

async function writeModel(folder: string): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/model.safetensors`;
  const specs = SPECS.map((spec, index) => {
    const bytes = noise(spec.shape[0]! * 2002, index + 1);
    return { ...spec, bytes: bytes.map((byte, at) => at % 2 ? byte & 0xbf : byte) }; // without NaN, which a cast changes
  });
  return [path, await writeFile(path, specs, { misalignment: 2 })];
}

webgpuSuite("Loads to WebGPU", (test) => {
  test("tensors stream in file order, and can be used while others are still being read", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    const told: Progress[] = [];
    const onProgress = (progress: Progress) => void told.push(progress);
    await using model = await fastsafeOpen(path, { device: "webgpu", onProgress, ...SMALL_CHUNKS });
    const order: string[] = [];
    let early = 0;
    for await (const [name, tensor] of model) {
      if (model.stats().tensors < tensors.length) early++;
      order.push(name);
      await assertOnGpu(tensor, tensors[order.length - 1]!);
    }
    assertEquals(order, tensors.map(({ name }) => name));
    assert(early > 0, "the first tensor came when all had landed");
    const { bytes, totalBytes, tensors: landed } = told.at(-1)!;
    assertEquals([bytes, landed], [totalBytes, tensors.length]);
    const { device, path: way, threads } = model.stats();
    assertEquals([device, ["buffered", "direct", "portable"].includes(way!), threads > 0], [
      "webgpu",
      true,
      true,
    ]);
  });

  test("a signal ends a load: incomplete tensors reject with its reason", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (const after of [0, 1, 5, 39]) {
      using watched = await WatchedDevice.create();
      const controller = new AbortController();
      const reason = new Error("changed my mind");
      const { signal } = controller;
      const model = await fastsafeOpen(path, { device: watched.device, signal, ...SMALL_CHUNKS });
      if (after > 0) (await model.getTensor(`t${after}`))[Symbol.dispose]();
      controller.abort(reason);
      for (const tensor of tensors) {
        try {
          await assertOnGpu(await model.getTensor(tensor.name), tensor);
        } catch (error) {
          assertEquals(error, reason);
        }
      }
      await model.close();
      assertEquals(watched.bytes, 0, "bytes of buffers that were not freed");
    }
    await assertRejects(() =>
      fastsafeOpen(path, { device: "webgpu", signal: AbortSignal.abort(new Error("no")) })
    );
  });

  test("close() ends a load at any point; returned tensors stay valid", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (const wait of [null, 0, 3, 20]) {
      using watched = await WatchedDevice.create();
      const model = await fastsafeOpen(path, { device: watched.device, dtype: "F32", ...SMALL_CHUNKS });
      const tensor = wait === null ? null : await model.getTensor(`t${wait}`);
      const waiting = assertRejects(() => model.getTensor("t39"), UseAfterCloseError);
      const closing = model.close();
      await waiting;
      await closing;
      await assertRejects(() => model.getTensor("t0"), UseAfterCloseError);
      if (tensor) {
        const { bytes } = await toHost(await tensor.to({ dtype: "BF16" }));
        assertEquals(bytes, tensors[wait!]!.bytes);
        assert(watched.bytes > 0);
        tensor[Symbol.dispose]();
      }
      assertEquals(watched.bytes, 0);
    }
  });

  test("a handle that was disposed throws when it is used", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    await using model = await fastsafeOpen(path, { device: "webgpu" });
    const tensor = await model.getTensor("t3");
    const other = await model.getTensor("t3");
    const named = tensor.named("again");
    const same = await tensor.to({ dtype: "BF16" });
    const copying = tensor.copyToHost();
    tensor[Symbol.dispose]();
    tensor[Symbol.dispose](); // does nothing
    assertTensor(await copying, tensors[3]!); // it had begun before
    const message = 'tensor "t3": its handle was disposed';
    assertThrows(() => tensor.buffer, UseAfterCloseError, message);
    assertThrows(() => tensor.views, UseAfterCloseError, message);
    assertThrows(() => tensor.named("x"), UseAfterCloseError, message);
    await assertRejects(() => tensor.copyToHost(), UseAfterCloseError, message);
    await assertRejects(() => tensor.to({ dtype: "F32" }), UseAfterCloseError, message);
    assertEquals([named.name, tensor.byteLength], ["again", tensors[3]!.bytes.length]);
    named[Symbol.dispose]();
    for (const handle of [other, same]) await assertOnGpu(handle, tensors[3]!);
  });

  test("every buffer is freed after its last handle", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using watched = await WatchedDevice.create();
    const { device } = watched;
    for (const options of [{}, { lazy: true }, { dtype: "F32" }, { dtype: "F16", lazy: true }] as const) {
      const model = await fastsafeOpen(path, { device, ...options, ...SMALL_CHUNKS });
      const kept = await model.getTensor("t7");
      {
        using _slice = await model.getSlice("t20", [1, 3], [0, 5, 2]);
        using _cast = await model.getTensor("t9", { dtype: "F8_E4M3" });
        for await (const [, tensor] of model) tensor[Symbol.dispose]();
      }
      await model.close();
      assert(watched.bytes >= kept.byteLength);
      assertEquals(watched.buffers.size, 1);
      kept[Symbol.dispose]();
      assertEquals(watched.buffers.size, 0);
    }
    const loader = new ParallelLoader(null, path, { device, maxBytesInFlight: 200_000 });
    const most = { bytes: 0 };
    for await (const [, tensor] of loader.iterateWeights()) {
      most.bytes = Math.max(most.bytes, watched.bytes);
      tensor[Symbol.dispose]();
    }
    const all = tensors.reduce((sum, { bytes }) => sum + bytes.length, 0);
    assert(most.bytes < all / 2, `${most.bytes} of ${all} bytes at once`);
    assertEquals(watched.buffers.size, 0);
    for (const names of [["t1"], ["t2"]]) { // an iteration that ends early
      await using model = await fastsafeOpen(path, { device, names, lazy: true });
      for await (const [, tensor] of model) {
        tensor[Symbol.dispose]();
        break;
      }
    }
    assertEquals(watched.buffers.size, 0);
  });

  test("a device that is destroyed during a load fails only this load", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (
      const call of [
        "createBuffer",
        "writeBuffer",
        "submit",
        "createShaderModule",
        "createComputePipeline",
        "createBindGroup",
        "onSubmittedWorkDone",
      ]
    ) {
      for (const nth of [1, 3]) {
        let calls = 0;
        using watched = await WatchedDevice.create({
          onCall(method, device) {
            if (method === call && ++calls === nth) device.destroy();
          },
        });
        const open = async () => {
          await using model = await fastsafeOpen(path, {
            device: watched.device,
            dtype: "F32",
            ...SMALL_CHUNKS,
          });
          await model.whenLoaded();
        };
        let error: unknown;
        try {
          await open();
        } catch (thrown) {
          error = thrown;
        }
        if (calls < nth) continue; // fewer calls than this
        if (!(error instanceof DeviceError)) throw new Error(`${call} ${nth}: ${error}`);
        assertEquals([error.library, error.codeName], ["webgpu", "GPUDeviceLost"]);
        assertEquals(watched.buffers.size, 0, `${call} ${nth}`);
        await assertRejects(() => fastsafeOpen(path, { device: watched.device }), DeviceError, "was lost");
      }
    }
    await using again = await fastsafeOpen(path, { device: "webgpu" });
    await assertOnGpu(await again.getTensor("t5"), tensors[5]!);
  });

  test("tensors of a lost device throw, and the next load has a new one", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    await using model = await fastsafeOpen(path, { device: "webgpu" });
    using tensor = await model.getTensor("t1");
    await model.whenLoaded();
    tensor.device.destroy(); // the shared one
    await tensor.device.lost;
    for (
      const use of [
        () => tensor.copyToHost(),
        () => tensor.to({ dtype: "F32" }),
        () => model.getTensor("t2"),
        () => model.getSlice("t1", 0),
      ]
    ) {
      const error = await assertRejects<Error>(use, DeviceError, "the device was lost: it was destroyed");
      assertEquals((error as DeviceError).codeName, "GPUDeviceLost");
    }
    await using again = await fastsafeOpen(path, { device: "webgpu" });
    await assertOnGpu(await again.getTensor("t1"), tensors[1]!);
  });

  test("a device without memory for the tensors is an OutOfMemoryError, and all is freed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(
      path,
      [0, 1, 2].map((index): TensorSpec => {
        return { name: `t${index}`, dtype: "BF16", shape: [30_000] };
      }),
    );
    for (const nth of [0, 1, 2, 3]) { // three buffers of tensors, and the scratch buffer
      let made = 0;
      using watched = await WatchedDevice.create({
        limits: { maxBufferSize: 131_072 },
        refuse: () => made++ === nth ? new GPUOutOfMemoryError("no memory left") : null,
      });
      const open = async () => {
        await using model = await fastsafeOpen(path, { device: watched.device, dtype: "F32" });
        await model.whenLoaded();
      };
      const error = await assertRejects(open, OutOfMemoryError, "the device has no memory for");
      assert(error.requested > 0);
      assertEquals(error.free, -1);
      assertEquals(watched.buffers.size, 0, `after buffer ${nth} was refused`);
    }
  });

  test("a rejected call of a device is a DeviceError with its message", async (folder) => {
    const [path] = await writeModel(folder);
    using watched = await WatchedDevice.create({ limits: { maxBufferSize: 2 ** 40 } });
    using real = await WatchedDevice.create();
    const { maxBufferSize } = real.device.limits;
    const huge = `${folder}/huge.safetensors`;
    assert(maxBufferSize < 2 ** 36);
    await writeHole(huge, 2 ** 36);
    const error = await assertRejects(() => fastsafeOpen(huge, { device: watched.device }), DeviceError);
    assertEquals([error.library, error.codeName], ["webgpu", "GPUValidationError"]);
    assert(error.message.startsWith("Cannot load: ") && error.message.includes("buffer size"), error.message);
    await using model = await fastsafeOpen(path, { device: watched.device });
    await model.whenLoaded();
  });

  test("kernels that a device rejects fail the load that needs them, without unhandled errors", async (folder) => {
    const [path] = await writeModel(folder);
    const unheard: GPUError[] = [];
    using watched = await WatchedDevice.create({
      onCall(method, device) {
        device.onuncapturederror = ({ error }) => unheard.push(error);
        if (method !== "createComputePipeline") return;
        device.createShaderModule({ code: "not WGSL" }); // an error for the scope around the call
      },
    });
    const open = async () => {
      await using model = await fastsafeOpen(path, { device: watched.device, dtype: "F32" });
      await model.whenLoaded();
    };
    const error = await assertRejects(open, DeviceError, "Cannot load: ");
    assertEquals([error.codeName, unheard], ["GPUValidationError", []]);
    assertEquals(watched.buffers.size, 0);
  });

  test("an interrupted copy to the host is a DeviceError", async (folder) => {
    const [path] = await writeModel(folder);
    using watched = await WatchedDevice.create();
    await using model = await fastsafeOpen(path, { device: watched.device });
    using tensor = await model.getTensor("t3");
    await model.whenLoaded();
    const { buffers } = watched;
    const held = buffers.size;
    const { mapAsync } = GPUBuffer.prototype;
    GPUBuffer.prototype.mapAsync = () => Promise.reject(new DOMException("no mapping", "OperationError"));
    try {
      const error = await assertRejects(
        () => tensor.copyToHost(),
        DeviceError,
        'Cannot copy tensor "t3" to the host: no mapping',
      );
      assertEquals([error.library, error.codeName], ["webgpu", "OperationError"]);
    } finally {
      GPUBuffer.prototype.mapAsync = mapAsync;
    }
    assertEquals(buffers.size, held);
    assertEquals((await tensor.copyToHost()).byteLength, tensor.byteLength);
  });

  test("two loads on one device at once do not mix", async (folder) => {
    const paths = ["a", "b", "c"].map((name) => `${folder}/${name}.safetensors`);
    const written = await Promise.all(paths.map((path, file) => {
      const dtype = (["BF16", "F8_E4M3", "U8"] as const)[file]!;
      return writeFile(path, SPECS.map((spec) => ({ ...spec, dtype, shape: [spec.shape[0]!, 333 + file] })));
    }));
    using watched = await WatchedDevice.create();
    const { device } = watched;
    await Promise.all(paths.map(async (path, file) => {
      await using model = await fastsafeOpen(path, { device, dtype: "F32", ...SMALL_CHUNKS });
      await using host = await fastsafeOpen(path, { dtype: "F32" });
      for (const { name } of written[file]!) {
        const { bytes } = await host.getTensor(name);
        assertEquals((await toHost(await model.getTensor(name))).bytes, bytes, `${file} ${name}`);
      }
    }));
    assertEquals(watched.bytes, 0);
  });

  test("a truncated file fails the load; completed tensors stay valid", async (folder) => {
    const [path] = await writeModel(folder);
    using watched = await WatchedDevice.create();
    const { size } = await Deno.stat(path);
    const lazy = await fastsafeOpen(path, { device: watched.device, lazy: true });
    const first = await lazy.getTensor("t0");
    await Deno.truncate(path, size - 10_000);
    const error = await assertRejects(() => lazy.getTensor("t39"), ReadError);
    assertEquals(error.path, path);
    await lazy.close();
    assertEquals(watched.buffers.size, 1);
    first[Symbol.dispose]();
    assertEquals(watched.buffers.size, 0);
  });

  test("no call of writeBuffer is larger than a piece, and the host memory is a ring", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [{ name: "x", dtype: "U8", shape: [40 * 2 ** 20] }]);
    using watched = await WatchedDevice.create();
    await using model = await fastsafeOpen(path, { device: watched.device, stagingBytes: 2 ** 28 });
    await model.whenLoaded();
    assertEquals(watched.writes.reduce((sum, bytes) => sum + bytes, 0), 40 * 2 ** 20);
    assertEquals(Math.max(...watched.writes), 4 * 2 ** 20);
  });
});

Deno.test("device webgpu without an adapter is an error that names the package to install", async () => {
  const code = `
    import { fastsafeOpen, serialize } from "${new URL("../../mod.ts", import.meta.url)}";
    import { doctor } from "${new URL("../../src/doctor/mod.ts", import.meta.url)}";
    const path = await Deno.makeTempFile();
    await Deno.writeFile(path, serialize({}));
    for (let time = 0; time < 2; time++) {
      try {
        await fastsafeOpen(path, { device: "webgpu" });
      } catch (error) {
        console.log(error.name, error.library, error.codeName, error.message);
      }
    }
    console.log(JSON.stringify((await doctor()).webgpu));
    await Deno.remove(path);
  `;
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--config", new URL("../../deno.json", import.meta.url).pathname, code],
    env: { DENO_WEBGPU_BACKEND: "", NO_COLOR: "1" },
  }).output();
  const reason =
    "no adapter was found: install the Vulkan driver of your GPU, or a software one (Debian: apt-get " +
    "install mesa-vulkan-drivers libvulkan1)";
  const line = `DeviceError webgpu NoAdapter Cannot load to device "webgpu": ${reason}`;
  assertEquals(new TextDecoder().decode(stdout).trimEnd().split("\n"), [
    line,
    line,
    JSON.stringify({ adapter: null, reason }),
  ]);
});
