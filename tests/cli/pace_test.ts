import { assertEquals } from "@std/assert";
import { Pace } from "../../src/cli/pace.ts";
import { drawProgress } from "../../src/cli/progress_bar.ts";

Deno.test("Pace returns no estimate before a second and a hundredth are over, without progress, or at the end", () => {
  const pace = new Pace(1000);
  assertEquals([pace.bytesPerSecond, pace.secondsLeft(1000)], [0, null]);
  pace.add(1900, 90);
  assertEquals([pace.bytesPerSecond, pace.secondsLeft(1000)], [0, null]);
  pace.add(2000, 100);
  assertEquals([pace.bytesPerSecond, pace.secondsLeft(1000)], [100, 9]);
  assertEquals([pace.secondsLeft(10_001), pace.secondsLeft(10_000), pace.secondsLeft(100)], [null, 99, null]);
  const still = new Pace(0);
  still.add(1000, 0);
  assertEquals([still.bytesPerSecond, still.secondsLeft(100)], [0, null]);
});

Deno.test("Pace uses the last three seconds", () => {
  const pace = new Pace(0);
  for (let second = 1; second <= 10; second++) pace.add(second * 1000, second * 100);
  assertEquals(pace.bytesPerSecond, 100);
  assertEquals(pace.secondsLeft(2000)!, 10);
  for (let second = 11; second <= 13; second++) pace.add(second * 1000, 1000 + (second - 10) * 500);
  assertEquals(pace.bytesPerSecond, 500);
  assertEquals(pace.secondsLeft(3000), 1);
  assertEquals(pace.secondsLeft(2500), null);
});

Deno.test("drawProgress() shows bytes, rate and remaining time, and fits in its columns", () => {
  const pace = new Pace(0);
  const draw = (columns: number) => drawProgress("Loading", 1e9, 4e9, pace, columns);
  assertEquals(draw(100), `Loading ${"█".repeat(10)}${"░".repeat(30)} 1.00 GB of 4.00 GB`);
  pace.add(2000, 1e9);
  const text = " 1.00 GB of 4.00 GB, 0.50 GB/s, 6 s left";
  assertEquals(draw(100), `Loading ${"█".repeat(10)}${"░".repeat(30)}${text}`);
  assertEquals(draw(57), `Loading ██░░░░░░${text}`);
  assertEquals(draw(54), `Loading █░░░░${text}`);
  assertEquals(draw(53), `Loading${text}`); // whole parts are left out
  assertEquals(draw(48), `Loading${text}`);
  assertEquals(draw(47), "Loading 1.00 GB of 4.00 GB, 0.50 GB/s");
  assertEquals(draw(37), "Loading 1.00 GB of 4.00 GB");
  assertEquals([draw(26), draw(19), draw(18), draw(8), draw(7)], [
    "1.00 GB of 4.00 GB",
    "1.00 GB of 4.00 GB".slice(0, 18),
    "1.00 GB",
    "1.00 GB",
    "",
  ]);
  assertEquals(
    drawProgress("Loading", 0, 0, new Pace(0), 100),
    `Loading ${"█".repeat(40)} 0 bytes of 0 bytes`,
  );
});
