/**
 * NCCL through the shim.
 */
import { decodeText } from "../src/group/call_record.ts";
import { passEnvironment } from "./environment.ts";
import { type GroupCall, layOutBlocks } from "./group_call.ts";
import type { Refusal } from "./mpi.ts";
import type { Shim } from "./symbols.ts";

/** NCCL in this process. */
export interface NcclLibrary {
  /** Path of the library. */
  readonly path: string;
  /** 23007 is 2.30.7. */
  readonly version: number;
}

/** Bytes of the id that the ranks of a communicator share. */
const ID_BYTES = 128;

/** Opens libnccl, and libcudart, once. */
export async function openNccl(shim: Shim): Promise<NcclLibrary | Refusal> {
  passEnvironment(shim);
  const version = new Int32Array(1);
  const message = new Uint8Array(1024);
  const status = await shim.fst_nccl_open(version, message, BigInt(message.byteLength));
  return status === 0 ? { path: decodeText(message), version: version[0]! } : { reason: decodeText(message) };
}

/** Makes the id of a new communicator; how it ended is in `call`. */
export async function makeNcclId(shim: Shim, call: GroupCall): Promise<Uint8Array<ArrayBuffer>> {
  const id = new Uint8Array(ID_BYTES);
  await shim.fst_nccl_make_id(id, call.memory);
  return id;
}

/** Makes a communicator on the call's device, with all ranks that have the id; null where `call` failed. */
export async function makeNcclGroup(
  shim: Shim,
  id: Uint8Array<ArrayBuffer>,
  rank: number,
  size: number,
  call: GroupCall,
): Promise<bigint | null> {
  const group = new BigUint64Array(1);
  const status = await shim.fst_nccl_make(id, rank, size, call.memory, group);
  return status === 0 ? group[0]! : null;
}

/** Makes one call; how it ended is in `call`. */
export async function runNccl(
  shim: Shim,
  group: bigint,
  call: GroupCall,
  lengths: BigUint64Array<ArrayBuffer>,
): Promise<void> {
  const { memory, count } = layOutBlocks(shim, call.blocks);
  await shim.fst_nccl_run(group, call.memory, memory, BigInt(count), lengths);
}

/** Frees a communicator: when its work is done, or by force. */
export async function freeNcclGroup(shim: Shim, group: bigint, force: boolean): Promise<void> {
  await shim.fst_nccl_free(group, force ? 1 : 0);
}
