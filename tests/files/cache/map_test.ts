import { assertEquals } from "@std/assert";
import { firstLine, parseMap, rangeLine, syncedLine } from "../../../src/files/cache/map.ts";

const listed = (text: string, size = 100, boot: string | null = "b1") => {
  const map = parseMap(text, size, boot);
  return map && {
    ranges: Array.from(map.ranges, ({ start, stop }) => [start, stop]),
    synced: Array.from(map.synced, ({ start, stop }) => [start, stop]),
  };
};

const FIRST = "fastsafetensors map 1 size=100 boot=b1\n";

Deno.test("a map is text: one line for the file, one for each range, one for each sync", () => {
  assertEquals(firstLine(100, "b1"), FIRST);
  assertEquals(firstLine(100, null), "fastsafetensors map 1 size=100 boot=unknown\n");
  assertEquals(rangeLine(10, 30), "10 20\n");
  assertEquals(syncedLine(2), "synced 2\n");
});

Deno.test("parseMap() counts unsynced ranges only until the system restarts", () => {
  const text = `${FIRST}0 10\n20 5\nsynced 1\n40 10\n`;
  assertEquals(listed(text), { ranges: [[0, 10], [20, 25], [40, 50]], synced: [[0, 10]] });
  assertEquals(listed(text, 100, "b2"), { ranges: [[0, 10]], synced: [[0, 10]] });
  assertEquals(listed(text, 100, null), { ranges: [[0, 10]], synced: [[0, 10]] });
  assertEquals(listed(text.replace("boot=b1", "boot=unknown"), 100, null)?.ranges, [[0, 10]]);
});

Deno.test("parseMap() ignores the rest of a map from the first invalid line on", () => {
  const whole = `${FIRST}0 10\n20 5\n`;
  assertEquals(listed(`${whole}30 4`)?.ranges, [[0, 10], [20, 25]]); // the line has no end
  assertEquals(listed(`${whole}30 \n40 5\n`)?.ranges, [[0, 10], [20, 25]]);
  assertEquals(listed(`${whole}\0\0\0\0\n40 5\n`)?.ranges, [[0, 10], [20, 25]]);
  assertEquals(listed(`${whole}90 11\n40 5\n`)?.ranges, [[0, 10], [20, 25]]); // behind the end of the file
  assertEquals(listed(`${whole}-5 10\n`)?.ranges, [[0, 10], [20, 25]]);
  for (let length = 0; length < whole.length; length++) {
    const cut = listed(whole.slice(0, length));
    const expected = length < FIRST.length ? null : length < FIRST.length + 5 ? [] : [[0, 10]];
    assertEquals(cut?.ranges ?? null, expected, whole.slice(0, length));
  }
});

Deno.test("parseMap() refuses the map of a file of another size, and other files", () => {
  for (
    const text of ["", "\n", "hello\n0 10\n", FIRST.replace("map 1", "map 2"), FIRST.replace("100", "101")]
  ) {
    assertEquals(listed(text), null, text);
  }
});
