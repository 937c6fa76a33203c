/**
 * Loads from 3FS to a CUDA device, on the stand-ins for both: the memory of a ring is pinned, and filled in halves.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { DeviceError, fastsafeOpen, type OpenOptions, ReadError } from "../../mod.ts";
import { createReader } from "../../src/three_fs/mod.ts";
import { CudaMemory } from "../../src/device/cuda/memory.ts";
import {
  assertNothingLeft as assertNothingOnDevice,
  assertOnDevice,
  toHost,
  useCuda,
} from "../cuda/support.ts";
import { assertBytes, noise, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { use3fs, usrbioSuite } from "./support.ts";

const cuda = await useCuda();
const machine = await use3fs(cuda.shim);
const missing = cuda.missing ?? (cuda.standIns ? machine.missing : "a real GPU cannot be made to fail");

const SPECS: TensorSpec[] = [
  { name: "large", dtype: "F32", shape: [700, 1000] },
  { name: "small", dtype: "U8", shape: [77] },
  { name: "half", dtype: "BF16", shape: [500, 1001] },
];

/** Device memory, freed at the end of its block. */
async function deviceMemory(byteLength: number): Promise<{ memory: CudaMemory } & Disposable> {
  const memory = await CudaMemory.allocateOne(cuda.shim, 0, byteLength, "test");
  return { memory, [Symbol.dispose]: () => memory.drop() };
}

/** The content of device memory. */
async function bytesOf({ device, address }: CudaMemory, byteLength: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength);
  assertEquals(await cuda.shim.fst_cuda_read(device, bytes, address, BigInt(byteLength), 0), 0);
  return bytes;
}

