/**
 * The positions of an output stream's bytes, compared with plain copies: tensors of random sizes, in any order, with
 * and without casts.
 */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { castBytes } from "../../src/format/cast.ts";
import type { DType } from "../../src/base/dtype.ts";
import { OutputStream, type Place } from "../../src/save/output_stream.ts";
import type { OpenOutput } from "../../src/save/write_engine.ts";
import { below, pick, seededRandom } from "../format/mutations.ts";
import { assertBytes, noise } from "../support/models.ts";

const WIDTHS = { F64: 8, F32: 4, F16: 2, F8_E5M2: 1 } as const;
type Float = keyof typeof WIDTHS;

/** A file in memory that records its writes. */
class MemoryOutput implements OpenOutput {
  readonly path = "memory";
  readonly target = "memory";
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly writes: { start: number; stop: number }[] = [];
  readonly #counts: Uint8Array;
  static inFlight = 0;
  static most = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#counts = new Uint8Array(size);
  }

  async write(bytes: Uint8Array<ArrayBuffer>, offset: number, from: DType, to: DType): Promise<void> {
    MemoryOutput.most = Math.max(MemoryOutput.most, ++MemoryOutput.inFlight);
    await new Promise((resolve) => setTimeout(resolve, 0)); // other writes run first
    let result = bytes;
    if (from !== to) {
      result = new Uint8Array(bytes.byteLength / WIDTHS[from as Float] * WIDTHS[to as Float]);
      castBytes(bytes, from, result, to);
    }
    this.bytes.set(result, offset);
    for (let at = offset; at < offset + result.byteLength; at++) this.#counts[at]!++;
    this.writes.push({ start: offset, stop: offset + result.byteLength });
    MemoryOutput.inFlight--;
  }

  /** Fails unless every byte was written once. */
  assertComplete(): void {
    assert(this.#counts.every((count) => count === 1));
  }

  allocate(): Promise<void> {
    return Promise.resolve();
  }
  sync(): Promise<void> {
    return Promise.resolve();
  }
  close(): void {}
}

const SIZES = [0, 1, 3, 511, 1024, 4096 / 8, 40_000, 2 ** 17, 2 ** 18 + 1, 2 ** 20 + 7];

Deno.test("OutputStream writes every byte once at its position, for any order of tensors", async () => {
  const random = seededRandom(7);
  for (let round = 0; round < 8; round++) {
    const outputs: MemoryOutput[] = [];
    const puts: { place: Place; bytes: Uint8Array<ArrayBuffer>; expected: Uint8Array }[] = [];
    for (let file = 0; file < 1 + round % 3; file++) {
      const specs = Array.from({ length: 12 }, () => {
        const from = pick(random, Object.keys(WIDTHS)) as Float;
        const to = random() < 0.5 ? from : pick(random, Object.keys(WIDTHS)) as Float;
        return { from, to, count: pick(random, SIZES), plain: random() < 0.1 };
      }).sort((a, b) => WIDTHS[b.to] - WIDTHS[a.to]);
      let offset = 8 * below(random, 1000);
      const start = offset;
      const parts = specs.map(({ from, to, count }, index) => {
        const bytes = noise(count * WIDTHS[from], round * 100 + index);
        const expected = new Uint8Array(count * WIDTHS[to]);
        castBytes(bytes, from, expected, to);
        const part = { offset, from, to, bytes, expected };
        offset += expected.byteLength;
        return part;
      });
      const output = new MemoryOutput(offset);
      outputs.push(output);
      puts.push({
        place: { output, offset: 0, from: "U8", to: "U8" },
        bytes: new Uint8Array(start),
        expected: new Uint8Array(start),
      });
      for (const { offset, from, to, bytes, expected } of parts) {
        puts.push({ place: { output, offset, from, to }, bytes, expected });
      }
    }
    if (round % 2) puts.sort(() => random() - 0.5);
    const writers = 1 + below(random, 5);
    let written = 0, undone = 0;
    MemoryOutput.most = 0;
    const stream = new OutputStream({
      writers,
      memory: (byteLength) => new Uint8Array(byteLength),
      onWritten: (byteLength) => written += byteLength,
    });
    for (const { place, bytes } of puts) {
      undone++;
      await stream.put(place, bytes, () => undone--);
    }
    await stream.finish();
    assertEquals([undone, written], [0, puts.reduce((sum, { bytes }) => sum + bytes.byteLength, 0)]);
    assert(MemoryOutput.most <= writers);
    for (const output of outputs) output.assertComplete();
    for (const { place, expected } of puts) {
      const { bytes } = place.output as MemoryOutput;
      assertBytes(
        bytes.subarray(place.offset, place.offset + expected.byteLength),
        expected,
        `round ${round}`,
      );
    }
  }
});

