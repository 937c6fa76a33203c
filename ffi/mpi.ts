/**
 * MPI through the shim.
 */
import { decodeText } from "../src/group/call_record.ts";
import { environmentVariable, setEnvironmentVariable } from "./variables.ts";
import { passEnvironment } from "./environment.ts";
import { CALL_STATUS, type GroupCall, layOutBlocks } from "./group_call.ts";
import { Handle } from "./handle.ts";
import type { Shim } from "./symbols.ts";

/** MPI in this process. */
export interface MpiWorld {
  /** This process's number among all. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** Path of the library. */
  readonly path: string;
  /** "Open MPI", "MPICH" or "MPI ABI". */
  readonly family: string;
  /** Whether the library takes device pointers. */
  readonly cudaAware: boolean;
}

/** Why something could not be had. */
export interface Refusal {
  readonly reason: string;
}

/** Open MPI's variable for a process that no launcher has started. */
const SINGLETON = "OMPI_MCA_ess_singleton_isolated";

/** How a call is made, as native/fst_group.h has it. */
const FLAGS = { staged: 1, compare: 2, later: 4, more: 8 } as const;

const encoder = new TextEncoder();

/** Opens and starts MPI, once; waits for the other ranks of the launcher. */
export async function openMpi(shim: Shim, timeoutSeconds: number): Promise<MpiWorld | Refusal> {
  passEnvironment(shim);
  startAlone();
  const info = new Uint8Array(40);
  const path = new Uint8Array(1024);
  const reason = new Uint8Array(1024);
  const timeout = BigInt(Math.round(timeoutSeconds * 1e6));
  const status = await shim.fst_mpi_open(info, timeout, path, reason, BigInt(path.byteLength));
  if (status !== 0) return { reason: decodeText(reason) };
  const view = new DataView(info.buffer);
  return {
    rank: view.getInt32(0, true),
    size: view.getInt32(4, true),
    path: decodeText(path),
    family: decodeText(info.subarray(12)),
    cudaAware: view.getInt32(8, true) === 1,
  };
}

/** A world of one needs no daemon; where the launcher's program is missing Open MPI would end the process. */
function startAlone(): void {
  if (
    ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", SINGLETON].some((name) => environmentVariable(name) !== undefined)
  ) return;
  setEnvironmentVariable(SINGLETON, "1");
}

/** A group of ranks; closing the handle leaves the group. */
export type MpiHandle = Handle;

/** Where a new group's ranks are. */
export interface MpiPlace {
  /** The group that it is a part of; null: all ranks of the world. */
  readonly parent: bigint | null;
  /** The same on all its ranks, and that of no other group. */
  readonly id: bigint;
  /** Their numbers in the parent. */
  readonly ranks: readonly number[];
  /** This process's number among them. */
  readonly rank: number;
}

/**
 * Makes a group, without a word to the other ranks.
 *
 * @returns null where there is no memory for it
 */
export async function makeMpiGroup(
  shim: Shim,
  { parent, id, ranks, rank }: MpiPlace,
): Promise<MpiHandle | null> {
  const group = await shim.fst_mpi_group_make(parent ?? 0n, id, Int32Array.from(ranks), ranks.length, rank);
  if (group === 0n) return null;
  return new Handle("the MPI group", group, async (group) => void await shim.fst_mpi_leave(group));
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

/** Calls that failed while their memory was in use by MPI, which holds it here. */
const pending = new Map<bigint, GroupCall>();

/** Keeps the memory of a call for as long as MPI may touch it, however the call has ended. */
function keepPending(shim: Shim, call: GroupCall): void {
  if (call.pending === 0n) return;
  for (const number of pending.keys()) if (shim.fst_mpi_pending(number) === 0) pending.delete(number);
  if (pending.size === 0) addEventListener("unload", exit);
  pending.set(call.pending, call);

  /** Memory is freed at the end of the program, before MPI would be finalised. */
  function exit(): void {
    removeEventListener("unload", exit);
    if (pending.size > 0) shim.fst_mpi_exit(Deno.exitCode);
  }
}

/** Makes one call; how it ended is in `call`. */
export async function runMpi(
  shim: Shim,
  handle: MpiHandle,
  call: GroupCall,
  { lengths, staged, compareOnly }: MpiRunOptions,
): Promise<void> {
  const flags = (staged ? FLAGS.staged : 0) | (compareOnly ? FLAGS.compare : 0);
  await handle.use("make a call", (group) => {
    return shim.fst_mpi_run(group, call.memory, call.send.host, call.receive.host, lengths, flags);
  });
  keepPending(shim, call);
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
  handle: MpiHandle,
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
    await handle.use("broadcast", (group) => {
      return shim.fst_mpi_broadcast(group, call.memory, memory, BigInt(count), flags, ...keep);
    });
    next += count;
  } while (next < blocks.length && call.status === CALL_STATUS.done);
  keepPending(shim, call);
}

type Kept4 = [ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null];
type Kept = [...Kept4, ...Kept4, ...Kept4, ...Kept4];

/** Tells the other ranks that the group is at its end; nothing where this one has left. */
export async function failMpi(shim: Shim, handle: MpiHandle, rank: number, text: string): Promise<void> {
  if (handle.closed) return;
  await handle.use("fail", (group) => shim.fst_mpi_fail(group, rank, encoder.encode(`${text}\0`)));
}

/** Whether another rank has failed or left; who and why is then in `call`. */
export function watchMpi(shim: Shim, handle: MpiHandle, call: GroupCall): boolean {
  return !handle.closed && handle.use("watch", (group) => shim.fst_mpi_watch(group, call.memory)) !== 0;
}

/** Sets the reason that the other ranks receive if this process ends with an error status. Called before it may end so. */
export function lastWords(shim: Shim, text: string): void {
  shim.fst_mpi_last_words(encoder.encode(`${text}\0`));
}
