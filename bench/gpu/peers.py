"""The contenders in Python that load to a GPU.

peers.py probe                      prints which can be imported where torch sees a GPU, as JSON: name -> version
peers.py NAME [--nogds] FILE...     loads the files into fresh memory of the first GPU and prints a sample as JSON
"""

import importlib
import json
import sys
import time


def probe():
    found = {}
    try:
        torch = importlib.import_module("torch")
        if not torch.cuda.is_available():
            return found
    except Exception:  # whatever keeps it from being imported, nobody can take part
        return found
    for name in ("safetensors", "fastsafetensors"):
        try:
            peer = importlib.import_module(name)
            version = getattr(peer, "__version__", None)
            if version is None:
                version = importlib.import_module("importlib.metadata").version(name)
            found[name] = f"{version}, torch {torch.__version__}"
        except Exception:
            continue
    return found


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
    nogds = "--nogds" in rest
    files = [argument for argument in rest if argument != "--nogds"]
    load = {"safetensors": load_safetensors, "fastsafetensors": load_fastsafetensors}[name]
    torch = importlib.import_module("torch")
    importlib.import_module(name)
    torch.zeros(1, device="cuda:0")
    torch.cuda.synchronize()
    before = peak_memory()
    seconds, _held = load(torch, files, nogds)
    print(json.dumps({"seconds": seconds, "beyondDestination": peak_memory() - before}))


if __name__ == "__main__":
    main()
