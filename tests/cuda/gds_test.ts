/**
 * GPUDirect Storage: used if available, reported under its name, and abandoned after a failure without a second
 * allocation.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { DeviceError, fastsafeOpen, type OpenOptions } from "../../mod.ts";
import { doctor } from "../../src/doctor/mod.ts";
import { assertTensor, type TensorSpec, writeFile, type Written } from "../support/models.ts";
import { assertOnDevice, cudaSuite, standInSuite, toHost, useCuda } from "./support.ts";

const machine = await useCuda();

const SPECS: TensorSpec[] = [
  { name: "odd", dtype: "U8", shape: [5] },
  { name: "large", dtype: "F32", shape: [1000, 701] },
  { name: "small", dtype: "BF16", shape: [10] },
  { name: "medium", dtype: "F16", shape: [300_001] },
];
const BYTES = 5 + 1000 * 701 * 4 + 20 + 600_002;

async function writeModel(folder: string): Promise<[path: string, tensors: Written[]]> {
  const path = `${folder}/model.safetensors`;
  return [path, await writeFile(path, SPECS, { misalignment: 3 })];
}

type Options = OpenOptions<"cuda">;

/** Loads everything, compares it, and returns the statistics. */
async function loadAll(path: string, tensors: readonly Written[], options: Partial<Options> = {}) {
  await using model = await fastsafeOpen(path, {
    device: "cuda",
    blockBytes: 65536,
    maxThreads: 2,
    ...options,
  });
  for (const tensor of tensors) await assertOnDevice(await model.getTensor(tensor.name), tensor);
  await model.whenLoaded();
  const { path: way, notes } = model.stats();
  assertEquals(notes.filter((note) => note.includes(".so")), [], "a note is the path of a library");
  return { way, notes: notes.join("\n") };
}

cudaSuite("GPUDirect Storage on any machine", machine, (test) => {
  test('gds: "off" and nogds do not use cuFile', async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (const options of [{ gds: "off" }, { nogds: true }, { nogds: true, gds: "auto" }] as const) {
      const { way, notes } = await loadAll(path, tensors, options);
      assert(way === "buffered" || way === "direct");
      assertEquals(notes.includes("GPUDirect"), false);
    }
  });

  test('gds: "auto" loads, and notes the reason against GPUDirect Storage', async (folder) => {
    const [path, tensors] = await writeModel(folder);
    const { way, notes } = await loadAll(path, tensors, { gds: "auto" });
    if (way !== "gds") assertStringIncludes(notes, "GPUDirect Storage is not used: ");
  });

  test('gds: "require" loads with it, or rejects with the reason', async (folder) => {
    const [path, tensors] = await writeModel(folder);
    try {
      assertEquals((await loadAll(path, tensors, { gds: "require" })).way, "gds");
    } catch (error) {
      assert(error instanceof DeviceError, String(error));
      assertEquals(error.library, "cufile");
      console.log(`    ${error.message}`);
    }
  });
});

