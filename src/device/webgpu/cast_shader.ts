/**
 * The kernels that cast between the float dtypes, with the same bits as src/format/cast.ts.
 *
 * All arithmetic is on integers: a shader's float operations may flush subnormals and round freely, and few GPUs have
 * F64. As in cast.ts, a cast goes through a pivot, the bits of an F32; an F64 is rounded to odd.
 *
 * F4 and F6 are the types of the OCP Microscaling Formats (MX) Specification 1.0: F4 is E2M1; they have neither infinity
 * nor NaN. Elements fill bytes from the lowest bit: the first of two F4 is the low half of its byte, as in PyTorch's
 * `float4_e2m1fn_x2` and in ONNX; four F6 fill three bytes, as one little-endian number.
 */
import { type DType, dtypeBits } from "../../base/dtype.ts";
import { PREAMBLE, WORKGROUP } from "./dispatch.ts";

const HELPERS = `
const INFINITY = 0x7f800000u;
const NAN = 0x7fc00000u;
const MAGNITUDE = 0x7fffffffu;

// The bits of a finite magnitude of a float format as F32.
fn expand(magnitude: u32, mantissa: u32, bias: u32) -> u32 {
  if ((magnitude >> mantissa) != 0u) {
    return (magnitude << (23u - mantissa)) + ((127u - bias) << 23u);
  }
  if (magnitude == 0u) {
    return 0u;
  }
  let top = firstLeadingBit(magnitude);
  return ((top + 128u - bias - mantissa) << 23u) + ((magnitude ^ (1u << top)) << (23u - top));
}

// The nearest code, ties to even, of an F32 magnitude in a format with unlimited exponents.
fn nearest(magnitude: u32, mantissa: u32, bias: u32) -> u32 {
  let drop = 23u - mantissa;
  let firstNormal = 128u - bias;
  let exponent = magnitude >> 23u;
  if (exponent >= firstNormal) {
    let code = magnitude - ((127u - bias) << 23u);
    return (code + (1u << (drop - 1u)) - 1u + ((code >> drop) & 1u)) >> drop;
  }
  // 24 significant bits shifted by 25 are below one half: further shifts do not change the result.
  let shift = min(drop + firstNormal - exponent, 25u);
  let significand = (magnitude & 0x7fffffu) | 0x800000u;
  return (significand + (1u << (shift - 1u)) - 1u + ((significand >> shift) & 1u)) >> shift;
}

fn widenHalf(code: u32) -> u32 {
  let sign = (code & 0x8000u) << 16u;
  let magnitude = code & 0x7fffu;
  if (magnitude < 0x7c00u) {
    return sign | expand(magnitude, 10u, 15u);
  }
  return sign | select(NAN, INFINITY, magnitude == 0x7c00u);
}

fn narrowFnuz(pivot: u32, mantissa: u32, bias: u32) -> u32 {
  let magnitude = pivot & MAGNITUDE;
  if (magnitude >= INFINITY) {
    return 0x80u;
  }
  let code = nearest(magnitude, mantissa, bias);
  if (code > 0x7fu) {
    return 0x80u;
  }
  return select(((pivot >> 24u) & 0x80u) | code, 0u, code == 0u);
}

// Rounds to the next power of two from the midpoint on; below 2^-126, where 2^-127 is the midpoint, from above it.
fn narrowScale(magnitude: u32) -> u32 {
  let exponent = magnitude >> 23u;
  if (exponent == 0xffu) {
    return 0xffu;
  }
  let part = (magnitude & 0x7fffffu) + select(0u, 1u, exponent > 0u);
  return exponent + select(0u, 1u, part > 0x400000u);
}

// The parts of an F64: the fraction cut off after 23 bits, and the lost bits.
struct Double {
  sign: u32,
  exponent: i32,
  fraction: u32,
  lost: u32,
}

fn partsOf(low: u32, high: u32) -> Double {
  let exponent = i32((high >> 20u) & 0x7ffu) - 1023;
  let fraction = ((high & 0xfffffu) << 3u) | (low >> 29u);
  return Double(high & 0x80000000u, exponent, fraction, low & 0x1fffffffu);
}

// The F32 bits of an F64, truncated; the last bit is set if a removed bit was set.
fn toOdd(low: u32, high: u32) -> u32 {
  let wide = partsOf(low, high);
  if (wide.exponent == 1024) {
    return wide.sign | select(NAN, INFINITY, (wide.fraction | wide.lost) == 0u);
  }
  if (wide.exponent > 127) {
    return wide.sign | 0x7f7fffffu;
  }
  if (wide.exponent >= -126) {
    return wide.sign | (u32(wide.exponent + 127) << 23u) | wide.fraction | select(0u, 1u, wide.lost != 0u);
  }
  let shift = u32(min(-126 - wide.exponent, 25));
  let significand = select(wide.fraction | 0x800000u, wide.fraction, wide.exponent == -1023);
  let rest = wide.lost | (significand & ((1u << shift) - 1u));
  return wide.sign | (significand >> shift) | select(0u, 1u, rest != 0u);
}

// The F32 bits nearest to an F64, ties to even.
fn toSingle(low: u32, high: u32) -> u32 {
  let wide = partsOf(low, high);
  if (wide.exponent == 1024) {
    return select(NAN, wide.sign | INFINITY, (wide.fraction | wide.lost) == 0u);
  }
  if (wide.exponent > 127) {
    return wide.sign | INFINITY;
  }
  if (wide.exponent >= -126) {
    let cut = (u32(wide.exponent + 127) << 23u) | wide.fraction;
    return wide.sign | (cut + select(0u, 1u, wide.lost + (cut & 1u) > 0x10000000u));
  }
  if (wide.exponent < -150) {
    return wide.sign;
  }
  let shift = u32(-126 - wide.exponent);
  let significand = wide.fraction | 0x800000u;
  let cut = significand >> shift;
  // Twice the cut-off part, compared with 2^shift; bits lost before can only break a tie.
  let rest = ((significand & ((1u << shift) - 1u)) << 1u) | select(0u, 1u, wide.lost != 0u);
  return wide.sign | (cut + select(0u, 1u, rest + (cut & 1u) > (1u << shift)));
}

// The two words of the F64 that has the value of an F32.
fn toDouble(single: u32) -> vec2u {
  let sign = single & 0x80000000u;
  let magnitude = single & MAGNITUDE;
  if (magnitude > INFINITY) {
    return vec2u(0u, 0x7ff80000u);
  }
  if (magnitude == INFINITY) {
    return vec2u(0u, sign | 0x7ff00000u);
  }
  if (magnitude >= 0x800000u) {
    return vec2u(magnitude << 29u, sign | ((magnitude >> 3u) + (896u << 20u)));
  }
  if (magnitude == 0u) {
    return vec2u(0u, sign);
  }
  let top = firstLeadingBit(magnitude);
  let fraction = (magnitude << (23u - top)) & 0x7fffffu;
  return vec2u(fraction << 29u, sign | ((top + 874u) << 20u) | (fraction >> 3u));
}
`;

