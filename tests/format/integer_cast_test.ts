/**
 * Casts between integer dtypes. The values are written down; BigInts of JavaScript check the ranges.
 */
import { assertEquals } from "@std/assert";
import type { IntegerDType } from "../../src/base/dtype.ts";
import { castIntegers, integerAt, integerRange } from "../../src/format/integer_cast.ts";

const RANGES: Readonly<Record<IntegerDType, readonly [bigint, bigint, bytes: number]>> = {
  BOOL: [0n, 1n, 1],
  I8: [-128n, 127n, 1],
  U8: [0n, 255n, 1],
  I16: [-32768n, 32767n, 2],
  U16: [0n, 65535n, 2],
  I32: [-2147483648n, 2147483647n, 4],
  U32: [0n, 4294967295n, 4],
  I64: [-9223372036854775808n, 9223372036854775807n, 8],
  U64: [0n, 18446744073709551615n, 8],
};
const DTYPES = Object.keys(RANGES) as IntegerDType[];

/** Every limit of every dtype, and its neighbours. */
const VALUES = [
  ...new Set(
    Object.values(RANGES).flatMap(([least, most]) => [least, most].flatMap((v) => [v - 1n, v, v + 1n])),
  ),
  ...[2n ** 53n + 1n, 2n ** 63n - 513n, -(2n ** 53n) - 1n, 0x1_8000_0000n, -0x1_8000_0000n, 42n],
];

/** The little-endian bytes of values. */
function bytesOf(dtype: IntegerDType, values: readonly bigint[]): Uint8Array<ArrayBuffer> {
  const [, , size] = RANGES[dtype];
  const bytes = new Uint8Array(values.length * size);
  values.forEach((value, index) => {
    for (let byte = 0; byte < size; byte++) {
      bytes[index * size + byte] = Number(BigInt.asUintN(8, value >> BigInt(8 * byte)));
    }
  });
  return bytes;
}

Deno.test("castIntegers() casts every pair of dtypes, and finds the first value that does not fit", () => {
  for (const from of DTYPES) {
    const [least, most] = RANGES[from];
    const values = VALUES.filter((value) => value >= least && value <= most);
    for (const to of DTYPES) {
      const [min, max, size] = RANGES[to];
      const clamped = values.map((value) => value < min ? min : value > max ? max : value);
      const target = new Uint8Array(values.length * size);
      const first = values.findIndex((value) => value < min || value > max);
      assertEquals(castIntegers(bytesOf(from, values), from, target, to, false), first, `${from} to ${to}`);
      assertEquals(castIntegers(bytesOf(from, values), from, target, to, true), -1);
      assertEquals(target, bytesOf(to, clamped), `${from} to ${to}, saturated`);
      const fitting = values.filter((value) => value >= min && value <= max);
      const exact = new Uint8Array(fitting.length * size);
      assertEquals(castIntegers(bytesOf(from, fitting), from, exact, to, false), -1);
      assertEquals(exact, bytesOf(to, fitting), `${from} to ${to}, in range`);
    }
  }
});

Deno.test("castIntegers() takes every byte of a BOOL except 0 for 1", () => {
  for (const to of DTYPES) {
    const target = new Uint8Array(3 * RANGES[to][2]);
    castIntegers(new Uint8Array([0, 2, 255]), "BOOL", target, to, false);
    if (to !== "BOOL") assertEquals(target, bytesOf(to, [0n, 1n, 1n]), to);
  }
});

Deno.test("integerAt() and integerRange() are exact", () => {
  for (const dtype of DTYPES) {
    const [least, most] = RANGES[dtype];
    assertEquals(integerRange(dtype), [least, most]);
    const bytes = bytesOf(dtype, [least, most, 1n]);
    assertEquals([0, 1, 2].map((index) => integerAt(dtype, bytes, index)), [least, most, 1n]);
  }
});