Deno.test("OutputStream cuts at page boundaries of the file if tensors arrive in file order", async () => {
  const random = seededRandom(3);
  for (const [from, to] of [["F32", "F32"], ["F32", "F16"], ["F16", "F64"]] as const) {
    const scale = WIDTHS[to] / WIDTHS[from];
    const sizes = [488 / scale, ...Array.from({ length: 60 }, () => pick(random, SIZES) * WIDTHS[from])];
    const output = new MemoryOutput(sizes.reduce((sum, size) => sum + size * scale, 0));
    const memory = (byteLength: number) => new Uint8Array(byteLength);
    const stream = new OutputStream({ writers: 4, memory, onWritten: () => {} });
    let offset = 0;
    for (const size of sizes) {
      await stream.put({ output, offset, from, to }, new Uint8Array(size));
      offset += size * scale;
    }
    await stream.finish();
    output.assertComplete();
    const inner = output.writes.flatMap(({ start, stop }) => [start, stop]).filter((at) =>
      at > 0 && at < offset
    );
    assert(inner.length > 20);
    assertEquals(inner.filter((at) => at % 4096 !== 0), []);
  }
});

Deno.test("OutputStream separates files at equal positions", async () => {
  const outputs = [new MemoryOutput(100), new MemoryOutput(100)];
  const memory = (byteLength: number) => new Uint8Array(byteLength);
  const stream = new OutputStream({ writers: 1, memory, onWritten: () => {} });
  for (let offset = 0; offset < 100; offset += 10) {
    const [even, odd] = offset % 20 ? outputs.toReversed() : outputs;
    await stream.put({ output: even!, offset, from: "U8", to: "U8" }, new Uint8Array(10).fill(1));
    await stream.put({ output: odd!, offset, from: "U8", to: "U8" }, new Uint8Array(10).fill(2));
  }
  await stream.finish();
  for (const [index, output] of outputs.entries()) {
    output.assertComplete();
    const fill = (at: number) => (Math.floor(at / 10) + index) % 2 + 1;
    assertEquals(output.bytes, new Uint8Array(100).map((_, at) => fill(at)));
  }
});

Deno.test("OutputStream buffers bytes at the same offset in a page of memory as in the file", async () => {
  const output = new MemoryOutput(3 * 2 ** 20);
  const blocks = new Set<ArrayBuffer>();
  const memory = (byteLength: number) => {
    const block = new Uint8Array(byteLength);
    blocks.add(block.buffer);
    return block;
  };
  const write = output.write.bind(output);
  let gathered = 0;
  output.write = (bytes, offset, from, to) => {
    if (blocks.has(bytes.buffer)) {
      gathered++;
      assertEquals(bytes.byteOffset % 4096, offset % 4096);
    }
    return write(bytes, offset, from, to);
  };
  const stream = new OutputStream({ writers: 2, memory, onWritten: () => {} });
  let offset = 1001;
  for (const size of [5000, 2 ** 20 + 77, 100_000, 2 ** 20 + 4096, 10]) {
    await stream.put({ output, offset, from: "U8", to: "U8" }, new Uint8Array(size));
    offset += size;
  }
  await stream.put(
    { output, offset, from: "U8", to: "U8" },
    new Uint8Array(output.bytes.byteLength - offset),
  );
  await stream.put({ output, offset: 0, from: "U8", to: "U8" }, new Uint8Array(1001));
  await stream.finish();
  output.assertComplete();
  assert(gathered >= 3);
});

Deno.test("OutputStream gathers small tensors into few writes", async () => {
  const output = new MemoryOutput(9_000_000);
  const stream = new OutputStream({
    writers: 2,
    memory: (byteLength) => new Uint8Array(byteLength),
    onWritten: () => {},
  });
  for (let at = 0; at < 90_000; at++) {
    await stream.put({ output, offset: at * 100, from: "U8", to: "U8" }, new Uint8Array(100));
  }
  await stream.finish();
  output.assertComplete();
  assertEquals(output.writes.length, 3);
});

Deno.test("OutputStream stops at the first failure, and later calls reject with it", async () => {
  const failure = new Error("no");
  const output = new MemoryOutput(2 ** 26);
  let writes = 0;
  output.write = async () => {
    await Promise.resolve();
    if (++writes === 3) throw failure;
  };
  const stream = new OutputStream({
    writers: 2,
    memory: (byteLength) => new Uint8Array(byteLength),
    onWritten: () => {},
  });
  const put = async () => {
    for (let n = 0; n < 8; n++) {
      await stream.put({ output, offset: n * 2 ** 23, from: "U8", to: "U8" }, new Uint8Array(2 ** 23));
    }
  };
  assertEquals(await assertRejects(put), failure);
  assertEquals(await assertRejects(() => stream.finish()), failure);
  await stream.settle();
  assert(writes < 8);
});
