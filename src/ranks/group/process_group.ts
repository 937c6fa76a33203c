/**
 * The group of one rank, which needs no communication.
 */
import { DeviceError, GroupError, UseAfterCloseError } from "../../base/errors.ts";
import { handled } from "../../base/handled.ts";
import { checkBroadcast, checkPeer, checkScatter, deviceMemory, stringifyJson } from "./arguments.ts";
import type {
  BroadcastBlock,
  GroupBuffer,
  Json,
  ProcessGroup,
  RankStatus,
  ScatterSource,
} from "../../base/process_group.ts";

export type {
  BroadcastBlock,
  DeviceMemory,
  GroupBuffer,
  Json,
  ProcessGroup,
  RankStatus,
  ScatterSource,
} from "../../base/process_group.ts";

/** This process alone: rank 0 of 1. The default; needs nothing. */
export class SingleGroup implements ProcessGroup {
  /** Always "single". */
  readonly kind = "single";
  /** Always 0. */
  readonly rank = 0;
  /** Always 1. */
  readonly size = 1;
  #failure: Error | undefined;

  /** There is nothing to do: the block is at its place. */
  broadcast(block: GroupBuffer, root: number): Promise<void> {
    return this.broadcastAll([{ block, root }]);
  }

  /** There is nothing to do: the blocks are at their places. */
  broadcastAll(blocks: readonly BroadcastBlock[]): Promise<void> {
    return this.#run(() => checkBroadcast(blocks, 1));
  }

  /** Copies the block to `receive`; on a device the two must be the same memory. */
  scatter(send: ScatterSource | null, receive: GroupBuffer, root: number): Promise<void> {
    return this.#run(() => {
      const { block, lengths } = checkScatter(send, receive, root, this);
      if (lengths[0] !== receive.byteLength) {
        throw new RangeError(
          `Cannot scatter: rank 0 gets ${lengths[0]} bytes and expects ${receive.byteLength}`,
        );
      }
      if (block instanceof Uint8Array && receive instanceof Uint8Array) {
        receive.set(block.subarray(0, receive.byteLength));
      } else if (deviceMemory(block)?.devicePointer !== deviceMemory(receive)?.devicePointer) {
        throw new DeviceError(
          "Cannot scatter device memory in a group of one: there is nothing to move, use the block itself",
          { library: "single" },
        );
      }
    });
  }

  /** There is no other rank. */
  send(_block: GroupBuffer, destination: number): Promise<void> {
    return this.#run(() => checkPeer("destination", destination, this));
  }

  /** There is no other rank. */
  receive(_block: GroupBuffer, source: number): Promise<void> {
    return this.#run(() => checkPeer("source", source, this));
  }

  /** All ranks are here. */
  barrier(): Promise<void> {
    return this.#run(() => {});
  }

  /** Throws what this rank itself says. */
  agree(status: RankStatus): Promise<void> {
    return this.#run(() => {
      if (!status.ok) throw new GroupError(`Rank 0 failed: ${status.message}`, 0, status.message);
    });
  }

  /** This rank's value alone, as it would come from another. */
  allGather(value: Json): Promise<Json[]> {
    return this.#run(() => [JSON.parse(stringifyJson(value)) as Json]);
  }

  /** Ends the group. */
  abort(reason: string): Promise<void> {
    this.#failure ??= new GroupError(`Rank 0 ended the group: ${reason}`, 0, reason);
    return Promise.resolve();
  }

  /** Ends the group. */
  close(): Promise<void> {
    this.#failure ??= new UseAfterCloseError("Cannot use the group: it has been closed");
    return Promise.resolve();
  }

  /** As {@linkcode SingleGroup.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #run<T>(call: () => T): Promise<T> {
    return handled(this.#failure ? Promise.reject(this.#failure) : Promise.try(call));
  }
}
