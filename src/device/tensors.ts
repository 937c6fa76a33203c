/**
 * The tensors of all devices. They are in one file because each can become one of the others.
 *
 * This file calls no library: the memory of a tensor (`cuda/memory.ts`, `webgpu/memory.ts`) has all operations on its bytes.
 */
import { checkBoolean, checkKeys, keysOf } from "../base/check.ts";
import { checkDevice, cudaIndex, type CudaName, type DeviceOption, isCudaName } from "../base/device_name.ts";
import {
  type DType,
  type FloatDType,
  type IntegerDType,
  isDType,
  isIntegerCast,
  tensorBytes,
} from "../base/dtype.ts";
import { SafeTensorsError, UseAfterCloseError } from "../base/errors.ts";
import { describeValue, quote } from "../base/text.ts";
import { castBytes, castSupported } from "../format/cast.ts";
import { hostOperations } from "../load/host_operations.ts";
import type { Tensor } from "../load/tensor.ts";
import {
  arrayOver,
  checkView,
  type DTypeOfArray,
  dtypeOfArray,
  type TensorData,
  type TensorView,
} from "./cpu/elements.ts";
import { type DescribedTensor, describeTensor, INSPECT, tensorLine } from "./describe.ts";
import { type DLPackOptions, exportHost } from "./dlpack.ts";
import { moveTensor } from "./moves.ts";
import { type PlacedTensor, type SharedMemory, TensorHandle } from "./tensor_handle.ts";
import type { GpuMemory } from "./webgpu/memory.ts";
import type { GpuResult } from "./webgpu/operations.ts";

/** The tensors of a device; of any device by default. Tensors in host memory have one of the dtypes `T`. */
export type TensorOn<D extends DeviceOption = DeviceOption, T extends DType = DType> = D extends "cpu"
  ? HostTensor<T>
  : D extends CudaName ? CudaTensor
  : WebGpuTensor;

/** The tensors of a model on device `D` whose floating tensors are cast to `T`; F4, F6 and others keep their dtype. */
export type LoadedTensor<D extends DeviceOption = DeviceOption, T extends FloatDType = FloatDType> = TensorOn<
  D,
  T | Exclude<DType, FloatDType>
>;

/** A tensor `T` after a move to device `D` and a cast to `Y`; `undefined` keeps the device or the dtype. */
export type ChangedTensor<T extends Tensor, D extends DeviceOption | undefined, Y extends DType | undefined> =
  D extends DeviceOption ? TensorOn<D, Y extends DType ? Y : T["dtype"]>
    : Y extends DType ? (T extends TypedHostTensor<infer _> ? HostTensor<Y> : T)
    : T;

/** Options of a tensor's `to()`. */
export interface ToOptions<D extends DeviceOption = DeviceOption, T extends DType = DType> {
  /** The element type of the result. Default: that of the tensor. */
  dtype?: T;
  /** The device of the result. Default: that of the tensor. */
  device?: D;
  /**
   * Of a cast between integers: makes a value that the dtype cannot hold the nearest one that it can. Default false: such
   * a value is a RangeError that names it.
   */
  saturate?: boolean;
}

const TO_KEYS = keysOf<ToOptions>({ dtype: true, device: true, saturate: true });

/** Checks the keys of the options of `to()`, and the values that are used before the device's. */
function checkTo(call: string, options: ToOptions): void {
  checkKeys(call, options, TO_KEYS);
  checkBoolean("saturate", options.saturate);
}

/** A tensor for {@linkcode HostTensor.from}. */
export interface HostTensorInit<D extends DType = DType> {
  /** Its name. Default: "". */
  readonly name?: string;
  /** Elements along each dimension. Default: one dimension. */
  readonly shape?: readonly number[];
  /** Element type. Default: that of the typed array. */
  readonly dtype?: D;
  /** The elements: the typed array of the dtype, or bytes. */
  readonly data: TensorView<D>;
}

