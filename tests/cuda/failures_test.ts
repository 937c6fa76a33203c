/**
 * Failures of CUDA: the error is clear, resources are released, and the next load succeeds.
 */
import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { DeviceError, fastsafeOpen, OutOfMemoryError, ReadError, UseAfterCloseError } from "../../mod.ts";
import { ParallelLoader, SafeTensorsFileLoader } from "../../src/compat/mod.ts";
import { doctor } from "../../src/doctor/mod.ts";
import { tempFolder, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { assertOnDevice, cudaSuite, settled, standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();

const SPECS: TensorSpec[] = [
  { name: "first", dtype: "U8", shape: [100] },
  { name: "large", dtype: "F32", shape: [1024, 1024] },
  { name: "last", dtype: "BF16", shape: [10] },
];

async function writeModel(folder: string): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/model.safetensors`;
  return [path, await writeFile(path, SPECS)];
}

/** Small blocks, for many blocks, copies and events. */
const SMALL = { device: "cuda", blockBytes: 65536, maxThreads: 2 } as const;

async function assertLoads(path: string, tensors: readonly Written[]): Promise<void> {
  await using model = await fastsafeOpen(path, SMALL);
  for (const tensor of tensors) await assertOnDevice(await model.getTensor(tensor.name), tensor);
}

cudaSuite("What goes wrong on any CUDA device", machine, (test) => {
  test("a device that does not exist is rejected with its number", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    const device = `cuda:${machine.devices}` as const;
    const error = await assertRejects(() => fastsafeOpen(path, { device }), DeviceError);
    assertEquals(
      error.message,
      `Cannot use device "${device}": this machine has ${machine.devices}, from "cuda:0" on`,
    );
    assertEquals([error.library, error.code, error.codeName], ["cudart", 101, "cudaErrorInvalidDevice"]);
    await using loader = new SafeTensorsFileLoader(null, { device });
    await loader.addFilenames({ 0: path });
    await assertRejects(() => loader.copyFilesToDevice(), DeviceError);
    await assertRejects(
      () => new ParallelLoader(null, path, { device }).iterateWeights().next(),
      DeviceError,
    );
    await assertLoads(path, tensors);
  });

  test("options for a GPU are checked before any file is opened", () => {
    const wrong: [object, typeof TypeError, string][] = [
      [{ device: "cuda:" }, TypeError, '"cuda:"'],
      [{ device: "cuda:-1" }, TypeError, '"cuda:-1"'],
      [{ device: "cuda:x" }, TypeError, '"cuda:x"'],
      [{ device: "CUDA" }, TypeError, '"CUDA"'],
      [{ device: "cuda", gds: "yes" }, TypeError, '"auto", "require" or "off"'],
      [{ device: "cuda", gds: "require", nogds: true }, TypeError, "nogds: true cannot be used together"],
      [{ gds: "require" }, TypeError, "needs a CUDA GPU"],
      [{ device: "cuda", pool: {} }, TypeError, "PinnedPool"],
    ];
    for (const [options, type, part] of wrong) {
      assertThrows(() => new SafeTensorsFileLoader(null, options), type, part);
    }
  });

  test("a model larger than device memory is rejected before any read", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const { totalBytes } = (await doctor()).cuda.devices[0]!;
    const tooMany = Math.ceil(totalBytes / 2 ** 20) * 2 ** 20 + 2 ** 20;
    // A sparse file: only its header is on the disk.
    const json = JSON.stringify({ x: { dtype: "U8", shape: [tooMany], data_offsets: [0, tooMany] } });
    const header = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
    const length = new Uint8Array(new BigUint64Array([BigInt(header.byteLength)]).buffer);
    await Deno.writeFile(path, new Uint8Array([...length, ...header]));
    await Deno.truncate(path, 8 + header.byteLength + tooMany);
    const error = await assertRejects(() => fastsafeOpen(path, { device: "cuda" }), OutOfMemoryError);
    assert(error.requested >= tooMany && error.requested < tooMany + 4096);
    assert(error.free > 0 && error.free <= totalBytes);
    assertStringIncludes(
      error.message,
      `${error.requested} bytes are needed on device "cuda:0", ${error.free} are free`,
    );
  });

  test("a file that is truncated during its load leaves no device memory", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    await using model = await fastsafeOpen(path, { ...SMALL, lazy: true });
    {
      using _faults = machine.setFileFaults("cachestat:*:cached,pread:*:eof");
      const names = tensors.map(({ name }) => name);
      const error = await assertRejects(() => model.getTensors(names), ReadError, "truncated");
      assertEquals(error.path, path);
    }
    await assertLoads(path, tensors);
  });

  test("abort and close with copies in flight", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (let turn = 0; turn < 6; turn++) {
      const controller = new AbortController();
      const model = await fastsafeOpen(path, { ...SMALL, signal: controller.signal });
      const first = await model.getTensor("first");
      if (turn % 2) controller.abort(new Error("enough"));
      const closing = model.close();
      await model.getTensor("last").catch((error) => assert(error instanceof UseAfterCloseError));
      await closing;
      await assertOnDevice(first, tensors[0]!);
    }
    await assertLoads(path, tensors);
  });
});

standInSuite("What goes wrong on a CUDA stand-in", machine, (test, standIns) => {
  test("a load to the CPU works without a GPU, and a load to CUDA names the reason", async (folder) => {
    const [path] = await writeModel(folder);
    for (
      const [variables, code, codeName] of [
        [{ FST_SIM_DEVICES: "0" }, 100, "cudaErrorNoDevice"],
        [{ FST_SIM_DRIVER: "old" }, 35, "cudaErrorInsufficientDriver"],
      ] as const
    ) {
      using _machine = standIns.set(variables);
      const error = await assertRejects(() => fastsafeOpen(path, { device: "cuda" }), DeviceError);
      assertEquals([error.library, error.code, error.codeName], ["cudart", code, codeName]);
      assertStringIncludes(error.message, 'Cannot load to device "cuda:0": no GPU can be used');
      assertStringIncludes(error.message, `libfst_sim_cuda.so" finds no GPU: ${codeName} (${code})`);
      const { cuda } = await doctor();
      assertEquals([cuda.devices, cuda.gds.usable], [[], false]);
      assertStringIncludes(cuda.reason, codeName);
      await using model = await fastsafeOpen(path);
      assertEquals((await model.getTensor("first")).byteLength, 100);
    }
  });

  test("doctor reports devices and GPUDirect Storage", async () => {
    const { cuda } = await doctor();
    assertEquals([cuda.runtimeVersion, cuda.driverVersion, cuda.reason], ["12.4", "12.4", ""]);
    assertEquals(cuda.devices.map(({ device, pciBus }) => [device, pciBus]), [["cuda:0", "0000:01:00.0"], [
      "cuda:1",
      "0000:02:00.0",
    ]]);
    assertEquals([cuda.devices[0]!.capability, cuda.devices[0]!.totalBytes], ["8.0", 2 ** 31]);
    assertEquals(cuda.gds, { usable: false, state: "nvidia-fs is not loaded, libcufile knows PCI P2PDMA" });
  });

  test("a driver that is too old for the kernels fails only casts", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _driver = standIns.set({ FST_SIM_VERSION: "10000" });
    const error = await assertRejects(
      () => fastsafeOpen(path, { device: "cuda", dtype: "F16" }),
      DeviceError,
    );
    assertEquals([error.library, error.code], ["cuda", 222]);
    assertStringIncludes(error.message, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION (222)");
    await assertLoads(path, tensors);
  });

  test("fastsafeOpen() reports device memory that is exhausted during a load", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    {
      await settled(machine);
      using _failure = standIns.fail("cudaMalloc:1:2"); // the reported free memory was too large
      const error = await assertRejects(() => fastsafeOpen(path, { device: "cuda" }), OutOfMemoryError);
      assert(error.requested > 4 * 2 ** 20 && error.free > error.requested);
    }
    {
      await settled(machine);
      using _failure = standIns.fail("cudaMalloc:1:2"); // the ring of a load that casts
      const options = { device: "cuda", dtype: "F16", stagingBytes: 2 ** 20 } as const;
      const error = await assertRejects(() => fastsafeOpen(path, options), OutOfMemoryError, "for a ring");
      assert(error.requested > 0 && error.requested <= 2 ** 20 && error.free > 2 ** 20);
    }
    {
      await settled(machine);
      using _failure = standIns.fail("cudaStreamCreateWithFlags:1:2");
      await using model = await fastsafeOpen(path, SMALL);
      await assertRejects(() => model.whenLoaded(), OutOfMemoryError, "cudaErrorMemoryAllocation (2)");
      await assertRejects(() => model.getTensor("last"), OutOfMemoryError);
    }
    {
      using _small = standIns.set({ FST_SIM_DEVICE_BYTES: String(6 * 2 ** 20) });
      await using model = await fastsafeOpen(path, { device: "cuda" });
      using large = await model.getTensor("large");
      const error = await assertRejects(() => large.to({ dtype: "F64" }), OutOfMemoryError);
      assertEquals(error.requested, 8 * 2 ** 20);
      assertStringIncludes(error.message, 'Cannot cast tensor "large" from F32 to F64');
      await assertOnDevice(large, tensors[1]!);
    }
    await assertLoads(path, tensors);
  });

  test("a failure names its tensor among those that are read together", async (folder) => {
    const path = `${folder}/small.safetensors`;
    const specs = Array.from({ length: 40 }, (_, i): TensorSpec => ({
      name: `t${String(i).padStart(2, "0")}`,
      dtype: "U8",
      shape: [21],
    }));
    await writeFile(path, specs);
    await using model = await fastsafeOpen(path, { ...SMALL, maxThreads: 1, lazy: true });
    // The file ends 70 bytes after the first tensor begins.
    using _fault = machine.setFileFaults("cachestat:*:cached,pread:1:short=70,pread:2:eof");
    await assertRejects(() => model.getTensors(specs.map(({ name }) => name)), ReadError, '"t03"');
  });

  test("a failing copy ends the load with the device's error", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (
      const [failure, code, codeName] of [
        ["stream-copy:20:719", 719, "cudaErrorLaunchFailure"],
        ["stream-copy:1:700", 700, "cudaErrorIllegalAddress"],
        ["cudaMemcpyAsync:9:1", 1, "cudaErrorInvalidValue"],
        ["cudaEventRecord:5:400", 400, "cudaErrorInvalidResourceHandle"],
        ["cudaEventSynchronize:7:719", 719, "cudaErrorLaunchFailure"],
      ] as const
    ) {
      await settled(machine);
      using _failure = standIns.fail(failure);
      {
        await using model = await fastsafeOpen(path, SMALL);
        const error = await assertRejects(() => model.whenLoaded(), DeviceError, codeName);
        assertEquals([error.library, error.code, error.codeName], ["cudart", code, codeName], failure);
        assertStringIncludes(error.message, `Cannot load tensor "`);
        assertStringIncludes(error.message, `" of "${path}"`);
        await assertRejects(() => model.getTensor("last"), DeviceError);
        const iterating = async () => {
          for await (const [, tensor] of model) tensor[Symbol.dispose]();
        };
        assertEquals(await assertRejects(iterating, DeviceError), error);
      }
      standIns.reset(); // on a real device the context would be lost for the process
      await assertLoads(path, tensors);
    }
  });

  test("a failing kernel rejects a load, and a later cast", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    {
      await settled(machine);
      using _failure = standIns.fail("stream-kernel:3:700");
      await using model = await fastsafeOpen(path, { ...SMALL, dtype: "F16" });
      const error = await assertRejects(() => model.whenLoaded(), DeviceError);
      // The next call reports it: a call of the runtime, or the driver's launch of another kernel.
      assertMatch(error.message, /cudaErrorIllegalAddress|CUDA_ERROR_ILLEGAL_ADDRESS \(700\)/);
      await model.close();
    }
    {
      await using model = await fastsafeOpen(path, SMALL);
      using large = await model.getTensor("large");
      await model.whenLoaded();
      for (
        const [failure, act] of [
          ["cuLaunchKernel:1:701", () => large.to({ dtype: "F16" })],
          ["cudaMemcpy:1:1", () => large.copyToHost()],
          ["cudaMemcpyPeerAsync:1:1", () => large.to({ device: "cuda:1" })],
          ["cudaStreamCreateWithFlags:1:2", () => large.to({ dtype: "F16" })],
          ["cudaEventSynchronize:1:719", () => model.getSlice("large", null, [0, 10, 3])],
        ] as const
      ) {
        await settled(machine);
        using _failure = standIns.fail(failure);
        const error = await assertRejects(act as () => Promise<unknown>, Error, "large");
        assert(error instanceof DeviceError || error instanceof OutOfMemoryError, String(error));
      }
      await assertOnDevice(await model.getTensor("large"), tensors[1]!);
    }
  });

  test("a load whose staging memory cannot be pinned copies without it, and says so", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (const dtype of [undefined, "F16"] as const) {
      await settled(machine);
      machine.shutDown(); // memory of earlier loads is pinned
      using _failure = standIns.fail("cudaHostRegister:*:801");
      await using model = await fastsafeOpen(path, { ...SMALL, ...dtype ? { dtype } : {} });
      if (!dtype) {
        for (const tensor of tensors) await assertOnDevice(await model.getTensor(tensor.name), tensor);
      }
      await model.whenLoaded();
      const [note] = model.stats().notes.filter((note) => note.includes("pinned"));
      assertStringIncludes(note!, "Staging memory could not be pinned, so copies to the device are slower");
      assertStringIncludes(note!, "cudaErrorNotSupported (801)");
    }
    await assertLoads(path, tensors);
  });

  test("loads pin staging memory and make streams once for the process", async (folder) => {
    const [path] = await writeModel(folder);
    await settled(machine);
    machine.shutDown();
    standIns.reset();
    for (let turn = 0; turn < 4; turn++) {
      await using model = await fastsafeOpen(path, SMALL);
      await model.whenLoaded();
    }
    const { pins, streams, events } = standIns.report().counts;
    assertEquals([pins, streams! <= 2, events! <= 4], [1, true, true]);
  });
});

Deno.test("without libcudart, the error names the searched libraries and folders, and loads to the CPU work", async () => {
  await using folder = await tempFolder();
  const [path] = await writeModel(folder.path);
  const child = async (env: Record<string, string>) => {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--quiet",
        new URL("../children/cuda_without_library.ts", import.meta.url).pathname,
        path,
      ],
      env: { NO_COLOR: "1", ...env },
      stdin: "null",
    }).output();
    const printed = new TextDecoder();
    assertEquals(code, 0, printed.decode(stderr));
    return JSON.parse(printed.decode(stdout));
  };
  const named = await child({ FASTSAFETENSORS_CUDART_LIB: "/nowhere/libcudart.so" });
  assertEquals([named.name, named.library, named.code, named.onCpu], ["DeviceError", "cudart", 0, 100]);
  assertStringIncludes(named.message, 'FASTSAFETENSORS_CUDART_LIB names "/nowhere/libcudart.so"');
  assertStringIncludes(named.message, "No such file");
});
