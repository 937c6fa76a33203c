import { assert, assertEquals, assertThrows } from "@std/assert";
import { SafeTensorsError } from "../../src/base/errors.ts";
import { castBytes, castSupported, castTarget, isFloatDType } from "../../src/format/cast.ts";
import { type DType, dtypeBits, DTYPES } from "../../src/base/dtype.ts";

const F8 = ["F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"] as const;
const FLOATS: DType[] = ["F32", "F16", "BF16", "F64", ...F8];

function read(name: string): string {
  return Deno.readTextFileSync(new URL(`../data/${name}`, import.meta.url));
}

interface Casts {
  f32: number[];
  from_f32: Record<string, number[]>;
  f64: string[];
  from_f64: Record<string, number[]>;
}

/** See tests/data/casts.py. */
const casts: Casts = JSON.parse(read("casts.json"));

type Codes =
  | Uint8Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | BigUint64Array<ArrayBuffer>;

function bytesOf(codes: Codes): Uint8Array<ArrayBuffer> {
  return new Uint8Array(codes.buffer);
}

function cast(codes: Codes, from: DType, to: DType): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(codes.length * dtypeBits(to) / 8);
  castBytes(bytesOf(codes), from, target, to);
  return target;
}

/** The elements of `to`, as unsigned integers of their size. */
function castCodes(codes: Codes, from: DType, to: DType): number[] {
  const { buffer } = cast(codes, from, to);
  switch (dtypeBits(to)) {
    case 8:
      return [...new Uint8Array(buffer)];
    case 16:
      return [...new Uint16Array(buffer)];
    default:
      return [...new Uint32Array(buffer)];
  }
}

function allCodes(from: DType): Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> {
  return dtypeBits(from) === 8
    ? Uint8Array.from({ length: 256 }, (_, code) => code)
    : Uint16Array.from({ length: 65536 }, (_, code) => code);
}

const f64Codes = BigUint64Array.from(casts.f64, (hex) => BigInt(`0x${hex}`));

for (const from of ["F16", "BF16"] as const) {
  Deno.test(`castBytes() widens every ${from} to the F32 of the reference`, async () => {
    const digest = await crypto.subtle.digest("SHA-256", cast(allCodes(from), from, "F32"));
    const expected = read(`reference/${from.toLowerCase()}_to_f32.sha256`).trim();
    assertEquals(new Uint8Array(digest).toHex(), expected);
  });
}

for (const from of F8) {
  Deno.test(`castBytes() widens every ${from} to the F32 of the reference`, () => {
    const reference: Record<string, (number | "nan")[]> = JSON.parse(read("reference/f8_to_f32_bits.json"));
    const expected = reference[from]!.map((bits) => bits === "nan" ? 0x7fc00000 : bits);
    assertEquals(castCodes(allCodes(from), from, "F32"), expected);
  });

  Deno.test(`castBytes() narrows F32 to ${from} as PyTorch does`, () => {
    assertEquals(castCodes(Uint32Array.from(casts.f32), "F32", from), casts.from_f32[from]!);
  });
}

for (const to of ["F16", "BF16"] as const) {
  Deno.test(`castBytes() narrows F32 to ${to} to nearest even`, () => {
    const { f32_bits, ...narrow } = JSON.parse(read("reference/f32_narrowing.json"));
    assertEquals(castCodes(Uint32Array.from(f32_bits), "F32", to), narrow[`${to.toLowerCase()}_bits`]);
  });
}

for (const to of FLOATS.filter((dtype) => dtype !== "F64")) {
  Deno.test(`castBytes() rounds F64 to ${to} once`, () => {
    assertEquals(castCodes(f64Codes, "F64", to), casts.from_f64[to]!);
  });
}

Deno.test("castBytes() widens to F64 exactly, with one NaN", () => {
  const singles = Uint32Array.from([
    ...casts.f32,
    0x00000001,
    0x80000001,
    0x007fffff,
    0x3f800001,
    0xff812345,
  ]);
  const expected = Float64Array.from(new Float32Array(singles.buffer));
  const found = new Float64Array(cast(singles, "F32", "F64").buffer);
  assertEquals([...found], [...expected]);
  const codes = new BigUint64Array(found.buffer);
  found.forEach((value, i) => assert(!Number.isNaN(value) || codes[i] === 0x7ff8000000000000n));
});

