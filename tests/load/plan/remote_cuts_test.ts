/**
 * Cuts of plans of files on servers.
 */
import { assertEquals } from "@std/assert";
import type { SourceFile } from "../../../src/files/source.ts";
import { remoteCuts } from "../../../src/load/remote_cuts.ts";

const MIB = 2 ** 20;

/** A file with a size and a way of its bytes. */
function file(
  size: number,
  way: "http" | "cache" | null,
  cached?: readonly (readonly [number, number])[],
): SourceFile {
  const cache = cached && {
    *pieces(offset: number, length: number) {
      let at = offset;
      for (const [start, stop] of cached) {
        if (stop <= at || start >= offset + length) continue;
        if (start > at) yield { start: at, stop: start, has: false };
        yield { start: Math.max(at, start), stop: Math.min(stop, offset + length), has: true };
        at = stop;
      }
      if (at < offset + length) yield { start: at, stop: offset + length, has: false };
    },
  };
  return { size, way: () => way, ...cache && { cache } } as unknown as SourceFile;
}

/** Cuts [0, size) of a file into blocks of 8 MiB and at the cuts; returns the lengths. */
function lengths(files: readonly SourceFile[], number: number): number[] {
  const cut = remoteCuts(files)!;
  const { size } = files[number]!;
  const result: number[] = [];
  for (let at = 0; at < size;) {
    const next = cut(number, at, Math.min(size, at + 8 * MIB));
    result.push(next - at);
    at = next;
  }
  return result;
}

Deno.test("remoteCuts() leaves plans of local files as they are", () => {
  assertEquals(remoteCuts([file(1000 * MIB, null), file(1000 * MIB, "cache")]), undefined);
});

Deno.test("remoteCuts() makes the first 16 segments of a large load short", () => {
  assertEquals(lengths([file(128 * MIB, "http")], 0), [...Array(16).fill(MIB), ...Array(14).fill(8 * MIB)]);
});

Deno.test("remoteCuts() leaves a small load and local files beside remote ones as they are", () => {
  assertEquals(lengths([file(20 * MIB, "http")], 0), [8 * MIB, 8 * MIB, 4 * MIB]);
  assertEquals(lengths([file(120 * MIB, "http"), file(10 * MIB, null)], 1), [8 * MIB, 2 * MIB]);
});

Deno.test("remoteCuts() cuts where a cache begins and ends to have the bytes", () => {
  const cached = [[0, 3 * MIB], [5 * MIB, 5 * MIB + 100]] as const;
  assertEquals(lengths([file(10 * MIB, "http", cached)], 0), [3 * MIB, 2 * MIB, 100, 5 * MIB - 100]);
  const [first, second, third] = lengths([file(200 * MIB, "http", cached)], 0);
  assertEquals([first, second, third], [3 * MIB, MIB, MIB], "bytes of the cache are not cut further");
});
