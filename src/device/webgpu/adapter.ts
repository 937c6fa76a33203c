/**
 * Finding a GPU: the only place where an adapter or a device is requested.
 */
import { DeviceError } from "../../base/errors.ts";

/** What WebGPU offers, as {@linkcode doctor} reports it. */
export interface WebGpuReport {
  /** The GPU that the device "webgpu" is; null if there is none. */
  readonly adapter: WebGpuAdapterReport | null;
  /** Why there is none, and what to install; empty if there is one. */
  readonly reason: string;
}

/** A GPU that WebGPU offers. */
export interface WebGpuAdapterReport {
  /** What the driver calls it. */
  readonly name: string;
  /** Whether it is the processor that pretends to be a GPU. */
  readonly isSoftware: boolean;
  /** Features, such as "shader-f16". */
  readonly features: readonly string[];
  /** Bytes of the largest buffer: the largest tensor. */
  readonly maxBufferSize: number;
  /** Bytes of the largest storage binding; a larger tensor is several of them. */
  readonly maxStorageBufferBindingSize: number;
  /** Every tensor begins at a multiple of this. */
  readonly minStorageBufferOffsetAlignment: number;
}

const NO_ADAPTER =
  "no adapter was found: install the Vulkan driver of your GPU, or a software one (Debian: apt-get install " +
  "mesa-vulkan-drivers libvulkan1)";

async function findAdapter(): Promise<GPUAdapter | null> {
  // Where Deno was built or started without it.
  const { gpu }: { gpu?: GPU } = navigator;
  return await gpu?.requestAdapter({ powerPreference: "high-performance" }) ?? null;
}

/** Tells of the GPU that {@linkcode requestGpuDevice} would take. */
export async function reportWebGpu(): Promise<WebGpuReport> {
  const adapter = await findAdapter();
  return adapter ? { adapter: describe(adapter), reason: "" } : { adapter: null, reason: NO_ADAPTER };
}

function describe({ info, limits, features }: GPUAdapter): WebGpuAdapterReport {
  return {
    name: info.description || [info.vendor, info.architecture, info.device].join(" ").trim(),
    isSoftware: info.isFallbackAdapter,
    features: [...features].sort(),
    maxBufferSize: limits.maxBufferSize,
    maxStorageBufferBindingSize: limits.maxStorageBufferBindingSize,
    minStorageBufferOffsetAlignment: limits.minStorageBufferOffsetAlignment,
  };
}

/**
 * A device with all that its adapter can: every limit (the default is 256 MiB to a buffer), and `shader-f16` where
 * there is one.
 *
 * @throws {DeviceError} if there is no adapter, or it gives no device
 */
export async function requestGpuDevice(): Promise<GPUDevice> {
  const adapter = await findAdapter();
  if (!adapter) {
    throw new DeviceError(`Cannot load to device "webgpu": ${NO_ADAPTER}`, {
      library: "webgpu",
      codeName: "NoAdapter",
    });
  }
  const requiredLimits: Record<string, number> = {};
  for (const name in adapter.limits) {
    const value: unknown = Reflect.get(adapter.limits, name);
    if (typeof value === "number") requiredLimits[name] = value;
  }
  const requiredFeatures: GPUFeatureName[] = adapter.features.has("shader-f16") ? ["shader-f16"] : [];
  try {
    return await adapter.requestDevice({ label: "fastsafetensors", requiredFeatures, requiredLimits });
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new DeviceError(`Cannot load to device "webgpu": the adapter gives no device: ${detail}`, {
      library: "webgpu",
      codeName: "NoDevice",
      cause: error,
    });
  }
}
