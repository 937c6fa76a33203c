import { assert, assertEquals, assertThrows, fail } from "@std/assert";
import { type DType, dtypeAlignment, dtypeBits } from "../../../src/base/dtype.ts";
import { PAGE } from "../../../src/load/layout.ts";
import {
  type LoadPlan,
  planLoad,
  type PlanOptions,
  readThroughGap,
  segmentBytes,
} from "../../../src/load/plan.ts";
import { requestBytes, type TensorRequest } from "../../../src/load/request.ts";
import { randomRequests, request } from "./random_requests.ts";
import { placesOf, requestsOf } from "./rows.ts";

/** The source of one byte of an allocation: file and offset as one number; -1 for an unwritten byte. */
type Origins = Float64Array;

/** The distance between two files in such numbers. */
const FILE = 2 ** 40;

/** The offsets of the first bytes of all runs, outer to inner. */
function* runs(offset: number, levels: readonly { count: number; stride: number }[]): Generator<number> {
  const [level, ...inner] = levels;
  if (!level) return yield offset;
  for (let index = 0; index < level.count; index++) yield* runs(offset + index * level.stride, inner);
}

/** The source of each byte of a destination; all bytes of a cast element have the element's first byte as source. */
function* origins(
  { file, from, to, run }: { file: number; from: DType; to: DType; run: number },
  starts: Iterable<number>,
): Generator<number> {
  const source = from === to ? 1 : dtypeBits(from) / 8;
  const target = from === to ? 1 : dtypeBits(to) / 8;
  for (const start of starts) {
    for (let at = 0; at < run; at += source) {
      for (let byte = 0; byte < target; byte++) yield file * FILE + start + at;
    }
  }
}

/** Simulates a plan: every destination byte is written at most once. */
function execute(plan: LoadPlan): Origins[] {
  const memory = plan.allocations.map((length) => new Float64Array(length).fill(-1));
  for (const segment of plan.segments) {
    const { fileOffset, outerCount, outerStride, innerCount, innerStride, allocation } = segment;
    const levels = [{ count: outerCount, stride: outerStride }, { count: innerCount, stride: innerStride }];
    let at = segment.offset;
    for (const origin of origins(segment, runs(fileOffset, levels))) {
      if (memory[allocation]![at] !== -1) fail(`byte ${at} of allocation ${allocation} is written twice`);
      memory[allocation]![at++] = origin;
    }
  }
  return memory;
}

/** Checks that every byte of every request is at its placement, and that no other byte is written. */
function assertComplete(plan: LoadPlan): void {
  for (const left of assertPlaced(plan)) {
    assert(left.every((origin) => origin === -1), "a byte outside of all requests is written");
  }
}

/** Checks that every byte of every request is at its placement; returns the origins of the other bytes. */
function assertPlaced(plan: LoadPlan): Origins[] {
  const memory = execute(plan);
  const places = placesOf(plan);
  for (const [index, asked] of requestsOf(plan).entries()) {
    const { allocation, offset, byteLength } = places[index]!;
    const { dtype: from, target: to } = asked;
    let at = offset;
    for (const origin of origins({ ...asked, from, to }, runs(asked.fileOffset, asked.levels))) {
      if (memory[allocation]![at] !== origin) fail(`byte ${at - offset} of "${asked.name}" is another`);
      memory[allocation]![at++] = -1;
    }
    assertEquals(at - offset, byteLength, asked.name);
  }
  return memory;
}

/** Bytes of a file that a segment reads in one call, with the gaps between its runs. */
function readAtOnce(segment: LoadPlan["segments"][number]): number {
  const { run, innerCount, innerStride, outerCount, outerStride } = segment;
  return (outerCount - 1) * outerStride + (innerCount - 1) * innerStride + run;
}

const OPTIONS: readonly PlanOptions[] = [
  { blockBytes: PAGE },
  { blockBytes: 5 * PAGE, maxAllocationBytes: 100_000, shareBelowBytes: 20_000 },
  { blockBytes: 2 ** 22, shareBelowBytes: 1 },
  { blockBytes: 2 * PAGE, maxAllocationBytes: 1, alignment: 256 },
];

