/**
 * A process group over NCCL: device memory between ranks, at the speed of their links.
 */
import { checkKeys, keysOf } from "../../base/check.ts";
import { CALL_STATUS, GroupCall } from "../../../ffi/group_call.ts";
import type { Handle } from "../../../ffi/handle.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { makeNcclGroup, makeNcclId, openNccl, runNccl } from "../../../ffi/nccl.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { hostName } from "../../../ffi/variables.ts";
import { DeviceError } from "../../base/errors.ts";
import {
  broadcastCall,
  callBlocks,
  type CheckedCall,
  checkTimeout,
  deviceMemory,
  holdBlocks,
  receiveCall,
  scatterCall,
  sendCall,
  stringifyJson,
} from "./arguments.ts";
import { callFailure, rankFailure } from "./call_failure.ts";
import { CallQueue } from "./call_queue.ts";
import { handledCall } from "../../base/handled.ts";
import { type CallRecord, recordOf } from "./call_record.ts";
import type { GroupControl } from "./control.ts";
import { launchPlace } from "./launcher.ts";
import { mpiControl, type MpiGroup } from "./mpi_group.ts";
import type {
  BroadcastBlock,
  GroupBuffer,
  Json,
  ProcessGroup,
  RankStatus,
  ScatterSource,
} from "./process_group.ts";
import { meetOverTcp } from "./tcp_meeting.ts";

/** Options of {@linkcode NcclGroup.create}. */
export interface NcclGroupOptions {
  /** The ranks, where MPI has started them. Default: as the launcher says, see {@linkcode NcclGroup.create}. */
  group?: MpiGroup;
  /** Number of this rank's CUDA device. Default: its number among the processes of this machine. */
  device?: number;
  /** This process's number, from 0. Default `RANK`. */
  rank?: number;
  /** How many there are. Default `WORLD_SIZE`. */
  size?: number;
  /** Where rank 0 can be met: a host name or address. Default `MASTER_ADDR`. */
  address?: string;
  /** The port there. Default `MASTER_PORT`, or the next one where torchrun itself uses that. */
  port?: number;
  /**
   * The secret that admits a process as a rank, the same on all ranks, at most 1024 characters. It is sent unencrypted. Default `FASTSAFETENSORS_GROUP_SECRET`; empty: a process that reaches the port and knows the job's name is admitted.
   */
  secret?: string;
  /** How long, in seconds, a call may take before it rejects. Default 300. */
  timeoutSeconds?: number;
}

const KEYS = keysOf<NcclGroupOptions>({
  group: true,
  device: true,
  rank: true,
  size: true,
  address: true,
  port: true,
  secret: true,
  timeoutSeconds: true,
});

/** Ranks that each have a CUDA device of their own. Only device memory is moved. */
export class NcclGroup implements ProcessGroup {
  /** Always "nccl". */
  readonly kind = "nccl";
  /** This process's number, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** Number of this rank's CUDA device. */
  readonly device: number;
  readonly #shim: Shim;
  readonly #control: GroupControl;
  readonly #comm: Handle;
  readonly #queue: CallQueue;

  private constructor(shim: Shim, control: GroupControl, comm: Handle, queue: CallQueue, device: number) {
    this.#shim = shim;
    this.#control = control;
    this.#comm = comm;
    this.#queue = queue;
    this.rank = control.rank;
    this.size = control.size;
    this.device = device;
  }

  /**
   * Makes a group of all ranks; every one of them calls it. They find each other through an {@linkcode MpiGroup}, or by
   * TCP at rank 0's address, as torchrun gives it: `RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`. The
   * library is the one that `FASTSAFETENSORS_NCCL_LIB` names, else the system's or that of a Python package.
   *
   * @throws {DeviceError} if there is no NCCL or CUDA
   * @throws {GroupError} if another rank does not come, or fails
   * @throws {TypeError} if nothing says where the ranks meet
   */
  static create(options: NcclGroupOptions = {}): Promise<NcclGroup> {
    return handledCall(async () => {
      checkKeys("NcclGroup.create()", options, KEYS);
      const timeoutSeconds = checkTimeout(options.timeoutSeconds);
      const opened = await openLibrary();
      if (!opened.shim) throw new DeviceError(`Cannot use NCCL: ${opened.reason}`, { library: "nccl" });
      const { shim } = opened;
      const library = await openNccl(shim);
      const { control, localRank } = await meet(options, timeoutSeconds);
      const device = options.device ?? localRank;
      try {
        const refusal = "reason" in library ? `Cannot use NCCL: ${library.reason}` : null;
        const failure = refusal ??
          (Number.isInteger(device) && device >= 0 ? null : `There is no device ${device}`);
        await control.meet(recordOf("agree", control.rank, { label: "NcclGroup.create()", failure }));
        const queue = new CallQueue();
        const hasFailed = () => queue.failure !== undefined;
        const comm = await makeComm(shim, control, device, hasFailed);
        return new NcclGroup(shim, control, comm, queue, device);
      } catch (error) {
        await control.close();
        if (!("reason" in library)) throw error;
        throw new DeviceError(`Cannot use NCCL: ${library.reason}`, { library: "nccl", cause: error });
      }
    });
  }

  /** Copies the root's block to those of all other ranks, which have the same length. */
  broadcast(block: GroupBuffer, root: number, label = ""): Promise<void> {
    return this.broadcastAll([{ block, root, label }]);
  }

