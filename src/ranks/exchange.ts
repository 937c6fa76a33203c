/** Sends tensors from the ranks that have read them to the ranks that need them. */
import { allOrDispose } from "../base/handled.ts";
import type { Device, ExposedBytes, IncomingTensor } from "../load/device.ts";
import type { GroupBuffer, ProcessGroup } from "../base/process_group.ts";
import type { LoadRequest } from "../load/load.ts";
import { resultBytes } from "../load/layout.ts";
import type { Session } from "../load/session.ts";
import type { Tensor } from "../load/tensor.ts";
import { type Cleanup, RankQueue } from "./queue.ts";
import {
  rankLayouts,
  rowBytes,
  type RowRange,
  rowRanges,
  type ShardBlocks,
  shardBlocks,
} from "./shard_blocks.ts";

/** A tensor that the ranks share. */
export interface SharedRequest {
  /** The request by which its owner reads it. */
  readonly request: LoadRequest;
  /** The rank that reads it. */
  readonly owner: number;
}

/** A tensor that every rank receives: whole, or its own part along a dimension. */
export interface WantedTensor extends SharedRequest {
  /** The dimension that is divided; null for the whole tensor. */
  readonly dimension: number | null;
}

/** The source of the tensors of one operation. */
export interface Supply<T extends Tensor> {
  /** Resolves to a tensor that this rank owns, after it has landed. */
  own(request: LoadRequest): Promise<T>;
  /** Throws the same error on every rank if the operation is not possible. */
  check?(wanted: readonly SharedRequest[]): void;
  /** Called after every rank has received its tensors. */
  onReceived?(wanted: readonly SharedRequest[]): void;
}

/** The owner needs two buffers of this many bytes to send parts that are not contiguous. */
const PIECE_BYTES = 8 * 2 ** 20;

/**
 * The most bytes of one operation; a larger tensor is an operation of its own. An allocation of every few tens of
 * megabytes can trigger a garbage collection, at a different time on each rank, while all others wait; so each
 * rank allocates once at the start of a large operation, not before every tensor.
 */
const OPERATION_BYTES = 256 * 2 ** 20;