/**
 * A tensor in JavaScript memory: of one of several dtypes, which `tensor.dtype === "F32"` narrows to one.
 */
export type HostTensor<D extends DType = DType> = { [K in D]: TypedHostTensor<K> }[D];

/** The class of {@linkcode HostTensor}. */
export interface HostTensorClass {
  /**
   * Makes a tensor over memory of the caller.
   *
   * @param bytes the elements, little-endian; their offset in the buffer must be a multiple of the element size
   * @throws {RangeError} if the length of `bytes` does not match the dtype and the shape
   */
  new <D extends DType>(
    name: string,
    dtype: D,
    shape: readonly number[],
    bytes: Uint8Array<ArrayBuffer>,
  ): HostTensor<D>;
  /** The prototype of tensors, for `instanceof`. */
  readonly prototype: HostTensor;
  /**
   * Makes a tensor over the memory of a typed array: of the dtype that the array determines (I32 for an Int32Array), or
   * of the given one, such as BF16 for a Uint16Array with its bits.
   *
   * @throws {TypeError} if `data` is not a typed array, or not that of the dtype
   * @throws {RangeError} if its length does not match the shape
   */
  from<const A extends TensorView>(
    init: {
      readonly name?: string;
      readonly shape?: readonly number[];
      readonly dtype?: undefined;
      readonly data: A;
    },
  ): HostTensor<DTypeOfArray<A>>;
  /** Makes a tensor over the memory of a typed array, or over bytes, of the given dtype. */
  from<D extends DType>(init: HostTensorInit<D>): HostTensor<D>;
}
/**
 * A tensor in JavaScript memory, of one dtype.
 *
 * Its bytes are an ordinary part of an ArrayBuffer, which it usually shares with other tensors of its file. They stay
 * valid after the file is closed; the garbage collector frees the buffer after all of its tensors are unused. Tensors
 * below 64 KiB share buffers of at most 1 MiB. {@linkcode copy} copies a tensor to a separate buffer. Writes to the bytes
 * change this memory only, not the file.
 *
 * @example Use
 * ```ts
 * import { HostTensor } from "@x/fastsafetensors";
 * import { assertEquals } from "@std/assert";
 *
 * const x = HostTensor.from({ shape: [2], data: new Float32Array([1, 2]) });
 * assertEquals(x.dtype, "F32");
 * assertEquals((await x.to({ dtype: "BF16" })).data, new Uint16Array([0x3f80, 0x4000]));
 * ```
 */
export class TypedHostTensor<D extends DType = DType> implements Tensor {
  /** The name of the class, as programs import it. */
  static readonly name = "HostTensor";
  readonly name: string;
  readonly dtype: D;
  readonly shape: readonly number[];
  /** Bytes of the elements. */
  readonly byteLength: number;
  /** Null after the tensor was disposed. */
  #bytes: Uint8Array<ArrayBuffer> | null;
  #data: TensorData<D> | undefined;

  /** Makes a tensor over memory of the caller; see {@linkcode HostTensorClass}. */
  constructor(name: string, dtype: D, shape: readonly number[], bytes: Uint8Array<ArrayBuffer>) {
    const expected = tensorBytes(dtype, shape);
    if (bytes.byteLength !== expected) throw wrongLength(name, dtype, shape, expected, bytes);
    this.name = name;
    this.dtype = dtype;
    this.shape = Object.isFrozen(shape) ? shape : Object.freeze([...shape]);
    this.byteLength = expected;
    this.#bytes = bytes;
  }

