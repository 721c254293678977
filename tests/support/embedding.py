"""Compiles what `sparseacc.cpu.source` writes, and calls it on NumPy arrays."""

import ctypes
import os
import runpy
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np

from sparseacc.cuda.geometry import Launch

CC = shlex.split(os.environ.get("CC", "")) or [shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")]
CXX = shlex.split(os.environ.get("CXX", "")) or [shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")]
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wmissing-prototypes", "-Wconversion", "-Werror", "-pedantic")


def has(compiler):
    return compiler[0] is not None and shutil.which(compiler[0]) is not None


def run(*command):
    """What a command prints, which has to succeed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr[:3000]
    return done.stdout


def library(folder, kernels, *flags):
    """All kernels as one shared library."""
    source = folder / "kernels.c"
    source.write_text("\n".join(kernel.code for kernel in kernels))
    target = folder / "kernels.so"
    run(*CC, *STRICT, "-O1", "-shared", "-fPIC", *flags, source, "-o", target)
    return ctypes.CDLL(str(target))


def call(loaded, kernel, inputs, shapes, dtypes, integers):
    """Calls a kernel; returns the outputs of these shapes and dtypes, beside which nothing was written."""
    beside = 64
    whole = [np.full(int(np.prod(shape)) + 2 * beside, 7.5, dtype) for shape, dtype in zip(shapes, dtypes)]
    inside = [array[beside : array.size - beside] for array in whole]
    for array in inside:
        array[...] = np.nan
    arrays = [*map(np.ascontiguousarray, inputs), *inside]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in arrays]
    function = getattr(loaded, kernel.name)
    function.restype = None
    function(*pointers, *map(ctypes.c_int64, integers))
    for array in whole:
        assert np.all(array[:beside] == 7.5)
        assert np.all(array[-beside:] == 7.5)
    return [array.reshape(shape) for array, shape in zip(inside, shapes)]


EXAMPLES = Path(__file__).parents[2] / "examples" / "embedding"
PROGRAM = """
#include <cstdio>
#include <initializer_list>
#include "launch.h"

int main()
{
    const Geometry kernel = {%s};
    for (long long rows : {%s}) {
        const Launch how = launch(kernel, rows);
        std::printf("%%u %%u %%u %%u\\n", how.grid_x, how.grid_y, how.block, how.shared_mem);
    }
}
"""


def launches(folder, kernel, rows):
    """The launches of a CUDA kernel for such numbers of rows, as the C++ of the example computes them."""
    source, program = folder / "launches.cpp", folder / "launches"
    geometry = runpy.run_path(str(EXAMPLES / "generate.py"))["geometry"](kernel)
    source.write_text(PROGRAM % (geometry, ", ".join(f"{n}LL" for n in rows)))
    strict = ["-Wall", "-Wextra", "-Wconversion", "-Werror", "-pedantic"]
    run(*CXX, "-std=c++11", *strict, f"-I{EXAMPLES}", source, "-o", program)
    found = [tuple(map(int, line.split())) for line in run(program).splitlines()]
    return [Launch((x, y), (block,), shared_mem) for x, y, block, shared_mem in found]
