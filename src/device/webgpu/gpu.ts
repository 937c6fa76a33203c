/**
 * A GPUDevice with the state that all of its loads and tensors share: limits, kernels, and the loss of the device.
 */
import { DeviceError, OutOfMemoryError } from "../../base/errors.ts";
import { requestGpuDevice } from "./adapter.ts";

/** A device for loads and tensors. */
export class Gpu {
  /** The device itself. */
  readonly device: GPUDevice;
  /** Alignment of every tensor's offset, in bytes. */
  readonly alignment: number;
  /** Bytes of the largest buffer, a multiple of `alignment`. */
  readonly maxBufferBytes: number;
  /** Bytes of the largest storage binding, a multiple of `alignment`. */
  readonly maxBindingBytes: number;
  /** Workgroups of the largest dispatch. */
  readonly maxWorkgroups: number;
  /** Whether it is a software adapter, whose buffers are memory of this process. */
  readonly isSoftware: boolean;
  readonly #lost = new AbortController();
  readonly #pipelines = new Map<string, GPUComputePipeline>();

  private constructor(device: GPUDevice) {
    const { limits, adapterInfo } = device;
    this.device = device;
    this.isSoftware = adapterInfo.isFallbackAdapter;
    this.alignment = limits.minStorageBufferOffsetAlignment;
    this.maxBufferBytes = floorTo(limits.maxBufferSize, this.alignment);
    this.maxBindingBytes = floorTo(limits.maxStorageBufferBindingSize, this.alignment);
    this.maxWorkgroups = limits.maxComputeWorkgroupsPerDimension;
    device.lost.then(({ reason, message }) => this.#lost.abort(lostError(reason, message)));
  }

  /** Wraps a device of the user. Its limits are not changed, and it is never destroyed. */
  static of(device: GPUDevice): Gpu {
    let gpu = known.get(device);
    if (!gpu) known.set(device, gpu = new Gpu(device));
    return gpu;
  }

  /**
   * Returns the device of this isolate: requested at the first use, and again after a loss. All loads to "webgpu" use it,
   * so that one bind group can have tensors of different models.
   *
   * @throws {DeviceError} if there is no device
   */
  static async shared(): Promise<Gpu> {
    const asked = own ??= requestOwn();
    const gpu = await asked;
    if (!gpu.lost.aborted) return gpu;
    if (own === asked) own = undefined; // unless another call has requested one meanwhile
    return await Gpu.shared();
  }

  /** Aborted when the device is lost; the reason is a {@linkcode DeviceError}. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /**
   * Makes calls to the device and waits until the device has accepted or rejected them, which is before they run.
   *
   * @param action the action for messages: "Cannot …"
   * @param requested bytes that the calls allocate
   * @throws {OutOfMemoryError} if the device does not have the memory
   * @throws {DeviceError} if it rejects a call, or is lost
   */
  async attempt<R>(action: string, requested: number, calls: () => R): Promise<R> {
    this.lost.throwIfAborted();
    const { device } = this;
    // Error scopes are one stack per device: no other code may run between push and pop.
    device.pushErrorScope("internal");
    device.pushErrorScope("validation");
    device.pushErrorScope("out-of-memory");
    let result: R;
    let verdicts: Promise<PromiseSettledResult<GPUError | null | undefined>[]>;
    try {
      result = calls();
    } finally {
      verdicts = Promise.allSettled([ // rejected if the device is lost
        device.popErrorScope(),
        device.popErrorScope(),
        device.popErrorScope(),
      ]);
    }
    const errors = await verdicts;
    this.lost.throwIfAborted();
    const [memory, refusal, internal] = errors.map((error) =>
      error.status === "fulfilled" ? error.value : null
    );
    if (memory) {
      const message = `Cannot ${action}: the device has no memory for ${requested} bytes`;
      const advice = "load fewer names, or dispose tensors";
      throw new OutOfMemoryError(message, requested, -1, { cause: memory, advice });
    }
    const error = refusal ?? internal;
    if (error) {
      const codeName = error.constructor.name;
      throw new DeviceError(`Cannot ${action}: ${error.message}`, {
        library: "webgpu",
        codeName,
        cause: error,
      });
    }
    return result;
  }

  /** Returns the compute pipeline of a kernel; makes it at its first use. */
  pipeline(name: string, code: () => string): GPUComputePipeline {
    let pipeline = this.#pipelines.get(name);
    if (!pipeline) {
      const module = this.device.createShaderModule({ label: name, code: code() });
      pipeline = this.device.createComputePipeline({ label: name, layout: "auto", compute: { module } });
      this.#pipelines.set(name, pipeline);
    }
    return pipeline;
  }
}

const known = new WeakMap<GPUDevice, Gpu>();

let own: Promise<Gpu> | undefined;

async function requestOwn(): Promise<Gpu> {
  try {
    return Gpu.of(await requestGpuDevice());
  } catch (error) {
    own = undefined; // a later call tries again
    throw error;
  }
}

function lostError(reason: string, message: string): DeviceError {
  const detail = reason === "destroyed" ? "it was destroyed" : message || "the driver gives no reason";
  return new DeviceError(`Cannot use the GPU any more: the device was lost: ${detail}: open the files anew`, {
    library: "webgpu",
    codeName: "GPUDeviceLost",
  });
}

/** The largest multiple of `step` up to `value`. */
export function floorTo(value: number, step: number): number {
  return value - value % step;
}

/** The smallest multiple of `step` from `value` on. */
export function ceilTo(value: number, step: number): number {
  return floorTo(value + step - 1, step);
}