for (const [which, options] of OPTIONS.entries()) {
  Deno.test(`planLoad() writes every byte to its position once (options ${which})`, () => {
    for (let seed = 0; seed < 12; seed++) assertComplete(planLoad(randomRequests(seed), options));
  });

  Deno.test(`planLoad() aligns every tensor, and respects its limits (options ${which})`, () => {
    const { blockBytes, alignment = 1, maxAllocationBytes = Infinity } = options;
    for (let seed = 0; seed < 200; seed++) {
      const requests = randomRequests(seed);
      const plan = planLoad(requests, options);
      assertEquals(plan.bytes, requests.reduce((sum, asked) => sum + requestBytes(asked), 0));
      assertEquals(plan.segments.reduce((sum, segment) => sum + segmentBytes(segment), 0), plan.bytes);
      for (const [index, { allocation, offset, byteLength }] of placesOf(plan).entries()) {
        if (byteLength === 0) continue;
        const { target } = plan.requests.at(index);
        assertEquals(offset % Math.max(alignment, dtypeAlignment(target)), 0, `alignment of a ${target}`);
        assert(offset + byteLength <= plan.allocations[allocation]!);
      }
      let before = { allocation: 0, offset: -1 };
      for (const segment of plan.segments) {
        assert(segment.run > 0 && segment.run <= blockBytes);
        assert(segment.allocation > before.allocation || segment.offset > before.offset, "order of segments");
        before = segment;
        const { outerCount, outerStride, innerCount, innerStride, run } = segment;
        const row = (innerCount - 1) * innerStride + run;
        assert(row <= blockBytes);
        if (outerStride - row <= readThroughGap(row)) {
          assert(readAtOnce(segment) <= blockBytes + readThroughGap(row));
        } else assert(row * outerCount <= blockBytes);
      }
      for (const [allocation, bytes] of plan.allocations.entries()) {
        if (bytes <= maxAllocationBytes) continue;
        const inside = placesOf(plan).filter((place) =>
          place.allocation === allocation && place.byteLength > 0
        );
        assertEquals(inside.length, 1, "an allocation beyond the limit holds one tensor");
      }
    }
  });

  Deno.test(`planLoad() names the requests that a segment serves (options ${which})`, () => {
    for (let seed = 200; seed < 400; seed++) {
      const plan = planLoad(randomRequests(seed), options);
      for (const segment of plan.segments) {
        const { from, to, allocation, offset } = segment;
        const length = from === to
          ? segmentBytes(segment)
          : segmentBytes(segment) * dtypeBits(to) / dtypeBits(from);
        for (const [index, place] of placesOf(plan).entries()) {
          if (place.byteLength === 0) continue;
          const shares = place.allocation === allocation && place.offset < offset + length &&
            offset < place.offset + place.byteLength;
          assertEquals(index >= segment.firstRequest && index < segment.stopRequest, shares);
        }
      }
    }
  });
}

Deno.test("planLoad() cuts a long plain run at multiples of the block in the file", () => {
  const plan = planLoad([request({ fileOffset: 1000, run: 40_000 })], { blockBytes: 4 * PAGE });
  assertEquals(plan.segments.map(({ fileOffset, run }) => [fileOffset, run]), [
    [1000, 15_384],
    [16_384, 16_384],
    [32_768, 8_232],
  ]);
});

Deno.test("planLoad() cuts a long run at block boundaries in memory, for any length of the header", () => {
  const [block, start] = [2 ** 22, 6920]; // the second page of the file
  const plan = planLoad([request({ fileOffset: start, run: 2 * block + 5000 })], { blockBytes: block });
  assertEquals(plan.segments.map(({ offset, fileOffset, run }) => [offset, fileOffset, run]), [
    [2824, start, block - 2824],
    [block, PAGE + block, block],
    [2 * block, PAGE + 2 * block, 5000 + 2824],
  ]);
});

Deno.test("planLoad() cuts a cast run between elements", () => {
  const asked = request({ fileOffset: 1001, run: 3 * PAGE + 6, dtype: "BF16", target: "F32" });
  const plan = planLoad([asked], { blockBytes: PAGE });
  assertEquals(plan.segments.map(({ fileOffset, run, offset }) => [fileOffset, run, offset]), [
    [1001, PAGE, 0],
    [1001 + PAGE, PAGE, 2 * PAGE],
    [1001 + 2 * PAGE, PAGE, 4 * PAGE],
    [1001 + 3 * PAGE, 6, 6 * PAGE],
  ]);
});

Deno.test("planLoad() reads adjacent tensors together, across dtypes", () => {
  const plan = planLoad([
    request({ name: "c", fileOffset: 900, run: 100, dtype: "F32" }),
    request({ name: "a", fileOffset: 100, run: 200, dtype: "BF16" }),
    request({ name: "b", fileOffset: 300, run: 600, dtype: "U8" }),
  ], { blockBytes: PAGE });
  assertEquals(requestsOf(plan).map(({ name }) => name), ["a", "b", "c"]);
  assertEquals(plan.segments.length, 1);
  assertEquals([plan.segments[0]!.firstRequest, plan.segments[0]!.stopRequest], [0, 3]);
});