Deno.test("castBytes() writes every NaN of the wide floats as one code", () => {
  const nans = { F16: [0x7c01, 0xfe00, 0xffff], BF16: [0x7f81, 0xffc0, 0xffff] };
  for (const [from, codes] of Object.entries(nans)) {
    const source = Uint16Array.from(codes);
    assertEquals(castCodes(source, from as DType, "F32"), codes.map(() => 0x7fc00000));
    assertEquals(castCodes(source, from as DType, "F8_E4M3"), [0x7f, 0xff, 0xff]);
  }
  assertEquals(castCodes(Uint32Array.from([0x7f800001, 0xffffffff]), "F32", "F16"), [0x7e00, 0x7e00]);
  assertEquals(castCodes(Uint32Array.from([0x7f800001, 0xffffffff]), "F32", "BF16"), [0x7fc0, 0x7fc0]);
  assertEquals(castCodes(Uint8Array.of(0x7f, 0xff), "F8_E4M3", "F16"), [0x7e00, 0x7e00]);
});

Deno.test("castBytes() between the narrow floats equals a cast through F32", () => {
  for (const from of FLOATS.filter((dtype) => dtypeBits(dtype) <= 16)) {
    // NaNs are left out: a NaN in F8 has the sign of the source, and F32 loses it.
    const wide = new Float32Array(cast(allCodes(from), from, "F32").buffer);
    const codes = allCodes(from).filter((code) => !Number.isNaN(wide[code]!));
    const singles = new Uint32Array(cast(codes, from, "F32").buffer);
    for (const to of FLOATS) {
      if (to !== from) assertEquals(cast(codes, from, to), cast(singles, "F32", to), `${from} to ${to}`);
    }
  }
});

Deno.test("castBytes() accepts views at any alignment and casts more than one piece", () => {
  const count = 20_001;
  const codes = Uint16Array.from({ length: count }, (_, i) => i * 3);
  const expected = cast(codes, "BF16", "F32");
  for (const shift of [1, 3]) {
    const source = new Uint8Array(count * 2 + 8).subarray(shift, shift + count * 2);
    source.set(bytesOf(codes));
    const around = new Uint8Array(count * 4 + 8).fill(0xee);
    const target = around.subarray(shift + 1, shift + 1 + count * 4);
    castBytes(source, "BF16", target, "F32");
    assertEquals(target.slice(), expected);
    assertEquals([around[shift], around[shift + 1 + count * 4]], [0xee, 0xee]);
  }
});

Deno.test("castBytes() to the same dtype copies NaNs unchanged, for every dtype", () => {
  assertEquals(castCodes(Uint32Array.of(0xff800001), "F32", "F32"), [0xff800001]);
  assertEquals(cast(Uint8Array.of(1, 2, 3), "U8", "U8"), Uint8Array.of(1, 2, 3));
  const target = new Uint8Array(3);
  castBytes(Uint8Array.of(1, 2, 3), "F6_E2M3", target, "F6_E2M3");
  assertEquals(target, Uint8Array.of(1, 2, 3));
});

Deno.test("castBytes() accepts empty arrays", () => {
  castBytes(new Uint8Array(0), "F64", new Uint8Array(0), "F8_E8M0");
});

Deno.test("castBytes() rejects lengths that do not match", () => {
  assertThrows(
    () => castBytes(new Uint8Array(5), "BF16", new Uint8Array(10), "F32"),
    RangeError,
    "Cannot cast BF16 to F32: 5 bytes are not a whole number of elements",
  );
  assertThrows(
    () => castBytes(new Uint8Array(6), "BF16", new Uint8Array(16), "F32"),
    RangeError,
    "12 bytes expected in the target, 16 found",
  );
});

Deno.test("castBytes() rejects a cast that does not exist", () => {
  const error = assertThrows(
    () => castBytes(new Uint8Array(8), "I64", new Uint8Array(4), "F32"),
    SafeTensorsError,
    "Cannot cast I64 to F32: only F16, BF16, F32, F64, F8_E5M2",
  );
  assertEquals(error.code, "UnsupportedCast");
});

Deno.test("castSupported() is true for floats in any order, and for equal dtypes", () => {
  for (const from of DTYPES) {
    assertEquals(isFloatDType(from), FLOATS.includes(from), from);
    for (const to of DTYPES) {
      const expected = from === to || (FLOATS.includes(from) && FLOATS.includes(to));
      assertEquals(castSupported(from, to), expected, `${from} to ${to}`);
    }
  }
});

Deno.test("castTarget() turns floats into the wanted dtype and leaves the rest", () => {
  assertEquals(castTarget("F32", "BF16"), "BF16");
  assertEquals(castTarget("F8_E4M3", "F32"), "F32");
  assertEquals(castTarget("BF16", undefined), "BF16");
  for (const from of ["I64", "U8", "BOOL", "C64", "F4", "F6_E2M3", "F6_E3M2"] as const) {
    assertEquals(castTarget(from, "F16"), from);
  }
  for (const wanted of ["I32", "C64", "F4"] as const) {
    assertThrows(() => castTarget("F32", wanted), TypeError, `Cannot cast to "${wanted}"`);
  }
});
