/**
 * Releases of device memory: callers do not wait for the device, and used memory stays valid.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { releasesDone, releasesNow } from "../../ffi/cuda_release.ts";
import { type CudaTensor, fastsafeOpen, OutOfMemoryError, PinnedPool } from "../../mod.ts";
import { CudaMemory, referenceDeviceMemory } from "../../src/device/cuda/memory.ts";
import { runAtAddress } from "../ranks/group/ranks.ts";
import { suite } from "../support/skip.ts";
import { tempFolder, type TensorSpec, writeFile } from "../support/models.ts";
import { buildStandIn } from "../support/stand_in.ts";
import { assertOnDevice, settled, standInEnv, type StandIns, standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();
const { shim } = machine;

const SPECS: TensorSpec[] = [{ name: "x", dtype: "F32", shape: [1024, 1024] }];
const BYTES = 4 * 2 ** 20;

/** The number of pending releases. */
function pending(): number {
  const { queued, done } = releasesNow(shim);
  return queued - done;
}

/** A tensor with the only reference to its memory. */
async function lastHandle(path: string): Promise<CudaTensor> {
  await using model = await fastsafeOpen(path, { device: "cuda" });
  return await model.getTensor("x");
}

/**
 * Runs `body` while device 0 works: a copy waits in its stream, up to two seconds, and cudaFree waits for the copy.
 * `body` receives another tensor, which is disposed afterwards.
 */
async function whileBusy<R>(path: string, standIns: StandIns, body: () => Promise<R> | R): Promise<R> {
  using source = await lastHandle(path);
  await settled(machine);
  using _slow = standIns.set({ FST_SIM_DELAY_US: "2000000", FST_SIM_SEED: "3" });
  const busy = source.to({ dtype: "BF16" });
  while (standIns.report().live.inFlight === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  const result = await body();
  (await busy)[Symbol.dispose]();
  return result;
}

standInSuite("Giving CUDA memory back", machine, (test, standIns) => {
  test("dispose() does not wait for the device", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const tensor = await lastHandle(path);
    const closed = await fastsafeOpen(path, { device: "cuda" });
    await closed.whenLoaded();
    const pool = new PinnedPool();
    {
      await using model = await fastsafeOpen(path, { device: "cuda", pool });
      await model.whenLoaded();
    }
    await whileBusy(path, standIns, async () => {
      const { allocations, registered } = standIns.report().live;
      tensor[Symbol.dispose]();
      assertEquals([pending(), standIns.report().live.allocations], [1, allocations], "disposing a tensor");
      await closed.close();
      assertEquals([pending(), standIns.report().live.allocations], [2, allocations], "closing a model");
      const closing = pool.close();
      assertEquals([pending(), standIns.report().live.registered], [3, registered], "closing a pool");
      let isClosed = false;
      closing.then(() => isClosed = true);
      await new Promise((resolve) => setTimeout(resolve, 1));
      assertEquals([isClosed, pool.byteLength], [false, 0], "the pool is closed once its memory is free");
      await closing;
      assertEquals(pending(), 0);
      assert(standIns.report().live.registered! < registered!, "the memory of the pool is still pinned");
    });
  });

  test("all waits for releases share one thread", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const tensor = await lastHandle(path);
    await whileBusy(path, standIns, async () => {
      tensor[Symbol.dispose]();
      let waits = 64;
      const waiters = Promise.all(
        Array.from({ length: waits }, () => releasesDone(shim).then(() => waits--)),
      );
      await Deno.stat(path); // it needs one of Deno's 32 threads
      assertEquals(waits, 64, "the release was waited for, and with it the other call");
      await waiters;
    });
  });

  test("an allocation waits for memory that is about to be freed", async (folder) => {
    const path = `${folder}/model.safetensors`;
    const [written] = await writeFile(path, SPECS);
    using _small = standIns.set({ FST_SIM_DEVICE_BYTES: String(5 * BYTES) });
    const [tensor, other] = [await lastHandle(path), await lastHandle(path)];
    await whileBusy(path, standIns, async () => {
      // Three tensors and the cast of one of them use 14 of 20 MiB.
      const tooMany = () => tensor.to({ dtype: "F64" });
      await assertRejects(tooMany, OutOfMemoryError, "8388608 bytes are needed");
      other[Symbol.dispose]();
      assertEquals(pending(), 1);
      using _copy = await tensor.to({ dtype: "F64" });
      await assertOnDevice(tensor, written!);
    });
  });

  test("memory that cannot be freed is counted, and out-of-memory errors name it", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, SPECS);
    const before = releasesNow(shim).failed;
    const memory = await CudaMemory.allocateOne(shim, 0, 100, "test");
    await settled(machine);
    {
      using _failure = standIns.fail("cudaFree:1:999");
      memory.drop();
      await settled(machine);
    }
    assertEquals([releasesNow(shim).failed, releasesNow(shim).status], [before + 1, 999]);
    using _small = standIns.set({ FST_SIM_DEVICE_BYTES: String(BYTES) });
    const error = await assertRejects(() => lastHandle(path), OutOfMemoryError);
    assertStringIncludes(
      error.message,
      `${before + 1} pieces of memory could not be freed: cudaErrorUnknown (999)`,
    );
    const library = Deno.dlopen(`${standIns.folder}/libfst_sim_cuda.so`, {
      cudaFree: { parameters: ["u64"], result: "i32" },
    });
    assertEquals(library.symbols.cudaFree(memory.address), 0); // otherwise the next test reports it
    library.close();
  });

  test("memory is retained for a call that has only its address", async (folder) => {
    const path = `${folder}/model.safetensors`;
    await writeFile(path, [...SPECS, { name: "y", dtype: "U8", shape: [10] }]);
    const model = await fastsafeOpen(path, { device: "cuda" });
    const tensor = await model.getTensor("y");
    const { devicePointer } = tensor;
    const held = referenceDeviceMemory([devicePointer, 4096n, devicePointer + 2n ** 40n]);
    tensor[Symbol.dispose]();
    await model.close();
    await settled(machine);
    assertEquals(standIns.report().live.allocations, 1);
    held[Symbol.dispose]();
    held[Symbol.dispose]();
    await settled(machine);
    assertEquals(standIns.report().live.allocations, 0);
  });
});

const nccl = machine.missing ?? (await buildStandIn("nccl")).missing;
suite("Giving CUDA memory back beside ranks", "native", nccl, () => {
  const library = async () => `${(await buildStandIn("nccl")).folder}/libfst_sim_nccl.so`;

  async function run(mode: string) {
    await using folder = await tempFolder();
    const path = await library();
    const env = { ...standInEnv(""), FASTSAFETENSORS_CUDA_LIB: path, FASTSAFETENSORS_CUDART_LIB: path };
    const { ranks, stderr } = await runAtAddress(2, "../../cuda/rank_program.ts", [mode, folder.path], {
      ...env,
      FASTSAFETENSORS_NCCL_LIB: path,
    });
    return { said: ranks.map(({ error, violations, kinds }) => ({ error, violations, kinds })), stderr };
  }

  Deno.test("disposing a tensor while a rank is lost does not stop the process (stand-in)", async () => {
    const { said, stderr } = await run("lost");
    const expected = { error: "GroupError", violations: 0, kinds: {} };
    assertEquals(said, [expected, expected], stderr);
  });

  Deno.test("a tensor can be disposed during its broadcast (stand-in)", async () => {
    const { said, stderr } = await run("given");
    const expected = { error: "", violations: 0, kinds: {} };
    assertEquals(said, [expected, expected], stderr);
  });
});
