/**
 * The interface of a device, the place of tensors.
 */
import type { GroupBuffer } from "../base/process_group.ts";
import type { LoadWay, RunReport } from "./engine.ts";
import type { LoadPlan } from "./plan.ts";
import type { Readiness } from "./readiness.ts";
import type { RequestTable, TensorRequest } from "./request.ts";
import type { SliceLayout, SliceSource } from "../format/slices.ts";
import type { SourceFile } from "../files/source.ts";
import type { HostElements, Tensor } from "./tensor.ts";

/** Settings of a load. */
export interface LoadSettings {
  /** Lanes to use; default depends on the machine and on the cached files. */
  readonly maxThreads?: number | undefined;
  /** Bytes of one read: a multiple of 4096. */
  readonly blockBytes: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Largest allocation in host memory that tensors share, in bytes; a larger tensor has its own. Default 8 GiB. */
  readonly maxAllocationBytes?: number | undefined;
  /** Reads over short gaps between tensors; default false. */
  readonly joinsGaps?: boolean | undefined;
  /** Ends the load early. */
  readonly signal: AbortSignal;
  /** Called several times with the file bytes that have landed since the last call, and their path. */
  readonly onLanded?: (bytes: number, way?: LoadWay) => void;
}

/** A load that runs or has ended. */
export interface DeviceLoad<T extends Tensor = Tensor> {
  /** Its plan; methods take the index of a request in the plan. */
  readonly plan: LoadPlan;
  /** The requests that have landed. */
  readonly readiness: Readiness;
  /** Returns the handle of a request that has landed, by this name; each call returns a new handle. */
  tensor(request: number, name: string): T;
  /** Settles after all reads and writes of this load have ended; rejects if it failed. */
  readonly finished: Promise<RunReport>;
  /** Marks landed requests as not needed again, so that the device can free memory that only they use. */
  retire(requests: readonly number[]): void;
  /** Releases the load's references to the memory; handles that `tensor` has returned stay valid. */
  release(): void;
}

/** Bytes of a tensor in memory that a process group can read. */
export interface ExposedBytes {
  /** The memory, valid until `release()`. */
  readonly memory: GroupBuffer;
  /**
   * Copies slices into one contiguous buffer.
   *
   * @throws {OutOfMemoryError} if the copy does not fit
   */
  gather(slices: readonly SliceLayout[]): Promise<ExposedBytes>;
  /** Releases this access to the bytes; the tensor stays valid. */
  [Symbol.dispose](): void;
}

/** Memory for a tensor that a process group fills. */
export interface IncomingTensor<T extends Tensor = Tensor> {
  /** The memory to fill. */
  readonly memory: GroupBuffer;
  /**
   * Makes the tensor after its bytes have arrived.
   *
   * @throws {OutOfMemoryError} if it does not fit on a device that no group can write to
   */
  finish(): Promise<T>;
  /** Releases the memory, unless it has become a tensor. */
  [Symbol.dispose](): void;
}

/** A tensor that was loaded alone, and the path of its bytes. */
export interface SmallTensor<T extends Tensor = Tensor> {
  readonly tensor: T;
  readonly way: LoadWay;
}

/** A device: allocates, loads and transforms tensors. */
export interface Device<T extends Tensor = Tensor, F extends SourceFile = SourceFile> {
  /** Its name in options and statistics. */
  readonly name: string;
  /** Whether this device can also cast F4 and F6. Default false. */
  readonly castsSubByte?: boolean;
  /** Notes for the user on every load to it. Default: none. */
  readonly notes?: readonly string[];
  /**
   * Allocates memory for these requests and starts to load them.
   *
   * @throws {OutOfMemoryError} if they do not fit; reads that have begun have ended then
   */
  start(
    requests: RequestTable,
    files: readonly F[],
    settings: LoadSettings,
  ): Promise<DeviceLoad<T>>;
  /**
   * Loads one small plain request sooner than `start`: null if this file cannot be read so. Missing if the device cannot.
   *
   * @throws {ReadError} if the file does not have the bytes that its header promised
   */
  loadSmall?(request: TensorRequest, file: F, signal: AbortSignal): Promise<SmallTensor<T>> | null;
  /**
   * Copies a tensor from host memory to this device; on the CPU it shares the memory.
   *
   * @throws {OutOfMemoryError} if it does not fit
   */
  fromHost(tensor: HostElements): Promise<T>;
  /** Returns a tensor of any device on this device: another handle if it is here already, else a copy. */
  from(tensor: Tensor): Promise<T>;
  /** Copies a slice out of a tensor of this device. */
  slice(tensor: T, layout: SliceLayout): Promise<T>;
  /** Gives a process group access to the bytes of a tensor. */
  expose(tensor: T): Promise<ExposedBytes>;
  /**
   * Allocates memory for a tensor that a process group fills.
   *
   * @throws {OutOfMemoryError} if it does not fit
   */
  receive(tensor: SliceSource): Promise<IncomingTensor<T>>;
  /** Joins tensors along a dimension, in the given order. All have the same dtype and the same other dimensions. */
  concatenate(name: string, tensors: readonly T[], dimension: number): Promise<T>;
}
