/** Counts turns of the event loop under a clock that does not depend on the machine. */

import { setImmediate } from "node:timers";

/** Runs an action; returns the number of turns of the event loop meanwhile. */
export async function turnsDuring(action: () => Promise<unknown>): Promise<number> {
  let turns = 0, running = true;
  const other = (async () => {
    while (running) {
      await new Promise((resolve) => setImmediate(resolve)); // a timer would need a millisecond
      turns++;
    }
  })();
  await action();
  const during = turns;
  running = false;
  await other;
  return during;
}

/** Each read of the clock advances it by so many milliseconds: tests do not depend on the machine's speed. */
export function clockOfLooks(milliseconds: number): Disposable {
  const { now } = performance;
  let time = performance.now();
  performance.now = () => time += milliseconds;
  return { [Symbol.dispose]: () => void (performance.now = now) };
}
