/**
 * Operations on tensors in WebGPU: each result is in a new buffer.
 */
import { DeviceError, OutOfMemoryError, SafeTensorsError } from "../../base/errors.ts";
import { castSupported } from "../../format/cast.ts";
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { joinLayout } from "../../format/join.ts";
import type { SliceLayout } from "../../format/slices.ts";
import { quote } from "../../base/text.ts";
import type { HostElements } from "../../load/tensor.ts";
import type { PlacedTensor, TensorDescription } from "../tensor_handle.ts";
import { Backlog } from "./backlog.ts";
import { castDispatches } from "./casts.ts";
import { Dispatcher } from "./dispatch.ts";
import type { Gpu } from "./gpu.ts";
import { GpuMemory } from "./memory.ts";
import { copiesOf, type Move, moveDispatches } from "./moves.ts";
import { nextTurn } from "../../base/turn.ts";
import { PIECE, pieces } from "./pieces.ts";

/** Bytes that are copied to the host at once: each `mapAsync` takes ten milliseconds in Deno, for any length. */
const READ_PIECE = 32 * 2 ** 20;

/** The result of an operation: its memory with one reference, and its place there. */
export type GpuResult = [memory: GpuMemory, tensor: PlacedTensor];

/**
 * Casts a tensor.
 *
 * @throws {SafeTensorsError} "UnsupportedCast" if there is no such cast
 */
export function castTensor(memory: GpuMemory, tensor: PlacedTensor, dtype: DType): Promise<GpuResult> {
  const { name, shape } = tensor;
  const action = `cast tensor ${quote(name)} from ${tensor.dtype} to ${dtype}`;
  if (!castSupported(tensor.dtype, dtype, true)) {
    throw new SafeTensorsError("UnsupportedCast", `Cannot ${action}`, { tensor: name });
  }
  const { gpu } = memory;
  const count = tensor.byteLength * 8 / dtypeBits(tensor.dtype);
  const init = { name, dtype, shape, byteLength: count * dtypeBits(dtype) / 8 };
  return fill(gpu, init, action, memory.buffer.usage, ({ buffer: target }) => {
    using dispatcher = new Dispatcher(gpu);
    dispatcher.run(castDispatches(gpu, {
      from: tensor.dtype,
      to: dtype,
      count,
      source: memory.buffer,
      sourceOffset: tensor.offset,
      target,
      targetOffset: 0,
    }));
  });
}

/** Copies a slice of a tensor. */
export function sliceTensor(
  memory: GpuMemory,
  tensor: PlacedTensor,
  layout: SliceLayout,
): Promise<GpuResult> {
  const { name, dtype } = tensor;
  const { shape, byteLength, run, levels } = layout;
  return fill(
    memory.gpu,
    { name, dtype, shape, byteLength },
    `slice tensor ${quote(name)}`,
    memory.buffer.usage,
    ({ buffer: target }) => {
      const sourceOffset = tensor.offset + layout.offset;
      runMoves(memory.gpu, [{
        source: memory.buffer,
        sourceOffset,
        run,
        levels,
        target,
        targetOffset: 0,
        pitch: run,
      }]);
    },
  );
}

/**
 * Joins tensors along a dimension.
 *
 * @throws {SafeTensorsError} "MisalignedSlice" if it would cut a byte of a sub-byte dtype
 */
export function joinTensors(
  name: string,
  sources: readonly (readonly [GpuMemory, PlacedTensor])[],
  dimension: number,
): Promise<GpuResult> {
  const { shape, byteLength, rows } = joinLayout(sources.map(([, tensor]) => tensor), dimension);
  const [{ gpu, buffer }, { dtype }] = sources[0]!;
  return fill(
    gpu,
    { name, dtype, shape, byteLength },
    `join tensors to ${quote(name)}`,
    buffer.usage,
    (target) => {
      const pitch = byteLength / rows;
      const moves: Move[] = [];
      let column = 0;
      for (const [memory, tensor] of sources) {
        const run = tensor.byteLength / rows;
        const move = { source: memory.buffer, sourceOffset: tensor.offset, target: target.buffer, pitch };
        const levels = rows > 1 ? [{ count: rows, stride: run }] : [];
        if (run > 0) moves.push({ ...move, run, levels, targetOffset: column });
        column += run;
      }
      runMoves(gpu, moves);
    },
  );
}

