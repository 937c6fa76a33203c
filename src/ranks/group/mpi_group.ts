/**
 * A process group over MPI: Open MPI, MPICH and their relatives, found and opened at run time.
 */
import { checkKeys, checkWord, keysOf } from "../../base/check.ts";
import { type CudaState, findCuda, OUT_OF_MEMORY } from "../../../ffi/cuda.ts";
import { CALL_STATUS, type CallMemory, GroupCall, PIECE } from "../../../ffi/group_call.ts";
import { openLibrary } from "../../../ffi/library.ts";
import { moveMpi, type MpiFlow } from "../../../ffi/mpi.ts";
import type { Shim } from "../../../ffi/symbols.ts";
import { DeviceError, type GroupError, OutOfMemoryError } from "../../base/errors.ts";
import {
  broadcastCall,
  type CallBlocks,
  callBlocks,
  callMemory,
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
import { copyMemory, MpiStaging } from "./mpi_staging.ts";
import { type MpiMember, type MpiPlace, type MpiWorld, openWorld } from "./mpi_world.ts";
import type {
  BroadcastBlock,
  GroupBuffer,
  Json,
  ProcessGroup,
  RankStatus,
  ScatterSource,
} from "./process_group.ts";

/** Options of {@linkcode MpiGroup.create}. */
export interface MpiGroupOptions {
  /** How long, in seconds, a call may wait without anything moving before it rejects. Default 300. */
  timeoutSeconds?: number;
  /**
   * How device memory is sent: "auto" gives it to MPI as it is where the library says that it takes it, and else sends
   * it through pinned host memory (48 MiB a group); "host" always does the latter. Default "auto".
   */
  deviceMemory?: "auto" | "host";
}

const KEYS = keysOf<MpiGroupOptions>({ timeoutSeconds: true, deviceMemory: true });

/** A rank's part of a split: color, key, and an id for the group if this rank becomes its rank 0. */
type Part = { readonly color: number; readonly key: number; readonly id: number };

/** Bytes of a broadcast that a rank forwards in one piece: few enough to be in the processor's cache still. */
const RELAYED_BYTES = 2 ** 20;

/** The ranks of an MPI group as those of another one that moves the bytes itself. */
export let mpiControl: (group: MpiGroup) => GroupControl;

/**
 * All processes that a launcher such as `mpirun` has started, or some of them.
 *
 * @example Every rank gets what rank 0 has read
 * ```ts ignore
 * // mpirun -n 4 deno run -A program.ts
 * await using group = await MpiGroup.create();
 * const block = new Uint8Array(1024);
 * if (group.rank === 0) block.set(await Deno.readFile("table.bin"));
 * await group.broadcast(block, 0);
 * ```
 */
export class MpiGroup implements ProcessGroup {
  /** Always "mpi". */
  readonly kind = "mpi";
  /** This process's number, from 0. */
  readonly rank: number;
  /** How many there are. */
  readonly size: number;
  /** The library in use: "Open MPI", "MPICH" or "MPI ABI". */
  readonly family: string;
  /** Where the library is. */
  readonly library: string;
  /** How long, in seconds, a call may wait without anything moving. */
  readonly timeoutSeconds: number;
  readonly #shim: Shim;
  readonly #world: MpiWorld;
  readonly #member: MpiMember;
  readonly #staged: boolean;
  readonly #queue = new CallQueue();
  #staging: MpiStaging | undefined;
  #cuda: CudaState | undefined;

  private constructor(shim: Shim, world: MpiWorld, place: MpiPlace, staged: boolean) {
    this.#shim = shim;
    this.#world = world;
    this.#member = world.join(place);
    this.#staged = staged;
    this.rank = this.#control.rank;
    this.size = this.#control.size;
    this.family = world.process.family;
    this.library = world.process.path;
    this.timeoutSeconds = place.timeoutSeconds;
  }

  /**
   * Makes a group of all ranks of the launcher; every one of them calls it. The library is the one that
   * `FASTSAFETENSORS_MPI_LIB` names, else the system's, that of the launcher's family first. MPI is finalised when the
   * process ends.
   *
   * @throws {DeviceError} if there is no MPI, or one that does not belong to the launcher
   * @throws {GroupError} if another rank does not come, or fails
   * @throws {RangeError} if `timeoutSeconds` is not a positive number
   */
  static create(options: MpiGroupOptions = {}): Promise<MpiGroup> {
    return handledCall(async () => {
      checkKeys("MpiGroup.create()", options, KEYS);
      checkWord("deviceMemory", options.deviceMemory, ["auto", "host"]);
      const timeoutSeconds = checkTimeout(options.timeoutSeconds);
      const opened = await openLibrary();
      if (!opened.shim) throw new DeviceError(`Cannot use MPI: ${opened.reason}`, { library: "mpi" });
      const { shim } = opened;
      const world = await openWorld(shim, timeoutSeconds);
      const { size, cudaAware } = world.process;
      const staged = options.deviceMemory === "host" || !cudaAware;
      const place = { id: world.nextWorldId(), ranks: [...Array(size).keys()], timeoutSeconds };
      const group = new MpiGroup(shim, world, place, staged);
      try {
        await group.#meet(recordOf("split", group.rank, { label: "MpiGroup.create()" }));
      } catch (error) {
        await group.close();
        throw error;
      }
      return group;
    });
  }

  /**
   * Makes groups of those ranks that give the same color, a whole number from 0, in the order of their keys (default:
   * of their ranks here). Every rank of this group calls it.
   */
  split(color: number, key: number = this.rank): Promise<MpiGroup> {
    for (const [name, value] of [["color", color], ["key", key]] as const) {
      if (!Number.isInteger(value) || Math.abs(value) >= 2 ** 31 || (name === "color" && value < 0)) {
        throw new RangeError(
          `The ${name} must be a whole number${name === "color" ? " from 0" : ""}, got ${value}`,
        );
      }
    }
    return handledCall(() =>
      this.#queue.run(async () => {
        const own: Part = { color, key, id: this.#world.nextId() };
        const said = await this.#guard(this.#control.allGather(own, "", "split")) as Part[];
        const ranks = [...said.keys()].filter((rank) => said[rank]!.color === color);
        ranks.sort((a, b) => said[a]!.key - said[b]!.key || a - b);
        const place = {
          id: said[ranks[0]!]!.id,
          ranks: ranks.map((rank) => this.#member.ranks[rank]!),
          timeoutSeconds: this.timeoutSeconds,
        };
        return new MpiGroup(this.#shim, this.#world, place, this.#staged);
      })
    );
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
      await this.#queue.run(() => this.#meet(recordOf("barrier", this.rank, { label })));
    });
  }

  /** Says how this rank is doing; rejects on every rank if any has failed. */
  agree(status: RankStatus, label = ""): Promise<void> {
    return handledCall(async () => {
      const failure = status.ok ? null : status.message;
      await this.#queue.run(() => this.#meet(recordOf("agree", this.rank, { label, failure })));
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
      if (this.#queue.failure || this.#control.hasLeft) return;
      await this.#fail(rankFailure(this.rank, reason));
    });
  }

  /** Leaves the group when the calls made so far are done. */
  close(): Promise<void> {
    return handledCall(async () => {
      await this.#queue.close(async () => {
        this.#staging?.close();
        await this.#control.close();
      });
    });
  }

  /** As {@linkcode MpiGroup.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  static {
    mpiControl = (group) => group.#control;
  }

  get #control(): GroupControl {
    return this.#member.control;
  }

  async #fail(failure: GroupError): Promise<void> {
    this.#queue.fail(failure);
    await this.#control.fail(failure);
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

  #meet(record: CallRecord, { peer, lengths }: CallBlocks = {}): Promise<void> {
    return this.#guard(this.#control.meet(record, peer, lengths));
  }

  #call({ kind, record: rest, blocks: parts }: CheckedCall): Promise<void> {
    const held = holdBlocks(parts);
    const record = recordOf(kind, this.rank, rest);
    const done = this.#queue.run(async () => {
      const { send, receive, blocks } = parts;
      const memory = [send, receive, blocks?.[0]?.block].map((one) => one && deviceMemory(one)).find(Boolean);
      if (memory) await this.#needCuda(memory.device);
      await this.#meet(record, parts);
      await this.#move(record, parts);
    });
    // After a failure the library may still use the memory, which is lost with the group.
    return done.then(() => held[Symbol.dispose]());
  }

  async #move(record: CallRecord, parts: CallBlocks): Promise<void> {
    const flows = this.#flows(record, parts);
    const { timeoutSeconds } = this;
    const device = flows[0]?.memory.device ?? -1, staged = this.#staged && device >= 0;
    const relays = record.kind === "broadcast";
    const pieceBytes = relays ? Math.min(PIECE.bytes, RELAYED_BYTES) : PIECE.bytes;
    const call = new GroupCall({ ...callBlocks(parts), timeoutSeconds, device, pieceBytes });
    const cancel = () => call.cancel();
    try {
      if (staged) {
        await this.#control.during(record, cancel, () => this.#moveStaged(call, flows));
      } else {
        await moveMpi(this.#shim, call, flows, (end) => this.#control.during(record, cancel, end));
      }
      if (call.status === CALL_STATUS.done && parts.send && parts.receive) await this.#keepOwn(call, parts);
    } catch (error) {
      await this.#fail(rankFailure(this.rank, (error as Error).message)); // the others would wait for what is left
      throw error;
    }
    const failed = this.#control.look();
    // With its bytes moved a rank is done with the call, whatever the others say; not if it has failed itself.
    if (call.status === CALL_STATUS.done && failed?.rank !== this.rank) return;
    const peer = record.kind === "scatter" && record.root !== this.rank ? record.root : parts.peer ?? -1;
    const failure = this.#control.look() ??
      callFailure(call, { record, peer, library: "mpi", timeoutSeconds });
    await this.#fail(failure);
    throw failure;
  }

  /**
   * What a call moves from or to this rank.
   *
   * Blocks of a broadcast come from all their roots at once: each rank receives from one while it sends to another, where
   * a broadcast after another keeps but one rank busy at a time. They are passed on from rank to rank, so that a rank
   * sends and receives every byte once, however many ranks there are. MPI_Bcast could not be ended when a rank fails, and
   * MPI_Ibcast takes twice the time with MPICH, and no less with Open MPI.
   */
  #flows(
    { kind, root }: CallRecord,
    { peer, send, receive, blocks = [], lengths = [] }: CallBlocks,
  ): MpiFlow[] {
    const { rank, size } = this, { ranks, tag } = this.#member;
    const flow = (from: number | null, to: number | null, root: number, memory: CallMemory): MpiFlow[] => {
      if (from === null && to === null) return [];
      if (memory.byteLength === 0 && !memory.host?.buffer.detached) return [];
      return [{
        from: from === null ? -1 : ranks[from]!,
        to: to === null ? -1 : ranks[to]!,
        tag: tag + root,
        memory,
      }];
    };
    if (kind === "send") return flow(null, peer!, root, callMemory(send!));
    if (kind === "receive") return flow(peer!, null, root, callMemory(receive!));
    if (kind === "scatter" && rank !== root) return flow(root, null, root, callMemory(receive!));
    if (kind === "scatter") {
      const all = partsOf(callMemory(send!), lengths);
      return all.flatMap((memory, to) => to === root ? [] : flow(null, to, root, memory));
    }
    return blocks.flatMap(({ block, root }) => {
      const place = (rank - root + size) % size; // behind the root
      const from = place > 0 ? (rank + size - 1) % size : null,
        to = place < size - 1 ? (rank + 1) % size : null;
      return flow(from, to, root, callMemory(block));
    });
  }

  /** The root's own part of a scatter. */
  async #keepOwn(call: GroupCall, { send, receive, lengths = [] }: CallBlocks): Promise<void> {
    if (lengths.length === 0) return; // another rank is the root
    const own = partsOf(callMemory(send!), lengths)[this.rank]!;
    await this.#onDevice(call, () => copyMemory(this.#shim, callMemory(receive!), own));
  }

  /** Moves device memory that MPI does not take as it is. */
  async #moveStaged(call: GroupCall, flows: readonly MpiFlow[]): Promise<void> {
    const { device } = flows[0]!.memory;
    await this.#onDevice(call, async () => {
      if (this.#staging?.device !== device || this.#staging.slotBytes !== PIECE.bytes) {
        this.#staging?.close();
        this.#staging = undefined;
        this.#staging = await MpiStaging.make(this.#shim, device, PIECE.bytes);
      }
      await this.#staging.move(call, flows);
    });
  }

  /** Ends the call with an error of the device, if there is one. */
  async #onDevice(call: GroupCall, action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      if (!(error instanceof DeviceError || error instanceof OutOfMemoryError)) throw error;
      call.fail(CALL_STATUS.cuda, error instanceof DeviceError ? error.code : OUT_OF_MEMORY, error.message);
    }
  }

  async #needCuda(device: number): Promise<void> {
    this.#cuda ??= await findCuda(this.#shim);
    if (device < this.#cuda.devices) return;
    const reason = this.#cuda.devices === 0 ? this.#cuda.reason : `there are ${this.#cuda.devices} devices`;
    throw new DeviceError(
      `Cannot move memory of cuda:${device} over MPI: ${reason}; give the bytes from host memory instead`,
      { library: "cudart", code: this.#cuda.code, codeName: this.#cuda.codeName },
    );
  }
}

/** Pieces of memory, one after another. */
function partsOf({ host, address, device }: CallMemory, lengths: readonly number[]): CallMemory[] {
  let at = 0;
  return lengths.map((byteLength) => {
    const start = at;
    at += byteLength;
    return {
      host: host?.subarray(start, at) ?? null,
      address: host ? 0n : address + BigInt(start),
      byteLength,
      device,
    };
  });
}