  /** Makes a tensor over the memory of a typed array; see {@linkcode HostTensorClass}. */
  static from({ name = "", shape, dtype, data }: HostTensorInit): TypedHostTensor {
    const type = dtype ?? (ArrayBuffer.isView(data) ? dtypeOfArray(data) : undefined);
    if (dtype !== undefined && !isDType(dtype)) {
      throw new TypeError(
        `Cannot make tensor ${quote(name)}: ${describeValue(dtype)} is not a dtype of the format`,
      );
    }
    if (type === undefined) checkView("make", name, "F32", data); // throws, unless it is a DataView
    if (type === undefined) {
      throw new TypeError(
        `Cannot make tensor ${quote(name)}: a ${data.constructor.name} needs the option dtype`,
      );
    }
    checkView("make", name, type, data);
    const { buffer, byteOffset, byteLength } = data;
    if (!(buffer instanceof ArrayBuffer)) {
      throw new TypeError(`Cannot make tensor ${quote(name)}: its memory must be an ArrayBuffer, not shared`);
    }
    const elements = shape ?? [byteLength / (tensorBytes(type, [8]) / 8)];
    return new TypedHostTensor(name, type, elements, new Uint8Array(buffer, byteOffset, byteLength));
  }

  /**
   * The elements as bytes, little-endian; sub-byte elements packed as in the file.
   *
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  get bytes(): Uint8Array<ArrayBuffer> {
    if (this.#bytes) return this.#bytes;
    throw new UseAfterCloseError(`Cannot use tensor ${quote(this.name)}: it was disposed`);
  }

  /**
   * The elements as the typed array for their dtype, over the same memory, made once: Float16Array for F16, BigInt64Array
   * for I64 and so on; BF16 as Uint16Array, all 8-bit and smaller floats as Uint8Array, C64 as Float32Array of pairs.
   *
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  get data(): TensorData<D> {
    return this.#data ??= arrayOver(this.dtype, this.bytes);
  }

  /**
   * Returns this tensor, with its dtype as a type: `tensor.as("F32").data` is a Float32Array.
   *
   * @throws {TypeError} if it has another dtype
   */
  as<T extends DType>(dtype: T): HostTensor<T> {
    if (this.dtype as DType === dtype) return this as unknown as HostTensor<T>;
    throw new TypeError(
      `Cannot use tensor ${quote(this.name)} as ${
        describeValue(dtype)
      }: it is ${this.dtype}; cast it with to()`,
    );
  }

  /**
   * Returns the elements as 32-bit floats: a view if they are F32, else a copy. Holds the event loop while it casts.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if the dtype is not a floating type of 8 bits or more
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  toFloat32(): Float32Array<ArrayBuffer> {
    if (this.dtype === "F32") return this.data as Float32Array<ArrayBuffer>;
    this.#checkCast("F32");
    const target = new Float32Array(this.byteLength / (tensorBytes(this.dtype, [8]) / 8));
    castBytes(this.bytes, this.dtype, new Uint8Array(target.buffer), "F32");
    return target;
  }

  /**
   * Casts the tensor to another element type, or copies it to another device, or both. Floats are cast to floats, rounded
   * to nearest even, and integers and BOOL to each other, with the same value. Does not block the event loop; do not write to the bytes until the promise settles. The result is a new handle, which
   * shares the memory if neither dtype nor device changes.
   *
   * @throws {TypeError} if an option is unknown, or `device` is not the name of a device
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {RangeError} if an integer has a value that the dtype cannot hold, without `saturate`
   * @throws {DeviceError} if this machine does not have the device, or it fails
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  async to<V extends DeviceOption = "cpu", T extends DType = D>(
    options: ToOptions<V, T>,
  ): Promise<TensorOn<V, T>> {
    checkTo("HostTensor.to()", options);
    const dtype = options.dtype ?? this.dtype;
    const device = checkDevice(options.device);
    const cast = await this.#cast(dtype, options.saturate);
    return (device === "cpu" ? cast : await moveTensor(cast, device)) as unknown as TensorOn<V, T>;
  }

  /**
   * Copies the tensor to a separate buffer: it keeps no other tensors in memory, and writes to it do not change them. To
   * send a tensor to a Worker, send the `data` of a copy: `postMessage` sends the whole buffer of a typed array.
   *
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  async copy(): Promise<HostTensor<D>> {
    const operations = hostOperations();
    const target = operations.allocate(this.byteLength);
    await operations.cast(this.bytes, "U8", target, "U8");
    return made(this.name, this.dtype, this.shape, target);
  }

  /**
   * Returns another handle of the same memory, so that tensors of every device have this method.
   *
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  copyToHost(): Promise<HostTensor<D>> {
    return Promise.try(() => this.named(this.name));
  }

  /**
   * Returns another handle of the same memory, with another name.
   *
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  named(name: string): HostTensor<D> {
    return made(name, this.dtype, this.shape, this.bytes);
  }

  /**
   * Exports the tensor to another library of this process by DLPack, without a copy.
   *
   * The memory stays valid until the consumer calls the deleter, on any thread. Do not transfer the buffer before that:
   * the consumer would use freed memory. In a Worker the consumer gets a copy, because the memory of a Worker is freed
   * when it ends.
   *
   * @returns the address of a DLManagedTensor, or with `versioned` of a DLManagedTensorVersioned; the consumer must
   *   call its deleter once
   * @throws {TypeError} if DLPack does not know the dtype (F4, F6)
   * @throws {DeviceError} if the native library is not available
   * @throws {UseAfterCloseError} if the tensor was disposed
   */
  toDLPack(options: DLPackOptions = {}): Promise<bigint> {
    return exportHost(this, options);
  }