/** The most tensors of one operation. */
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

  /** The exchange between the ranks that have opened a session's files, to its device. */
  static of<T extends Tensor>({ catalog, context }: Session<T>): Exchange<T> {
    return new Exchange(catalog.group!, context.device, context.signal);
  }

  /**
   * Sends every rank its tensors, in the order of the request.
   *
   * @param ahead.prepared the operation, if it was prepared ahead
   * @param ahead.moving called when bytes begin to move
   * @throws {RangeError} if a tensor has no such dimension
   * @throws {SafeTensorsError} "MisalignedSlice" if a part would begin or end within a byte
   */
  async take(
    label: string,
    wanted: readonly WantedTensor[],
    supply: Supply<T>,
    { prepared, moving }: { prepared?: PreparedOperation<T>; moving?: () => void } = {},
  ): Promise<T[]> {
    const cuts = this.#cut(wanted);
    const parts = await this.#queue.run({
      label,
      signal: this.#signal,
      check: () => supply.check?.(wanted),
      prepare: async ({ always, onFailure }) => {
        const { parts, cleanup } = prepared ?? this.begin(wanted, supply, cuts);
        try {
          return await parts;
        } finally {
          always.use(cleanup.always.move());
          onFailure.use(cleanup.onFailure.move());
        }
      },
      move: async (parts) => {
        moving?.();
        await this.#broadcast(parts.filter(({ blocks }) => !blocks));
        for (const part of parts) if (part.blocks) await this.#scatter(part, part.blocks);
        supply.onReceived?.(wanted);
        return parts;
      },
    });
    return await allOrDispose(parts.map(finish));
  }

  /** Prepares an operation for {@linkcode take}; dispose it unless it is taken. */
  begin(wanted: readonly WantedTensor[], supply: Supply<T>, cuts = this.#cut(wanted)): PreparedOperation<T> {
    const cleanup = { always: new DisposableStack(), onFailure: new DisposableStack() };
    const parts = allOrDispose(wanted.map((one, index) => this.#prepare(one, cuts[index]!, supply, cleanup)));
    parts.catch(() => {}); // `take` throws it
    const dispose = () => {
      cleanup.onFailure.dispose();
      cleanup.always.dispose();
    };
    return { parts, cleanup, [Symbol.dispose]: dispose };
  }

  /** Sends a tensor to one rank. */
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
      prepare: async ({ always, onFailure }) => {
        if (rank === owner) {
          const tensor = await supply.own(request);
          if (owner === destination) return { tensor: addTensor(tensor, onFailure) };
          addTensor(tensor, always);
          return { exposed: addResource(await this.#device.expose(tensor), always) };
        }
        if (rank !== destination) return {};
        const { name, target: dtype, shape } = request;
        return { incoming: addResource(await this.#device.receive({ name, dtype, shape }), onFailure) };
      },
      move: async (part) => {
        const bytes = (part.exposed ?? part.incoming)?.memory;
        if (bytes && bytes.byteLength > 0) {
          if (part.exposed) await this.#group.send(bytes, destination);
          else await this.#group.receive(bytes, owner);
        }
        supply.onReceived?.([wanted]);
        return part;
      },
    });
    return part.tensor ?? await part.incoming?.finish() ?? null;
  }

  /** Tells the other ranks that this one leaves a series of operations: see {@linkcode RankQueue.end}. */
  async end(label: string, tooEarly: string | null): Promise<void> {
    await this.#queue.end(label, tooEarly);
  }

  /** The division of each tensor; null for a whole tensor. */
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
    { always, onFailure }: Cleanup,
  ): Promise<Part<T>> {
    const { name, target: dtype, shape } = request;
    const { rank } = this.#group;
    const part = { label: `${name} as ${dtype}`, owner, blocks };
    const receive = async () => {
      const received = { name, dtype, shape: blocks?.shapes[rank] ?? shape };
      return addResource(await this.#device.receive(received), onFailure);
    };
    if (rank !== owner) return { ...part, incoming: await receive() };
    const tensor = addTensor(await supply.own(request), blocks ? always : onFailure);
    const exposed = addResource(await this.#device.expose(tensor), always);
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

/** Divides tensors into operations, in the same way on every rank. */
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

/** Bytes of a tensor when it is sent, which every rank can compute. */
export function requestLength({ request }: SharedRequest): number {
  return resultBytes(request);
}

/** An operation that this rank prepares, or has prepared: see {@linkcode Exchange.begin}. */
export interface PreparedOperation<T extends Tensor> extends Disposable {
  readonly parts: Promise<Part<T>[]>;
  readonly cleanup: Cleanup;
}

/** One tensor of an operation, on this rank. */
interface Part<T extends Tensor> {
  /** A description, the same on every rank. */
  readonly label: string;
  readonly owner: number;
  /** Its division; null for a whole tensor. */
  readonly blocks: ShardBlocks | null;
  /** On the owner: the memory that the others read from. */
  readonly exposed?: ExposedBytes;
  /** On the owner: the tensor, if it is sent whole. */
  readonly tensor?: T;
  /** On the other ranks, and for a divided tensor also on the owner: the tensor that arrives. */
  readonly incoming?: IncomingTensor<T>;
}

/** Some rows of a tensor on its owner. */
interface Piece {
  readonly memory: GroupBuffer;
  [Symbol.dispose]?(): void;
}

async function finish<T extends Tensor>({ tensor, incoming }: Part<T>): Promise<T> {
  return tensor ?? await incoming!.finish();
}

/** Adds a resource to a stack; disposes it at once if the stack is already disposed. */
function addResource<R extends Disposable>(resource: R, stack: DisposableStack): R {
  if (stack.disposed) resource[Symbol.dispose]();
  else stack.use(resource);
  return resource;
}

/** The same for a tensor, if it can be disposed. */
function addTensor<T extends Tensor>(tensor: T, stack: DisposableStack): T {
  addResource({ [Symbol.dispose]: () => tensor[Symbol.dispose]() }, stack);
  return tensor;
}

function slice(memory: GroupBuffer, offset: number, byteLength: number): GroupBuffer {
  if (memory instanceof Uint8Array) return memory.subarray(offset, offset + byteLength);
  return { ...memory, devicePointer: memory.devicePointer + BigInt(offset), byteLength };
}
