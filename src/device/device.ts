/**
 * Where tensors are brought to: what every kind of device gives.
 */
import type { RunReport } from "../lanes/engine.ts";
import type { LoadPlan } from "../plan/plan.ts";
import type { Readiness } from "../plan/readiness.ts";
import type { TensorRequest } from "../plan/request.ts";
import type { SliceLayout } from "../format/slices.ts";
import type { SourceFile } from "../source/source.ts";
import type { HostTensor } from "../tensor/host_tensor.ts";
import type { Tensor } from "../tensor/tensor.ts";

/** How a load is to run. */
export interface LoadSettings {
  /** Lanes wanted; default by the machine and by what is cached. */
  readonly maxThreads?: number | undefined;
  /** Bytes of one read: a multiple of 4096. */
  readonly blockBytes: number;
  /** Staging memory of all lanes together, in bytes. */
  readonly stagingBytes: number;
  /** Ends the load early. */
  readonly signal: AbortSignal;
  /** Called now and then with the file bytes that have landed. */
  readonly onLanded?: (bytes: number) => void;
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
  /** Drops the load's own hold on the memory; handles that were given out keep theirs. */
  release(): void;
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
   * Brings a tensor from host memory here; on the CPU it is the same.
   *
   * @throws {OutOfMemoryError} if it does not fit
   */
  fromHost(tensor: HostTensor): Promise<T>;
  /** Copies a slice out of a tensor of this device. */
  slice(tensor: T, layout: SliceLayout): Promise<T>;
  /** Joins tensors along a dimension, in the order given. All have the same dtype and agree in the other dimensions. */
  concatenate(name: string, tensors: readonly T[], dimension: number): Promise<T>;
}