  /**
   * Drops this tensor's reference to its memory, which it can share with others; they, and typed arrays over it, stay
   * valid. The tensor throws when its elements are used afterwards.
   */
  [Symbol.dispose](): void {
    this.#bytes = null;
    this.#data = undefined;
  }

  /** A description without the elements, for `JSON.stringify`. */
  toJSON(): DescribedTensor {
    return describeTensor(this, "cpu");
  }

  /** The text that `console.log` writes: dtype, shape and the first elements. */
  [INSPECT](): string {
    return `${tensorLine("HostTensor", this)}${
      this.#bytes ? firstElements(this.dtype, this.#bytes) : ", disposed"
    }`;
  }

  async #cast<T extends DType>(dtype: T, saturate = false): Promise<HostTensor<T>> {
    if (dtype as DType === this.dtype) return this.named(this.name) as unknown as HostTensor<T>;
    if (isIntegerCast(this.dtype, dtype)) {
      const { castIntegerElements } = await import("./cpu/integers.ts");
      const { name, shape, bytes } = this;
      const source = { name, dtype: this.dtype as IntegerDType, shape, bytes };
      return made(name, dtype, shape, await castIntegerElements(source, dtype as IntegerDType, saturate));
    }
    this.#checkCast(dtype);
    const operations = hostOperations();
    const target = operations.allocate(tensorBytes(dtype, this.shape));
    await operations.cast(this.bytes, this.dtype, target, dtype);
    return made(this.name, dtype, this.shape, target);
  }

  #checkCast(dtype: DType): void {
    if (castSupported(this.dtype, dtype)) return;
    const message = `Cannot cast tensor ${quote(this.name)} from ${this.dtype} to ${dtype}`;
    throw new SafeTensorsError("UnsupportedCast", message, { tensor: this.name });
  }
}

/** The class of tensors in JavaScript memory; see {@linkcode TypedHostTensor}. */
export const HostTensor: HostTensorClass = TypedHostTensor as unknown as HostTensorClass;

/** Makes a tensor, whose type then is the union of the possible dtypes. */
function made<D extends DType>(
  name: string,
  dtype: D,
  shape: readonly number[],
  bytes: Uint8Array<ArrayBuffer>,
): HostTensor<D> {
  return new TypedHostTensor(name, dtype, shape, bytes) as HostTensor<D>;
}

/** Elements that `console.log` shows of a tensor. */
const SHOWN = 6;

