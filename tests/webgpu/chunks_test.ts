/**
 * Simulated chunks: for every load, the bytes in staging memory must arrive at the positions of the plan.
 */
import { assert, assertEquals } from "@std/assert";
import { castsOnGpu, type Chunk, cutChunks, maxChunkBytes } from "../../src/device/webgpu/chunks.ts";
import { castBytes } from "../../src/format/cast.ts";
import { type DType, dtypeBits } from "../../src/base/dtype.ts";
import { type LoadPlan, planLoad, type Segment } from "../../src/load/plan.ts";
import { castLength, requestBytes, type TensorRequest } from "../../src/load/request.ts";
import { randomNumbers, randomRequests, request } from "../load/plan/random_requests.ts";
import { assertBytes, noise } from "../support/models.ts";
import { placesOf, requestsOf } from "../load/plan/rows.ts";

const FILE_BYTES = 2 ** 20;
const files = [1, 2, 3].map((seed) => noise(FILE_BYTES, seed));

/** A cast for every pair of dtypes: it repeats an element's bytes, which shows their source. */
function fakeCast(source: Uint8Array, from: DType, to: DType): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(castLength(source.length, from, to));
  if (from !== to && dtypeBits(from) < 8) {
    for (let at = 0; at < target.length; at++) {
      target[at] = source[Math.floor(at * source.length / target.length)]!;
    }
  } else castBytes(source.slice(), from, target, to);
  return target;
}

