/**
 * Helpers of the WebGPU tests: the check for an adapter, devices with fault injection, and their buffers.
 */
import { assertEquals } from "@std/assert";
import type { HostTensor, WebGpuTensor } from "../../mod.ts";
import { requestGpuDevice } from "../../src/device/webgpu/adapter.ts";
import { assertTensor, tempFolder, type Written } from "../support/models.ts";
import { openDescriptors } from "../support/process.ts";
import { suite } from "../support/skip.ts";
import "../support/open_library.ts";

/** The reason that the tests cannot run here; null if they can. */
export const missing = (await navigator.gpu?.requestAdapter()) ? null : "there is no WebGPU adapter";

/** Defines tests with their own folder; a test must close all files in it. */
export function webgpuSuite(
  name: string,
  define: (test: (name: string, body: (folder: string) => Promise<void> | void) => void) => void,
): void {
  suite(name, "webgpu", missing, () =>
    define((name, body) =>
      Deno.test(`${name} [webgpu]`, async () => {
        await using folder = await tempFolder();
        await body(folder.path);
        assertEquals(openDescriptors(folder.path), 0, "descriptors of the test's files that are still open");
      })
    ));
}

/** Fails unless a tensor on the GPU equals the written one; closes the handle. */
export async function assertOnGpu(tensor: WebGpuTensor, expected: Written): Promise<void> {
  using held = tensor;
  assertTensor(await held.copyToHost(), expected);
}

/** Copies a tensor to host memory and closes the handle. */
export async function toHost(tensor: WebGpuTensor): Promise<HostTensor> {
  using held = tensor;
  return await held.copyToHost();
}

/** The differences of a watched device from a real one. */
export interface WatchOptions {
  /** Smaller limits than the device's. */
  readonly limits?: Partial<Record<keyof GPUSupportedLimits, number>>;
  /** Called before each call of a method of the device or of its queue. */
  readonly onCall?: (method: string, device: GPUDevice) => void;
  /** Returns the error for the out-of-memory scope around a call of `createBuffer`, or null. */
  readonly refuse?: (descriptor: GPUBufferDescriptor) => GPUError | null;
}

/** A device that counts its buffers, with fault injection. The package accepts it as a GPUDevice. */
export class WatchedDevice implements Disposable {
  /** The device for a load. */
  readonly device: GPUDevice;
  /** Buffers that exist. */
  readonly buffers = new Set<GPUBuffer>();
  /** Bytes of each created buffer. */
  readonly sizes: number[] = [];
  /** Bytes of each `writeBuffer`. */
  readonly writes: number[] = [];
  readonly #real: GPUDevice;
  readonly #options: WatchOptions;
  #refusal: GPUError | null = null;

  private constructor(real: GPUDevice, options: WatchOptions) {
    this.#real = real;
    this.#options = options;
    const { limits } = real;
    const least = withProperties(limits, { ...options.limits });
    const queue = this.#watch(real.queue, {
      writeBuffer: (buffer: GPUBuffer, offset: number, data: BufferSource, start?: number, size?: number) => {
        this.writes.push(size ?? data.byteLength);
        real.queue.writeBuffer(buffer, offset, data, start, size);
      },
    });
    this.device = this.#watch(real, {
      limits: least,
      queue,
      createBuffer: (descriptor: GPUBufferDescriptor) => this.#createBuffer(descriptor),
      popErrorScope: async () => {
        const refusal = this.#refusal;
        this.#refusal = null;
        return await real.popErrorScope() ?? refusal;
      },
    });
  }

  /** A device with all features and limits of the adapter, reduced by the options. */
  static async create(options: WatchOptions = {}): Promise<WatchedDevice> {
    return new WatchedDevice(await requestGpuDevice(), options);
  }

  /** Bytes of the buffers that exist. */
  get bytes(): number {
    return [...this.buffers].reduce((sum, { size }) => sum + size, 0);
  }

  [Symbol.dispose](): void {
    this.#real.destroy();
  }

  #createBuffer(descriptor: GPUBufferDescriptor): GPUBuffer {
    this.#refusal ??= this.#options.refuse?.(descriptor) ?? null;
    const buffer = this.#real.createBuffer(descriptor);
    this.sizes.push(descriptor.size);
    this.buffers.add(buffer);
    const { destroy } = buffer;
    buffer.destroy = () => {
      this.buffers.delete(buffer);
      return destroy.call(buffer);
    };
    return buffer;
  }

  #watch<T extends object>(object: T, properties: Record<string, unknown>): T {
    const { onCall } = this.#options;
    const real = this.#real;
    return withProperties(object, properties, (name) => onCall?.(name, real));
  }
}

/** An object like another one, with some replaced properties. */
function withProperties<T extends object>(
  object: T,
  properties: Readonly<Record<string, unknown>>,
  onCall: (name: string) => void = () => {},
): T {
  return new Proxy(object, {
    get(target, name) {
      const value: unknown = Object.hasOwn(properties, name)
        ? properties[String(name)]
        : Reflect.get(target, name, target);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        onCall(String(name));
        return Reflect.apply(value, target, args);
      };
    },
  });
}
