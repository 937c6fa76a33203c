/**
 * The number of waits for the queue, with queues that do not need a device.
 */
import { assertEquals } from "@std/assert";
import { Backlog } from "../../src/device/webgpu/backlog.ts";
import { PIECE } from "../../src/device/webgpu/pieces.ts";

/** A queue whose waits block the event loop for so many milliseconds, on a clock that only waits advance. */
class HoldingQueue implements Disposable {
  waits = 0;
  readonly #now = performance.now;
  #clock = 0;

  constructor(
    readonly milliseconds: number,
    readonly end: () => Promise<undefined> = () => Promise.resolve(undefined),
  ) {
    performance.now = () => this.#clock;
  }

  onSubmittedWorkDone(): Promise<undefined> {
    this.waits++;
    this.#clock += this.milliseconds;
    return this.end();
  }

  backlog(): Backlog {
    return new Backlog(this as unknown as GPUQueue);
  }

  [Symbol.dispose](): void {
    performance.now = this.#now;
  }
}

Deno.test("Backlog waits rarely for a fast queue", async () => {
  using queue = new HoldingQueue(0);
  const backlog = queue.backlog();
  for (let piece = 0; piece < 64; piece++) await backlog.add(PIECE);
  assertEquals(queue.waits, 4);
  await backlog.settled();
  assertEquals(queue.waits, 5);
});

Deno.test("Backlog waits for a slow queue after every piece", async () => {
  using queue = new HoldingQueue(6);
  const backlog = queue.backlog();
  for (let piece = 0; piece < 16 + 8 + 4 + 2 + 1; piece++) await backlog.add(PIECE);
  assertEquals(queue.waits, 5);
  for (let piece = 0; piece < 3; piece++) await backlog.add(PIECE);
  assertEquals(queue.waits, 8);
});

Deno.test("Backlog ends with a lost device, without another error", async () => {
  using queue = new HoldingQueue(0, () => Promise.reject(new Error("the device was lost")));
  const backlog = queue.backlog();
  for (let piece = 0; piece < 32; piece++) await backlog.add(PIECE);
  await new Promise((resolve) => setTimeout(resolve, 1)); // the rejection was not handled yet
  await backlog.settled();
  assertEquals(queue.waits, 3);
});
