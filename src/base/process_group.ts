/**
 * The ranks that load together, and what passes between them: what every kind of group offers. The kinds are in
 * src/ranks/group.
 */

/** A JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** A piece of device memory. It must stay allocated, and its bytes be complete, for as long as a call uses it. */
export interface DeviceMemory {
  /** Where it begins on the device. */
  readonly devicePointer: bigint;
  /** Bytes. */
  readonly byteLength: number;
  /** Number of the CUDA device. */
  readonly device: number;
}

/**
 * What a call reads or writes: bytes on the host, or device memory. A host buffer is not to be read or written while
 * the call is under way, and, if the call fails, not to be transferred afterwards: bytes may still arrive in it. It is
 * never freed before MPI is done with it.
 */
export type GroupBuffer = Uint8Array<ArrayBuffer> | DeviceMemory;

/** What the root of a scatter hands out. */
export interface ScatterSource {
  /** The bytes for rank 0, then those for rank 1, and so on, one after another. */
  readonly block: GroupBuffer;
  /** How many bytes each rank gets; some may be 0. */
  readonly lengths: readonly number[];
}

/** One of the blocks of {@linkcode ProcessGroup.broadcastAll}. */
export interface BroadcastBlock {
  /** The root's is copied to those of all other ranks, which have the same length. */
  readonly block: GroupBuffer;
  /** The rank that has the bytes. */
  readonly root: number;
  /** What the block is, the same on every rank: the name of a tensor. */
  readonly label?: string;
}

/** How a rank is doing: see {@linkcode ProcessGroup.agree}. */
export type RankStatus = { readonly ok: true } | { readonly ok: false; readonly message: string };

/**
 * A group of processes that take part in a load, each with its own rank.
 *
 * Every rank makes the same calls in the same order, but for {@linkcode ProcessGroup.send} and
 * {@linkcode ProcessGroup.receive}, which two ranks make. The calls of one group run one after another, in the order
 * in which they were made; none holds up the event loop.
 *
 * **Failures.** Before bytes move, the ranks compare what they call: if they differ (another call, another root or
 * number of bytes, another `label`), all of them reject with a `GroupError` that says who called what. If a rank throws,
 * aborts, closes the group or ends, the others reject with a `GroupError` that names it, as does a call in which nothing
 * moves for the group's `timeoutSeconds`. After that the group is of no more use, and further calls reject with the same
 * error; only a failure told by {@linkcode ProcessGroup.agree} leaves it in order.
 *
 * Wrong arguments are a `TypeError` or `RangeError`, at once and on this rank alone, memory that the group cannot move
 * a `DeviceError`, and calls after `close()` a `UseAfterCloseError`.
 *
 * A `label` says what a call is about, such as the name of a tensor: ranks whose labels differ are told so.
 */
export interface ProcessGroup extends AsyncDisposable {
  /** What the ranks talk over. */
  readonly kind: "single" | "mpi" | "nccl";
  /** This process's number, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** Copies the root's block to those of all other ranks, which have the same length. */
  broadcast(block: GroupBuffer, root: number, label?: string): Promise<void>;
  /**
   * Broadcasts several blocks in one call, those of different roots at the same time: while a rank sends its own, it
   * receives another's. All of them are on the host, or all on one device.
   */
  broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void>;
  /** Hands each rank its part of the root's block. All but the root give `send` as null. */
  scatter(send: ScatterSource | null, receive: GroupBuffer, root: number, label?: string): Promise<void>;
  /**
   * Sends a block to one other rank, and is done when that has received it. Two ranks that send each other something
   * must not both send first. `tag`, default 0, must be the receiver's.
   */
  send(block: GroupBuffer, destination: number, tag?: number): Promise<void>;
  /** Receives what another rank sends: as many bytes as the block has. */
  receive(block: GroupBuffer, source: number, tag?: number): Promise<void>;
  /** Waits until all ranks are here. */
  barrier(label?: string): Promise<void>;
  /**
   * Says how this rank is doing, and learns about the others: rejects on every rank with the same `GroupError` if any
   * has failed. Made before a batch of calls, it keeps the others from waiting for a rank that will not come.
   */
  agree(status: RankStatus, label?: string): Promise<void>;
  /** Gathers one small value from each rank, in the order of their ranks. */
  allGather(value: Json, label?: string): Promise<Json[]>;
  /** Ends the group for all ranks, whose calls then reject with this reason. The last resort. */
  abort(reason: string): Promise<void>;
  /** Leaves the group when the calls made so far are done. It does not wait for other ranks. Idempotent. */
  close(): Promise<void>;
}
