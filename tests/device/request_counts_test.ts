import { assertEquals } from "@std/assert";
import { RequestCounts } from "../../src/device/request_counts.ts";
import { planLoad } from "../../src/load/plan.ts";
import type { TensorRequest } from "../../src/load/request.ts";

const request = (name: string, file: number, fileOffset: number, bytes: number): TensorRequest => {
  return { name, shape: [bytes], dtype: "U8", target: "U8", file, fileOffset, run: bytes, levels: [] };
};

Deno.test("RequestCounts frees an allocation with the last request in it", () => {
  // Two files, each large enough for a separate allocation; the second one has two.
  const requests = [
    request("a", 0, 100, 5000),
    request("b", 0, 5100, 5000),
    request("c", 1, 100, 5000),
    request("d", 1, 5100, 5000),
  ];
  const plan = planLoad(requests, { blockBytes: 4096, shareBelowBytes: 1, maxAllocationBytes: 10_000 });
  assertEquals([...plan.placements.allocations], [0, 0, 1, 1]);
  const counts = RequestCounts.of(plan);
  assertEquals(counts.retire([0, 2]), []);
  assertEquals(counts.retire([0]), []); // the second call has no effect
  assertEquals(counts.retire([3, 1]), [1, 0]);
  assertEquals(counts.retire([0, 1, 2, 3]), []);
});

Deno.test("RequestCounts keeps the shared allocation of small files until none of them is needed", () => {
  const plan = planLoad([request("a", 0, 100, 50), request("b", 1, 100, 50)], { blockBytes: 4096 });
  const counts = RequestCounts.of(plan);
  assertEquals(counts.retire([1]), []);
  assertEquals(counts.retire([0]), [0]);
});
