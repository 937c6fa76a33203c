"""Writes the checkpoints of this folder, and beside each what PyTorch itself says is in it.

Run with PyTorch 2.13: python3 generate.py
"""

import collections
import hashlib
import json
import os

import torch

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ",
    torch.float4_e2m1fn_x2: "F4",
}


def contiguous_bytes(tensor):
    tensor = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


def write(name, obj, tensors=None, **options):
    torch.save(obj, f"{name}.pt", **options)
    expected = {}
    for key, tensor in (obj if tensors is None else tensors).items():
        shape = list(tensor.shape)
        if tensor.dtype == torch.float4_e2m1fn_x2:
            shape[-1] *= 2
        digest = hashlib.sha256(contiguous_bytes(tensor)).hexdigest()
        expected[key] = {"dtype": DTYPES[tensor.dtype], "shape": shape, "sha256": digest}
    with open(f"{name}.expected.json", "w") as file:
        json.dump(expected, file, indent=1)
        file.write("\n")


os.chdir(os.path.dirname(os.path.abspath(__file__)))
torch.manual_seed(7)

z = torch.randn(3, 4, dtype=torch.complex64)
y = torch.randn(3, 4, dtype=torch.complex64)
write("lazy", {"conj": z.conj(), "conj_t": z.conj().t()[1:], "neg": y.conj().imag, "real": y.real})

codes = torch.arange(24, dtype=torch.uint8).reshape(4, 6)
eights = ["e4m3fn", "e5m2", "e8m0fnu", "e4m3fnuz", "e5m2fnuz"]
small = {f"float8_{name}": codes.view(getattr(torch, f"float8_{name}")).clone() for name in eights}
small["float4"] = codes.clone().view(torch.float4_e2m1fn_x2)
small["float8_t"] = small["float8_e5m2"].t()
write("small_floats", small)

base = torch.arange(2 * 3 * 4 * 5, dtype=torch.int16).reshape(2, 3, 4, 5)
write(
    "strides",
    {
        "permuted": base.permute(3, 1, 0, 2),
        "sliced": base[:, 1:, ::2, 3],
        "expanded": base[0, :, :1, :1].expand(2, 3, 4, 5),
        "unfolded": base.reshape(-1)[:20].unfold(0, 6, 3),
        "diagonal": base[0, 0].diagonal(),
        "size_one": base[:1, 2:, :, :1].transpose(0, 3),
        "again": base.permute(3, 1, 0, 2),
        "whole": base,
        "wide": torch.randn(7, 9, dtype=torch.float64).t(),
        "complex": torch.randn(4, 6, dtype=torch.complex64)[::2].t(),
        "half": torch.randn(5, 8).to(torch.bfloat16)[:, ::3],
    },
)

parameter = torch.nn.Parameter(torch.randn(3))
parameter.note = "kept by Python alone"
attributed = torch.randn(2)
attributed.note = 1
named = {"parameter": parameter, "attributed": attributed, "buffer": torch.nn.Buffer(torch.randn(2))}
leaves = {
    "size": torch.Size([1, 2]),
    "device": torch.device("cpu"),
    "dtype": torch.complex128,
    "bytes": b"\x00abc",
    "bytearray": bytearray(b"x"),
    "set": {1, 2},
    "complex": 1 + 2j,
    "large": 2**70,
    "negative": -(2**40),
    "float": 1.5,
    "none": None,
    "flag": True,
    "text": "é𝄞",
    "list": [1, 2, [3]],
    "counter": collections.Counter("aab"),
}
nested = {**named, **leaves, "pair": (torch.ones(2), "left out", [torch.zeros(1)]), 5: {"x": torch.ones(1)}}
flat = {**named, "pair.0": nested["pair"][0], "pair.2.0": nested["pair"][2][0], "5.x": nested[5]["x"]}
write("leaves", nested, flat)

model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
optimizer = torch.optim.Adam(model.parameters())
model(torch.randn(5, 4)).sum().backward()
optimizer.step()
training = {"epoch": 2, "state_dict": model.state_dict(), "optimizer": optimizer.state_dict()}
write("training", training, model.state_dict())

write("protocol_4", model.state_dict(), pickle_protocol=4)
write("protocol_4_legacy", model.state_dict(), pickle_protocol=4, _use_new_zipfile_serialization=False)

torch.serialization.set_crc32_options(False)
write("no_checksums", {"x": torch.arange(3)})
