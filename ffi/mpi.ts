/**
 * Calls MPI through the shim.
 */
import { quote } from "../src/base/text.ts";
import { environmentVariable, setEnvironmentVariable } from "./variables.ts";
import { passEnvironment } from "./environment.ts";
import {
  addressOf,
  CALL_STATUS,
  type CallMemory,
  decodeText,
  type GroupCall,
  layOutBlocks,
  PIECE,
  type RootedMemory,
} from "./group_call.ts";
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
/** Longest time, in microseconds, of a wait that keeps a program from ending after its last call. */
const LONG = 20_000n;

/** Buffers that one call can keep alive (native/fst_group.h). */
const KEPT = 16;

/** Opens and starts MPI, once; waits for the other ranks of the launcher. */
export async function openMpi(shim: Shim, timeoutSeconds: number): Promise<MpiProcess | Refusal> {
  passEnvironment(shim);
  startAlone();
  leaveSignals();
  const info = new Uint8Array(40);
  const path = new Uint8Array(1024);
  const reason = new Uint8Array(1024);
  const timeout = BigInt(Math.round(timeoutSeconds * 1e6));
  const launched = launchedRanks();
  const mpichFirst = launched?.name === "PMI_SIZE" ? 1 : 0; // the family of the launcher, if both are installed
  const status = await shim.fst_mpi_open(info, timeout, mpichFirst, path, reason, BigInt(path.byteLength));
  if (status !== 0) return { reason: decodeText(reason) };
  const view = new DataView(info.buffer);
  const opened = {
    rank: view.getInt32(0, true),
    size: view.getInt32(4, true),
    path: decodeText(path),
    family: decodeText(info.subarray(16)),
    cudaAware: view.getInt32(8, true) === 1,
    tags: view.getInt32(12, true),
  };
  // A library under another family's launcher does not find the other ranks: each would be alone.
  if (!launched || Number(launched.size) === opened.size) return opened;
  return {
    reason: `the launcher started ${launched.size} ranks (${launched.name}), and ${quote(opened.path)} ` +
      `(${opened.family}) sees ${opened.size}: use the launcher that belongs to the library, or name the launcher's library in ` +
      "FASTSAFETENSORS_MPI_LIB",
  };
}

/** How many ranks a launcher of MPI has started, and which variable says so. */
function launchedRanks(): { readonly name: string; readonly size: string } | undefined {
  for (const name of ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"]) {
    const size = environmentVariable(name);
    if (size !== undefined) return { name, size };
  }
  return undefined;
}

/** A world of one rank does not need Open MPI's daemon; without its program Open MPI would end the process. */
function startAlone(): void {
  if (
    ["OMPI_COMM_WORLD_SIZE", "PMIX_RANK", SINGLETON].some((name) => environmentVariable(name) !== undefined)
  ) return;
  setEnvironmentVariable(SINGLETON, "1");
}

/** UCX's variable with the signals of faults that it handles. */
const UCX_SIGNALS = "UCX_ERROR_SIGNALS";

/**
 * UCX, which libraries of MPI use, handles SIGSEGV and other faults from its loading on and ends the process; V8 and Deno
 * have handlers of their own for them. A value of the user remains, and so does UCX's default without the permission to
 * set the variable.
 */
function leaveSignals(): void {
  if (environmentVariable(UCX_SIGNALS) === undefined) setEnvironmentVariable(UCX_SIGNALS, "");
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
    return this.#shim.fst_mpi_wait(null, SHORT) !== 0;
  }

  /** Waits for a message for a few milliseconds; the program does not end meanwhile. */
  async await(): Promise<void> {
    await this.#shim.fst_mpi_wait_long(null, LONG);
  }

  /**
   * Sets the message that all other ranks receive when the process ends; null: no message. With a message the process may
   * be about to free its memory, so that MPI stops if it can still access some.
   */
  setLastWords(message: Uint8Array<ArrayBuffer> | null): void {
    const bytes = message ?? new Uint8Array(1);
    this.#shim.fst_mpi_last_words(bytes, BigInt(message?.byteLength ?? 0), message && hasPending() ? 1 : 0);
  }

  /** Sets the used tags of each group: the first tag, their number, and 1 if their bytes are discarded. */
  setTags(all: readonly (readonly [number, number, number])[]): void {
    this.#shim.fst_mpi_set_tags(Int32Array.from(all.flat()), all.length);
  }

  /** Ends MPI before the memory that it can still access is freed. Called at the end of the process. */
  exit(status: number): void {
    if (hasPending()) this.#shim.fst_mpi_exit(status);
  }
}

/** A transfer of bytes from one rank of the world to another; -1 is this rank. */
export interface MpiFlow {
  readonly from: number;
  readonly to: number;
  readonly tag: number;
  readonly memory: CallMemory;
}

/** Calls in progress, and failed calls whose memory MPI can still access. */
const calls = new Set<GroupCall>();
/** How to free what MPI can still access. */
const frees = new Map<GroupCall, () => void>();

function hasPending(): boolean {
  return calls.values().some((call) => call.pending);
}

function forgetEnded(): void {
  for (const call of calls) if (!call.running && !call.pending) calls.delete(call);
  for (const [call, free] of frees) {
    if (call.pending) continue;
    frees.delete(call);
    free();
  }
}

/** Calls `free` when MPI does not access the memory of an ended call any more: now, or when a later call ends. */
export function freeAfter(call: GroupCall, free: () => void): void {
  if (call.pending) frees.set(call, free);
  else free();
}

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
  wait: (end: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  calls.add(call);
  try {
    for (let first = 0; first < flows.length && call.status === CALL_STATUS.done;) {
      const part = nextPart(flows, first);
      await movePart(shim, call, part, wait);
      first += part.length;
    }
  } finally {
    forgetEnded();
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
  wait: (end: () => Promise<unknown>) => Promise<unknown>,
): Promise<void> {
  const pipes = Map.groupBy(part, ({ from, to, tag }) => `${tag} ${from} ${to}`).values().toArray();
  const { pieceBytes = PIECE.bytes } = call.input;
  const pieces = pipes.map((flows) => flows.flatMap(({ memory }) => piecesOf(shim, memory, pieceBytes)));
  const table = pipes.flatMap(([flow], index) => [flow!.from, flow!.to, flow!.tag, pieces[index]!.length]);
  const blocks = layOutBlocks(shim, pieces.flat());
  if (shim.fst_mpi_move(call.memory, Int32Array.from(table), pipes.length, blocks) !== 0) {
    return call.fail(CALL_STATUS.memory);
  }
  if (shim.fst_mpi_wait(call.memory, SHORT) !== 0) return;
  const buffers = [...new Set(part.map(({ memory }) => memory.host?.buffer ?? null))];
  const keep = Array.from({ length: KEPT }, (_, index) => buffers[index] ?? null) as Kept;
  await wait(() => shim.fst_mpi_hold(call.memory, ...keep));
}

/** The messages that move memory, by their addresses. */
function piecesOf(shim: Shim, memory: CallMemory, pieceBytes: number): RootedMemory[] {
  const { host, byteLength } = memory;
  const start = host ? addressOf(shim, host) : memory.address;
  const pieces: RootedMemory[] = [];
  for (let at = 0; at < byteLength; at += pieceBytes) {
    const address = start + BigInt(at), length = Math.min(pieceBytes, byteLength - at);
    pieces.push({ host: null, address, byteLength: length, device: -1, root: 0 });
  }
  return pieces;
}

type Kept4 = [ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null, ArrayBuffer | null];
type Kept = [...Kept4, ...Kept4, ...Kept4, ...Kept4];