/** A float dtype in a shader: the pivot of a code, and the code of a pivot. */
interface ShaderFormat {
  /** An expression for the pivot of `code`. */
  readonly widen: string;
  /** An expression for the code of `pivot`; null if casts to the dtype are not supported. */
  readonly narrow: string | null;
}

const SIGN_OF_BYTE = "((pivot >> 24u) & 0x80u)";
const IS_NAN = "(pivot & MAGNITUDE) > INFINITY";

function subByte(signBit: number, mantissa: number, bias: number): ShaderFormat {
  const sign = 1 << signBit;
  const widen = `((code & ${sign}u) << ${31 - signBit}u) | expand(code & ${
    sign - 1
  }u, ${mantissa}u, ${bias}u)`;
  return { widen, narrow: null };
}

function fnuz(mantissa: number, bias: number): ShaderFormat {
  return {
    widen:
      `select(((code & 0x80u) << 24u) | expand(code & 0x7fu, ${mantissa}u, ${bias}u), NAN, code == 0x80u)`,
    narrow: `narrowFnuz(pivot, ${mantissa}u, ${bias}u)`,
  };
}

const FORMATS: Readonly<Partial<Record<DType, ShaderFormat>>> = {
  F4: subByte(3, 1, 1),
  F6_E2M3: subByte(5, 3, 1),
  F6_E3M2: subByte(5, 2, 3),
  F8_E5M2: {
    widen: "widenHalf(code << 8u)",
    narrow: `${SIGN_OF_BYTE} | select(min(nearest(pivot & MAGNITUDE, 2u, 15u), 0x7cu), 0x7fu, ${IS_NAN})`,
  },
  F8_E4M3: {
    widen: "((code & 0x80u) << 24u) | select(expand(code & 0x7fu, 3u, 7u), NAN, (code & 0x7fu) == 0x7fu)",
    narrow: `${SIGN_OF_BYTE} | select(min(nearest(pivot & MAGNITUDE, 3u, 7u), 0x7eu), 0x7fu, ${IS_NAN})`,
  },
  F8_E8M0: {
    widen: "select(select(code << 23u, 0x00400000u, code == 0u), NAN, code == 0xffu)",
    narrow: "narrowScale(pivot & MAGNITUDE)",
  },
  F8_E4M3FNUZ: fnuz(3, 8),
  F8_E5M2FNUZ: fnuz(2, 16),
  F16: {
    widen: "widenHalf(code)",
    narrow:
      `select(((pivot >> 16u) & 0x8000u) | min(nearest(pivot & MAGNITUDE, 10u, 15u), 0x7c00u), 0x7e00u, ${IS_NAN})`,
  },
  BF16: {
    widen: "code << 16u",
    narrow: `select((pivot + 0x7fffu + ((pivot >> 16u) & 1u)) >> 16u, 0x7fc0u, ${IS_NAN})`,
  },
  F32: { widen: "code", narrow: `select(pivot, NAN, ${IS_NAN})` },
};

