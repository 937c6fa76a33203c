/**
 * The interface of a process group, the ranks that load together. The implementations are in src/ranks/group.
 */

/** A JSON value. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json };

/** A range of device memory. It must stay allocated, and writes to it must be complete, while a call uses it. */
export interface DeviceMemory {
  /** Address of its first byte on the device. */
  readonly devicePointer: bigint;
  /** Length in bytes. */
  readonly byteLength: number;
  /** Index of the CUDA device. */
  readonly device: number;
}

/**
 * The memory of a call: bytes on the host, or device memory. Do not read or write a host buffer while the call runs. After
 * a failed call do not transfer the buffer: bytes can still arrive in it. The group keeps the buffer alive until MPI no
 * longer uses it.
 */
export type GroupBuffer = Uint8Array<ArrayBuffer> | DeviceMemory;

/** The blocks that the root of a scatter sends. */
export interface ScatterSource {
  /** The bytes for rank 0, then those for rank 1, and so on, without gaps. */
  readonly block: GroupBuffer;
  /** Number of bytes for each rank; it can be 0. */
  readonly lengths: readonly number[];
}

/** One of the blocks of {@linkcode ProcessGroup.broadcastAll}. */
export interface BroadcastBlock {
  /** The memory: the root's bytes are copied to the memory of all other ranks, which has the same length. */
  readonly block: GroupBuffer;
  /** The rank that has the bytes. */
  readonly root: number;
  /** The name of the block, which is the same on every rank: the name of a tensor. */
  readonly label?: string;
}

/** Whether a rank has failed, for {@linkcode ProcessGroup.agree}. */
export type RankStatus = { readonly ok: true } | { readonly ok: false; readonly message: string };

/**
 * A group of processes that load together, each with its own rank.
 *
 * Every rank makes the same calls in the same order, except {@linkcode ProcessGroup.send} and
 * {@linkcode ProcessGroup.receive}, which two ranks make. The calls of one group run one after another, in the order
 * in which they were made; they do not block the event loop.
 *
 * **Failures.** Before bytes move, the ranks compare their calls: if they differ (another call, another root or number of
 * bytes, another `label`), all ranks reject with a `GroupError` that describes the calls. If a rank throws, aborts, closes
 * the group or ends, the others reject with a `GroupError` that names it. A call without progress for the group's
 * `timeoutSeconds` rejects too. After a failure the group cannot be used: further calls reject with the same error. Only
 * after a failure that {@linkcode ProcessGroup.agree} reports can the group still be used.
 *
 * Wrong arguments throw a `TypeError` or `RangeError` at once, on this rank only. Memory that the group cannot move causes
 * a `DeviceError`, and a call after `close()` a `UseAfterCloseError`.
 *
 * A `label` describes a call, such as the name of a tensor; the call fails if the labels of the ranks differ.
 */
export interface ProcessGroup extends AsyncDisposable {
  /** The library that connects the ranks. */
  readonly kind: "single" | "mpi" | "nccl";
  /** The number of this process, from 0. */
  readonly rank: number;
  /** The number of ranks. */
  readonly size: number;
  /** Copies the root's block to the blocks of all other ranks, which have the same length. */
  broadcast(block: GroupBuffer, root: number, label?: string): Promise<void>;
  /**
   * Broadcasts several blocks in one call. Blocks of different roots move at the same time: a rank sends and receives at
   * once. All blocks are on the host, or all on one device.
   */
  broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void>;
  /** Sends each rank its part of the root's block. All ranks except the root pass null as `send`. */
  scatter(send: ScatterSource | null, receive: GroupBuffer, root: number, label?: string): Promise<void>;
  /**
   * Sends a block to one other rank; resolves after that rank has received it. If two ranks send to each other, one of
   * them must receive first. `tag`, default 0, must be the same as the receiver's.
   */
  send(block: GroupBuffer, destination: number, tag?: number): Promise<void>;
  /** Receives a block from another rank: as many bytes as the block has. */
  receive(block: GroupBuffer, source: number, tag?: number): Promise<void>;
  /** Waits until all ranks have made this call. */
  barrier(label?: string): Promise<void>;
  /**
   * Exchanges the status of all ranks: rejects on every rank with the same `GroupError` if one has failed. Call it before
   * a batch of calls, so that ranks do not wait for a rank that has failed.
   */
  agree(status: RankStatus, label?: string): Promise<void>;
  /** Gathers one small value from each rank, in the order of their ranks. */
  allGather(value: Json, label?: string): Promise<Json[]>;
  /** Ends the group for all ranks; their calls then reject with this reason. */
  abort(reason: string): Promise<void>;
  /** Leaves the group after the calls made so far. It does not wait for other ranks. Idempotent. */
  close(): Promise<void>;
}
