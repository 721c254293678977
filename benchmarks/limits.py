"""What the machine can do, as calls to be timed beside others; made with the C compiler that also built the package."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from cffi import FFI

FLAGS = {
    "baseline": [],
    "avx2": ["-mavx2", "-mfma"],
    "avx512": ["-mavx512f", "-mavx2", "-mfma", "-mprefer-vector-width=512"],
}
KINDS = {"float32": 0, "float64": 1, "stream": 2, "stream past the cache": 3}  # as in limits.c
TURNS = 300_000


@cache
def _library(instruction_set: str) -> tuple[Any, Any]:
    ffi = FFI()
    ffi.cdef(
        """void run(int, int, int64_t, const char *, int64_t, char *, int64_t);
        int64_t peak_float_per_turn(void); int64_t peak_double_per_turn(void);"""
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "limits.so"
        compiler = shutil.which("cc") or "gcc"
        source = Path(__file__).with_name("limits.c")
        options = ["-O3", "-ffp-contract=fast", "-shared", "-fPIC", "-pthread", *FLAGS[instruction_set]]
        subprocess.run([compiler, *options, str(source), "-o", str(path)], check=True)
        return ffi, ffi.dlopen(str(path))


def multiply_adds(dtype: str, instruction_set: str, threads: int) -> tuple[Callable[[], None], int]:
    """A call that multiplies and adds in registers, in all threads, and how many numbers it does."""
    ffi, library = _library(instruction_set)
    each = {"float32": library.peak_float_per_turn, "float64": library.peak_double_per_turn}[dtype]()

    def call() -> None:
        library.run(KINDS[dtype], threads, TURNS, ffi.NULL, 0, ffi.NULL, 0)

    return call, threads * TURNS * each


def streaming(bytes_in: int, bytes_out: int, threads: int) -> list[Callable[[], None]]:
    """Calls that read and write as many bytes, in all threads, as long streams: into the cache, and past it.

    Each has arrays of its own, lest one find them in the caches because the other has just read them.
    """
    ffi, library = _library("baseline")
    shares = [-(-n // threads // 64) * 64 for n in (bytes_in, bytes_out)]

    def stream(kind: int) -> Callable[[], None]:
        arrays = [np.ones(share * threads + 64, np.uint8) for share in shares]
        source, result = (ffi.from_buffer(array[-array.ctypes.data % 64 :]) for array in arrays)
        return lambda: library.run(kind, threads, 0, source, shares[0], result, shares[1])

    return [stream(kind) for name, kind in KINDS.items() if name.startswith("stream")]