  /** Broadcasts several blocks in one call, those of different roots at the same time. */
  broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void> {
    return handledCall(async () => await this.#call(broadcastCall(blocks, this)));
  }

  /** Hands each rank its part of the root's block. */
  scatter(send: ScatterSource | null, receive: GroupBuffer, root: number, label = ""): Promise<void> {
    return handledCall(async () => await this.#call(scatterCall(send, receive, root, label, this)));
  }

  /** Sends a block to one other rank, and is done when that has received it. */
  send(block: GroupBuffer, destination: number, tag = 0): Promise<void> {
    return handledCall(async () => await this.#call(sendCall(block, destination, tag, this)));
  }

  /** Receives what another rank sends: as many bytes as the block has. */
  receive(block: GroupBuffer, source: number, tag = 0): Promise<void> {
    return handledCall(async () => await this.#call(receiveCall(block, source, tag, this)));
  }

  /** Waits until all ranks are here. */
  barrier(label = ""): Promise<void> {
    return handledCall(async () => {
      await this.#queue.run(() => this.#guard(this.#control.meet(recordOf("barrier", this.rank, { label }))));
    });
  }

  /** Says how this rank is doing; rejects on every rank if any has failed. */
  agree(status: RankStatus, label = ""): Promise<void> {
    return handledCall(async () => {
      const record = recordOf("agree", this.rank, { label, failure: status.ok ? null : status.message });
      await this.#queue.run(() => this.#guard(this.#control.meet(record)));
    });
  }

  /** Gathers one small value from each rank, in the order of their ranks. */
  allGather(value: Json, label = ""): Promise<Json[]> {
    return handledCall(async () => {
      stringifyJson(value);
      return await this.#queue.run(() => this.#guard(this.#control.allGather(value, label)));
    });
  }

  /** Ends the group for all ranks, whose calls then reject with this reason. */
  abort(reason: string): Promise<void> {
    return handledCall(async () => {
      if (this.#queue.failure || this.#comm.closed) return;
      const failure = rankFailure(this.rank, reason);
      this.#queue.fail(failure);
      await this.#control.fail(failure);
    });
  }

  /** Leaves the group when the calls made so far are done. */
  close(): Promise<void> {
    return handledCall(async () => {
      await this.#queue.close(async () => {
        await this.#comm.close();
        await this.#control.close();
      });
    });
  }

  /** As {@linkcode NcclGroup.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** NCCL reaches the memory of the communicator's device only. */
  #check(what: CheckedCall["kind"], block: GroupBuffer): void {
    const memory = deviceMemory(block);
    if (memory && memory.device === this.device) return;
    throw new DeviceError(
      memory
        ? `Cannot ${what} memory of cuda:${memory.device} over NCCL: this rank's group is on cuda:${this.device}`
        : `Cannot ${what} host memory over NCCL: copy it to cuda:${this.device} first, or use an MpiGroup`,
      { library: "nccl" },
    );
  }

  async #call({ kind, record: rest, blocks }: CheckedCall): Promise<void> {
    const { peer, send, receive, blocks: all = [], lengths = [] } = blocks;
    for (const block of [receive, send, ...all.map(({ block }) => block)]) {
      if (block) this.#check(kind, block);
    }
    using _held = holdBlocks(blocks);
    await this.#queue.run(async () => {
      const record = recordOf(kind, this.rank, rest);
      await this.#guard(this.#control.meet(record, peer, lengths));
      const { timeoutSeconds } = this.#control;
      const call = new GroupCall({ kind, root: record.root, timeoutSeconds, ...callBlocks(blocks) });
      await this.#run(record, call, BigUint64Array.from(lengths, BigInt));
    });
  }

  async #run(record: CallRecord, call: GroupCall, lengths: BigUint64Array<ArrayBuffer>): Promise<void> {
    const move = () => runNccl(this.#shim, this.#comm, call, lengths);
    await this.#control.during(record, () => call.cancel(), move);
    if (call.status === CALL_STATUS.done) return;
    const { timeoutSeconds } = this.#control;
    const failure = this.#control.look() ?? callFailure(call, { record, library: "nccl", timeoutSeconds });
    this.#queue.fail(failure);
    await this.#control.fail(failure);
    throw failure;
  }

  /** Refuses further calls after a failure of the ranks. A failure that agree() reports is not one. */
  async #guard<T>(call: Promise<T>): Promise<T> {
    try {
      return await call;
    } catch (error) {
      const failure = this.#control.look();
      if (failure) this.#queue.fail(failure);
      throw error;
    }
  }
}

async function meet(
  options: NcclGroupOptions,
  timeoutSeconds: number,
): Promise<{ control: GroupControl; localRank: number }> {
  if (!options.group) {
    const place = launchPlace(options);
    return { control: await meetOverTcp(place, timeoutSeconds), localRank: place.localRank };
  }
  const host = hostName();
  const group = await options.group.split(0);
  const hosts = await group.allGather(host);
  const localRank = hosts.slice(0, group.rank).filter((host) => host === hosts[group.rank]).length;
  return { control: mpiControl(group), localRank };
}

async function makeComm(
  shim: Shim,
  control: GroupControl,
  device: number,
  hasFailed: () => boolean,
): Promise<Handle> {
  const { rank, size, timeoutSeconds } = control;
  const record = recordOf("split", rank, { label: "NcclGroup.create()" });
  const send = { host: null, address: 0n, byteLength: 0, device };
  const call = new GroupCall({ timeoutSeconds, send });
  const own = rank === 0 ? await makeNcclId(shim, call) : new Uint8Array();
  const [id] = await control.allGather(own.toBase64(), "NCCL id");
  if (call.status === CALL_STATUS.done) {
    const bytes = Uint8Array.fromBase64(id as string);
    const comm = await control.during(record, () => call.cancel(), () => {
      return makeNcclGroup(shim, bytes, { rank, size }, call, hasFailed);
    });
    if (comm !== null) return comm;
  }
  const failure = control.look() ?? callFailure(call, { record, library: "nccl", timeoutSeconds });
  await control.fail(failure);
  throw failure;
}
