/**
 * The stand-ins for CUDA, for a machine without a GPU: their figures do not describe a GPU.
 */
import { output } from "../side_by_side/tools.ts";

/** The name of the stand-ins in place of a GPU's name. */
export const STAND_IN_NAME = "a CUDA stand-in, not a GPU";

/** Makes this process and its children use stand-ins built into a folder, without their checks and delays. */
export async function useStandIns(folder: string): Promise<void> {
  const build = new URL("../../tests/sim/cuda/build.sh", import.meta.url).pathname;
  await output("sh", [build, folder]);
  const library = `${folder}/libfst_sim_cuda.so`;
  const variables = {
    FASTSAFETENSORS_CUDART_LIB: library,
    FASTSAFETENSORS_CUDA_LIB: library,
    FASTSAFETENSORS_CUFILE_LIB: library,
    FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat", // any existing file
    FST_SIM_KERNELS: `${folder}/libfst_sim_kernels.so`,
    FST_SIM_DEVICE_BYTES: `${64 * 2 ** 30}`,
    FST_SIM_DELAY_US: "0",
    FST_SIM_CHECKS: "0",
  };
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
}