/** Statements that return the pivot of `element`. */
function readElement(from: DType, to: DType): string {
  const bits = dtypeBits(from);
  if (from === "F64") {
    const round = to === "F32" ? "toSingle" : "toOdd"; // the narrowing of a pivot must round once
    return `return ${round}(input[element * 2u], input[element * 2u + 1u]);`;
  }
  // Only an F6 can start in one word and end in the next.
  const rest = bits === 6 ? " | select(0u, input[bit / 32u + 1u] << (32u - bit % 32u), bit % 32u > 26u)" : "";
  const mask = bits === 32 ? "" : ` & ${2 ** bits - 1}u`;
  return `let bit = element * ${bits}u;
  let code = ((input[bit / 32u] >> (bit % 32u))${rest})${mask};
  return ${FORMATS[from]!.widen};`;
}

/** The conversion functions of a kernel for a pair. */
function functions(from: DType, to: DType): string {
  const narrow = to === "F64" ? "" : `fn narrow(pivot: u32) -> u32 {
  return ${FORMATS[to]!.narrow};
}`;
  return `${PREAMBLE}${HELPERS}
fn widen(element: u32) -> u32 {
  ${readElement(from, to)}
}
${narrow}`;
}

/** Elements of an invocation: they fill whole words of any target. */
export const GROUP = 4;

/** The kernel for targets that begin at a whole word. Parameters: the first word, and the number of elements. */
export function wordShader(from: DType, to: DType): string {
  const bits = dtypeBits(to);
  const codes = Array.from({ length: GROUP }, (_, k) => {
    const code = to === "F64" ? `widen(element + ${k}u)` : `narrow(widen(element + ${k}u))`;
    return `let code${k} = ${k === 0 ? code : `select(0u, ${code}, ${k}u < left)`};`;
  });
  const perWord = Math.max(1, 32 / bits);
  const words = Array.from({ length: GROUP / perWord }, (_, word) => {
    const parts = Array.from(
      { length: perWord },
      (_, part) => `(code${word * perWord + part} << ${part * bits}u)`,
    );
    const write = to === "F64"
      ? `let double${word} = toDouble(code${word});
    output[first + ${2 * word}u] = double${word}.x;
    output[first + ${2 * word + 1}u] = double${word}.y;`
      : `output[first + ${word}u] = ${parts.join(" | ")};`;
    return word === 0 ? write : `if (${word * perWord}u < left) {
    ${write}
  }`;
  });
  return `${functions(from, to)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let element = id.x * ${GROUP}u;
  if (element >= parameter(1u)) {
    return;
  }
  let left = parameter(1u) - element;
  let first = parameter(0u) + id.x * ${GROUP * bits / 32}u;
  ${codes.join("\n  ")}
  ${words.join("\n  ")}
}
`;
}

/**
 * The kernel for targets that start within a word; each invocation writes one word. Parameters: the first byte, and
 * the number of elements.
 */
export function partShader(from: DType, to: DType): string {
  const bits = dtypeBits(to);
  return `${functions(from, to)}
@compute @workgroup_size(${WORKGROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  var value = 0u;
  var mask = 0u;
  for (var shift = 0u; shift < 32u; shift += ${bits}u) {
    let byte = id.x * 4u + shift / 8u;
    let element = (byte - parameter(0u)) / ${bits / 8}u;
    if (byte >= parameter(0u) && element < parameter(1u)) {
      value |= narrow(widen(element)) << shift;
      mask |= ${2 ** bits - 1}u << shift;
    }
  }
  if (mask != 0u) {
    output[id.x] = (output[id.x] & ~mask) | value;
  }
}
`;
}
