/**
 * Calls MPI through the shim.
 */
import { environmentVariable, setEnvironmentVariable } from "./variables.ts";
import { passEnvironment } from "./environment.ts";
import {
  CALL_STATUS,
  type CallMemory,
  decodeText,
  type GroupCall,
  layOutBlocks,
  NO_MEMORY,
} from "./group_call.ts";
import { Handle } from "./handle.ts";
import type { Shim } from "./symbols.ts";

/** MPI in this process. */
export interface MpiProcess {
  /** The rank of this process in the world. */
  readonly rank: number;
  /** The number of ranks. */
  readonly size: number;
  /** Path of the library. */
  readonly path: string;
  /** "Open MPI", "MPICH" or "MPI ABI". */
  readonly family: string;
  /** Whether the library accepts device pointers. */
  readonly cudaAware: boolean;
  /** Number of tags for bytes. */
  readonly tags: number;
}

/** The reason why MPI is not available. */
export interface Refusal {
  readonly reason: string;
}

/** Open MPI's variable for a process without a launcher. */
const SINGLETON = "OMPI_MCA_ess_singleton_isolated";

/** Longest message between processes, in bytes. */
export const MESSAGE_BYTES = 65536;

/** Longest time, in microseconds, that a wait for a message can block the event loop. */
const SHORT = 250n;
/** Longer than any process runs, in microseconds. */
const FOREVER = 1n << 50n;

/** Buffers that one call can keep alive (native/fst_group.h). */
const KEPT = 16;

/** Opens and starts MPI, once; waits for the other ranks of the launcher. */
export async function openMpi(shim: Shim, timeoutSeconds: number): Promise<MpiProcess | Refusal> {
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
    family: decodeText(info.subarray(16)),
    cudaAware: view.getInt32(8, true) === 1,
    tags: view.getInt32(12, true),
  };
}

/** A world of one rank does not need Open MPI's daemon; without its program Open MPI would end the process. */
function startAlone(): void {
  if (
    ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", SINGLETON].some((name) => environmentVariable(name) !== undefined)
  ) return;
  setEnvironmentVariable(SINGLETON, "1");
}

/** Messages between the processes that MPI has started. */
export class MpiChannel {
  readonly #shim: Shim;
  readonly #buffer = new Uint8Array(MESSAGE_BYTES);

  constructor(shim: Shim) {
    this.#shim = shim;
  }

  /** Sends a message to a rank of the world, without a wait; returns false if memory is missing. */
  send(rank: number, message: Uint8Array<ArrayBuffer>): boolean {
    return this.#shim.fst_mpi_send(rank, message, BigInt(message.byteLength)) === 0;
  }

