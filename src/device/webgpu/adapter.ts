/**
 * Finds a GPU. Only this module requests adapters and devices of WebGPU.
 */
import { messageOf } from "../../base/text.ts";
import { DeviceError } from "../../base/errors.ts";

/** The report of {@linkcode doctor} on WebGPU. */
export interface WebGpuReport {
  /** The GPU of the device "webgpu"; null if there is none. */
  readonly adapter: WebGpuAdapterReport | null;
  /** The reason if there is none, and advice; else empty. */
  readonly reason: string;
}

/** A GPU that WebGPU can use. */
export interface WebGpuAdapterReport {
  /** Its name in the driver. */
  readonly name: string;
  /** Whether it is a software adapter, which runs on the processor. */
  readonly isSoftware: boolean;
  /** Features, such as "shader-f16". */
  readonly features: readonly string[];
  /** Bytes of the largest buffer: the largest tensor. */
  readonly maxBufferSize: number;
  /** Bytes of the largest storage binding; a larger tensor has several bindings. */
  readonly maxStorageBufferBindingSize: number;
  /** Alignment of every tensor in bytes. */
  readonly minStorageBufferOffsetAlignment: number;
}

const NO_ADAPTER =
  "no adapter was found: install the Vulkan driver of your GPU, or a software one (Debian: apt-get install " +
  "mesa-vulkan-drivers libvulkan1)";

async function findAdapter(): Promise<GPUAdapter | null> {
  // Deno can be built or started without WebGPU.
  const { gpu }: { gpu?: GPU } = navigator;
  return await gpu?.requestAdapter({ powerPreference: "high-performance" }) ?? null;
}

/** Describes the GPU that {@linkcode requestGpuDevice} would use. */
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
 * Requests a device with the highest limits of its adapter (the default limit of a buffer is 256 MiB), and with
 * `shader-f16` if the adapter has it.
 *
 * @throws {DeviceError} if there is no adapter, or it has no device
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
    const detail = messageOf(error);
    throw new DeviceError(`Cannot load to device "webgpu": the adapter gives no device: ${detail}`, {
      library: "webgpu",
      codeName: "NoDevice",
      cause: error,
    });
  }
}
