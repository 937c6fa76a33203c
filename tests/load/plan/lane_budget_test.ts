import { assertEquals, assertRejects } from "@std/assert";
import { returnCalls, takeCalls } from "../../../src/load/native/lane_budget.ts";

/** The whole budget of calls. */
const ALL = 24;

/** Takes all calls, and returns them at the end of the scope. */
async function takeAll(): Promise<Disposable> {
  assertEquals(await takeCalls(ALL, ALL), ALL);
  return { [Symbol.dispose]: () => returnCalls(ALL) };
}

/** Counts the listeners of a signal. */
function countListeners(signal: AbortSignal): () => number {
  let count = 0;
  const add = signal.addEventListener.bind(signal), remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...given: Parameters<typeof add>) => (count++, add(...given));
  signal.removeEventListener = (...given: Parameters<typeof remove>) => (count--, remove(...given));
  return () => count;
}

Deno.test("takeCalls() leaves no listener on a signal", async () => {
  const { signal } = new AbortController();
  const listeners = countListeners(signal);
  returnCalls(await takeCalls(1, 1, signal));
  assertEquals(listeners(), 0);
  await takeCalls(ALL, ALL);
  for (let turn = 0; turn < 100; turn++) {
    const waiting = takeCalls(1, 1, signal);
    returnCalls(1);
    await waiting;
  }
  returnCalls(ALL);
  assertEquals(listeners(), 0);
});

Deno.test("takeCalls() rejects when its signal is aborted, and leaves the queue without calls", async () => {
  const reason = new Error("no longer wanted");
  {
    using _ = await takeAll();
    const controller = new AbortController();
    const waiting = [takeCalls(3, 3, controller.signal), takeCalls(1, 1, controller.signal)];
    controller.abort(reason);
    for (const one of waiting) assertEquals(await one.catch((error) => error), reason);
    assertEquals(await takeCalls(1, 1, controller.signal).catch((error) => error), reason);
  }
  using _ = await takeAll(); // all calls are available
});

Deno.test("an aborted wait unblocks smaller requests behind it", async () => {
  const controller = new AbortController();
  await takeCalls(ALL - 1, ALL - 1);
  const load = takeCalls(3, 3, controller.signal);
  const writer = takeCalls(1, 1);
  controller.abort(new Error("no longer wanted"));
  await assertRejects(() => load, Error, "no longer wanted");
  assertEquals(await writer, 1);
  returnCalls(ALL);
});

Deno.test("takeCalls() grants calls in the order of requests: writers do not overtake a load", async () => {
  await takeCalls(ALL, ALL);
  const order: string[] = [];
  const writer = async (name: string) => {
    returnCalls(await takeCalls(1, 1));
    order.push(name);
  };
  const first = writer("first");
  const load = takeCalls(3, 20).then((count) => (order.push(`load of ${count}`), returnCalls(count)));
  const second = writer("second");
  for (let call = 0; call < ALL; call++) {
    returnCalls(1); // like sixteen writers that return calls and request them again, one after the other
    await Promise.resolve();
  }
  await Promise.all([first, load, second]);
  assertEquals(order, ["first", "load of 3", "second"]);
});

Deno.test("two copies of the module share one budget", async () => {
  const copy: typeof import("../../../src/load/native/lane_budget.ts") = await import(
    `${new URL("../../../src/load/native/lane_budget.ts", import.meta.url)}?copy`
  );
  await takeCalls(ALL, ALL);
  let isServed = false;
  const waiting = copy.takeCalls(2, 2).then((count) => (isServed = true, count));
  await new Promise((resolve) => setTimeout(resolve));
  assertEquals(isServed, false);
  returnCalls(ALL);
  assertEquals(await waiting, 2);
  copy.returnCalls(2);
  using _ = await takeAll();
});
