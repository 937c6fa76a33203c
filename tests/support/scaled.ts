/**
 * The cases of tests/data/scaled.json: quantized tensors, as PyTorch computes them.
 */
import { assertEquals } from "@std/assert";
import { createHash } from "node:crypto";
import type { DType } from "../../src/base/dtype.ts";

/** Bits of elements, or the SHA-256 of their bytes. */
export type Bits = readonly number[] | string;

/** A quantized tensor, and its products with its scale in several dtypes. */
export interface ScaledCase {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly scaleDtype: DType;
  readonly scaleShape: readonly number[];
  readonly scale: readonly number[];
  readonly block?: readonly [number, number];
  readonly F32: Bits;
  readonly BF16: Bits;
  readonly F16: Bits;
}

/** A tensor of F32, and its quantized form. */
export interface QuantizedCase {
  readonly dtype: "F8_E4M3" | "F8_E5M2" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ";
  readonly shape: readonly number[];
  readonly kind: "row" | "column" | "tensor" | { readonly block: readonly [number, number] };
  readonly values: readonly number[];
  readonly weight: readonly number[];
  readonly scaleShape: readonly number[];
  readonly scale: readonly number[];
}

/** Reads the cases. */
export function readScaled(): {
  readonly dequantized: readonly ScaledCase[];
  readonly quantized: readonly QuantizedCase[];
} {
  return JSON.parse(Deno.readTextFileSync(new URL("../data/scaled.json", import.meta.url)));
}

/** The little-endian bytes of bits. */
export function toBytes(bits: readonly number[], dtype: DType): Uint8Array<ArrayBuffer> {
  const type = dtype === "F32" ? Uint32Array : dtype.startsWith("F8") ? Uint8Array : Uint16Array;
  return new Uint8Array(new type(bits).buffer);
}

/** The weight of a case: the codes that the script makes, without those that are infinite or NaN. */
export function codesOf(dtype: DType, shape: readonly number[]): Uint8Array<ArrayBuffer> {
  const count = shape.reduce((product, size) => product * size, 1);
  const isFinite = (code: number) => {
    if (dtype === "F8_E4M3") return (code & 0x7f) !== 0x7f;
    if (dtype === "F8_E5M2") return (code & 0x7f) < 0x7c;
    return code !== 0x80;
  };
  return Uint8Array.from({ length: count }, (_, index) => {
    const code = (index * 37 + 11) % 256;
    return isFinite(code) ? code : 0x31;
  });
}

/** Fails unless bytes are the expected elements. */
export function assertScaled(bytes: Uint8Array<ArrayBuffer>, expected: Bits, dtype: DType): void {
  if (typeof expected === "string") {
    assertEquals(createHash("sha256").update(bytes).digest("hex"), expected);
  } else {
    assertEquals(bytes, toBytes(expected, dtype));
  }
}
