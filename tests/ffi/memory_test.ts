import { assert, assertEquals } from "@std/assert";
import { openLibrary } from "../../ffi/library.ts";
import { type MemoryRange, newRanges, withHugePages } from "../../ffi/memory.ts";
import { advisedBytes } from "../support/process.ts";
import { suite } from "../support/skip.ts";

const MIB = 2 ** 20;

Deno.test("newRanges() returns the memory that is mapped now and was not before", () => {
  const cases: [earlier: [number, number][], later: [number, number][], expected: [number, number][]][] = [
    [[], [], []],
    [[[1, 5]], [], []],
    [[], [[1, 5], [7, 9]], [[1, 5], [7, 9]]],
    [[[1, 5]], [[1, 5]], []],
    [[[3, 5]], [[1, 9]], [[1, 3], [5, 9]]], // a neighbour on each side
    [[[1, 3], [5, 7]], [[1, 7]], [[3, 5]]], // memory between two ranges
    [[[1, 3], [4, 6], [8, 20]], [[2, 9], [12, 15], [18, 25]], [[3, 4], [6, 8], [20, 25]]],
    [[[1, 10]], [[2, 3], [4, 5], [9, 12]], [[10, 12]]], // parts were freed
    [[[30, 40]], [[1, 5], [10, 31]], [[1, 5], [10, 30]]],
  ];
  const big = (ranges: [number, number][]) => ranges.map(([a, b]): MemoryRange => [BigInt(a), BigInt(b)]);
  for (const [earlier, later, expected] of cases) {
    assertEquals(newRanges(big(earlier), big(later)), big(expected), JSON.stringify([earlier, later]));
  }
});

const library = await openLibrary();
const { shim } = library;

suite("withHugePages()", "native", shim ? null : "there is no native library", () => {
  const libc = () =>
    Deno.dlopen("libc.so.6", {
      mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
      munmap: { parameters: ["usize", "usize"], result: "i32" },
    });

  Deno.test("withHugePages() requests huge pages only for memory that is mapped during the call", async () => {
    const system = libc();
    const { mmap, munmap } = system.symbols;
    const map = (length: number) => mmap(0n, BigInt(length), 3, 0x22, -1, 0n); // like malloc
    const mapped: [bigint, number][] = [];
    const advised = async () =>
      await Promise.all(mapped.map(([start, length]) => advisedBytes(Number(start), length)));
    try {
      mapped.push([map(64 * MIB), 64 * MIB]);
      mapped.push([withHugePages(shim!, () => map(48 * MIB)), 48 * MIB]);
      mapped.push([withHugePages(shim!, () => map(MIB)), MIB]); // no room for a huge page
      const [before, large, small] = await advised();
      assertEquals([before, small], [0, 0]);
      assert(large! > 44 * MIB && large! <= 48 * MIB, `${large} of 48 MiB`);
    } finally {
      for (const [start, length] of mapped) munmap(start, BigInt(length));
      system.close();
    }
  });

  Deno.test("withHugePages() returns the result of the call, and throws its error", () => {
    assertEquals(withHugePages(shim!, () => "result"), "result");
    let caught;
    try {
      withHugePages(shim!, () => {
        throw new TypeError("no memory");
      });
    } catch (error) {
      caught = error;
    }
    assertEquals(String(caught), "TypeError: no memory");
  });
});
