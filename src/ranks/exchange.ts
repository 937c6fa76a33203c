/**
 * Tensors from the ranks that have read them to the ranks that need them.
 */
import type { Device, ExposedBytes, IncomingTensor } from "../load/device.ts";
import type { GroupBuffer, ProcessGroup } from "../base/process_group.ts";
import type { LoadRequest } from "../load/load.ts";
import { resultBytes } from "../load/layout.ts";
import type { Session } from "../load/session.ts";
import type { Tensor } from "../load/tensor.ts";
import { type Held, RankQueue } from "./queue.ts";
import {
  rankLayouts,
  rowBytes,
  type RowRange,
  rowRanges,
  type ShardBlocks,
  shardBlocks,
} from "./shard_blocks.ts";

/** A tensor that the ranks hand out. */
export interface SharedRequest {
  /** How its owner reads it. */
  readonly request: LoadRequest;
  /** The rank that reads it. */
  readonly owner: number;
}

/** A tensor that every rank gets: whole, or its own part along a dimension. */
export interface WantedTensor extends SharedRequest {
  /** The dimension that is cut; null for the whole tensor. */
  readonly dimension: number | null;
}

/** What the tensors of one operation are taken from. */
export interface Supply<T extends Tensor> {
  /** A tensor that this rank owns, once it has landed. */
  own(request: LoadRequest): Promise<T>;
  /** Refuses the operation on every rank alike. */
  check?(wanted: readonly SharedRequest[]): void;
  /** Is told when every rank has what it was to get. */
  handedOut?(wanted: readonly SharedRequest[]): void;
}

/** Extra memory for handing out parts that do not lie together: two pieces of this many bytes, at the owner. */
const PIECE_BYTES = 8 * 2 ** 20;

/**
 * Bytes that one operation hands out at most; a larger tensor is one of its own. The garbage collector looks around for
 * every few tens of megabytes that are allocated, on each rank at another time, and all others wait: it had better do so
 * at the beginning of a large operation than before every tensor.
 */
const OPERATION_BYTES = 256 * 2 ** 20;

/** Tensors that one operation hands out at most. */
const OPERATION_TENSORS = 256;

/** Moves tensors between the ranks of a group. */
export class Exchange<T extends Tensor> {
  readonly #group: ProcessGroup;
  readonly #queue: RankQueue;
  readonly #device: Device<T>;
  readonly #signal: AbortSignal;

  private constructor(group: ProcessGroup, device: Device<T>, signal: AbortSignal) {
    this.#group = group;
    this.#queue = RankQueue.of(group);
    this.#device = device;
    this.#signal = signal;
  }

  /** Between the ranks that have opened a session's files, to its device. */
  static of<T extends Tensor>({ catalog, context }: Session<T>): Exchange<T> {
    return new Exchange(catalog.group!, context.device, context.signal);
  }

