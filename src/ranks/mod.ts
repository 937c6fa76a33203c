/**
 * Several processes that load one model together: process groups over MPI and NCCL, and ready-made shard plans.
 *
 * @example Every rank has the rows that it needs
 * ```ts ignore
 * // mpirun -n 4 deno run -A program.ts
 * import { fastsafeOpen } from "@x/fastsafetensors";
 * import { MpiGroup } from "@x/fastsafetensors/ranks";
 *
 * await using group = await MpiGroup.create();
 * await using model = await fastsafeOpen("model/", { group });
 * const part = await model.getSharded("wq", 0);
 * ```
 *
 * @module
 */
export { GPT2_SHARDS, LLAMA_SHARDS, MIXTRAL_SHARDS } from "../format/shard_plans.ts";
export { MpiGroup, type MpiGroupOptions } from "./group/mpi_group.ts";
export { NcclGroup, type NcclGroupOptions } from "./group/nccl_group.ts";
export {
  type BroadcastBlock,
  type DeviceMemory,
  type GroupBuffer,
  type Json,
  type ProcessGroup,
  type RankStatus,
  type ScatterSource,
  SingleGroup,
} from "./group/process_group.ts";
