"""Makes scaled.json: quantized tensors and their scales, as PyTorch computes them on the CPU. Needs PyTorch 2.13.

Dequantizing is `weight.to(torch.float32) * scale`, with the scale repeated over its blocks, and then `.to(dtype)`: what
DeepSeek's fp8_cast_bf16.py, compressed-tensors and Transformers' Fp8Dequantize compute. Quantizing is DeepSeek's
`s = max(abs(x)) / 448; y = x / s`, with the limits of the dtype. All elements are lists of bits; of large tensors the
weight has the codes `(index * 37 + 11) % 256` without NaN, and the results are SHA-256 sums.
"""

import hashlib
import json
from pathlib import Path

import torch

F8 = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}
FLOATS = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16, "F8_E8M0": torch.float8_e8m0fnu}
INTEGERS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}
torch.manual_seed(5)


def bits(tensor):
    return tensor.contiguous().view(INTEGERS[tensor.element_size()]).flatten().tolist()


def digest(tensor):
    return hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def repeated(scale, shape, block):
    """The scale of each element."""
    full = scale.to(torch.float32).reshape([1] * (len(shape) - scale.dim()) + list(scale.shape))
    for dimension, size in enumerate(block):
        full = full.repeat_interleave(size, dimension)
    return full[tuple(slice(0, size) for size in shape)]


def codes(shape, dtype):
    count = torch.Size(shape).numel()
    all_codes = torch.arange(256, dtype=torch.uint8)
    finite = all_codes[all_codes.view(dtype).to(torch.float32).isfinite()]
    index = (torch.arange(count) * 37 + 11) % 256
    picked = all_codes[index]
    bad = ~torch.isin(picked, finite)
    picked[bad] = 0x31
    return picked.view(dtype).reshape(shape)


def dequantized(weight_dtype, shape, scale_dtype, scale_shape, block):
    weight = codes(shape, F8[weight_dtype])
    scale = (torch.randn(scale_shape).abs() * 0.01 + 1e-4).to(FLOATS[scale_dtype])
    rows = scale if scale.dim() != 1 or scale.numel() == 1 else scale.reshape([-1] + [1] * (len(shape) - 1))
    product = weight.to(torch.float32) * repeated(rows, shape, block)
    show = bits if product.numel() <= 100 else digest
    return {
        "dtype": weight_dtype,
        "shape": shape,
        "scaleDtype": scale_dtype,
        "scaleShape": scale_shape,
        "scale": bits(scale),
        **({"block": block[-2:]} if block[-2:] in ([2, 3], [100, 90]) else {}),
        "F32": show(product),
        "BF16": show(product.to(torch.bfloat16)),
        "F16": show(product.to(torch.float16)),
    }


def quantized(dtype, shape, block, kind):
    x = torch.randn(shape) * torch.logspace(-3, 3, shape[-1])
    x.view(-1)[0] = 0
    x[-1] *= 1e-3
    x[:2] = 0
    largest = torch.finfo(F8[dtype]).max
    counts = [-(-size // edge) for size, edge in zip(shape, block)]
    padded = torch.zeros([count * edge for count, edge in zip(counts, block)])
    padded[tuple(slice(0, size) for size in shape)] = x
    parts = padded.reshape([n for pair in zip(counts, block) for n in pair])
    most = parts.abs().amax(dim=list(range(1, 2 * len(shape), 2)))
    scale = most / largest
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    weight = (x / repeated(scale, shape, block)).clamp(-largest, largest).to(F8[dtype])
    return {
        "dtype": dtype,
        "shape": shape,
        "kind": kind,
        "values": bits(x),
        "weight": bits(weight),
        "scaleShape": [1] if kind == "tensor" else list(scale.shape),
        "scale": bits(scale),
    }


result = {
    "dequantized": [
        dequantized("F8_E4M3", [5, 7], "F32", [3, 3], [2, 3]),
        dequantized("F8_E4M3", [130, 140], "F32", [2, 2], [128, 128]),
        dequantized("F8_E5M2", [256, 128], "F32", [2, 1], [128, 128]),
        dequantized("F8_E4M3", [130, 95], "F32", [2, 2], [100, 90]),
        dequantized("F8_E4M3", [6, 4], "BF16", [6, 1], [1, 4]),
        dequantized("F8_E4M3", [6, 4], "F16", [6], [1, 4]),
        dequantized("F8_E4M3", [6, 4], "F32", [1, 4], [6, 1]),
        dequantized("F8_E4M3", [6, 4], "BF16", [1], [6, 4]),
        dequantized("F8_E4M3", [3], "F32", [], [3]),
        dequantized("F8_E4M3", [6, 64], "F32", [6, 2], [1, 32]),
        dequantized("F8_E4M3", [2, 130, 3], "F32", [2, 2, 1], [1, 128, 128]),
        dequantized("F8_E4M3", [3, 2, 4], "F32", [3], [1, 2, 4]),
        dequantized("F8_E4M3", [64, 32], "F8_E8M0", [1, 1], [128, 128]),
        dequantized("F8_E4M3FNUZ", [5, 7], "F32", [3, 3], [2, 3]),
        dequantized("F8_E5M2FNUZ", [4, 3], "F32", [4, 1], [1, 3]),
    ],
    "quantized": [
        quantized("F8_E4M3", [5, 7], [2, 3], {"block": [2, 3]}),
        quantized("F8_E4M3", [5, 7], [1, 7], "row"),
        quantized("F8_E4M3", [5, 7], [5, 1], "column"),
        quantized("F8_E4M3", [5, 7], [5, 7], "tensor"),
        quantized("F8_E5M2", [5, 7], [2, 3], {"block": [2, 3]}),
        quantized("F8_E4M3FNUZ", [5, 7], [1, 7], "row"),
        quantized("F8_E5M2FNUZ", [5, 7], [1, 7], "row"),
        quantized("F8_E4M3", [3, 3, 4], [1, 2, 2], {"block": [2, 2]}),
        quantized("F8_E4M3", [3, 3, 4], [1, 1, 4], "row"),
    ],
}
Path(__file__).with_suffix(".json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