/** Returns the first elements for `console.log`: floats as numbers, bytes of dtypes without a cast as bytes. */
function firstElements(dtype: DType, bytes: Uint8Array<ArrayBuffer>): string {
  const few = bytes.subarray(0, SHOWN * tensorBytes(dtype, [8]) / 8);
  let shown: readonly (number | bigint)[];
  if (castSupported(dtype, "F32")) {
    const floats = new Float32Array(few.byteLength / (tensorBytes(dtype, [8]) / 8));
    castBytes(few, dtype, new Uint8Array(floats.buffer), "F32");
    shown = [...floats];
  } else {
    shown = [...arrayOver(dtype, few)];
  }
  const rest = few.byteLength < bytes.byteLength ? ", …" : "";
  return `, ${
    shown.map((value) => typeof value === "bigint" ? `${value}n` : Number(value.toPrecision(6))).join(", ")
  }${rest}`;
}

function wrongLength(
  name: string,
  dtype: DType,
  shape: readonly number[],
  expected: number,
  { byteLength }: Uint8Array,
): RangeError {
  return new RangeError(
    `Cannot make tensor ${quote(name)}: ${dtype} of shape [${shape}] is ${expected} bytes, got ${byteLength}`,
  );
}

/** Memory of a CUDA device, and operations on a tensor in it. A new tensor owns one reference to its memory. */
export interface CudaTensorMemory extends SharedMemory {
  /** Index of the device. */
  readonly device: number;
  /** Address of its first byte. */
  readonly address: bigint;
  /** Copies the bytes of a tensor to JavaScript memory. */
  read(tensor: PlacedTensor): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * Casts a tensor.
   *
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   */
  cast(tensor: PlacedTensor, dtype: DType): Promise<NewCudaTensor>;
  /** Copies a tensor to another device. */
  copyTo(tensor: PlacedTensor, device: number): Promise<NewCudaTensor>;
  /** Exports a tensor to another library; returns the address of a DLPack tensor. */
  exportDLPack(tensor: PlacedTensor, options: DLPackOptions): bigint;
}

/** The result of an operation. */
export type NewCudaTensor = [memory: CudaTensorMemory, tensor: PlacedTensor];

/** A place in the memory of a device. */
interface CudaPlace {
  readonly device: number;
  readonly address: bigint;
}

/** Makes a tensor that takes one reference to the memory. */
export let newCudaTensor: (...made: NewCudaTensor) => CudaTensor;

/** Calls a function with the memory of a tensor, which stays valid until the function has ended. */
export let useCudaTensor: <R>(
  tensor: CudaTensor,
  action: string,
  use: (place: CudaPlace) => R | Promise<R>,
) => Promise<R>;

/**
 * A tensor in the memory of a CUDA device, as an address that any CUDA library of this process can use.
 *
 * It is a handle that keeps the memory valid, usually together with the other tensors of its file. The memory stays valid
 * after the model is closed, and is freed after the last of its handles is disposed: in the background, after the device
 * has finished the work submitted before. A disposed handle throws when it is used; a second disposal has no effect.
 *
 * @example Use
 * ```ts
 * import { fastsafeOpen, serialize } from "@x/fastsafetensors";
 * import { doctor } from "@x/fastsafetensors/doctor";
 * import { assertEquals } from "@std/assert";
 *
 * const path = await Deno.makeTempFile({ suffix: ".safetensors" });
 * await Deno.writeFile(path, serialize({ x: { dtype: "F32", shape: [2], data: new Float32Array([1, 2]) } }));
 *
 * if ((await doctor()).cuda.devices.length > 0) {
 *   await using model = await fastsafeOpen(path, { device: "cuda" });
 *   using x = await model.getTensor("x");
 *   using half = await x.to({ dtype: "F16" });
 *   assertEquals(half.devicePointer % 16n, 0n);
 *   assertEquals((await half.copyToHost()).data, new Float16Array([1, 2]));
 * }
 * ```
 */
export class CudaTensor implements Tensor, Disposable {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The device of the tensor. */
  readonly device: CudaName;
  readonly #handle: TensorHandle<CudaTensorMemory>;

