"""Writes the checkpoints of this folder, and beside each what PyTorch itself says is in it.

Run with PyTorch 2.13: python3 generate.py
"""

import argparse
import collections
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import zipfile

import numpy as np
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
    torch.uint16: "U16",
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
    describe(name, obj if tensors is None else tensors)


def describe(name, tensors):
    expected = {}
    for key, tensor in tensors.items():
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

torch.serialization.set_crc32_options(True)


class AttributeDict(dict):
    pass


@dataclasses.dataclass
class Settings:
    rate: float
    weight: torch.Tensor


log = collections.defaultdict(list, loss=[0.5, 0.25])
attributes = AttributeDict(width=3, mean=torch.ones(2))
attributes.note = "an attribute"
inert = {
    "w": torch.arange(3.0),
    "scalar": np.float64(0.9),
    "array": np.arange(3),
    "dtype": np.dtype("float32"),
    "namespace": argparse.Namespace(lr=1),
    "date": datetime.datetime(2024, 1, 2),
    "path": pathlib.PurePosixPath("a/b"),
    "function": torch.nn.functional.relu,
    "class": Settings,
    "settings": Settings(0.1, torch.zeros(2)),
    "log": log,
    "hparams": AttributeDict(width=3),
    "attributes": attributes,
    "queue": collections.deque([torch.full((2,), 7.0), 1]),
    "set": {1, 2},
    "frozenset": frozenset("a"),
    "bytes": b"\x00\xff",
    "bytearray": bytearray(b"x"),
    "range": range(3),
    "slice": slice(1, 2),
    "huge": 1 << 3000,
    "surrogate": "a\ud800b",
    "random": torch.get_rng_state()[:8],
}
kept = {"w": inert["w"], "attributes.mean": attributes["mean"], "queue.0": inert["queue"][0], "random": inert["random"]}
write("inert", inert, kept)
for protocol in [1, 3, 4, 5]:
    # Shared by all protocols; what differs is how Python writes it.
    write(f"inert_{protocol}", inert, kept, pickle_protocol=protocol)
write("inert_legacy", inert, kept, _use_new_zipfile_serialization=False)
write("inert_legacy_1", inert, kept, _use_new_zipfile_serialization=False, pickle_protocol=1)

odd = [(1, "a"), (2,), 0.5, 1e16, float("nan"), b"k'\x01", True, None, 1 << 70, torch.bfloat16, 3]
keys = {"left": {key: 1 for key in odd}, "named": {key: torch.full((1,), float(i)) for i, key in enumerate(odd)}}
write("keys", keys, {f"named.{key}": tensor for key, tensor in keys["named"].items()})

eight = torch.arange(8, dtype=torch.uint8).view(torch.float8_e4m3fn)
sixteen = torch.arange(4, dtype=torch.int16).view(torch.uint16)
shared = {"f8": eight, "f8_bytes": eight.view(torch.uint8), "u16": sixteen, "u16_bytes": sixteen.view(torch.uint8)}
write("two_dtypes", shared)

write("bare", torch.arange(6.0).reshape(2, 3), {"bare": torch.arange(6.0).reshape(2, 3)})
write("bare_parameter", torch.nn.Parameter(torch.ones(2)), {"bare_parameter": torch.ones(2)})

containers = {
    "string_to_token": {"*": 265},
    "string_to_param": torch.nn.ParameterDict({"*": torch.randn(2, 3)}),
    "list": torch.nn.ParameterList([torch.randn(2), torch.randn(1)]),
}
write(
    "parameter_containers",
    containers,
    {
        "string_to_param.*": containers["string_to_param"]["*"],
        "list.0": containers["list"][0],
        "list.1": containers["list"][1],
    },
)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.ReLU(), torch.nn.BatchNorm1d(2))
        self.register_buffer("passing", torch.ones(2), persistent=False)
        self.register_buffer("absent", None)
        self.scale = torch.nn.Parameter(torch.randn(2))
        self.plain = torch.zeros(5)


net = Net()
write("module", net, net.state_dict())
write("module_legacy", net, net.state_dict(), _use_new_zipfile_serialization=False)
write("module_within", {"epoch": 3, "model": net}, {f"model.{k}": v for k, v in net.state_dict().items()})

refused = {
    "w": torch.arange(4.0),
    "complex128": torch.ones(2, dtype=torch.complex128),
    "complex32": torch.ones(2, dtype=torch.complex32),
    "quantised": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.qint8),
    "sparse": torch.eye(2).to_sparse(),
    "csr": torch.eye(2).to_sparse_csr(),
    "nested": torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
    "meta": torch.ones(2, device="meta"),
    "storage": torch.ones(3).untyped_storage(),
    "uninitialised": torch.nn.UninitializedParameter(),
}
write("refused", refused, {"w": refused["w"]})

ema = {name: tensor * 2 for name, tensor in model.state_dict().items()}
roots = {"state_dict": model.state_dict(), "state_dict_ema": ema, "optimizer": optimizer.state_dict(), "epoch": 3}
write("roots", roots, roots["state_dict"])
describe("roots_ema", ema)

deep = {"w": torch.ones(1)}
for _ in range(400):
    deep = {"a": deep}
write("deep", deep, {"a." * 400 + "w": torch.ones(1)})

with zipfile.ZipFile("training.pt") as stored, zipfile.ZipFile("deflated.pt", "w", zipfile.ZIP_DEFLATED) as deflated:
    for name in stored.namelist():
        deflated.writestr(zipfile.ZipInfo(name), stored.read(name), zipfile.ZIP_DEFLATED)
describe("deflated", torch.load("training.pt")["state_dict"])
