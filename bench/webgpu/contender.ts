/**
 * The common part of the contenders: the device, the clock and the measures. Each runs in a separate process and prints
 * a {@linkcode Sample}.
 */
import { requestGpuDevice } from "../../src/device/webgpu/adapter.ts";
import { peakMemory, type Sample, StallWatch } from "../side_by_side/sample.ts";

/** A tensor in a file. */
export interface Place {
  readonly name: string;
  /** Its bytes: the first, and one after the last. */
  readonly begin: number;
  readonly end: number;
}

/** The positions of a file's tensors. */
export function placesOf(file: Uint8Array<ArrayBuffer>): Place[] {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const header: Record<string, { data_offsets: [number, number] }> = JSON.parse(
    new TextDecoder().decode(file.subarray(8, 8 + length)),
  );
  return Object.entries(header).filter(([name]) => name !== "__metadata__").map(
    ([name, { data_offsets }]) => {
      return { name, begin: 8 + length + data_offsets[0], end: 8 + length + data_offsets[1] };
    },
  );
}

/** A buffer that tensors can be bound in. */
export function createBuffer(device: GPUDevice, size: number): GPUBuffer {
  const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
  return device.createBuffer({ size: Math.ceil(size / 4) * 4, usage: STORAGE | COPY_SRC | COPY_DST });
}

/**
 * Runs a contender and prints its results.
 *
 * @param prepare untimed preparation, such as requesting a device; returns the load
 * @param ownBytes host memory of `prepare` that does not count for the contender
 */
export async function measure(
  prepare: (device: GPUDevice) => Promise<() => Promise<readonly GPUBuffer[]>>,
  ownBytes = 0,
): Promise<void> {
  const device = await requestGpuDevice();
  const load = await prepare(device);
  const watch = new StallWatch();
  const start = performance.now();
  const buffers = await load();
  const seconds = (performance.now() - start) / 1000;
  const stall = watch.stop();
  // On a software adapter the buffers are host memory as well.
  const destination = buffers.reduce((sum, { size }) => sum + size, 0);
  const sample: Sample = { seconds, beyondDestination: peakMemory() - destination - ownBytes, stall };
  console.log(JSON.stringify(sample));
  device.destroy();
}