standInSuite("GPUDirect Storage on a stand-in", machine, (test, standIns) => {
  /** A machine with the kernel's module. */
  const withModule = () => standIns.set({ FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat" });
  /** The page cache is empty for the shim. */
  const uncached = () => machine.setFileFaults("cachestat:*:uncached");

  test("with GPUDirect Storage the device reads uncached bytes, in whole pages into windows", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = withModule();
    using _cold = uncached();
    for (const dtype of [undefined, "F16"] as const) {
      standIns.reset();
      await using model = await fastsafeOpen(path, {
        device: "cuda:1",
        blockBytes: 65536,
        ...dtype ? { dtype } : {},
      });
      for (const tensor of tensors) {
        const actual = await toHost(await model.getTensor(tensor.name));
        if (actual.dtype === tensor.dtype) assertTensor(actual, tensor);
      }
      await model.whenLoaded();
      assertEquals([model.stats().path, model.stats().notes], ["gds", []]);
      const { counts, copied } = standIns.report();
      assertEquals([counts.unalignedReads, counts.unregisteredReads, counts.compatReads], [0, 0, 0]);
      assertEquals(counts.pastEndReads, 0, "cuFile read the page in which the file ends");
      assertEquals(counts.spins, 0, "waits that use a whole core");
      assert(copied.cufile! > 0.9 * BYTES, `${copied.cufile} bytes by cuFile`);
      await model.close();
    }
    assert((await doctor()).cuda.gds.usable);
  });

  test("cached bytes come from the page cache, and a note says so", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = withModule();
    using _hot = machine.setFileFaults("cachestat:*:cached");
    const { way, notes } = await loadAll(path, tensors);
    assertEquals(way, "buffered");
    assertStringIncludes(notes, "GPUDirect Storage is not used: the page cache had the bytes");
    assertEquals(standIns.report().counts.cufileOpens, 0, "the driver takes seconds to open: not in vain");
    assertEquals((await loadAll(path, tensors, { gds: "require" })).way, "gds");
  });

  test("without the kernel's module cuFile is opened only if it is required", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    const { way, notes } = await loadAll(path, tensors);
    assertEquals(way, "buffered");
    assertStringIncludes(notes, 'nvidia-fs is not loaded, there is no "/nowhere/nvidia-fs/version"');
    assertEquals(standIns.report().counts.cufileOpens, 0);
    // PCI P2PDMA does not need the module.
    assertEquals((await loadAll(path, tensors, { gds: "require" })).way, "gds");
  });

  test("compatibility mode is rejected, or reported under its name", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = standIns.set({ FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat", FST_SIM_GDS: "compat" });
    using _cold = uncached();
    const refused = await loadAll(path, tensors);
    assert(refused.way === "buffered" || refused.way === "direct");
    assertStringIncludes(
      refused.notes,
      "GPUDirect Storage is not used: cuFileDriverOpen failed with status 5033",
    );
    const error = await assertRejects(() => loadAll(path, tensors, { gds: "require" }), DeviceError);
    assertEquals([error.library, error.code, error.codeName], ["cufile", 5033, "CU_FILE_NVFS_SETUP_ERROR"]);
    machine.shutDown(); // a failure to open the driver is cached
    using _forced = standIns.set({ CUFILE_FORCE_COMPAT_MODE: "true" });
    const { way, notes } = await loadAll(path, tensors);
    assertEquals(way, "gds-compat");
    assertStringIncludes(notes, "CUFILE_FORCE_COMPAT_MODE forces it");
    assert(standIns.report().counts.compatReads! > 0);
    await assertRejects(
      () => loadAll(path, tensors, { gds: "require" }),
      DeviceError,
      "CUFILE_FORCE_COMPAT_MODE forces compatibility mode",
    );
  });

  test("cuFile is only used if it reads to the device for sure, or if it is required", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _cold = uncached();
    for (
      const [variables, failure, auto, required, why] of [
        // The version knows no parameters, and its defaults allow compatibility mode.
        [{}, "cuFileSetParameterBool:*:5022", "direct", "gds-compat", "this version cannot be kept from it"],
        // Another library of the process has opened the driver.
        [
          { FST_SIM_CUFILE_TAKEN: "compatible" },
          "",
          "direct",
          "gds-compat",
          "another library of this process has opened it so",
        ],
        [{ FST_SIM_CUFILE_TAKEN: "strict" }, "", "gds", "gds", null],
      ] as const
    ) {
      using _set = standIns.set({ FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat", ...variables });
      machine.shutDown();
      using _failure = standIns.fail(failure);
      for (const [gds, expected] of [["auto", auto], ["require", required], ["auto", auto]] as const) {
        const { way, notes } = await loadAll(path, tensors, { gds });
        assertEquals(way, expected, `gds: "${gds}"`);
        if (why) assertStringIncludes(notes, why);
      }
      machine.shutDown();
    }
  });

  test("the host reads if the driver does not open", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = standIns.set({ FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat", FST_SIM_GDS: "absent" });
    using _cold = uncached();
    for (let turn = 0; turn < 2; turn++) {
      const { way, notes } = await loadAll(path, tensors);
      assertEquals(way, "direct");
      assertStringIncludes(notes, "cuFileDriverOpen failed with status 5033");
    }
    assertEquals(standIns.report().counts.cufileOpens, 1, "what takes seconds is not tried again");
    const error = await assertRejects(() => loadAll(path, tensors, { gds: "require" }), DeviceError);
    assertStringIncludes(error.message, "Cannot load by GPUDirect Storage: cuFileDriverOpen failed");
  });

  test("the host reads the rest after a failure, without a second allocation", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    for (
      const [failure, why] of [
        ["cuFileRead:10+:-5027", "CU_FILE_HANDLE_NOT_REGISTERED (5027)"],
        ["cuFileRead:10:-1", "EIO"],
        ["cuFileBufRegister:*:5016", "CU_FILE_INVALID_MAPPING_SIZE (5016)"],
        ["cuFileHandleRegister:*:5008", "CU_FILE_IO_NOT_SUPPORTED (5008)"],
      ] as const
    ) {
      using _module = withModule();
      using _cold = uncached();
      const before = await loadAll(path, tensors);
      assertEquals(before.way, "gds");
      const { peak } = standIns.report();
      standIns.reset();
      using _failure = standIns.fail(failure);
      const { notes } = await loadAll(path, tensors);
      assertStringIncludes(notes, "GPUDirect Storage failed after");
      assertStringIncludes(notes, why);
      assert(
        standIns.report().peak.deviceBytes <= peak.deviceBytes,
        "more device memory than without the failure",
      );
    }
  });

  test("a failure is an error if gds is required", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = withModule();
    {
      using _failure = standIns.fail("cuFileRead:10:-5027");
      const options = { device: "cuda", gds: "require", blockBytes: 65536 } as const;
      await using model = await fastsafeOpen(path, options);
      const error = await assertRejects(() => model.whenLoaded(), DeviceError);
      assertEquals([error.library, error.code], ["cufile", 5027]);
    }
    assertEquals((await loadAll(path, tensors, { gds: "require" })).way, "gds");
  });

  test("short reads are continued", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = withModule();
    using _cold = uncached();
    for (const length of [5000, 12288, 40000]) {
      using _failure = standIns.fail(`cuFileRead:*:${length}`);
      await loadAll(path, tensors);
    }
  });

  test("two loads of one file at once each register it", async (folder) => {
    const [path, tensors] = await writeModel(folder);
    using _module = withModule();
    await using model = await fastsafeOpen(path, { device: "cuda", lazy: true, gds: "require" });
    const first = model.getTensor("large");
    await new Promise((resolve) => setTimeout(resolve, 0));
    const second = model.getTensor("medium");
    await assertOnDevice(await first, tensors[1]!);
    await assertOnDevice(await second, tensors[3]!);
    assertEquals(model.stats().path, "gds");
  });
});
