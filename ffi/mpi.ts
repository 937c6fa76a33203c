/**
 * MPI through the shim.
 */
import { decodeText } from "../src/group/call_record.ts";
import { passEnvironment } from "./environment.ts";
import { CALL_STATUS, type GroupCall, layOutBlocks } from "./group_call.ts";
import type { Shim } from "./symbols.ts";

/** MPI in this process. */
export interface MpiWorld {
  /** This process's number among all. */
  readonly rank: number;
  /** Path of the library. */
  readonly path: string;
  /** "Open MPI", "MPICH" or "MPI ABI". */
  readonly family: string;
  /** Whether the library takes device pointers. */
  readonly cudaAware: boolean;
}

/** A group's communicator; valid until it is left. */
export interface MpiHandle {
  readonly group: bigint;
  readonly rank: number;
  readonly size: number;
}

/** Why something could not be had. */
export interface Refusal {
  readonly reason: string;
}

/** How a call is made, as native/fst_group.h has it. */
const FLAGS = { staged: 1, compare: 2, later: 4, more: 8 } as const;

const encoder = new TextEncoder();

/** Opens and starts MPI, once; waits for the other ranks of the launcher. */
export async function openMpi(shim: Shim, timeoutSeconds: number): Promise<MpiWorld | Refusal> {
  passEnvironment(shim);
  const info = new Uint8Array(40);
  const message = new Uint8Array(1024);
  const timeout = BigInt(Math.round(timeoutSeconds * 1e6));
  const status = await shim.fst_mpi_open(info, timeout, message, BigInt(message.byteLength));
  if (status !== 0) return { reason: decodeText(message) };
  const view = new DataView(info.buffer);
  return {
    rank: view.getInt32(0, true),
    path: decodeText(message),
    family: decodeText(info.subarray(12)),
    cudaAware: view.getInt32(8, true) === 1,
  };
}

/** Makes a group of the world's ranks, or of those of `parent` that give the same color; null where `call` failed. */
export async function makeMpiGroup(
  shim: Shim,
  parent: MpiHandle | null,
  color: number,
  key: number,
  call: GroupCall,
): Promise<MpiHandle | null> {
  const info = new DataView(new ArrayBuffer(16));
  const status = await shim.fst_mpi_group_make(parent?.group ?? 0n, color, key, call.memory, info.buffer);
  if (status !== 0) return null;
  return { group: info.getBigUint64(0, true), rank: info.getInt32(8, true), size: info.getInt32(12, true) };
}

/** How a call is made. */
export interface MpiRunOptions {
  /** An entry a rank: of scatter, at the root, the bytes for each; of allGather the bytes of each. */
  readonly lengths: BigUint64Array<ArrayBuffer>;
  /** Device memory goes through host memory. */
  readonly staged: boolean;
  /** The calls are compared, and nothing is moved. */
  readonly compareOnly: boolean;
}

/** Makes one call; how it ended is in `call`. */
export async function runMpi(
  shim: Shim,
  { group }: MpiHandle,
  call: GroupCall,
  { lengths, staged, compareOnly }: MpiRunOptions,
): Promise<void> {
  const flags = (staged ? FLAGS.staged : 0) | (compareOnly ? FLAGS.compare : 0);
  await shim.fst_mpi_run(group, call.memory, call.send.host, call.receive.host, lengths, flags);
}

/** Buffers that one call can keep alive (native/fst_group.h). */
const KEPT = 16;

/**
 * Broadcasts the blocks of a call; how it ended is in `call`.
 *
 * @throws {TypeError} if the buffer of a block was transferred; the other ranks wait
 */
export async function broadcastMpi(
  shim: Shim,
  { group }: MpiHandle,
  call: GroupCall,
  staged: boolean,
): Promise<void> {
  const { blocks } = call;
  let next = 0;
  do {
    const { memory, count, buffers } = layOutBlocks(shim, blocks, next, KEPT);
    const flags = (staged ? FLAGS.staged : 0) | (next > 0 ? FLAGS.later : 0) |
      (next + count < blocks.length ? FLAGS.more : 0);
    const keep = Array.from({ length: KEPT }, (_, index) => buffers[index] ?? null) as Kept;
    await shim.fst_mpi_broadcast(group, call.memory, memory, BigInt(count), flags, ...keep);
    next += count;
  } while (next < blocks.length && call.status === CALL_STATUS.done);
}

type Kept4 = [ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null];
type Kept = [...Kept4, ...Kept4, ...Kept4, ...Kept4];

/** Tells the other ranks that the group is at its end. */
export async function failMpi(shim: Shim, { group }: MpiHandle, rank: number, text: string): Promise<void> {
  await shim.fst_mpi_fail(group, rank, encoder.encode(`${text}\0`));
}

/** Whether another rank has failed or left; who and why is then in `call`. */
export function watchMpi(shim: Shim, { group }: MpiHandle, call: GroupCall): boolean {
  return shim.fst_mpi_watch(group, call.memory) !== 0;
}

/** Leaves the group. */
export async function leaveMpi(shim: Shim, { group }: MpiHandle): Promise<void> {
  await shim.fst_mpi_leave(group);
}

/** What the other ranks are told should this process end with an error status. */
export function lastWords(shim: Shim, text: string): void {
  shim.fst_mpi_last_words(encoder.encode(`${text}\0`));
}
