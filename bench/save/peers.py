"""The reference, in Python.

peers.py probe                   prints its version, or nothing if it cannot be imported
peers.py BYTES PATH sync|nosync  saves and prints the seconds
"""

import os
import sys
import time

TENSOR_BYTES = 16 * 2**20


def probe():
    try:
        import numpy
        import safetensors

        print(f"{safetensors.__version__}, numpy {numpy.__version__}")
    except ImportError:
        pass


def main():
    if sys.argv[1] == "probe":
        probe()
        return
    size, path, sync = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "sync"
    import numpy
    from safetensors.numpy import save_file

    random = numpy.random.default_rng(1)
    tensors = {
        f"layers.{index}.weight": random.integers(0, 2**16, (2048, 4096), dtype=numpy.uint16)
        for index in range(size // TENSOR_BYTES)
    }
    start = time.perf_counter()
    save_file(tensors, path)
    if sync:
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
