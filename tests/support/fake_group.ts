/**
 * A fake process group: several "ranks" in one process, each an async function. It copies bytes between them as soon as
 * all have made a call. It compares calls and fails like the real groups, but it has no library, no parallel execution,
 * and no processes to kill. Tests under mpirun cover these.
 */
import { GroupError } from "../../src/base/errors.ts";
import { CallQueue } from "../../src/ranks/group/call_queue.ts";
import type {
  BroadcastBlock,
  DeviceMemory,
  GroupBuffer,
  Json,
  ProcessGroup,
  RankStatus,
  ScatterSource,
} from "../../src/ranks/group/process_group.ts";

/** A call of a rank. */
interface Call {
  readonly rank: number;
  /** The part that must be equal on every rank. */
  readonly what: string;
  readonly kind: string;
  readonly failure?: string;
  /** The other rank of a send or receive. */
  readonly peer?: number;
  readonly value?: Json;
  readonly block?: Uint8Array;
  readonly receive?: Uint8Array;
  readonly lengths?: readonly number[];
  readonly done: PromiseWithResolvers<Json[]>;
}

/** The operations of all ranks, in order: `broadcast x` and so on, without preparations. */
export type Trace = readonly string[];

/** Runs a function once for each rank, concurrently; returns each result or error. */
export async function runRanks<R>(
  size: number,
  body: (group: FakeGroup) => Promise<R>,
): Promise<{ results: PromiseSettledResult<R>[]; trace: Trace }> {
  const world = new World(size);
  const results = await Promise.allSettled(
    Array.from({ length: size }, async (_, rank) => {
      await using group = new FakeGroup(world, rank);
      return await body(group);
    }),
  );
  return { results, trace: world.trace };
}

/** Runs a function once for each rank; returns the results. Rejects if one rank rejects. */
export async function onRanks<R>(size: number, body: (group: FakeGroup) => Promise<R>): Promise<R[]> {
  const { results } = await runRanks(size, body);
  return results.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value;
  });
}

/** The state that all ranks share. */
class World {
  readonly size: number;
  readonly trace: string[] = [];
  failure: GroupError | undefined;
  readonly #gone = new Map<number, GroupError>();
  readonly #waiting: (Call | undefined)[];
  readonly #pairs: Call[] = [];

  constructor(size: number) {
    this.size = size;
    this.#waiting = new Array(size);
  }

  /** Resolves when all ranks have made their call and agree in it. */
  meet(call: Omit<Call, "done">): Promise<Json[]> {
    const done = Promise.withResolvers<Json[]>();
    const [gone] = this.#gone.values();
    if (this.failure ?? gone) return Promise.reject(this.failure ?? gone);
    this.#waiting[call.rank] = { ...call, done };
    const calls = this.#waiting.filter((one) => one !== undefined);
    if (calls.length === this.size) {
      this.#waiting.fill(undefined);
      this.#judge(calls);
    }
    return done.promise;
  }

  /** Resolves after the calls of both ranks. */
  pair(call: Omit<Call, "done">): Promise<void> {
    const gone = this.failure ?? this.#gone.get(call.peer!);
    if (gone) return Promise.reject(gone);
    const index = this.#pairs.findIndex((other) => other.what === call.what && other.kind !== call.kind);
    const done = Promise.withResolvers<Json[]>();
    if (index < 0) {
      this.#pairs.push({ ...call, done });
      return done.promise.then(() => {});
    }
    const [other] = this.#pairs.splice(index, 1);
    const [from, to] = call.kind === "send" ? [call, other!] : [other!, call];
    to.receive!.set(from.block!);
    this.trace.push(`send ${call.what}`);
    other!.done.resolve([]);
    return Promise.resolve();
  }

