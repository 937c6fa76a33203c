/**
 * Slices of a matrix of 16384 × 4096 BF16 (128 MiB) in a lazy model: only their bytes are read.
 */
import { fastsafeOpen, serialize } from "../mod.ts";
import { tempFolder } from "./temp_folder.ts";

const ROWS = 16384, COLUMNS = 4096;
const path = `${tempFolder()}/matrix.safetensors`;
const data = new Uint16Array(ROWS * COLUMNS).fill(0x3f80);
await Deno.writeFile(path, serialize({ matrix: { dtype: "BF16", shape: [ROWS, COLUMNS], data } }));
const model = await fastsafeOpen(path, { lazy: true });

Deno.bench({ name: "all of it", n: 10, warmup: 2 }, async () => {
  await model.getTensor("matrix");
});

Deno.bench({ name: "a quarter of the rows", n: 20, warmup: 2 }, async () => {
  await model.getSlice("matrix", [0, ROWS / 4]);
});

Deno.bench({ name: "a quarter of the columns", n: 20, warmup: 2 }, async () => {
  await model.getSlice("matrix", null, [0, COLUMNS / 4]);
});

Deno.bench({ name: "every 64th row", n: 20, warmup: 2 }, async () => {
  await model.getSlice("matrix", [0, ROWS, 64]);
});

const rows = Array.from({ length: 1000 }, (_, index) => (index * 7919) % 2000); // half of 2,000, in no order

Deno.bench({ name: "1,000 rows of 2,000 by getRows()", n: 20, warmup: 2 }, async () => {
  await model.getRows("matrix", rows);
});

Deno.bench({ name: "1,000 rows of 2,000 by getSlice()", n: 20, warmup: 2 }, async () => {
  await Promise.all(rows.map((row) => model.getSlice("matrix", row)));
});

Deno.bench({ name: "one row", n: 100, warmup: 5 }, async () => {
  await model.getSlice("matrix", 1000);
});
