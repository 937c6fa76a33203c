/**
 * Tensors in the buffers of a WebGPU device. Operations on the device are imported with the first tensor.
 */
import type { GpuResult } from "./operations.ts";
import type { GpuMemory } from "./memory.ts";
import type { DType } from "../../base/dtype.ts";
import type { HostTensor } from "../cpu/tensor.ts";
import type { Tensor } from "../../load/tensor.ts";
import { type PlacedTensor, TensorHandle } from "../tensor_handle.ts";

/** A part of a tensor for one binding: a resource for `GPUDevice.createBindGroup`. */
export interface WebGpuView {
  /** The tensor's buffer. */
  readonly buffer: GPUBuffer;
  /** Offset in the buffer: a multiple of the device's `minStorageBufferOffsetAlignment`. */
  readonly offset: number;
  /** Bytes, a multiple of 4; the last view includes the padding. */
  readonly size: number;
}

/** Makes a tensor that takes one reference to the memory. */
export let newWebGpuTensor: (memory: GpuMemory, tensor: PlacedTensor) => WebGpuTensor;

/** Returns the memory of a tensor with one more reference, and its place there. */
export let referenceWebGpuTensor: (tensor: WebGpuTensor, action: string) => GpuResult;

/**
 * A tensor in a GPUBuffer, ready to be bound in a shader.
 *
 * It is a handle that keeps the buffer valid, usually together with other tensors of its file. The buffer stays valid
 * after the model is closed, and is destroyed after the last of its handles is disposed. A disposed handle throws when it
 * is used; a second disposal has no effect. The garbage collector frees handles that are not disposed, but it does not
 * know the size of their buffers.
 *
 * The model returns a tensor after its bytes were submitted to the device's queue. Later submissions to the queue can use
 * the tensor without a wait.
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
   * Offset of its first byte in {@linkcode buffer}: a multiple of the device's `minStorageBufferOffsetAlignment`, which
   * bindings require.
   */
  readonly byteOffset: number;
  readonly #handle: TensorHandle<GpuMemory>;

  /** Takes one reference to the memory. Models make tensors; do not call this yourself. */
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
    referenceWebGpuTensor = (tensor, action) => tensor.#handle.share(action);
  }

  /** The device of the buffer: only its pipelines can bind it. */
  get device(): GPUDevice {
    return this.#handle.memory.gpu.device;
  }

  /**
   * The buffer of the tensor, with usage STORAGE, COPY_SRC, COPY_DST and the flags of the option `gpuBufferUsage`. It can
   * contain other tensors too. Valid until this handle is disposed.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  get buffer(): GPUBuffer {
    this.#handle.check("use");
    return this.#handle.memory.buffer;
  }

  /**
   * {@linkcode byteLength}, rounded up to a multiple of 4, which bindings and copies require. The padding is zeros and
   * belongs to this tensor only.
   */
  get paddedByteLength(): number {
    return Math.ceil(this.byteLength / 4) * 4;
  }

  /**
   * The tensor as bindings, in order: usually one; several for a tensor that is larger than the device's
   * `maxStorageBufferBindingSize`, where all but the last have the largest possible size; none for a tensor without bytes,
   * which cannot be bound.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
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
   * Casts the tensor to another floating element type, rounded to nearest even; F4 and F6 can be cast too. The result is a
   * new handle; dispose it too. It shares the buffer if the dtype does not change.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {OutOfMemoryError} if the device has no memory for it, or its largest buffer is too small
   * @throws {DeviceError} if the device rejects a call, or was lost
   * @throws {UseAfterCloseError} if the handle was disposed
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
   * Returns another handle of the same memory, with another name.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  named(name: string): WebGpuTensor {
    return new WebGpuTensor(...this.#handle.share("name", name));
  }

  /**
   * Copies the tensor to JavaScript memory, in pieces: only the result needs memory for the whole tensor.
   *
   * @throws {OutOfMemoryError} if the device has no memory for a piece
   * @throws {DeviceError} if the device was lost
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  copyToHost(): Promise<HostTensor> {
    return this.#handle.use("copy", async (memory) => {
      const { readTensor } = await import("./operations.ts");
      return await readTensor(memory, this.#handle.tensor);
    });
  }

  /** Releases the handle. The buffer is destroyed after its last handle is released. */
  [Symbol.dispose](): void {
    this.#handle.dispose();
  }
}
