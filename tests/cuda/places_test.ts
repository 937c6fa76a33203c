/**
 * The search for CUDA's libraries: the names of every version, in the folders of a toolkit and of Python's wheels. The
 * stand-in is copied there.
 */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { DoctorReport } from "../../src/doctor/mod.ts";
import { cannotHide, runChild } from "../support/child.ts";
import { tempFolder } from "../support/models.ts";
import { exists, suite } from "../support/skip.ts";
import { standInSuite, useCuda } from "./support.ts";

const machine = await useCuda();
const CUDART = ["libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so"];
const CUFILE = ["libcufile.so.0", "libcufile.so"];
const TOOLKIT = "/usr/local/cuda/lib64"; // precedes the folders of wheels, so it is hidden
const HAS_TOOLKIT = [...CUDART, ...CUFILE].some((name) => exists(`${TOOLKIT}/${name}`));

standInSuite("Where CUDA is found", machine, (_test, standIns) => {
  const library = `${standIns.folder}/libfst_sim_cuda.so`;

  /** The libraries that a process finds if only the folders in the variables have libraries. */
  async function find(folder: string, variables: Record<string, string>): Promise<DoctorReport["cuda"]> {
    // Files that are not libraries hide the system's own libraries.
    const hidden = `${folder}/hidden`;
    await Deno.mkdir(hidden, { recursive: true });
    for (const name of [...CUDART, ...CUFILE]) await Deno.writeTextFile(`${hidden}/${name}`, "");
    const env = {
      PATH: Deno.env.get("PATH") ?? "",
      HOME: folder, // for Python's packages
      XDG_CACHE_HOME: Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`,
      LD_LIBRARY_PATH: hidden,
      FASTSAFETENSORS_CUDA_LIB: library,
      FST_SIM_VERSION: "13000", // the driver
      FASTSAFETENSORS_NVFS_PROC: "/nowhere/nvidia-fs/version",
      ...variables,
    };
    const options = { flags: ["-A"], args: [], env, ...HAS_TOOLKIT && { hide: [TOOLKIT, hidden] as const } };
    const { code, stdout, stderr } = await runChild("cuda_found.ts", options);
    assertEquals(code, 0, stderr);
    return JSON.parse(stdout);
  }

  async function put(path: string): Promise<void> {
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.symlink(library, path);
  }

  const missing = HAS_TOOLKIT ? cannotHide() : null;
  suite("CUDA's libraries, with the installed toolkit hidden", "mounts", missing, () => {
    const site = "lib/python3.12/site-packages/nvidia";
    for (
      const [variable, cudart, cufile] of [
        ["VIRTUAL_ENV", `${site}/cu13/lib/libcudart.so.13`, `${site}/cu13/lib/libcufile.so.0`],
        ["VIRTUAL_ENV", `${site}/cuda_runtime/lib/libcudart.so.12`, `${site}/cufile/lib/libcufile.so.0`],
        ["CONDA_PREFIX", `${site}/cuda_runtime/lib/libcudart.so.11.0`, `${site}/cufile/lib/libcufile.so.0`],
        ["CONDA_PREFIX", "lib/libcudart.so.12", "lib/libcufile.so.0"],
        ["CUDA_HOME", "lib64/libcudart.so.13", "lib64/libcufile.so.0"],
        ["CUDA_PATH", "lib64/libcudart.so.12", "lib64/libcufile.so"],
      ] as const
    ) {
      Deno.test(`${cudart} below ${variable} is found [CUDA stand-in]`, async () => {
        await using folder = await tempFolder();
        const place = `${folder.path}/place`;
        await put(`${place}/${cudart}`);
        const { reason } = await find(folder.path, { [variable]: place, FST_SIM_DEVICES: "0" });
        assertStringIncludes(reason, `"${place}/${cudart}" finds no GPU: cudaErrorNoDevice (100)`);
        const without = await find(folder.path, { [variable]: place });
        assertStringIncludes(without.gds.state, 'looked for "libcufile.so.0", "libcufile.so" among');
        await put(`${place}/${cufile}`);
        const { gds } = await find(folder.path, { [variable]: place });
        assertEquals(gds.state, "nvidia-fs is not loaded, libcufile knows PCI P2PDMA");
      });
    }

    Deno.test("a toolkit that is newer than the driver gives way to an older one [CUDA stand-in]", async () => {
      await using folder = await tempFolder();
      const lib = `${folder.path}/place/lib64`;
      await Deno.mkdir(lib, { recursive: true });
      // Copies, because the stand-in has the version in the name of its file.
      await Deno.copyFile(library, `${lib}/libcudart.so.13`);
      const variables = { CUDA_HOME: `${folder.path}/place`, FST_SIM_VERSION: "12040" };
      const alone = await find(folder.path, variables);
      const tooNew = `"${lib}/libcudart.so.13" finds no GPU: cudaErrorInsufficientDriver (35)`;
      assertStringIncludes(alone.reason, tooNew);
      await Deno.copyFile(library, `${lib}/libcudart.so.12`);
      const both = await find(folder.path, variables);
      assertEquals([both.library, both.runtimeVersion], [`${lib}/libcudart.so.12`, "12.0"]);
      assertEquals([both.driverVersion, both.devices.length], ["12.4", 2]);
      const newer = await find(folder.path, { ...variables, FST_SIM_VERSION: "13000" });
      assertEquals([newer.library, newer.runtimeVersion], [`${lib}/libcudart.so.13`, "13.0"]);
    });
  });
});
