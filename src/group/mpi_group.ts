/**
 * A process group over MPI: Open MPI, MPICH and their relatives, found and opened at run time.
 */
import { checkKeys, checkWord, keysOf } from "../base/check.ts";
import { type CudaState, findCuda } from "../../ffi/cuda.ts";
import { CALL_STATUS, GroupCall } from "../../ffi/group_call.ts";
import { openLibrary } from "../../ffi/library.ts";
import {
  broadcastMpi,
  failMpi,
  lastWords,
  makeMpiGroup,
  type MpiHandle,
  type MpiWorld,
  openMpi,
  runMpi,
  watchMpi,
} from "../../ffi/mpi.ts";
import type { Shim } from "../../ffi/symbols.ts";
import { DeviceError, type GroupError } from "../base/errors.ts";
import {
  broadcastRecord,
  type CallBlocks,
  callBlocks,
  checkBlock,
  checkBroadcast,
  checkPeer,
  checkScatter,
  checkTag,
  checkTimeout,
  deviceMemory,
  holdBlocks,
  stringifyJson,
} from "./arguments.ts";
import { callFailure, rankFailure } from "./call_failure.ts";
import { CallQueue } from "./call_queue.ts";
import { type CallKind, type CallRecord, encodeRecord, recordOf } from "./call_record.ts";
import type { GroupControl } from "./control.ts";
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

/** What a call is besides its record. */
interface CallParts extends CallBlocks {
  readonly lengths?: BigUint64Array<ArrayBuffer>;
  readonly compareOnly?: boolean;
}

/** What a rank says in a split. */
type Part = { readonly color: number; readonly key: number; readonly id: string };

/** The first id of a group of all ranks; those of other groups are smaller. */
const WORLD_IDS = 0xffffffffn << 32n;

const encoder = new TextEncoder();

/** The ranks of an MPI group as those of another one that moves the bytes itself. */
export let mpiControl: (group: MpiGroup) => GroupControl;

