/**
 * Calls NCCL through the shim.
 */
import { passEnvironment } from "./environment.ts";
import { Handle } from "./handle.ts";
import { decodeText, type GroupCall, layOutBlocks } from "./group_call.ts";
import type { Refusal } from "./mpi.ts";
import type { Shim } from "./symbols.ts";

/** NCCL in this process. */
export interface NcclLibrary {
  /** Path of the library. */
  readonly path: string;
  /** Version number: 23007 for 2.30.7. */
  readonly version: number;
}

/** Bytes of the id that the ranks of a communicator share. */
const ID_BYTES = 128;

/** Opens libnccl, and libcudart, once. */
export async function openNccl(shim: Shim): Promise<NcclLibrary | Refusal> {
  passEnvironment(shim);
  const version = new Int32Array(1);
  const path = new Uint8Array(1024), reason = new Uint8Array(1024);
  const status = await shim.fst_nccl_open(version, path, reason, BigInt(path.byteLength));
  return status === 0 ? { path: decodeText(path), version: version[0]! } : { reason: decodeText(reason) };
}

/** Makes the id of a new communicator; the result is in `call`. */
export async function makeNcclId(shim: Shim, call: GroupCall): Promise<Uint8Array<ArrayBuffer>> {
  const id = new Uint8Array(ID_BYTES);
  await shim.fst_nccl_make_id(id, call.memory);
  return id;
}

/**
 * Makes a communicator on the call's device, with all ranks that have the id.
 *
 * @param hasFailed whether its work has failed, so that closing the handle must not wait for it
 * @returns null if `call` failed
 */
export async function makeNcclGroup(
  shim: Shim,
  id: Uint8Array<ArrayBuffer>,
  { rank, size }: { rank: number; size: number },
  call: GroupCall,
  hasFailed: () => boolean,
): Promise<Handle | null> {
  const made = new BigUint64Array(1);
  const status = await shim.fst_nccl_make(id, rank, size, call.memory, made);
  if (status !== 0) return null;
  return new Handle("the NCCL group", made[0]!, async (group) => {
    await shim.fst_nccl_free(group, hasFailed() ? 1 : 0);
  });
}

/** Makes one call; its result is in `call`. */
export async function runNccl(
  shim: Shim,
  handle: Handle,
  call: GroupCall,
  lengths: BigUint64Array<ArrayBuffer>,
): Promise<void> {
  const { blocks = [] } = call.input;
  const memory = layOutBlocks(shim, blocks);
  await handle.use("make a call", (group) => {
    return shim.fst_nccl_run(group, call.memory, memory, BigInt(blocks.length), lengths);
  });
}
