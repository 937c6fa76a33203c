"""The contenders in Python that load to a GPU.

peers.py probe                      prints which can be imported where torch sees a GPU, as JSON: "found", name ->
                                    version, and "missing", name -> reason
peers.py save FILE...               saves the tensors of each file by torch.save, as FILE.pt
peers.py NAME [--nogds] FILE...     loads the files into fresh memory of the first GPU and prints a sample as JSON
"""

import importlib
import json
import sys
import time


def probe():
    names = ("torch", "safetensors", "fastsafetensors")
    found, missing = {}, {}
    try:
        torch = importlib.import_module("torch")
        reason = None if torch.cuda.is_available() else f"torch {torch.__version__} sees no GPU"
    except Exception as error:  # whatever keeps it from being imported, nobody can take part
        reason = str(error)
    if reason is not None:
        return {"found": {}, "missing": {name: reason for name in names}}
    for name in names:
        try:
            peer = importlib.import_module(name)
            version = getattr(peer, "__version__", None)
            if version is None:
                version = importlib.import_module("importlib.metadata").version(name)
            found[name] = version if name == "torch" else f"{version}, torch {torch.__version__}"
        except Exception as error:
            missing[name] = str(error)
    return {"found": found, "missing": missing}


def load_safetensors(torch, files, nogds):
    from safetensors.torch import load_file

    start = time.perf_counter()
    tensors = {name: tensor for file in files for name, tensor in load_file(file, device="cuda:0").items()}
    torch.cuda.synchronize()
    return time.perf_counter() - start, tensors


def load_fastsafetensors(torch, files, nogds):
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    start = time.perf_counter()
    loader = SafeTensorsFileLoader(SingleGroup(), torch.device("cuda:0"), nogds=nogds)
    loader.add_filenames({0: files})
    buffer = loader.copy_files_to_device()
    tensors = {name: buffer.get_tensor(name) for name in loader.get_keys()}
    torch.cuda.synchronize()
    return time.perf_counter() - start, (tensors, buffer, loader)


def load_torch(torch, files, nogds):
    start = time.perf_counter()
    tensors = {}
    for file in files:
        for name, tensor in torch.load(file, mmap=True, weights_only=True).items():
            tensors[name] = tensor.to("cuda:0")
    torch.cuda.synchronize()
    return time.perf_counter() - start, tensors


def save(files):
    """Reads the files itself: safetensors may not be installed."""
    torch = importlib.import_module("torch")
    types = {
        "BOOL": torch.bool,
        "U8": torch.uint8,
        "I8": torch.int8,
        "I16": torch.int16,
        "I32": torch.int32,
        "I64": torch.int64,
        "F8_E4M3": torch.float8_e4m3fn,
        "F8_E5M2": torch.float8_e5m2,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "F32": torch.float32,
        "F64": torch.float64,
        "C64": torch.complex64,
    }
    for file in files:
        with open(file, "rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        tensors = {}
        for name, info in header.items():
            if name == "__metadata__":
                continue
            begin, end = info["data_offsets"]
            whole = torch.from_file(file, size=8 + length + end, dtype=torch.uint8)
            flat = whole[8 + length + begin : 8 + length + end].clone().view(types[info["dtype"]])
            tensors[name] = flat.reshape(info["shape"])
        torch.save(tensors, file + ".pt")


def peak_memory():
    """The most resident memory that this process ever had, in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main():
    name, *rest = sys.argv[1:]
    if name == "probe":
        print(json.dumps(probe()))
        return
    if name == "save":
        save(rest)
        return
    nogds = "--nogds" in rest
    files = [argument for argument in rest if argument != "--nogds"]
    load = {"safetensors": load_safetensors, "fastsafetensors": load_fastsafetensors, "torch": load_torch}[name]
    torch = importlib.import_module("torch")
    importlib.import_module(name)
    torch.zeros(1, device="cuda:0")
    torch.cuda.synchronize()
    before = peak_memory()
    seconds, _held = load(torch, files, nogds)
    print(json.dumps({"seconds": seconds, "beyondDestination": peak_memory() - before}))


if __name__ == "__main__":
    main()
