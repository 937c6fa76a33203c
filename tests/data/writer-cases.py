"""Makes writer-cases.json: headers as the reference implementation writes them. Needs safetensors 0.8.0.

The binding writes every dtype but F6_E2M3 and F6_E3M2; those are in reference/all_dtypes.safetensors.
"""

import base64
import ctypes
import json
import math
from pathlib import Path

from safetensors import TensorSpec, serialize

DTYPES = {
    "BOOL": ("bool", 8),
    "F4": ("float4_e2m1fn_x2", 4),
    "U8": ("uint8", 8),
    "I8": ("int8", 8),
    "F8_E5M2": ("float8_e5m2", 8),
    "F8_E4M3": ("float8_e4m3fn", 8),
    "F8_E8M0": ("float8_e8m0fnu", 8),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 8),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 8),
    "I16": ("int16", 16),
    "U16": ("uint16", 16),
    "F16": ("float16", 16),
    "BF16": ("bfloat16", 16),
    "I32": ("int32", 32),
    "U32": ("uint32", 32),
    "F32": ("float32", 32),
    "C64": ("complex64", 64),
    "F64": ("float64", 64),
    "I64": ("int64", 64),
    "U64": ("uint64", 64),
}

CASES = {
    "no tensors": ({}, None),
    "one tensor": ({"a": ("F32", [2, 3])}, None),
    "empty metadata": ({"a": ("U8", [1])}, {}),
    "metadata with escapes": ({"a": ("U8", [1])}, {'k"\\/': "\b\f\n\r\t\x00\x1f\x7fé\u2028😀"}),
    "metadata without tensors": ({}, {"format": "pt"}),
    "every dtype": ({f"t{i}": (dtype, [2, 4]) for i, dtype in enumerate(DTYPES)}, None),
    "names in the order of their UTF-8 bytes": (
        {name: ("F16", [1]) for name in ["😀", "\uffff", "\ue000", "\ud7ff", "é", "b", "a.10", "a.9", "a", ""]},
        None,
    ),
    "names with escapes": ({name: ("I8", []) for name in ['"', "\\", "/", "\n", "\x00", "\x7f", "\u2028"]}, None),
    "scalars and empty tensors": (
        {"s": ("I64", []), "e": ("I64", [0]), "f": ("I64", [3, 0, 2]), "m": ("BF16", [1, 1]), "z": ("BOOL", [0])},
        None,
    ),
    "no padding needed": ({"abcd": ("U8", [1])}, None),
}

data = ctypes.create_string_buffer(1 << 12)
cases = []
for name, (tensors, metadata) in CASES.items():
    specs = {}
    for key, (dtype, shape) in tensors.items():
        binding, bits = DTYPES[dtype]
        # The binding counts pairs of F4 elements in the last dimension.
        stored = [*shape[:-1], shape[-1] // 2] if dtype == "F4" else shape
        size = math.prod(shape) * bits // 8
        specs[key] = TensorSpec(dtype=binding, shape=stored, data_ptr=ctypes.addressof(data), data_len=size)
    file = bytes(serialize(specs, metadata))
    header = file[: 8 + int.from_bytes(file[:8], "little")]
    cases.append(
        {
            "name": name,
            "tensors": [{"name": key, "dtype": dtype, "shape": shape} for key, (dtype, shape) in tensors.items()],
            "metadata": metadata,
            "header": base64.b64encode(header).decode(),
        }
    )
Path(__file__).with_suffix(".json").write_text(json.dumps(cases, indent=1) + "\n")