  /** Returns the next message, valid until the next call; null: none has arrived; a text: MPI has failed finally. */
  receive(): Uint8Array<ArrayBuffer> | string | null {
    const bytes = Number(this.#shim.fst_mpi_receive(this.#buffer));
    return bytes > 0 ? this.#buffer.subarray(0, bytes) : bytes < 0 ? decodeText(this.#buffer) : null;
  }

  /** Waits for a message for a few microseconds; returns whether there is one. */
  awaitShortly(): boolean {
    return this.#shim.fst_mpi_await(SHORT) !== 0;
  }

  /** Waits for a message, or until {@linkcode wake} is called; the program does not end meanwhile. */
  async await(): Promise<void> {
    await this.#shim.fst_mpi_await_long(FOREVER);
  }

  /** Ends a wait. */
  wake(): void {
    this.#shim.fst_mpi_wake();
  }

  /** Sets the message that all other ranks receive when the process ends; null: no message. */
  setLastWords(message: Uint8Array<ArrayBuffer> | null): void {
    const bytes = message ?? new Uint8Array(1);
    this.#shim.fst_mpi_last_words(bytes, BigInt(message?.byteLength ?? 0));
  }

  /** Sets the used tags of each group: the first tag, their number, and 1 if their bytes are discarded. */
  setTags(all: readonly (readonly [number, number, number])[]): void {
    this.#shim.fst_mpi_set_tags(Int32Array.from(all.flat()), all.length);
  }

  /** Ends MPI before the memory that it can still access is freed. Called at the end of the process. */
  exit(status: number): void {
    for (const call of pending) if (!call.pending) pending.delete(call);
    if (pending.size > 0) this.#shim.fst_mpi_exit(status);
  }
}

/** A transfer of bytes from one rank of the world to another; -1 is this rank. */
export interface MpiFlow {
  readonly from: number;
  readonly to: number;
  readonly tag: number;
  readonly memory: CallMemory;
}

/** The memory of failed calls that MPI can still access. */
const pending = new Set<GroupCall>();

/**
 * Moves bytes; the result is in `call`, whose input has all memory of the flows. Flows with the same tag, source and
 * destination run one after another, others at the same time.
 *
 * @param wait waits for the end of a part that takes longer than a moment
 * @throws {TypeError} if the buffer of a flow was transferred; the other ranks then wait
 */
export async function moveMpi(
  shim: Shim,
  call: GroupCall,
  flows: readonly MpiFlow[],
  staging: Handle | null,
  wait: (end: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const move = async (pointer: bigint) => {
    for (let first = 0; first < flows.length && call.status === CALL_STATUS.done;) {
      const part = nextPart(flows, first);
      await movePart(shim, call, part, pointer, wait);
      first += part.length;
    }
  };
  try {
    await (staging ? staging.use("move", move) : move(0n));
  } finally {
    for (const other of pending) if (!other.pending) pending.delete(other);
    if (call.pending) pending.add(call);
  }
}

/** Takes as many flows as one call can keep alive: a call keeps only a few buffers. */
function nextPart(flows: readonly MpiFlow[], first: number): readonly MpiFlow[] {
  const buffers = new Set<ArrayBuffer>();
  for (let stop = first; stop < flows.length; stop++) {
    const buffer = flows[stop]!.memory.host?.buffer;
    if (!buffer) continue;
    buffers.add(buffer);
    if (buffers.size > KEPT) return flows.slice(first, stop);
  }
  return first === 0 ? flows : flows.slice(first);
}

async function movePart(
  shim: Shim,
  call: GroupCall,
  part: readonly MpiFlow[],
  staging: bigint,
  wait: (end: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const pipes = Map.groupBy(part, ({ from, to, tag }) => `${tag} ${from} ${to}`).values().toArray();
  pipes.sort(([a], [b]) => a!.tag - b!.tag || a!.to - b!.to); // staging memory is used in this order on all ranks
  const table = pipes.flatMap((flows) => [flows[0]!.from, flows[0]!.to, flows[0]!.tag, flows.length]);
  const ordered = pipes.flat().map(({ memory }) => ({ ...memory, root: 0 }));
  const blocks = layOutBlocks(shim, ordered);
  if (shim.fst_mpi_move(call.memory, Int32Array.from(table), pipes.length, blocks, staging) !== 0) {
    return call.fail(CALL_STATUS.memory);
  }
  if (shim.fst_mpi_finish(call.memory, SHORT) !== 0) return;
  const buffers = [...new Set(ordered.map(({ host }) => host?.buffer ?? null))];
  const keep = Array.from({ length: KEPT }, (_, index) => buffers[index] ?? null) as Kept;
  await wait(() => shim.fst_mpi_hold(call.memory, ...keep));
}

type Kept4 = [ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null];
type Kept = [...Kept4, ...Kept4, ...Kept4, ...Kept4];

/** Copies `send` of the call to `receive`, within this rank; the result is in `call`. */
export async function copyMpi(shim: Shim, call: GroupCall): Promise<void> {
  const { send = NO_MEMORY, receive = NO_MEMORY } = call.input;
  await shim.fst_mpi_copy(call.memory, send.host, receive.host);
}

/** Makes pinned memory for the device and the pieces of a call; null if `call` failed. */
export async function makeMpiStaging(shim: Shim, call: GroupCall): Promise<Handle | null> {
  const made = new BigUint64Array(1);
  if (await shim.fst_mpi_make_staging(call.memory, made) !== CALL_STATUS.done) return null;
  return new Handle("the staging memory", made[0]!, async (staging) => {
    await shim.fst_mpi_free_staging(staging);
  });
}
