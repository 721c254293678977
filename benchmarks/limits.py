"""Measures what the machine can do, with the C compiler that also built the package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from cffi import FFI

FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx2", "-mfma", "-mprefer-vector-width=512"],
}
REPEATS = 9


@cache
def _library(instruction_set):
    ffi = FFI()
    ffi.cdef(
        """double peak_float(int64_t); int64_t peak_float_per_turn(void);
        double peak_double(int64_t); int64_t peak_double_per_turn(void);
        void stream(const char *, int64_t, char *, int64_t, int);"""
    )
    folder = tempfile.mkdtemp()
    path = Path(folder) / "limits.so"
    compiler = shutil.which("cc") or "gcc"
    source = Path(__file__).with_name("limits.c")
    command = [
        compiler,
        "-O3",
        "-ffp-contract=fast",
        "-shared",
        "-fPIC",
        *FLAGS[instruction_set],
        str(source),
        "-o",
        str(path),
    ]
    subprocess.run(command, check=True)
    library = ffi.dlopen(str(path))
    shutil.rmtree(folder)
    return ffi, library


def _fastest(call, threads):
    """The shortest time of `call(thread)` done by all threads at once."""
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(REPEATS):
            start = time.perf_counter()
            list(pool.map(call, range(threads)))
            best = min(best, time.perf_counter() - start)
    return best


@cache
def multiply_adds_per_second(dtype, instruction_set, threads):
    """Numbers multiplied and added per second, by all threads together, from registers."""
    _, library = _library(instruction_set)
    name = {"float32": "peak_float", "float64": "peak_double"}[dtype]
    turns = 2_000_000
    seconds = _fastest(lambda _: getattr(library, name)(turns), threads)
    return threads * turns * getattr(library, f"{name}_per_turn")() / seconds


@cache
def streaming_seconds(bytes_in, bytes_out, threads, instruction_set="baseline"):
    """The shortest time to read and write as many bytes, the working set of a case, as long streams."""
    ffi, library = _library(instruction_set)
    share_in, share_out = (-(-n // threads // 64) * 64 for n in (bytes_in, bytes_out))
    arrays = [(np.ones(share_in + 64, np.uint8), np.ones(share_out + 64, np.uint8)) for _ in range(threads)]
    aligned = [tuple(ffi.from_buffer(a) + -a.ctypes.data % 64 for a in pair) for pair in arrays]
    ways = [lambda t, way=way: library.stream(aligned[t][0], share_in, aligned[t][1], share_out, way) for way in (0, 1)]
    return min(_fastest(way, threads) for way in ways)
