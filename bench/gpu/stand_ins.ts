/**
 * The stand-ins for CUDA, for a machine without a GPU: their figures do not describe a GPU.
 */
import { output } from "../side_by_side/tools.ts";

/** The name of the stand-ins in place of a GPU's name. */
export const STAND_IN_NAME = "a CUDA stand-in, not a GPU";

/**
 * Makes this process and its children use stand-ins built into a folder, without their checks and delays.
 *
 * @param nccl "nccl": also one for NCCL
 */
export async function useStandIns(folder: string, nccl?: "nccl"): Promise<void> {
  const sim = new URL("../../tests/sim/", import.meta.url).pathname;
  await output("sh", [`${sim}cuda/build.sh`, folder]);
  if (nccl) await output("sh", [`${sim}nccl/build.sh`, folder]);
  const library = `${folder}/libfst_sim_${nccl ?? "cuda"}.so`; // the one for NCCL has those for CUDA
  const variables = {
    FASTSAFETENSORS_CUDART_LIB: library,
    FASTSAFETENSORS_CUDA_LIB: library,
    FASTSAFETENSORS_CUFILE_LIB: library,
    ...nccl ? { FASTSAFETENSORS_NCCL_LIB: library } : {},
    FASTSAFETENSORS_NVFS_PROC: "/proc/self/stat", // any existing file
    FST_SIM_KERNELS: `${folder}/libfst_sim_kernels.so`,
    FST_SIM_DEVICE_BYTES: `${64 * 2 ** 30}`,
    FST_SIM_DELAY_US: "0",
    FST_SIM_CHECKS: "0",
  };
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
}