/** Copies a tensor from host memory, in pieces. */
export async function writeTensor(gpu: Gpu, tensor: HostElements, usage: number): Promise<GpuResult> {
  const { name, dtype, shape, bytes } = tensor;
  const { byteLength } = bytes;
  const action = `copy tensor ${quote(name)} to the GPU`;
  const [memory, init] = await fill(gpu, { name, dtype, shape, byteLength }, action, usage, () => {});
  const backlog = new Backlog(gpu.device.queue);
  try {
    for await (const [at, length] of pieces(byteLength, PIECE)) {
      const rest = length % 4;
      await gpu.attempt(action, length, () => {
        const { queue } = gpu.device;
        queue.writeBuffer(memory.buffer, at, bytes, at, length - rest);
        if (rest > 0) {
          const word = new Uint8Array(4);
          word.set(bytes.subarray(at + length - rest, at + length));
          queue.writeBuffer(memory.buffer, at + length - rest, word);
        }
        queue.submit([]); // an empty submission frees the device's copy of the piece
      });
      await backlog.add(length);
    }
    return [memory, init];
  } catch (error) {
    memory.drop();
    throw error;
  } finally {
    await backlog.ended();
  }
}

/** Copies the bytes of a tensor to JavaScript memory, in pieces. */
export async function readTensor(memory: GpuMemory, tensor: PlacedTensor): Promise<Uint8Array<ArrayBuffer>> {
  const { name, byteLength } = tensor;
  const bytes = new Uint8Array(byteLength);
  if (byteLength === 0) return bytes;
  const { gpu } = memory;
  const { device } = gpu;
  const action = `copy tensor ${quote(name)} to the host`;
  const size = Math.min(READ_PIECE, Math.ceil(byteLength / 4) * 4);
  const staging = await gpu.attempt(action, size, () => {
    return device.createBuffer({ size, usage: GPUBufferUsage.COPY_DST | GPUBufferUsage.MAP_READ });
  });
  try {
    for await (const [at, length] of pieces(byteLength, READ_PIECE)) {
      await gpu.attempt(action, 0, () => {
        const encoder = device.createCommandEncoder();
        encoder.copyBufferToBuffer(
          memory.buffer,
          tensor.offset + at,
          staging,
          0,
          Math.ceil(length / 4) * 4,
        );
        device.queue.submit([encoder.finish()]);
      });
      await mapToRead(gpu, staging, action);
      bytes.set(new Uint8Array(staging.getMappedRange(), 0, length), at);
      staging.unmap();
    }
  } finally {
    staging.destroy();
  }
  return bytes;
}

async function mapToRead(gpu: Gpu, staging: GPUBuffer, action: string): Promise<void> {
  try {
    await staging.mapAsync(GPUMapMode.READ);
  } catch (error) {
    await nextTurn(); // the device can report its loss only after this
    gpu.lost.throwIfAborted();
    const { name, message } = error as DOMException;
    throw new DeviceError(`Cannot ${action}: ${message}`, {
      library: "webgpu",
      codeName: name,
      cause: error,
    });
  }
}

/**
 * Makes a tensor in a new buffer and submits the work that fills it.
 *
 * @throws {OutOfMemoryError} if the device has no memory for it, or its largest buffer is too small
 * @throws {DeviceError} if the device rejects a call, or is lost
 */
async function fill(
  gpu: Gpu,
  init: TensorDescription,
  action: string,
  usage: number,
  work: (target: GpuMemory) => void,
): Promise<GpuResult> {
  checkSize(gpu, init.byteLength, action);
  const [memory] = await GpuMemory.allocate(gpu, [init.byteLength], action, usage);
  try {
    if (init.byteLength > 0) await gpu.attempt(action, init.byteLength, () => work(memory!));
  } catch (error) {
    memory!.drop();
    throw error;
  }
  return [memory!, { ...init, offset: 0 }];
}

/**
 * Checks that a buffer of the device can hold a tensor.
 *
 * @throws {OutOfMemoryError} if it cannot; `available` is the size of the largest buffer
 */
export function checkSize(gpu: Gpu, byteLength: number, action: string): void {
  if (byteLength <= gpu.maxBufferBytes) return;
  const message = `Cannot ${action}: it has ${byteLength} bytes, and a buffer of this device at most ` +
    `${gpu.maxBufferBytes} (maxBufferSize)`;
  const advice = "open with lazy: true and get slices of it";
  throw new OutOfMemoryError(message, byteLength, gpu.maxBufferBytes, { advice });
}

function runMoves(gpu: Gpu, moves: readonly Move[]): void {
  const { device } = gpu;
  const encoder = device.createCommandEncoder();
  const gathered: Move[] = [];
  for (const move of moves) {
    const copies = copiesOf(move);
    if (!copies) gathered.push(move);
    for (const { from, to, byteLength } of copies ?? []) {
      encoder.copyBufferToBuffer(move.source, from, move.target, to, byteLength);
    }
  }
  device.queue.submit([encoder.finish()]);
  if (gathered.length === 0) return;
  using dispatcher = new Dispatcher(gpu);
  dispatcher.run(gathered.flatMap((move) => [...moveDispatches(gpu, move)]));
}
