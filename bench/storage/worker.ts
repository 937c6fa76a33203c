/**
 * One process of a sweep: opens its files, then reads its share for each input line. Input and output are lines of
 * JSON.
 */
import { TextLineStream } from "./lines.ts";
import { createReader } from "../../src/three_fs/mod.ts";
import { CudaTarget } from "./cuda_target.ts";
import type { Combination, Range, Target } from "./sweep.ts";

/** The content of the first line. */
export interface Task extends Combination {
  readonly target: Target;
  readonly ranges: readonly Range[];
}

/** The output after each turn: its start and end, in milliseconds of one clock for all processes. */
export interface Turn {
  readonly began: number;
  readonly ended: number;
  readonly bytes: number;
}

/** The same for every process of the machine. */
function now(): number {
  return performance.timeOrigin + performance.now();
}

const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
  .getReader();
const { value: first } = await lines.read();
const { backend, bufferBytes, chunkBytes, pipelined, target, ranges }: Task = JSON.parse(first!);

await using reader = await createReader({ backend, bufferBytes });
await reader.readHeadersBatch([...new Set(ranges.map(({ path }) => path))]);
const longest = ranges.reduce((most, { length }) => Math.max(most, length), 0);
const buffer = target === "host" ? new Uint8Array(longest).fill(1) : null; // touched before: page faults are not measured
using device = target.startsWith("cuda:")
  ? await CudaTarget.allocate(Number(target.slice(5)), longest)
  : null;
console.log(JSON.stringify({ ready: true }));

while ((await lines.read()).value === "go") {
  const began = now();
  let bytes = 0;
  for (const { path, offset, length } of ranges) {
    bytes += await reader.readChunked({
      path,
      fileOffset: offset,
      totalLength: length,
      chunkBytes,
      pipelined,
      ...buffer && { buffer },
      ...device && { devicePointer: device.address, device: device.index },
    });
  }
  console.log(JSON.stringify({ began, ended: now(), bytes } satisfies Turn));
}