  /** Takes one reference to the memory. Models make tensors; do not call this yourself. */
  private constructor(...[memory, tensor]: NewCudaTensor) {
    this.name = tensor.name;
    this.dtype = tensor.dtype;
    this.shape = tensor.shape;
    this.byteLength = tensor.byteLength;
    this.device = `cuda:${memory.device}`;
    this.#handle = new TensorHandle(memory, tensor);
  }

  static {
    newCudaTensor = (...made) => new CudaTensor(...made);
    useCudaTensor = (tensor, action, use) =>
      tensor.#handle.use(action, ({ device }) => use({ device, address: tensor.#address }));
  }

  /**
   * The address of its first element on the device: a multiple of 16 and of the element's size; 0 if it has no
   * elements. Valid until this handle is disposed.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  get devicePointer(): bigint {
    this.#handle.check("use");
    return this.#address;
  }

  /**
   * Casts the tensor to another element type, or copies it to another device, or both. Floats are cast to floats, rounded
   * to nearest even, on the device; integers and BOOL to each other, through host memory.
   *
   * The result is a new handle; dispose it too. It shares the memory if neither dtype nor device changes.
   *
   * @throws {TypeError} if an option is unknown, or `device` is not the name of a device
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {RangeError} if an integer has a value that the dtype cannot hold, without `saturate`
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {DeviceError} if a device fails, or this machine does not have it
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  async to<V extends DeviceOption = CudaName, T extends DType = DType>(
    options: ToOptions<V, T>,
  ): Promise<TensorOn<V, T>> {
    checkTo("CudaTensor.to()", options);
    const { dtype, device } = options;
    const cast = await this.#cast(dtype ?? this.dtype, options.saturate);
    if (device === undefined) return cast as TensorOn<V, T>;
    using source = cast;
    const moved = isCudaName(device)
      ? await source.#move(cudaIndex(device))
      : await moveTensor(source, device);
    return moved as TensorOn<V, T>;
  }

  /**
   * Copies the tensor to separate memory of its device.
   *
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {DeviceError} if the device fails
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  copy(): Promise<CudaTensor> {
    return this.#copyTo(this.#handle.memory.device);
  }

  /**
   * Returns another handle of the same memory, with another name.
   *
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  named(name: string): CudaTensor {
    return new CudaTensor(...this.#handle.share("name", name));
  }

  /**
   * Copies the tensor to JavaScript memory.
   *
   * @throws {DeviceError} if the device fails
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  copyToHost(): Promise<HostTensor> {
    const { name, dtype, shape } = this;
    return this.#handle.use("copy", async (memory) => {
      return made(name, dtype, shape, await memory.read(this.#handle.tensor));
    });
  }

  /**
   * Exports the tensor to another library of this process by DLPack, without a copy.
   *
   * @returns the address of a DLManagedTensor, or with `versioned` of a DLManagedTensorVersioned. It keeps the memory
   *   valid until its deleter is called. The consumer must call the deleter once, on any thread
   * @throws {TypeError} if DLPack does not know the dtype (F4, F6)
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  toDLPack(options: DLPackOptions = {}): Promise<bigint> {
    return this.#handle.use("give", (memory) => memory.exportDLPack(this.#handle.tensor, options));
  }

  /**
   * Releases the handle without a wait. After the last handle is released, another thread frees the memory as soon as the
   * device has finished the work submitted before.
   */
  [Symbol.dispose](): void {
    this.#handle.dispose();
  }

  /** A description without the elements, for `JSON.stringify`. */
  toJSON(): DescribedTensor {
    return describeTensor(this, this.device);
  }

  /** The text that `console.log` writes. */
  [INSPECT](): string {
    return `${tensorLine("CudaTensor", this)} on ${this.device}`;
  }

