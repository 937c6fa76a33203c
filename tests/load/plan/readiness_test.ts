import { assert, assertEquals, assertRejects } from "@std/assert";
import { PAGE } from "../../../src/load/layout.ts";
import { planLoad } from "../../../src/load/plan.ts";
import { Readiness } from "../../../src/load/readiness.ts";
import { randomNumbers, randomRequests, request } from "./random_requests.ts";
import { placesOf, requestsOf } from "./rows.ts";

const THREE = planLoad([
  request({ name: "a", fileOffset: 0, run: 3 * PAGE }),
  request({ name: "none", fileOffset: 3 * PAGE, run: 0 }),
  request({ name: "b", fileOffset: 3 * PAGE, run: 10 }),
  request({ name: "c", fileOffset: 3 * PAGE + 10, run: PAGE }),
], { blockBytes: PAGE });

/** One turn of the event loop, so that settled promises continue. */
async function turn(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("Readiness reports a request as ready with its last segment, in any order of completion", () => {
  for (let seed = 0; seed < 100; seed++) {
    const plan = planLoad(randomRequests(seed), { blockBytes: PAGE });
    const readiness = Readiness.of(plan);
    const random = randomNumbers(seed);
    const missing = placesOf(plan).map(({ byteLength }, request) =>
      byteLength === 0
        ? 0
        : plan.segments.filter((s) => s.firstRequest <= request && request < s.stopRequest).length
    );
    for (const segment of plan.segments.keys().toArray().sort(() => random(3) - 1)) {
      const { firstRequest, stopRequest } = plan.segments[segment]!;
      readiness.segmentLanded(segment);
      for (let request = firstRequest; request < stopRequest; request++) {
        if (missing[request]! > 0) missing[request]!--;
      }
      for (const [request, left] of missing.entries()) assertEquals(readiness.isReady(request), left === 0);
      assertEquals(readiness.landed.length, missing.filter((left) => left === 0).length);
    }
    assertEquals(new Set(readiness.landed).size, plan.requests.size);
  }
});

Deno.test("Readiness resolves only the promises of a ready request", async () => {
  const readiness = Readiness.of(THREE);
  const woken: string[] = [];
  for (const [index, { name }] of requestsOf(THREE).entries()) {
    for (let twice = 0; twice < 2; twice++) readiness.whenReady(index).then(() => woken.push(name));
  }
  await turn();
  assertEquals(woken, ["none", "none"]);
  assertEquals(THREE.segments.length, 5);
  readiness.segmentLanded(3); // b and the start of c
  await turn();
  assertEquals(woken.slice(2), ["b", "b"]);
  for (const segment of [0, 2, 4]) readiness.segmentLanded(segment);
  await turn();
  assertEquals(woken.slice(4), ["c", "c"]);
  readiness.segmentLanded(1);
  await turn();
  assertEquals(woken.slice(6), ["a", "a"]);
  assertEquals(Array.from(readiness.landed, (index) => THREE.requests.name(index)), ["none", "b", "c", "a"]);
});

Deno.test("Readiness yields every request once in the order of completion, to any number of iterations", async () => {
  const readiness = Readiness.of(THREE);
  const collect = () => Array.fromAsync(readiness.inLandingOrder(), (index) => THREE.requests.name(index));
  const early = [collect(), collect()];
  for (const segment of [3, 4, 1, 0, 2]) {
    readiness.segmentLanded(segment);
    if (segment % 2) await turn();
  }
  for (const names of [...early, collect()]) assertEquals(await names, ["none", "b", "c", "a"]);
});

Deno.test("Readiness rejects current and later waits with the first failure, and keeps completed requests", async () => {
  const readiness = Readiness.of(THREE);
  readiness.segmentLanded(3);
  const waiting = readiness.whenReady(0);
  const iteration = Array.fromAsync(readiness.inLandingOrder());
  await turn();
  const error = new Error("first");
  readiness.fail(error);
  readiness.fail(new Error("second"));
  for (
    const late of [waiting, iteration, readiness.whenReady(3), Array.fromAsync(readiness.inLandingOrder())]
  ) {
    assertEquals(await assertRejects(() => late), error);
  }
  await readiness.whenReady(2);
  assert(readiness.isReady(1) && readiness.isReady(2) && !readiness.isReady(0));
});

Deno.test("Readiness of an empty plan is complete", async () => {
  const readiness = Readiness.of(planLoad([], { blockBytes: PAGE }));
  assertEquals(await Array.fromAsync(readiness.inLandingOrder()), []);
});