usrbioSuite("From 3FS to CUDA", { ...machine, missing }, (test, standIn) => {
  const device: OpenOptions<"cuda"> = { device: "cuda", source: "3fs" };

  const model = async (folder: string): Promise<[string, Written[]]> => {
    const path = `${folder}/model.safetensors`;
    return [path, await writeFile(path, SPECS, { misalignment: 3 })];
  };

  test("fastsafeOpen() loads to the device through pinned rings", async (folder) => {
    const [path, tensors] = await model(folder);
    for (
      const options of [{}, { blockBytes: 65_536 }, { stagingBytes: 131_072 }, {
        usrbio: { bufferBytes: 2 ** 20 },
      }]
    ) {
      await using opened = await fastsafeOpen(path, { ...device, ...options });
      for (const tensor of tensors) await assertOnDevice(await opened.getTensor(tensor.name), tensor);
      await opened.whenLoaded();
      const { path: way, device: place } = opened.stats();
      assertEquals([way, place], ["3fs", "cuda:0"]);
      assert(standIn.report().counts.bytes > 0);
    }
    assertNothingOnDevice(cuda);
  });

  test("casts and slices use pinned rings", async (folder) => {
    const [path, tensors] = await model(folder);
    {
      await using cast = await fastsafeOpen(path, { ...device, dtype: "F32", blockBytes: 65_536 });
      await using plain = await fastsafeOpen(path, { source: "file", dtype: "F32" });
      const half = await toHost(await cast.getTensor("half"));
      assertBytes(half.bytes, (await plain.getTensor("half")).bytes, "half");
      await using lazy = await fastsafeOpen(path, { ...device, lazy: true });
      const slice = await toHost(await lazy.getSlice("large", [1, 700, 3], [10, 20]));
      const row = tensors[0]!.bytes.subarray((4 * 1000 + 10) * 4, (4 * 1000 + 20) * 4);
      assertBytes(slice.bytes.subarray(40, 80), row, "row 4");
    }
    assertNothingOnDevice(cuda);
  });

  test("several loads to the device share a mount's rings", async (folder) => {
    const [path, tensors] = await model(folder);
    using _ = standIn.set({ FST_SIM_3FS_LATENCY_US: "1000" });
    const options = {
      ...device,
      lazy: true,
      maxThreads: 2,
      blockBytes: 65_536,
      usrbio: { bufferBytes: 2 ** 20 },
    };
    {
      await using one = await fastsafeOpen(path, options);
      await using two = await fastsafeOpen(path, options);
      await Promise.all([one, two, one, two].flatMap((model, index) =>
        tensors.map(async (tensor) => {
          await new Promise((resolve) => setTimeout(resolve, 2 * index)); // in separate loads
          await assertOnDevice(await model.getTensor(tensor.name), tensor);
        })
      ));
      assert(standIn.report().counts.rings <= 2);
    }
    assertNothingOnDevice(cuda);
  });

  test("one load reads files on 3FS and other files", async (folder) => {
    const [path, tensors] = await model(folder);
    const outside = await Deno.makeTempFile();
    try {
      const other = await writeFile(outside, [{ name: "other", dtype: "F16", shape: [200_000] }]);
      await using opened = await fastsafeOpen([path, outside], { device: "cuda", blockBytes: 65_536 });
      for (const tensor of [...tensors, ...other]) {
        await assertOnDevice(await opened.getTensor(tensor.name), tensor);
      }
    } finally {
      await Deno.remove(outside);
    }
    assertNothingOnDevice(cuda);
  });

  test("a failure of either side rejects the load, and releases the other side", async (folder) => {
    const [path, tensors] = await model(folder);
    {
      using _ = standIn.fail("read:3:-5");
      await using opened = await fastsafeOpen(path, { ...device, blockBytes: 65_536 });
      assertEquals((await assertRejects(() => opened.whenLoaded(), ReadError)).errno, 5);
    }
    for (const spec of ["cudaHostRegister:2:2", "cudaMemcpyAsync:2:719", "cudaEventSynchronize:1:700"]) {
      using _ = cuda.standIns!.fail(spec);
      const error = await assertRejects(async () => {
        await using opened = await fastsafeOpen(path, { ...device, blockBytes: 65_536 });
        await opened.whenLoaded();
      });
      assert(error instanceof DeviceError || /memory/i.test(String(error)), `${spec}: ${error}`);
    }
    await using opened = await fastsafeOpen(path, device);
    for (const tensor of tensors) await assertOnDevice(await opened.getTensor(tensor.name), tensor);
    await opened.close();
    assertNothingOnDevice(cuda);
  });

  for (const backend of ["usrbio", "mock"] as const) {
    test(`readChunked() reads to a device pointer, pipelined or not (${backend})`, async (folder) => {
      const path = `${folder}/noise`;
      const content = noise(3_000_001, 9);
      await Deno.writeFile(path, content);
      {
        await using reader = await createReader({ backend, bufferBytes: 2 ** 20 });
        using target = await deviceMemory(content.length);
        for (const pipelined of [false, true]) {
          for (const chunkBytes of [0, 70_000, 2 ** 19]) {
            for (const [fileOffset, totalLength] of [[0, content.length], [12_345, 2_000_003]] as const) {
              const devicePointer = target.memory.address;
              const options = { path, devicePointer, fileOffset, totalLength, chunkBytes, pipelined };
              assertEquals(await reader.readChunked(options), totalLength);
              const found = await bytesOf(target.memory, totalLength);
              assertBytes(found, content.subarray(fileOffset, fileOffset + totalLength), `${chunkBytes}`);
            }
          }
        }
        for (const spec of ["cudaMemcpyAsync:2:700", "cudaEventSynchronize:1:700"]) {
          using _ = cuda.standIns!.fail(spec);
          const devicePointer = target.memory.address;
          await assertRejects(
            () => reader.readChunked({ path, devicePointer, totalLength: content.length }),
            DeviceError,
            "cudaErrorIllegalAddress",
          );
        }
        await reader.close();
      }
      assertNothingOnDevice(cuda);
    });
  }

  test("a pipelined read reads the next half during a copy, other reads do not", async (folder) => {
    const path = `${folder}/noise`;
    const chunkBytes = 2 ** 19;
    await Deno.writeFile(path, noise(16 * chunkBytes, 9));
    {
      await using reader = await createReader({ backend: "usrbio", bufferBytes: 2 * chunkBytes });
      using target = await deviceMemory(16 * chunkBytes);
      // The third copy fails: the bytes read until then, in chunks, are the copied ones and those read ahead.
      for (const [pipelined, copied, ahead] of [[false, 3 * 2, 0], [true, 3, 1]] as const) {
        using _ = cuda.standIns!.fail("cudaMemcpyAsync:3:700");
        const before = standIn.report().counts.reads;
        const devicePointer = target.memory.address;
        await assertRejects(
          () =>
            reader.readChunked({ path, devicePointer, totalLength: 16 * chunkBytes, chunkBytes, pipelined }),
          DeviceError,
        );
        assertEquals(standIn.report().counts.reads - before, copied + ahead, `pipelined: ${pipelined}`);
      }
      await reader.close();
    }
    assertNothingOnDevice(cuda);
  });
});
