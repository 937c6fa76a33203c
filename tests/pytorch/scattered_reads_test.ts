import { assert, assertEquals, assertRejects } from "@std/assert";
import { type ByteReader, type FileRange, readScattered } from "../../src/pytorch/bytes.ts";
import { memoryReader } from "./support.ts";

async function offsetsSeen(reader: ByteReader, ranges: FileRange[]): Promise<number[]> {
  const seen: number[] = [];
  await readScattered(reader, ranges, (bytes, index) => {
    assertEquals(bytes.length, ranges[index]!.length);
    seen[index] = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  });
  return seen;
}

/** A file whose u32 at each multiple of four is its own offset. */
function offsets(length: number): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: length / 4 }, (_, i) => i * 4).buffer);
}

Deno.test("readScattered() reads near ranges with one read", async () => {
  const ranges = Array.from({ length: 1000 }, (_, i) => ({ offset: i * 500, length: 8 }));
  const reader = memoryReader(offsets(500_000));
  assertEquals(await offsetsSeen(reader, ranges), ranges.map(({ offset }) => offset));
  assertEquals(reader.reads.length, 1);
});

Deno.test("readScattered() skips large gaps between ranges", async () => {
  const ranges = Array.from({ length: 40 }, (_, i) => ({ offset: i * 80_000, length: 16 }));
  const reader = memoryReader(offsets(3_200_000));
  assertEquals(await offsetsSeen(reader, ranges), ranges.map(({ offset }) => offset));
  assertEquals(reader.reads.length, 40);
  assert(reader.reads.every(([, length]) => length === 16));
});

Deno.test("readScattered() waits for its reads before it rejects", async () => {
  const ranges = Array.from({ length: 5 }, (_, i) => ({ offset: i * 80_000, length: 16 }));
  let pending = 0;
  const reader: ByteReader = {
    path: "broken.pt",
    size: 400_000,
    async read(offset, length) {
      pending++;
      for (let turns = offset / 80_000; turns >= 0; turns--) await Promise.resolve();
      pending--;
      if (offset === 0) throw new Error("no such luck");
      return new Uint8Array(length);
    },
  };
  await assertRejects(() => readScattered(reader, ranges, () => {}), Error, "no such luck");
  assertEquals(pending, 0);
});

Deno.test("readScattered() reads at most 1 MiB per call, and eight in parallel", async () => {
  const size = 20 * 2 ** 20;
  const ranges = Array.from({ length: size / 40_000 | 0 }, (_, i) => ({ offset: i * 40_000, length: 100 }));
  const inner = memoryReader(offsets(size));
  let [atOnce, most] = [0, 0];
  const reader: ByteReader = {
    ...inner,
    async read(offset, length) {
      most = Math.max(most, ++atOnce);
      await Promise.resolve();
      atOnce--;
      return inner.read(offset, length);
    },
  };
  assertEquals(await offsetsSeen(reader, ranges), ranges.map(({ offset }) => offset));
  assert(inner.reads.every(([, length]) => length <= 2 ** 20));
  assert(most <= 8, `${most} reads at once`);
});
