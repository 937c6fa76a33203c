import { assert, assertEquals } from "@std/assert";
import { layOut, PAGE, resultBytes } from "../../../src/load/layout.ts";
import type { TensorRequest } from "../../../src/load/request.ts";
import { randomRequests, request } from "./random_requests.ts";
import { placesOf } from "./rows.ts";

function sorted(requests: TensorRequest[]): TensorRequest[] {
  return requests.sort((a, b) => a.file - b.file || a.fileOffset - b.fileOffset);
}

Deno.test("layOut() places every byte without overlap", () => {
  for (let seed = 0; seed < 300; seed++) {
    const requests = sorted(randomRequests(seed));
    const { runs, allocations, ...layout } = layOut(requests, {
      shareBelowBytes: 30_000,
      maxAllocationBytes: 200_000,
    });
    const places = placesOf(layout);
    assertEquals(places.length, requests.length);
    assertEquals(
      runs.flatMap(({ first, stop }) => Array.from({ length: stop - first }, (_, k) => first + k)),
      [
        ...requests.keys(),
      ],
    );
    let end = 0, allocation = 0;
    for (const [index, place] of places.entries()) {
      if (place.allocation > allocation) [end, allocation] = [0, place.allocation];
      assertEquals(place.allocation, allocation);
      assert(place.offset >= end);
      assertEquals(place.byteLength, resultBytes(requests[index]!));
      end = place.offset + place.byteLength;
      assert(end <= allocations[allocation]!);
    }
  }
});

Deno.test("layOut() places long plain runs at positions for direct reads", () => {
  for (const fileOffset of [8, 4096, 5001, 123_456]) {
    const requests = [
      request({ name: "small", fileOffset: fileOffset - 8, run: 7 }),
      request({ name: "large", fileOffset, run: 300_000 }),
      request({ name: "next", fileOffset: fileOffset + 300_000, run: 100 }),
    ];
    const places = placesOf(layOut(requests));
    assertEquals(places[1]!.offset % PAGE, fileOffset % PAGE);
    assertEquals(places[2]!.offset, places[1]!.offset + 300_000);
    assert(places[1]!.offset - 7 < PAGE);
  }
});

Deno.test("layOut() does not start a page for short runs", () => {
  const requests = Array.from({ length: 100 }, (_, index) => request({ fileOffset: index * 5000, run: 100 }));
  assert(layOut(requests).allocations[0]! <= 100 * (100 + 64));
});

Deno.test("layOut() starts a new run if the alignment requires it", () => {
  const requests = [
    request({ fileOffset: 1000, run: 3 }),
    request({ fileOffset: 1003, run: 4, dtype: "F32" }),
    request({ fileOffset: 1007, run: 8, dtype: "F64" }),
    request({ fileOffset: 1015, run: 0, dtype: "I64" }),
    request({ fileOffset: 1015, run: 1, dtype: "U8" }),
  ];
  const { runs, ...layout } = layOut(requests);
  const places = placesOf(layout);
  assertEquals(places[1]!.offset % 4, 0);
  assertEquals(places[2]!.offset % 8, 0);
  assertEquals(runs.map(({ first, stop }) => [first, stop]), [[0, 1], [1, 2], [2, 5]]);
});

Deno.test("layOut() uses separate allocations for large files, and a shared one for small files", () => {
  const requests = [10, 20, 5000, 30, 40].map((run, file) => request({ file, run }));
  const { allocations, ...layout } = layOut(requests, { shareBelowBytes: 1000 });
  assertEquals(placesOf(layout).map(({ allocation }) => allocation), [0, 0, 1, 2, 2]);
  assertEquals(allocations.length, 3);
});

Deno.test("layOut() starts an allocation at the size limit", () => {
  const requests = Array.from({ length: 10 }, (_, index) => request({ fileOffset: index * 400, run: 400 }));
  const places = placesOf(layOut(requests, { maxAllocationBytes: 1000 }));
  assertEquals(places.map(({ allocation }) => allocation), [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]);
});

Deno.test("layOut() packs small tensors separately from large ones, without overlap", () => {
  for (let seed = 0; seed < 300; seed++) {
    const random = randomRequests(seed);
    const requests = sorted([
      ...random,
      ...random.map((each) => ({ ...each, file: each.file + 3, run: each.run * (seed % 3 ? 1 : 200) })),
    ]);
    const { runs, allocations, ...layout } = layOut(requests, {
      packSmall: true,
      maxAllocationBytes: 400_000,
    });
    const places = placesOf(layout);
    const inAllocation = places.map(({ allocation }) => allocation);
    for (const [index, length] of allocations.entries()) {
      const inside = places.filter(({ allocation }) => allocation === index)
        .sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
      const sizes = inside.map(({ byteLength }) => byteLength).filter((size) => size > 0);
      if (sizes.some((size) => size < 65_536)) {
        assert(sizes.every((size) => size < 65_536) && length <= 1_048_576);
      }
      for (const [at, place] of inside.entries()) {
        assert(place.offset >= (at === 0 ? 0 : inside[at - 1]!.offset + inside[at - 1]!.byteLength));
        assert(place.offset + place.byteLength <= length);
      }
    }
    assertEquals(places.map(({ byteLength }) => byteLength), requests.map(resultBytes));
    assertEquals(
      runs.flatMap(({ first, stop }) => Array.from({ length: stop - first }, (_, k) => first + k)).toSorted((
        a,
        b,
      ) => a - b),
      [...requests.keys()],
    );
    for (const [at, { allocation, offset, first }] of runs.entries()) {
      assertEquals([allocation, offset], [inAllocation[first]!, places[first]!.offset]);
      const before = runs[at - 1];
      if (before) {
        assert(before.allocation < allocation || before.allocation === allocation && before.offset <= offset);
      }
    }
  }
});

Deno.test("layOut() packs a hundred thousand small tensors into allocations of a mebibyte", () => {
  const requests = Array.from(
    { length: 100_000 },
    (_, index) => request({ name: `${index}`, fileOffset: 8 + index * 2760, run: 2760 }),
  );
  const { allocations } = layOut(requests, { packSmall: true });
  assert(allocations.length <= 265 && allocations.every((length) => length <= 1_048_576));
});
