import { assertEquals } from "@std/assert";
import * as zlib from "node:zlib";
import { crc32 } from "../../src/pytorch/crc32.ts";

Deno.test("crc32() gives the check value of the standard", () => {
  assertEquals(crc32(new TextEncoder().encode("123456789")), 0xcbf43926);
});

Deno.test("crc32() agrees with zlib for every length up to 100", () => {
  for (let length = 0; length <= 100; length++) {
    const bytes = Uint8Array.from({ length }, (_, i) => i * 151 + length);
    assertEquals(crc32(bytes), zlib.crc32(bytes));
  }
});
