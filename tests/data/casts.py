"""Makes casts.json, the casts that other implementations agree on. Needs PyTorch 2.13 and NumPy.

F32 to the F8 dtypes, and F64 to F32, are what PyTorch's `.to(dtype)` gives; F64 to F16 is NumPy's `astype`.
PyTorch takes F64 to the other dtypes by way of F32 and so rounds twice: for those, the nearest of all values
of the dtype is searched with exact fractions.
"""

import json
import random
import struct
from bisect import bisect_left
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

F8 = {
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
random.seed(7)


def bits_of(value):
    return struct.unpack("<Q", struct.pack("<d", value))[0]


def fraction_of(bits):
    return Fraction(struct.unpack("<d", struct.pack("<Q", bits))[0])


def decode(codes, dtype):
    values = torch.tensor(codes, dtype=torch.uint8 if dtype in F8.values() else torch.uint16).view(dtype)
    return values.to(torch.float32).tolist()


def from_bits(bits, integer, floating):
    return torch.from_numpy(np.array(bits, dtype=integer).view(floating))


def f32_list():
    """Values of every F8 and points half way between two of them, each with its neighbours, both signs.

    All of the twelve smallest, every fifth of the others, and what lies beyond the largest.
    """
    bits = {0x00000000, 0x00000001, 0x00400000, 0x007FFFFF, 0x7F7FFFFF}
    bits |= {0x7F800000, 0x7F800001, 0x7FC00000, 0x7FFFFFFF}
    for name, dtype in F8.items():
        codes = range(0, 255, 9) if name == "F8_E8M0" else range(0x80)
        values = [v for v in decode(list(codes), dtype) if np.isfinite(v)]
        points = values[-1:] + [values[-1] * k for k in (1.03125, 1.0625, 1.125, 1.5)]
        points += values[:12] + values[12::5]
        points += [(a + b) / 2 for a, b in zip(values[:12], values[1:])]
        points += [(a + b) / 2 for a, b in list(zip(values[12:], values[13:]))[::5]]
        for point in points:
            with np.errstate(over="ignore"):
                center = int(np.float32(point).view(np.uint32))
            bits.update(b for b in (center - 1, center, center + 1) if 0 <= b <= 0x7F800000)
    bits = sorted(bits)
    return bits + [0x80000000 | b for b in bits]


def f64_list():
    """What rounds differently by way of F32, the edges of every dtype, and some of everything."""
    values = [0.0, 5e-324, 2.0**-1022, 1.7976931348623157e308, float("inf"), 2.0**-150, 2.0**-149, 2.0**-126]
    values += [3.4028234663852886e38, 2.0**128 - 2.0**103, 2.0**128]
    values += [65504.0, 65520.0, 2.0**-24, 2.0**-25, 2.0**-14, 1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-24]
    values += [1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.3895313892515355e38, 3.3961775292304601e38]
    values += [57344.0, 61440.0, 448.0, 464.0, 480.0, 240.0, 248.0, 1.0625, 1.1875, 1.125, 1.375, 1.5]
    values += [2.0**-k for k in (9, 10, 11, 17, 18, 127, 133, 134)]
    values += [1.5 * 2.0**-127, 1.5 * 2.0**127, 2.0**127]
    around = []
    for value in values:
        center = bits_of(value)
        around += [center, center + 1] + ([center - 1] if center else [])
    around += [0x7FF0000000000001, 0x7FF8000000000000, 0x7FFFFFFFFFFFFFFF]
    for low, high in ((-1074, 1023), (-152, -120), (-30, 20)):
        around += [bits_of(random.uniform(1, 2) * 2.0 ** random.randint(low, high)) for _ in range(40)]
    around = list(dict.fromkeys(around))
    return around + [b | 1 << 63 for b in around]


def nearest(name, dtype, largest, overflow, nan):
    """A function from the bits of an F64 to the code of a format whose finite magnitudes are 0 … largest.

    `overflow` and `nan` are given the sign and return the code for what is too large, and for NaN.
    """
    codes = list(range(largest + 1))
    values = [Fraction(v) for v in decode(codes, dtype)]
    successor = values[-1] + (values[-1] - values[-2])

    def convert(bits):
        sign, magnitude = bits >> 63, bits & ~(1 << 63)
        if magnitude > 0x7FF0000000000000:
            return nan(sign)
        x = None if magnitude == 0x7FF0000000000000 else fraction_of(magnitude)
        middle = (values[-1] + successor) / 2
        if x is None or x > middle or (x == middle and largest % 2 == 1):
            return overflow(sign)
        i = min(bisect_left(values, x), largest)
        if values[i] > x:
            below, above = x - values[i - 1], values[i] - x
            if below < above or (below == above and i % 2 == 1):
                i -= 1
        if i == 0 and name.endswith("FNUZ"):
            return 0
        return i | sign << (15 if name == "BF16" else 7)

    return convert


def e8m0(bits):
    """The nearest power of two, a tie up; beyond 2^-127 that power is 2^-126, as PyTorch has it for F32."""
    magnitude = bits & ~(1 << 63)
    if magnitude >= 0x7FF0000000000000:
        return 255
    x = fraction_of(magnitude)
    if x <= Fraction(2) ** -127:
        return 0
    code = 1
    while code < 255 and x >= Fraction(3, 2) * Fraction(2) ** (code - 127):
        code += 1
    return code


def main():
    f32, f64 = f32_list(), f64_list()
    singles = from_bits(f32, np.uint32, np.float32)
    doubles = from_bits(f64, np.uint64, np.float64)
    with np.errstate(over="ignore"):
        halves = doubles.numpy().astype(np.float16).view(np.uint16)
    to_f32 = doubles.to(torch.float32).numpy().view(np.uint32)
    top_codes = {
        "BF16": (torch.bfloat16, 0x7F7F, lambda s: 0x7F80 | s << 15, lambda s: 0x7FC0),
        "F8_E5M2": (F8["F8_E5M2"], 0x7B, lambda s: 0x7C | s << 7, lambda s: 0x7F | s << 7),
        "F8_E4M3": (F8["F8_E4M3"], 0x7E, lambda s: 0x7E | s << 7, lambda s: 0x7F | s << 7),
        "F8_E4M3FNUZ": (F8["F8_E4M3FNUZ"], 0x7F, lambda s: 0x80, lambda s: 0x80),
        "F8_E5M2FNUZ": (F8["F8_E5M2FNUZ"], 0x7F, lambda s: 0x80, lambda s: 0x80),
    }
    exact = {name: nearest(name, *codes) for name, codes in top_codes.items()}
    exact["F8_E8M0"] = e8m0
    nans = np.isnan(doubles.numpy())
    casts = {
        "f32": f32,
        "from_f32": {name: singles.to(dtype).view(torch.uint8).tolist() for name, dtype in F8.items()},
        "f64": [f"{bits:016x}" for bits in f64],
        "from_f64": {
            "F32": np.where(nans, 0x7FC00000, to_f32).tolist(),
            "F16": np.where(nans, 0x7E00, halves).tolist(),
            **{name: [convert(bits) for bits in f64] for name, convert in exact.items()},
        },
    }
    # Where going by way of F32 loses nothing, PyTorch must agree with the search.
    lossless = (to_f32.view(np.float32).astype(np.float64) == doubles.numpy()) | nans
    for name, dtype in F8.items():
        direct = doubles.to(dtype).view(torch.uint8).numpy()
        assert (direct == np.array(casts["from_f64"][name]))[lossless].all(), name
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in casts.items())
    Path(__file__).with_suffix(".json").write_text("{" + lines + "}\n")


main()