/** Groups of all ranks that were made here: every rank makes them in the same order. */
let worlds = 0;
/** Parts of groups that were made here. */
let parts = 0;
let tellsLastWords = false;

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
  readonly #handle: MpiHandle;
  readonly #staged: boolean;
  readonly #queue = new CallQueue();
  #current: GroupCall | undefined;
  #cuda: CudaState | undefined;

  private constructor(
    shim: Shim,
    world: MpiWorld,
    handle: MpiHandle,
    { rank, size }: { rank: number; size: number },
    timeoutSeconds: number,
    staged: boolean,
  ) {
    this.#shim = shim;
    this.#world = world;
    this.#handle = handle;
    this.#staged = staged;
    this.rank = rank;
    this.size = size;
    this.family = world.family;
    this.library = world.path;
    this.timeoutSeconds = timeoutSeconds;
  }

  /**
   * Makes a group of all ranks of the launcher; every one of them calls it. The library is the one that
   * `FASTSAFETENSORS_MPI_LIB` names, else the system's, that of the launcher's family first. MPI is finalised when the
   * process ends.
   *
   * @throws {DeviceError} if there is no MPI, or one that does not belong to the launcher
   * @throws {GroupError} if another rank does not come, or fails
   * @throws {RangeError} if `timeoutSeconds` is no positive number
   */
  static async create(options: MpiGroupOptions = {}): Promise<MpiGroup> {
    checkKeys("MpiGroup.create()", options, KEYS);
    checkWord("deviceMemory", options.deviceMemory, ["auto", "host"]);
    const timeoutSeconds = checkTimeout(options.timeoutSeconds);
    const opened = await openLibrary();
    if (!opened.shim) throw new DeviceError(`Cannot use MPI: ${opened.reason}`, { library: "mpi" });
    const { shim } = opened;
    const world = await openMpi(shim, timeoutSeconds);
    if ("reason" in world) throw new DeviceError(`Cannot use MPI: ${world.reason}`, { library: "mpi" });
    tellLastWords(shim);
    const staged = options.deviceMemory === "host" || !world.cudaAware;
    const handle = await makeMpiGroup(shim, {
      parent: null,
      id: WORLD_IDS + BigInt(worlds++),
      ranks: [],
      rank: 0,
    });
    const group = new MpiGroup(shim, world, checkMemory(handle, world.rank), world, timeoutSeconds, staged);
    try {
      await group.#call("split", { label: "MpiGroup.create()" }, {});
    } catch (error) {
      await group.close();
      throw error;
    }
    return group;
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
    return this.#queue.run(async () => {
      await this.#make(this.#record("split"), {});
      const said = await this.#gather(
        { color, key, id: `${this.#world.rank * 2 ** 32 + parts++}` },
        "",
      ) as Part[];
      const ranks = [...said.keys()].filter((rank) => said[rank]!.color === color);
      ranks.sort((a, b) => said[a]!.key - said[b]!.key || a - b);
      const place = { rank: ranks.indexOf(this.rank), size: ranks.length };
      const id = BigInt(said[ranks[0]!]!.id);
      const handle = await this.#handle.use("split", (parent) => {
        return makeMpiGroup(this.#shim, { parent, id, ranks, rank: place.rank });
      });
      const { timeoutSeconds } = this;
      return new MpiGroup(
        this.#shim,
        this.#world,
        checkMemory(handle, this.rank),
        place,
        timeoutSeconds,
        this.#staged,
      );
    });
  }

  /** Copies the root's block to those of all other ranks, which have the same length. */
  async broadcast(block: GroupBuffer, root: number, label = ""): Promise<void> {
    await this.broadcastAll([{ block, root, label }]);
  }

  /** Broadcasts several blocks in one call, those of different roots at the same time. */
  async broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void> {
    checkBroadcast(blocks, this.size);
    await this.#call("broadcast", broadcastRecord(blocks), { blocks });
  }

  /** Hands each rank its part of the root's block. */
  async scatter(send: ScatterSource | null, receive: GroupBuffer, root: number, label = ""): Promise<void> {
    const source = checkScatter(send, receive, root, this);
    await this.#call("scatter", { root, label, ownBytes: receive.byteLength }, {
      send: source.block,
      receive,
      lengths: BigUint64Array.from(source.lengths, BigInt),
    });
  }

  /** Sends a block to one other rank, and is done when that has received it. */
  async send(block: GroupBuffer, destination: number, tag = 0): Promise<void> {
    checkBlock(block);
    checkPeer("destination", destination, this);
    checkTag(tag);
    const record = { root: this.rank, tag, bytes: block.byteLength };
    await this.#call("send", record, { peer: destination, send: block });
  }

  /** Receives what another rank sends: as many bytes as the block has. */
  async receive(block: GroupBuffer, source: number, tag = 0): Promise<void> {
    checkBlock(block);
    checkPeer("source", source, this);
    checkTag(tag);
    await this.#call("receive", { root: source, tag, bytes: block.byteLength }, {
      peer: source,
      receive: block,
    });
  }

  /** Waits until all ranks are here. */
  async barrier(label = ""): Promise<void> {
    await this.#call("barrier", { label }, {});
  }

  /** Says how this rank is doing; rejects on every rank if any has failed. */
  async agree(status: RankStatus, label = ""): Promise<void> {
    await this.#call("agree", { label, failure: status.ok ? null : status.message }, {});
  }

  /** Gathers one small value from each rank, in the order of their ranks. */
  async allGather(value: Json, label = ""): Promise<Json[]> {
    stringifyJson(value);
    return await this.#queue.run(() => this.#gather(value, label));
  }

  /** Ends the group for all ranks, whose calls then reject with this reason. */
  async abort(reason: string): Promise<void> {
    if (this.#queue.failure || this.#handle.closed) return;
    const failure = rankFailure(this.rank, reason);
    this.#queue.fail(failure);
    this.#current?.cancel();
    await failMpi(this.#shim, this.#handle, this.rank, failure.message);
  }

  /** Leaves the group when the calls made so far are done. */
  async close(): Promise<void> {
    await this.#queue.close(() => this.#handle.close());
  }

  /** As {@linkcode MpiGroup.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  static {
    mpiControl = (group) => ({
      rank: group.rank,
      size: group.size,
      timeoutSeconds: group.timeoutSeconds,
      meet: (record, peer, lengths = []) =>
        group.#call(record.kind, record, {
          ...(peer === undefined ? {} : { peer }),
          lengths: BigUint64Array.from(lengths, BigInt),
          compareOnly: true,
        }),
      allGather: (value, label) => group.allGather(value, label),
      look: () => group.#look(),
      fail: async (failure) => {
        group.#queue.fail(failure);
        await failMpi(group.#shim, group.#handle, failure.rank, failure.message);
      },
      close: () => group.close(),
    });
  }

  #look(): GroupError | undefined {
    const { rank, timeoutSeconds } = this;
    const call = new GroupCall({ record: encodeRecord(this.#record("barrier")), timeoutSeconds });
    if (!watchMpi(this.#shim, this.#handle, call)) return undefined;
    return callFailure(call, { rank, library: "mpi", timeoutSeconds });
  }

  #record(kind: CallKind, rest: Partial<CallRecord> = {}): CallRecord {
    return recordOf(kind, this.rank, rest);
  }

  #call(kind: CallKind, rest: Partial<CallRecord>, parts: CallParts): Promise<void> {
    const held = holdBlocks(parts);
    const done = this.#queue.run(() => this.#make(this.#record(kind, rest), parts));
    // After a failure the library may still use the memory, which is lost with the group.
    return done.then(() => held[Symbol.dispose]());
  }

  async #gather(value: Json, label: string): Promise<Json[]> {
    const own = encoder.encode(stringifyJson(value));
    const lengths = new BigUint64Array(this.size);
    await this.#make(this.#record("allGather", { label, ownBytes: own.byteLength }), { lengths });
    const ends = Array.from(lengths, Number);
    for (let rank = 1; rank < ends.length; rank++) ends[rank]! += ends[rank - 1]!;
    const all = new Uint8Array(ends.at(-1)!);
    all.set(own, ends[this.rank]! - own.byteLength);
    await this.#make(this.#record("spread", { label }), { receive: all, lengths });
    const decoder = new TextDecoder();
    return ends.map((end, rank) => {
      return JSON.parse(decoder.decode(all.subarray(end - Number(lengths[rank]!), end))) as Json;
    });
  }

  async #make(record: CallRecord, parts: CallParts): Promise<void> {
    const { send, receive, blocks, lengths = new BigUint64Array(), compareOnly = false } = parts;
    const { timeoutSeconds } = this;
    const memory = [send, receive, blocks?.[0]?.block].map((one) => one && deviceMemory(one)).find(Boolean);
    if (memory) await this.#needCuda(memory.device);
    const call = new GroupCall({ record: encodeRecord(record), timeoutSeconds, ...callBlocks(parts) });
    this.#current = call;
    if (blocks) await this.#broadcast(call);
    else await runMpi(this.#shim, this.#handle, call, { lengths, staged: this.#staged, compareOnly });
    this.#current = undefined;
    if (call.status !== CALL_STATUS.done) throw await this.#failed(call, record);
  }

  async #broadcast(call: GroupCall): Promise<void> {
    try {
      await broadcastMpi(this.#shim, this.#handle, call, this.#staged);
    } catch (error) {
      await this.abort((error as Error).message); // the others would wait for what is left
      throw error;
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

  /** The error of a call, after the others have been told what they cannot see themselves. */
  async #failed(call: GroupCall, record: CallRecord): Promise<Error> {
    if (this.#queue.failure) return this.#queue.failure;
    const { rank, timeoutSeconds } = this;
    const failure = callFailure(call, { rank, library: "mpi", timeoutSeconds });
    if (call.status === CALL_STATUS.refused && record.kind === "agree") return failure;
    this.#queue.fail(failure);
    // Also where another rank has told it: whoever has not heard of that one yet is not to blame this one.
    if (call.status !== CALL_STATUS.cancelled) {
      await failMpi(this.#shim, this.#handle, failure.rank, failure.message);
    }
    return failure;
  }
}

function checkMemory(handle: MpiHandle | null, rank: number): MpiHandle {
  if (handle) return handle;
  throw rankFailure(rank, "there is no memory for a group");
}

/** If an error ends the process, the other ranks receive its message. */
function tellLastWords(shim: Shim): void {
  if (tellsLastWords) return;
  tellsLastWords = true;
  const tell = (error: unknown) => lastWords(shim, error instanceof Error ? error.message : String(error));
  addEventListener("error", (event) => tell(event.error));
  addEventListener("unhandledrejection", (event) => tell(event.reason));
}
