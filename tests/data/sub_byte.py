"""Makes sub_byte.json: the F32 bits of every code of F4, F6_E2M3 and F6_E3M2, by ml_dtypes. Needs ml_dtypes 0.6."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

TYPES = {
    "F4": (ml_dtypes.float4_e2m1fn, 16),
    "F6_E2M3": (ml_dtypes.float6_e2m3fn, 64),
    "F6_E3M2": (ml_dtypes.float6_e3m2fn, 64),
}
bits = {
    name: np.arange(count, dtype=np.uint8).view(dtype).astype(np.float32).view(np.uint32).tolist()
    for name, (dtype, count) in TYPES.items()
}
lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in bits.items())
Path(__file__).with_suffix(".json").write_text("{" + lines + "}\n")