  /**
   * Gives every rank its tensors, in the order asked.
   *
   * @param ahead.begun the operation, where it was begun before its turn
   * @param ahead.moving is called once bytes move
   * @throws {RangeError} if a tensor has no such dimension
   * @throws {SafeTensorsError} "MisalignedSlice" if a part would begin or end within a byte
   */
  async take(
    label: string,
    wanted: readonly WantedTensor[],
    supply: Supply<T>,
    { begun, moving }: { begun?: BegunOperation<T>; moving?: () => void } = {},
  ): Promise<T[]> {
    const cuts = this.#cut(wanted);
    const parts = await this.#queue.run({
      label,
      signal: this.#signal,
      check: () => supply.check?.(wanted),
      prepare: async ({ always, unlessDone }) => {
        const { parts, held } = begun ?? this.begin(wanted, supply, cuts);
        try {
          return await parts;
        } finally {
          always.use(held.always.move());
          unlessDone.use(held.unlessDone.move());
        }
      },
      move: async (parts) => {
        moving?.();
        await this.#broadcast(parts.filter(({ blocks }) => !blocks));
        for (const part of parts) if (part.blocks) await this.#scatter(part, part.blocks);
        supply.handedOut?.(wanted);
        return parts;
      },
    });
    return await settled(parts.map(finish));
  }

  /** Prepares what {@linkcode take} is to hand out later; to be given up unless it is taken. */
  begin(wanted: readonly WantedTensor[], supply: Supply<T>, cuts = this.#cut(wanted)): BegunOperation<T> {
    const held = { always: new DisposableStack(), unlessDone: new DisposableStack() };
    const parts = settled(wanted.map((one, index) => this.#prepare(one, cuts[index]!, supply, held)));
    parts.catch(() => {}); // told when it is its turn
    const giveUp = () => {
      held.unlessDone.dispose();
      held.always.dispose();
    };
    return { parts, held, [Symbol.dispose]: giveUp };
  }

  /** Gives one rank a tensor. */
  async push(
    label: string,
    wanted: SharedRequest,
    destination: number,
    supply: Supply<T>,
  ): Promise<T | null> {
    const { request, owner } = wanted;
    const { rank } = this.#group;
    const part = await this.#queue.run<Partial<Part<T>>, Partial<Part<T>>>({
      label,
      signal: this.#signal,
      check: () => supply.check?.([wanted]),
      prepare: async ({ always, unlessDone }) => {
        if (rank === owner) {
          const tensor = await supply.own(request);
          if (owner === destination) return { tensor: keep(tensor, unlessDone) };
          keep(tensor, always);
          return { exposed: hold(await this.#device.expose(tensor), always) };
        }
        if (rank !== destination) return {};
        const { name, target: dtype, shape } = request;
        return { incoming: hold(await this.#device.receive({ name, dtype, shape }), unlessDone) };
      },
      move: async (part) => {
        const bytes = (part.exposed ?? part.incoming)?.memory;
        if (bytes && bytes.byteLength > 0) {
          if (part.exposed) await this.#group.send(bytes, destination);
          else await this.#group.receive(bytes, owner);
        }
        supply.handedOut?.([wanted]);
        return part;
      },
    });
    return part.tensor ?? await part.incoming?.finish() ?? null;
  }

  /** Lets the other ranks know that this one comes to no further operation of a series: see {@linkcode RankQueue.end}. */
  async end(label: string, tooEarly: string | null): Promise<void> {
    await this.#queue.end(label, tooEarly);
  }

  /** How each tensor is cut; null: it is not. */
  #cut(wanted: readonly WantedTensor[]): (ShardBlocks | null)[] {
    return wanted.map(({ request, dimension }) => {
      if (dimension === null) return null;
      const { name, target: dtype, shape } = request;
      return shardBlocks({ name, dtype, shape }, dimension, this.#group.size);
    });
  }

  async #prepare(
    { request, owner }: WantedTensor,
    blocks: ShardBlocks | null,
    supply: Supply<T>,
    { always, unlessDone }: Held,
  ): Promise<Part<T>> {
    const { name, target: dtype, shape } = request;
    const { rank } = this.#group;
    const part = { label: `${name} as ${dtype}`, owner, blocks };
    const receive = async () => {
      const received = { name, dtype, shape: blocks?.shapes[rank] ?? shape };
      return hold(await this.#device.receive(received), unlessDone);
    };
    if (rank !== owner) return { ...part, incoming: await receive() };
    const tensor = keep(await supply.own(request), blocks ? always : unlessDone);
    const exposed = hold(await this.#device.expose(tensor), always);
    return blocks ? { ...part, exposed, incoming: await receive() } : { ...part, exposed, tensor };
  }

  async #broadcast(parts: readonly Part<T>[]): Promise<void> {
    const blocks = parts.map(({ label, owner, exposed, incoming }) => {
      return { block: (exposed ?? incoming)!.memory, root: owner, label };
    }).filter(({ block }) => block.byteLength > 0);
    if (blocks.length > 0) await this.#group.broadcastAll(blocks);
  }

  async #scatter({ label, owner, exposed, incoming }: Part<T>, blocks: ShardBlocks): Promise<void> {
    const { widths } = blocks;
    const row = rowBytes(widths);
    if (row === 0) return;
    const own = widths[this.#group.rank]!;
    const ranges = [...rowRanges(blocks, PIECE_BYTES)];
    const piece = async (range: RowRange | undefined): Promise<Piece | undefined> => {
      if (!exposed || !range) return undefined;
      if (range.count > 1) return await exposed.gather(rankLayouts(blocks, range));
      return { memory: slice(exposed.memory, range.first * row, row) };
    };
    let next = await piece(ranges[0]);
    for (const [index, { first, count }] of ranges.entries()) {
      const current = next;
      const send = current ? { block: current.memory, lengths: widths.map((width) => count * width) } : null;
      const receive = slice(incoming!.memory, first * own, count * own);
      const scattered = this.#group.scatter(send, receive, owner, label);
      // The next piece is gathered while this one moves.
      [next] = await Promise.all([piece(ranges[index + 1]), scattered]);
      current?.[Symbol.dispose]?.();
    }
  }
}

/** Cuts what is to be handed out into operations, in the same way on every rank. */
export function cutOperations(wanted: readonly WantedTensor[]): WantedTensor[][] {
  const operations: WantedTensor[][] = [];
  let bytes = 0;
  for (const one of wanted) {
    const length = requestLength(one);
    const last = operations.at(-1);
    if (last && bytes + length <= OPERATION_BYTES && last.length < OPERATION_TENSORS) {
      last.push(one);
      bytes += length;
    } else {
      operations.push([one]);
      bytes = length;
    }
  }
  return operations;
}

/** Bytes of a tensor as it is handed out, which every rank knows. */
export function requestLength({ request }: SharedRequest): number {
  return resultBytes(request);
}

/** An operation that this rank is preparing, or has prepared: see {@linkcode Exchange.begin}. */
export interface BegunOperation<T extends Tensor> extends Disposable {
  readonly parts: Promise<Part<T>[]>;
  readonly held: Held;
}

/** One tensor of an operation, on this rank. */
interface Part<T extends Tensor> {
  /** What it is, the same on every rank. */
  readonly label: string;
  readonly owner: number;
  /** How it is cut; null: it is not. */
  readonly blocks: ShardBlocks | null;
  /** The owner's: what the others get from. */
  readonly exposed?: ExposedBytes;
  /** The owner's, if it is handed out whole. */
  readonly tensor?: T;
  /** Everybody else's, and of what is cut the owner's too. */
  readonly incoming?: IncomingTensor<T>;
}

/** Some rows of a tensor, at its owner. */
interface Piece {
  readonly memory: GroupBuffer;
  [Symbol.dispose]?(): void;
}

async function finish<T extends Tensor>({ tensor, incoming }: Part<T>): Promise<T> {
  return tensor ?? await incoming!.finish();
}

/** All results, once there is none still to come; if one failed, that is thrown and the others are given up. */
export async function settled<R>(promises: readonly Promise<R>[]): Promise<R[]> {
  const outcomes = await Promise.allSettled(promises);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (!failed) return outcomes.map((outcome) => (outcome as PromiseFulfilledResult<R>).value);
  for (const outcome of outcomes) {
    if (outcome.status === "fulfilled") (outcome.value as Partial<Disposable>)[Symbol.dispose]?.();
  }
  throw failed.reason;
}

/** Lets something be given up with a stack; at once if that has been already. */
function hold<R extends Disposable>(resource: R, stack: DisposableStack): R {
  if (stack.disposed) resource[Symbol.dispose]();
  else stack.use(resource);
  return resource;
}

/** The same for a handle. */
function keep<T extends Tensor>(tensor: T, stack: DisposableStack): T {
  hold({ [Symbol.dispose]: () => tensor[Symbol.dispose]?.() }, stack);
  return tensor;
}

function slice(memory: GroupBuffer, offset: number, byteLength: number): GroupBuffer {
  if (memory instanceof Uint8Array) return memory.subarray(offset, offset + byteLength);
  return { ...memory, devicePointer: memory.devicePointer + BigInt(offset), byteLength };
}