  get #address(): bigint {
    const { memory, tensor } = this.#handle;
    return tensor.byteLength === 0 ? 0n : memory.address + BigInt(tensor.offset);
  }

  async #cast(dtype: DType, saturate = false): Promise<CudaTensor> {
    if (dtype === this.dtype) return new CudaTensor(...this.#handle.share("cast"));
    if (isIntegerCast(this.dtype, dtype)) {
      const onHost = await (await this.copyToHost()).to({ dtype, saturate });
      return await moveTensor(onHost, this.device) as CudaTensor;
    }
    return await this.#handle.use(
      "cast",
      async (memory) => new CudaTensor(...await memory.cast(this.#handle.tensor, dtype)),
    );
  }

  async #move(device: number): Promise<CudaTensor> {
    if (device === this.#handle.memory.device) return new CudaTensor(...this.#handle.share("copy"));
    return await this.#copyTo(device);
  }

  #copyTo(device: number): Promise<CudaTensor> {
    return this.#handle.use("copy", async (memory) => {
      return new CudaTensor(...await memory.copyTo(this.#handle.tensor, device));
    });
  }
}
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
   * Casts the tensor to another floating element type, rounded to nearest even, where F4 and F6 can be cast too; or
   * copies it to another device, or both. The result is a new handle; dispose it too. It shares the buffer if neither
   * dtype nor device changes.
   *
   * @throws {TypeError} if an option is unknown, or `device` is not the name of a device
   * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
   * @throws {RangeError} if an integer has a value that the dtype cannot hold, without `saturate`
   * @throws {OutOfMemoryError} if the device has no memory for it, or its largest buffer is too small
   * @throws {DeviceError} if the device rejects a call, or was lost
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  async to<V extends DeviceOption = "webgpu", T extends DType = DType>(
    options: ToOptions<V, T>,
  ): Promise<TensorOn<V, T>> {
    checkTo("WebGpuTensor.to()", options);
    const { dtype, device } = options;
    const cast = await this.#cast(dtype ?? this.dtype, options.saturate);
    if (device === undefined) return cast as TensorOn<V, T>;
    using source = cast;
    return await moveTensor(source, device) as TensorOn<V, T>;
  }

  /**
   * Copies the tensor to a separate buffer of its device.
   *
   * @throws {OutOfMemoryError} if the device has no memory for it
   * @throws {DeviceError} if the device rejects a call, or was lost
   * @throws {UseAfterCloseError} if the handle was disposed
   */
  copy(): Promise<WebGpuTensor> {
    return this.#handle.use("copy", async (memory) => {
      const { sliceTensor } = await import("./webgpu/operations.ts");
      const { shape, byteLength } = this;
      const whole = { shape, byteLength, offset: 0, run: byteLength, levels: [] };
      return new WebGpuTensor(...await sliceTensor(memory, this.#handle.tensor, whole));
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
    const { name, dtype, shape } = this;
    return this.#handle.use("copy", async (memory) => {
      const { readTensor } = await import("./webgpu/operations.ts");
      return made(name, dtype, shape, await readTensor(memory, this.#handle.tensor));
    });
  }

  /** Releases the handle. The buffer is destroyed after its last handle is released. */
  [Symbol.dispose](): void {
    this.#handle.dispose();
  }

  /** A description without the elements, for `JSON.stringify`. */
  toJSON(): DescribedTensor {
    return describeTensor(this, "webgpu");
  }

  /** The text that `console.log` writes. */
  [INSPECT](): string {
    return `${tensorLine("WebGpuTensor", this)} on webgpu`;
  }

  async #cast(dtype: DType, saturate = false): Promise<WebGpuTensor> {
    if (dtype === this.dtype) return new WebGpuTensor(...this.#handle.share("cast"));
    return await this.#handle.use("cast", async (memory) => {
      if (isIntegerCast(this.dtype, dtype)) {
        const onHost = await (await this.copyToHost()).to({ dtype, saturate });
        const { writeTensor } = await import("./webgpu/operations.ts");
        return new WebGpuTensor(...await writeTensor(memory.gpu, onHost, memory.buffer.usage));
      }
      const { castTensor } = await import("./webgpu/operations.ts");
      return new WebGpuTensor(...await castTensor(memory, this.#handle.tensor, dtype));
    });
  }
}