/** The bytes of a file that a strided range delivers. */
function gather(
  file: number,
  offset: number,
  run: number,
  levels: readonly { count: number; stride: number }[],
): Uint8Array {
  const [level, ...inner] = levels;
  if (!level) return files[file]!.subarray(offset, offset + run);
  const parts = Array.from(
    { length: level.count },
    (_, i) => gather(file, offset + i * level.stride, run, inner),
  );
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

function segmentData(
  { file, fileOffset, run, outerCount, outerStride, innerCount, innerStride }: Segment,
): Uint8Array {
  const levels = [{ count: outerCount, stride: outerStride }, { count: innerCount, stride: innerStride }];
  return gather(file, fileOffset, run, levels);
}

/** Reads, uploads and casts like a real load, into zeroed buffers. */
function simulate(plan: LoadPlan, chunks: readonly Chunk[], chunkBytes: number): Uint8Array[] {
  const buffers = plan.allocations.map((length) => new Uint8Array(Math.ceil(length / 4) * 4));
  const staging = new Uint8Array(maxChunkBytes(plan, chunkBytes));
  const scratch = new Uint8Array(maxChunkBytes(plan, chunkBytes));
  const tail = new Uint8Array(4);
  for (const chunk of chunks) {
    const [length] = chunk.plan.allocations;
    assert(chunk.plan.allocations.length === 1 && length! <= staging.length, `${length} staging bytes`);
    staging.fill(0xee); // bytes of a previous chunk
    for (const segment of chunk.plan.segments) {
      const data = fakeCast(segmentData(segment), segment.from, segment.to);
      assert(staging.subarray(segment.offset, segment.offset + data.length).every((byte) => byte === 0xee));
      staging.set(data, segment.offset);
    }
    for (const [start, stop] of chunk.gaps) staging.fill(0, start, stop);
    for (const { allocation, offset, staging: from, byteLength, carried } of chunk.uploads) {
      assertEquals([offset % 4, byteLength % 4], [0, 0]);
      assert(byteLength > 0 && from + byteLength <= length!);
      staging.set(tail.subarray(0, carried), from);
      const bytes = staging.subarray(from, from + byteLength);
      tail.set(bytes.subarray(-4));
      const buffer = allocation === null ? scratch : buffers[allocation]!;
      assert(offset + byteLength <= buffer.length);
      buffer.set(bytes, offset);
    }
    for (const { from, to, count, scratch: at, allocation, offset } of chunk.casts) {
      assert(castsOnGpu(from, to));
      buffers[allocation]!.set(
        fakeCast(scratch.subarray(at, at + count * dtypeBits(from) / 8), from, to),
        offset,
      );
    }
  }
  return buffers;
}

/** Cuts a load and compares the result with the requests; all other bytes must be zeros. */
function assertArrives(requests: readonly TensorRequest[], chunkBytes: number, alignment: number): void {
  const blockBytes = Math.max(4096, chunkBytes / 4);
  const plan = planLoad(requests, { blockBytes, alignment, maxAllocationBytes: 200_000 });
  const chunks = [...cutChunks(plan, chunkBytes, alignment)];
  let next = 0;
  for (const { segments: [first, stop] } of chunks) {
    assertEquals(first, next);
    next = stop;
  }
  assertEquals(next, plan.segments.length);
  assertEquals(chunks.reduce((sum, chunk) => sum + chunk.plan.bytes, 0), plan.bytes);
  const buffers = simulate(plan, chunks, chunkBytes);
  const places = placesOf(plan);
  for (const [index, asked] of requestsOf(plan).entries()) {
    const { allocation, offset, byteLength } = places[index]!;
    if (byteLength === 0) continue;
    assertEquals(offset % alignment, 0);
    const data = gather(asked.file, asked.fileOffset, asked.run, asked.levels);
    const bytes = buffers[allocation]!.subarray(offset, offset + byteLength);
    assertBytes(bytes, fakeCast(data, asked.dtype, asked.target), `request "${asked.name}"`);
    bytes.fill(0);
  }
  for (const buffer of buffers) assert(buffer.every((byte) => byte === 0), "bytes that belong to no tensor");
}

Deno.test("cutChunks() moves every byte to its position, for random requests", () => {
  for (let seed = 1; seed <= 80; seed++) {
    const requests = randomRequests(seed).filter((asked) => {
      const span = asked.levels.reduce((sum, { count, stride }) => sum + (count - 1) * stride, asked.run);
      return asked.fileOffset + span <= FILE_BYTES && requestBytes(asked) < 150_000;
    });
    assertArrives(requests, [4096, 16_384, 65_536, 2 ** 20][seed % 4]!, [32, 256][seed % 2]!);
  }
});

Deno.test("cutChunks() cuts F4 and F6 between elements, and their results between words", () => {
  const random = randomNumbers(3);
  for (const [dtype, unit] of [["F4", 1], ["F6_E2M3", 3], ["F6_E3M2", 3]] as const) {
    for (const target of ["F32", "F16", "F8_E4M3", "F64"] as const) {
      const requests: TensorRequest[] = [];
      let fileOffset = 77;
      for (let index = 0; index < 6; index++) {
        const run = unit * (1 + random(index % 2 ? 9 : 9000));
        const levels = index === 3 ? [{ count: 3, stride: run + 6 }] : [];
        requests.push(request({ name: `${index}`, dtype, target, fileOffset, run, levels }));
        fileOffset += levels.length > 0 ? 3 * (run + 6) : run;
      }
      assertArrives(requests, 16_384, 256);
    }
  }
});

Deno.test("cutChunks() uploads many small tensors in one call, and aligns large ones for direct reads", () => {
  const small = Array.from(
    { length: 100 },
    (_, index) => request({ name: `${index}`, fileOffset: 50 * index, run: 50 }),
  );
  const [chunk, ...rest] = cutChunks(planLoad(small, { blockBytes: 4096, alignment: 256 }), 65_536, 256);
  assertEquals([rest.length, chunk!.uploads.length], [0, 1]);

  const large = [request({ fileOffset: 1001, run: 500_000 })];
  for (const { plan } of cutChunks(planLoad(large, { blockBytes: 131_072, alignment: 256 }), 262_144, 256)) {
    for (const { fileOffset, offset, run } of plan.segments) {
      if (run >= 65_536) assertEquals(offset % 4096, fileOffset % 4096);
    }
  }
});