  /** A rank leaves: later calls with it fail. */
  leave(rank: number): void {
    const failure = new GroupError(`Rank ${rank} is gone: it left the group`, rank, "it left the group");
    this.#gone.set(rank, failure);
    for (const call of this.#waiting) call?.done.reject(failure);
    this.#waiting.fill(undefined);
    for (const call of this.#pairs) if (call.peer === rank) call.done.reject(failure);
  }

  /** Ends the group for all ranks. */
  end(failure: GroupError): void {
    this.failure ??= failure;
    for (const call of [...this.#waiting, ...this.#pairs.splice(0)]) call?.done.reject(failure);
    this.#waiting.fill(undefined);
  }

  #judge(calls: readonly Call[]): void {
    const failed = calls.find(({ failure }) => failure !== undefined);
    if (failed) {
      const error = new GroupError(
        `Rank ${failed.rank} failed: ${failed.failure}`,
        failed.rank,
        failed.failure!,
      );
      if (calls.some(({ kind }) => kind !== "agree")) this.failure = error;
      for (const { done } of calls) done.reject(error);
      return;
    }
    const other = calls.find(({ what }) => what !== calls[0]!.what) ?? misfit(calls);
    if (other) {
      const reason = `rank ${other.rank} calls ${other.what}, rank 0 calls ${calls[0]!.what}`;
      this.failure = new GroupError(`The ranks do not make the same calls: ${reason}`, other.rank, reason);
      for (const { done } of calls) done.reject(this.failure);
      return;
    }
    move(calls);
    this.trace.push(calls[0]!.what);
    for (const { done } of calls) done.resolve(calls.map(({ value }) => value ?? null));
  }
}

/** A rank whose expected size of a scatter differs from the root's. */
function misfit(calls: readonly Call[]): Call | undefined {
  const lengths = calls.find((call) => call.lengths)?.lengths;
  return lengths && calls.find(({ rank, receive }) => receive!.byteLength !== lengths[rank]);
}

function move(calls: readonly Call[]): void {
  const root = calls.find(({ block }) => block);
  if (!root) return;
  let at = 0;
  for (const { rank, receive } of calls) {
    const length = root.lengths ? root.lengths[rank]! : root.block!.byteLength;
    if (receive) receive.set(root.block!.subarray(at, at + length));
    if (root.lengths) at += length;
  }
}

/** One rank. */
export class FakeGroup implements ProcessGroup {
  readonly kind = "mpi";
  readonly rank: number;
  readonly size: number;
  readonly #world: World;
  readonly #queue = new CallQueue();

  constructor(world: World, rank: number) {
    this.#world = world;
    this.rank = rank;
    this.size = world.size;
  }

  broadcast(block: GroupBuffer, root: number, label = ""): Promise<void> {
    const bytes = host(block);
    const what = `broadcast of ${bytes.byteLength} bytes from ${root} (${label})`;
    const moved = this.rank === root ? { block: bytes } : { receive: bytes };
    return this.#meet({ kind: "broadcast", what, ...moved });
  }

  async broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void> {
    for (const { block, root, label } of blocks) await this.broadcast(block, root, label);
  }

  scatter(send: ScatterSource | null, receive: GroupBuffer, root: number, label = ""): Promise<void> {
    const source = send ? { block: host(send.block), lengths: send.lengths } : {};
    const what = `scatter from ${root} (${label})`;
    return this.#meet({ kind: "scatter", what, receive: host(receive), ...source });
  }

  send(block: GroupBuffer, destination: number): Promise<void> {
    const what = `${this.rank} to ${destination} of ${block.byteLength} bytes`;
    return this.#pair({ kind: "send", peer: destination, what, block: host(block) });
  }

  receive(block: GroupBuffer, source: number): Promise<void> {
    const what = `${source} to ${this.rank} of ${block.byteLength} bytes`;
    return this.#pair({ kind: "receive", peer: source, what, receive: host(block) });
  }

  barrier(label = ""): Promise<void> {
    return this.#meet({ kind: "barrier", what: `barrier (${label})` });
  }

  agree(status: RankStatus, label = ""): Promise<void> {
    return this.#meet({
      kind: "agree",
      what: `agree (${label})`,
      ...status.ok ? {} : { failure: status.message },
    });
  }

  allGather(value: Json, label = ""): Promise<Json[]> {
    const copy = JSON.parse(JSON.stringify(value)) as Json;
    const call = { kind: "allGather", what: `allGather (${label})`, value: copy };
    return this.#queue.run(() => this.#world.meet({ rank: this.rank, ...call }));
  }

  abort(reason: string): Promise<void> {
    this.#world.end(new GroupError(`Rank ${this.rank} failed: ${reason}`, this.rank, reason));
    return Promise.resolve();
  }

  async close(): Promise<void> {
    await this.#queue.close(() => Promise.resolve(this.#world.leave(this.rank)));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #pair(call: Omit<Call, "done" | "rank">): Promise<void> {
    return this.#queue.run(() => this.#world.pair({ rank: this.rank, ...call }));
  }

  #meet(call: Omit<Call, "done" | "rank">): Promise<void> {
    return this.#queue.run(async () => void await this.#world.meet({ rank: this.rank, ...call }));
  }
}

function host(block: GroupBuffer): Uint8Array<ArrayBuffer> {
  if (block instanceof Uint8Array) return block;
  throw new TypeError(
    `There is no device here, but memory at ${(block satisfies DeviceMemory).devicePointer}`,
  );
}
