"""The contenders in Python.

peers.py probe             prints which can be imported, as JSON: name -> version
peers.py NAME FILE...      loads the files into fresh CPU memory and prints a sample as JSON
"""

import importlib
import json
import os
import sys
import time


def probe():
    found = {}
    for name in ("safetensors", "fastsafetensors"):
        try:
            torch = importlib.import_module("torch")
            peer = importlib.import_module(name)
            version = getattr(peer, "__version__", None)
            if version is None:
                version = importlib.import_module("importlib.metadata").version(name)
            found[name] = f"{version}, torch {torch.__version__}"
        except Exception:  # whatever keeps it from being imported, it cannot take part
            continue
    return found


def touch_memory():
    """Has memory at hand that its host may have taken: the last thing to be done before the clock starts."""
    command = os.environ.get("FASTSAFETENSORS_BENCH_TOUCH")
    if command and os.system(command) != 0:
        raise RuntimeError(f"Cannot run {command}")


def load_safetensors(files):
    from safetensors.torch import load_file

    touch_memory()
    start = time.perf_counter()
    # load_file maps the file: only a copy is in memory of its own.
    tensors = {name: tensor.clone() for file in files for name, tensor in load_file(file).items()}
    return time.perf_counter() - start, tensors


def load_fastsafetensors(files):
    import torch
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    touch_memory()
    start = time.perf_counter()
    loader = SafeTensorsFileLoader(SingleGroup(), torch.device("cpu"), nogds=True)
    loader.add_filenames({0: files})
    buffer = loader.copy_files_to_device()
    tensors = {name: buffer.get_tensor(name) for name in loader.get_keys()}
    return time.perf_counter() - start, (tensors, buffer, loader)


def peak_memory():
    """The most resident memory that this process ever had, in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main():
    name, *files = sys.argv[1:]
    if name == "probe":
        print(json.dumps(probe()))
        return
    load = {"safetensors": load_safetensors, "fastsafetensors": load_fastsafetensors}[name]
    importlib.import_module("torch")
    importlib.import_module(name)
    seconds, held = load(files)
    tensors = held if isinstance(held, dict) else held[0]
    destination = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    print(json.dumps({"seconds": seconds, "beyondDestination": peak_memory() - destination}))


if __name__ == "__main__":
    main()
