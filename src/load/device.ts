/**
 * Where a load brings tensors to: what every kind of device implements.
 */
import type { GroupBuffer } from "../base/process_group.ts";
import type { LoadWay, RunReport } from "./engine.ts";
import type { LoadPlan } from "./plan.ts";
import type { Readiness } from "./readiness.ts";
import type { TensorRequest } from "./request.ts";
import type { SliceLayout, SliceSource } from "../format/slices.ts";
import type { SourceFile } from "../files/source.ts";
import type { Tensor } from "./tensor.ts";

/** How a load is to run. */
export interface LoadSettings {
  /** Lanes wanted; default by the machine and by what is cached. */
  readonly maxThreads?: number | undefined;
  /** Bytes of one read: a multiple of 4096. */
  readonly blockBytes: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Bytes of host memory that tensors share at most; a larger tensor has memory of its own. Default 8 GiB. */
  readonly maxAllocationBytes?: number | undefined;
  /** Ends the load early. */
  readonly signal: AbortSignal;
  /** Called now and then with the file bytes that have landed, and how. */
  readonly onLanded?: (bytes: number, way?: LoadWay) => void;
}

/** A load that is running, or has run. */
export interface DeviceLoad<T extends Tensor = Tensor> {
  /** Its plan; requests are named by their index there. */
  readonly plan: LoadPlan;
  /** What of it has landed. */
  readonly readiness: Readiness;
  /** The handle of a request that has landed; each call gives a handle of its own. */
  tensor(request: number): T;
  /** Settles once nothing of this load reads or writes any more; rejects if it failed. */
  readonly finished: Promise<RunReport>;
  /** Says that these requests, which have landed, will not be asked for again: what only they need can be freed. */
  retire(requests: readonly number[]): void;
  /** Drops the load's own hold on the memory; handles that were given out keep theirs. */
  release(): void;
}

/** Bytes of a tensor where a process group can take them from. */
export interface ExposedBytes {
  /** Where they are, until they are given up. */
  readonly memory: GroupBuffer;
  /**
   * Copies slices to where they lie one after another.
   *
   * @throws {OutOfMemoryError} if the copy does not fit
   */
  gather(slices: readonly SliceLayout[]): Promise<ExposedBytes>;
  /** Gives them up; the tensor that they came from is not concerned. */
  [Symbol.dispose](): void;
}

/** Room for a tensor that a process group is to fill. */
export interface IncomingTensor<T extends Tensor = Tensor> {
  /** Where its bytes go. */
  readonly memory: GroupBuffer;
  /**
   * The tensor, once its bytes are there.
   *
   * @throws {OutOfMemoryError} if it does not fit on a device that no group can write to
   */
  finish(): Promise<T>;
  /** Gives the room up, unless it has become a tensor. */
  [Symbol.dispose](): void;
}

/** A tensor whose elements are in host memory, contiguous and little-endian. */
export interface HostElements extends SliceSource {
  /** The elements. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A place for tensors. */
export interface Device<T extends Tensor = Tensor, F extends SourceFile = SourceFile> {
  /** Its name in options and statistics. */
  readonly name: string;
  /** Whether F4 and F6 can be cast here, besides the floats that are cast everywhere. Default false. */
  readonly castsSubByte?: boolean;
  /**
   * Allocates memory for these requests and starts to bring them.
   *
   * @throws {OutOfMemoryError} if they do not fit; nothing has been read by then
   */
  start(
    requests: readonly TensorRequest[],
    files: readonly F[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<T>>;
  /**
   * Brings a tensor from host memory here; on the CPU it shares this memory.
   *
   * @throws {OutOfMemoryError} if it does not fit
   */
  fromHost(tensor: HostElements): Promise<T>;
  /** Copies a slice out of a tensor of this device. */
  slice(tensor: T, layout: SliceLayout): Promise<T>;
  /** Shows a process group the bytes of a tensor. */
  expose(tensor: T): Promise<ExposedBytes>;
  /**
   * Makes room for a tensor that a process group is to fill.
   *
   * @throws {OutOfMemoryError} if it does not fit
   */
  receive(tensor: SliceSource): Promise<IncomingTensor<T>>;
  /** Joins tensors along a dimension, in the order given. All have the same dtype and agree in the other dimensions. */
  concatenate(name: string, tensors: readonly T[], dimension: number): Promise<T>;
}