Deno.test("planLoad() reads columns row by row if rows are far apart, otherwise with the gaps", () => {
  const levels = (stride: number) => [{ count: 100, stride }];
  const near = planLoad([request({ run: 10, levels: levels(200) })], { blockBytes: 2 * PAGE });
  assertEquals(near.segments.map(({ outerCount }) => outerCount), [40, 40, 20]);
  const far = planLoad([request({ run: 10, levels: levels(10_000) })], { blockBytes: 2 * PAGE });
  assertEquals(far.segments.map(({ outerCount }) => outerCount), [100]);
  // Of long rows longer gaps are read: 16 bytes for each byte, up to 16 KiB.
  const rows = (run: number, stride: number) =>
    planLoad([request({ run, levels: levels(stride) })], { blockBytes: 2 * PAGE }).segments[0]!.outerCount;
  assertEquals([rows(100, 1700), rows(100, 1701)], [4, 81]);
  assertEquals([readThroughGap(10), readThroughGap(100), readThroughGap(4000)], [1024, 1600, 16_384]);
});

Deno.test("planLoad() reads over short gaps, and at most one byte in vain for each that is asked for", () => {
  const options = { blockBytes: 2 ** 22, packSmall: true, joinsGaps: true };
  const rows = (count: number, step: number) =>
    Array.from({ length: count }, (_, index) => request({ fileOffset: 8 + index * step, run: 4096 }));
  const readBytes = (plan: LoadPlan) => plan.segments.reduce((sum, { run }) => sum + run, 0);
  // A mebibyte without a page has 128 of these rows with the 127 gaps between them.
  const half = planLoad(rows(1000, 8192), options);
  assertEquals([half.segments.length, half.bytes, readBytes(half)], [8, 4_096_000, 4_096_000 + 4096 * 992]);
  // k rows have k - 1 gaps of two rows, which are at most k rows for k up to 2; a gap of three rows is longer than two rows.
  assertEquals(planLoad(rows(100, 3 * 4096), options).segments.length, 50);
  assertEquals(planLoad(rows(100, 4 * 4096), options).segments.length, 100);
  assertEquals(planLoad(rows(100, 4096 + 65_537), options).segments.length, 100);
  assertEquals(planLoad(rows(1000, 8192), { ...options, joinsGaps: false }).segments.length, 1000);
  for (const target of ["F32", "BF16"] as const) {
    for (let seed = 0; seed < 6; seed++) {
      const asked = randomRequests(seed).filter((_, index) => index % 3 > 0);
      const plan = planLoad([...asked, ...rows(9, 6000).map((each) => ({ ...each, file: 7, target }))], {
        ...options,
        blockBytes: 2 * PAGE,
      });
      assertPlaced(plan);
      assert(readBytes(plan) <= 2 * plan.bytes);
      const places = placesOf(plan);
      for (const [index, { target, run }] of requestsOf(plan).entries()) {
        if (run > 0) assertEquals(places[index]!.offset % dtypeAlignment(target), 0);
      }
    }
  }
});

Deno.test("planLoad() cuts rows that are longer than a block", () => {
  const long: TensorRequest[] = [
    request({ name: "long runs", run: 50_000, levels: [{ count: 3, stride: 60_000 }] }),
    request({
      name: "long rows",
      file: 1,
      run: 2,
      levels: [{ count: 2, stride: 400_000 }, { count: 9000, stride: 40 }],
    }),
    request({
      name: "cast",
      file: 2,
      run: 40_000,
      dtype: "F32",
      target: "F16",
      levels: [{ count: 2, stride: 100_000 }, { count: 2, stride: 44_000 }],
    }),
  ];
  const plan = planLoad(long, { blockBytes: 2 * PAGE });
  assertComplete(plan);
  for (const segment of plan.segments) assert(readAtOnce(segment) <= 2 * PAGE);
});

Deno.test("planLoad() returns an empty plan without requests", () => {
  const empty = planLoad([], { blockBytes: PAGE });
  assertEquals([empty.requests.size, placesOf(empty)], [0, []]);
  assertEquals([empty.allocations, empty.segments, empty.bytes], [[], [], 0]);
  const plan = planLoad([request({ run: 0 }), request({ run: 0, file: 1 })], { blockBytes: PAGE });
  assertEquals([plan.segments, plan.bytes, placesOf(plan).length], [[], 0, 2]);
});

Deno.test("planLoad() rejects a block that is not a positive multiple of a page", () => {
  for (const blockBytes of [0, -PAGE, 1, PAGE + 1, NaN, Infinity, 1.5]) {
    assertThrows(() => planLoad([], { blockBytes }), RangeError, "blockBytes");
  }
});
