/**
 * Tensors in the buffers of a WebGPU device. What drives the device is imported with the first tensor there.
 */
import type { GpuResult } from "./operations.ts";
import type { GpuMemory } from "./memory.ts";
import type { DType } from "../../base/dtype.ts";
import type { HostTensor } from "../cpu/tensor.ts";
import type { Tensor } from "../../load/tensor.ts";
import { type PlacedTensor, TensorHandle } from "../tensor_handle.ts";

/** A part of a tensor that one binding can show: what `GPUDevice.createBindGroup` takes as a resource. */
export interface WebGpuView {
  /** The tensor's buffer. */
  readonly buffer: GPUBuffer;
  /** The first byte in the buffer: a multiple of the device's `minStorageBufferOffsetAlignment`. */
  readonly offset: number;
  /** Bytes, a multiple of 4: the padding of the last view included. */
  readonly size: number;
}

/** Makes a tensor that takes over one hold on the memory. */
export let newWebGpuTensor: (memory: GpuMemory, tensor: PlacedTensor) => WebGpuTensor;

/** The memory of a tensor, with one more hold, and its place there. */
export let holdWebGpuTensor: (tensor: WebGpuTensor, action: string) => GpuResult;

/**
 * A tensor in a GPUBuffer, ready to be bound in a shader.
 *
 * It is a handle: it holds the buffer, usually together with other tensors of its file. The buffer stays valid after
 * the model is closed, and is destroyed when the last handle in it has been disposed. A handle that was disposed
 * throws when it is used; to dispose it again does nothing. Handles that are dropped instead are left to the garbage
 * collector, which does not know how large they are.
 *
 * A tensor is given out once its bytes have been handed to the device's queue. Whatever is submitted to the queue
 * from then on sees them: there is nothing to wait for.
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, serialize } from "@x/fastsafetensors";
 * import { doctor } from "@x/fastsafetensors/doctor";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "BF16", shape: [2], data: new Uint16Array([0x3f80, 0x4000]) } }));
 *
 * if ((await doctor()).webgpu.adapter) {
 *   await using model = await fastsafeOpen(path, { device: "webgpu", dtype: "F32" });
 *   using x = await model.getTensor("x");
 *   const { device, buffer, byteOffset, byteLength } = x; // for a shader; or bind x.views[0]
 *   assertEquals([device.label, buffer.size >= byteOffset + byteLength], ["fastsafetensors", true]);
 *   assertEquals((await x.copyToHost()).data, new Float32Array([1, 2]));
 * }
 * ```
 */
export class WebGpuTensor implements Tensor, Disposable {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Bytes of its elements. */
  readonly byteLength: number;
  /**
   * Its first byte in {@linkcode buffer}: a multiple of the device's `minStorageBufferOffsetAlignment`, as bindings
   * ask for.
   */
  readonly byteOffset: number;
  readonly #handle: TensorHandle<GpuMemory>;

  /** Takes over one hold on the memory. Tensors are made by a model, not by hand. */
  private constructor(memory: GpuMemory, tensor: PlacedTensor) {
    this.name = tensor.name;
    this.dtype = tensor.dtype;
    this.shape = tensor.shape;
    this.byteLength = tensor.byteLength;
    this.byteOffset = tensor.offset;
    this.#handle = new TensorHandle(memory, tensor);
  }

  static {
    newWebGpuTensor = (memory, tensor) => new WebGpuTensor(memory, tensor);
    holdWebGpuTensor = (tensor, action) => tensor.#handle.share(action);
  }

  /** The device that the buffer is of: only its pipelines can bind it. */
  get device(): GPUDevice {
    return this.#handle.memory.gpu.device;
  }

  /**
   * The buffer that it is in, with usage STORAGE, COPY_SRC, COPY_DST and what the option `gpuBufferUsage` adds. Other
   * tensors are in it too. Valid until this handle is disposed.
   *
   * @throws {UseAfterCloseError} if it was disposed
   */
  get buffer(): GPUBuffer {
    this.#handle.check("use");
    return this.#handle.memory.buffer;
  }

  /**
   * {@linkcode byteLength}, up to a multiple of 4: what bindings and copies ask for. The bytes between the two are
   * zeros, and nothing else is in them.
   */
  get paddedByteLength(): number {
    return Math.ceil(this.byteLength / 4) * 4;
  }

  /**
   * The tensor as bindings, in order: one; several for a tensor that is larger than the device's
   * `maxStorageBufferBindingSize`, each of them but the last as large as a binding can be; none for a tensor without
   * bytes, which cannot be bound.
   *
   * @throws {UseAfterCloseError} if it was disposed
   */
  get views(): readonly WebGpuView[] {
    const { buffer, byteOffset, paddedByteLength } = this;
    const step = this.#handle.memory.gpu.maxBindingBytes;
    return Array.from({ length: Math.ceil(paddedByteLength / step) }, (_, index) => ({
      buffer,
      offset: byteOffset + index * step,
      size: Math.min(step, paddedByteLength - index * step),
    }));
  }

  /**
   * The tensor with another floating element type, rounded to nearest even; F4 and F6 can be cast too. The result is a
   * handle of its own, to be disposed like this one; where nothing changes it shares the buffer.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {OutOfMemoryError} if the device has no memory for it, or no buffer that is large enough
   * @throws {DeviceError} if the device refuses, or was lost
   * @throws {UseAfterCloseError} if it was disposed
   */
  async to(options: { dtype: DType }): Promise<WebGpuTensor> {
    const { dtype } = options;
    if (dtype === this.dtype) return new WebGpuTensor(...this.#handle.share("cast"));
    return await this.#handle.use("cast", async (memory) => {
      const { castTensor } = await import("./operations.ts");
      return new WebGpuTensor(...await castTensor(memory, this.#handle.tensor, dtype));
    });
  }

  /**
   * Another handle of the same memory, under another name.
   *
   * @throws {UseAfterCloseError} if it was disposed
   */
  named(name: string): WebGpuTensor {
    return new WebGpuTensor(...this.#handle.share("name", name));
  }

  /**
   * Copies the tensor to JavaScript memory, in pieces: nothing but the result is ever whole.
   *
   * @throws {OutOfMemoryError} if the device has no memory for a piece
   * @throws {DeviceError} if the device was lost
   * @throws {UseAfterCloseError} if it was disposed
   */
  copyToHost(): Promise<HostTensor> {
    return this.#handle.use("copy", async (memory) => {
      const { readTensor } = await import("./operations.ts");
      return await readTensor(memory, this.#handle.tensor);
    });
  }

  /** Gives the handle up. The buffer is destroyed with the last handle in it. */
  [Symbol.dispose](): void {
    this.#handle.dispose();
  }
}
