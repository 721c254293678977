"""Runs the CUDA sources on the host: the same text, compiled by the C++ compiler with the header beside this file, on
NumPy arrays, planned as calls on a device are."""

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np

from sparseacc.calls.dtypes import common_dtype
from sparseacc.calls.layout import resolve_shapes
from sparseacc.cuda.geometry import SHARED
from sparseacc.cuda.planning import Strides, plan
from sparseacc.terms import lengths

COMPILER = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-fno-strict-aliasing", "-w"]
HERE = Path(__file__).parent


@cache
def folder(flags):
    """Where what is compiled with these flags is kept, with the header compiled once."""
    place = tempfile.TemporaryDirectory(prefix="sparseacc-")
    header = Path(place.name, "cuda_on_host.h")
    shutil.copy(HERE / header.name, header)
    compiled = [COMPILER, *FLAGS, *flags, "-x", "c++-header", str(header), "-o", f"{header}.gch"]
    if "clang" not in COMPILER:
        subprocess.run(compiled, check=True)
    return place


def build(text, flags, suffix):
    """Compiles; the same text only once."""
    place = folder(flags).name
    target = Path(place, hashlib.sha256(text.encode()).hexdigest()[:24] + suffix)
    if not target.exists():
        file = target.with_suffix(".cpp")
        file.write_text(text)
        command = [COMPILER, *FLAGS, *flags, f"-I{place}", str(file), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[:3000]
    return target


def text(source):
    return f'#include "cuda_on_host.h"\n{source.code}\n'


@cache
def kernel(source_text, name):
    launcher = (
        f'extern "C" void launch(const unsigned *geometry, void *const *arguments)\n'
        f"{{\n    host::launch(&{name}, geometry, arguments);\n}}\n"
    )
    return ctypes.CDLL(str(build(source_text + launcher, ("-shared", "-fPIC"), ".so"))).launch


def launch(source, grid, arrays, integers):
    """Launches a source on NumPy arrays, its tables included."""
    values = [ctypes.c_void_p(a.ctypes.data) for a in (*arrays, *source.tables)]
    values += [ctypes.c_longlong(n) for n in integers]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    kernel(text(source), source.name)((ctypes.c_uint * 4)(*grid, source.threads, source.shared_mem), pointers)


def strides(array):
    aligned = all(n % array.itemsize == 0 for n in (array.ctypes.data, *array.strides))
    return Strides(array.shape, array.strides, aligned)


def planned(rule, operation, arrays, axis, wanted=None, out=None, limit=SHARED):
    """The plan of a call, and the shapes and dtype of its outputs. Absent arrays are None."""
    given = {name: a for a, (name, _) in zip(arrays, operation.inputs) if a is not None}
    wanted = (True,) * len(operation.outputs) if wanted is None else wanted
    dtype = common_dtype(given)
    shapes = resolve_shapes(operation, lengths(rule), given, axis)
    restricted = operation.restricted(tuple(a is not None for a in arrays), wanted)
    found = plan(
        rule,
        restricted,
        [None if a is None else strides(a) for a in arrays],
        shapes,
        wanted,
        dtype,
        None if out is None else strides(out),
        limit,
    )
    return found, [shapes.outputs[o] for o, asked in enumerate(wanted) if asked], dtype


def run(rule, operation, *arrays, axis=-1, wanted=None, out=None):
    """Runs an operation as on a device; returns the outputs that are wanted."""
    found, shapes, dtype = planned(rule, operation, arrays, axis, wanted, out)
    wide = np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    outputs = [
        np.full((parts, *shape), np.nan, wide) if parts else np.full(shape, np.nan, dtype) if out is None else out
        for parts, shape in zip(found.parts, shapes)
    ]
    launch(found.source, found.grid, [*(arrays[i] for i in found.spec.inputs()), *outputs], found.integers)
    return [o.sum(axis=0).astype(dtype) if parts else o for o, parts in zip(outputs, found.parts)]


def launch_block(source, block, addresses, integers):
    """Launches one block of a grid, on addresses."""
    values = [ctypes.c_void_p(a) for a in addresses] + [ctypes.c_longlong(n) for n in integers]
    pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(v) for v in values))
    alone = text(source).replace(
        '#include "cuda_on_host.h"', f'#define FIRST_BLOCK {block}u\n#include "cuda_on_host.h"'
    )
    kernel(alone, source.name)((ctypes.c_uint * 4)(1, 1, source.threads, source.shared_mem), pointers)


def program(calls, flags):
    """An executable that makes calls, as `planned` describes them, on random arrays of exact size."""
    launches = []
    for found, shapes, dtype, inputs in calls:
        wide = 16 if dtype.kind == "c" else 8
        arrays = [np.ascontiguousarray(inputs[i]) for i in found.spec.inputs()]
        empty = [(int(np.prod(s)) * (parts * wide or dtype.itemsize), b"") for parts, s in zip(found.parts, shapes)]
        buffers = [(a.nbytes, a.tobytes()) for a in (*arrays, *found.source.tables)]
        buffers[len(arrays) : len(arrays)] = empty
        launches.append((found.source, found.grid, buffers, found.integers))
    return executable(launches, flags)


def executable(launches, flags):
    """An executable that launches sources: each with its grid, its arrays (their bytes, and what they hold) and its
    integers.
    """
    parts, main = [], []
    for n, (source, grid, buffers, integers) in enumerate(launches):
        parts.append(f"namespace part{n} {{\n{source.code.replace(source.name, f'kernel{n}')}\n}}\n")
        parts.append("#undef SPARSEACC_ALIGNED\n")
        main.append("{ void *arguments[] = {")
        main += [f"    buffer({size}, {_literal(data)})," for size, data in buffers]
        main += [f"    new long long({value})," for value in integers]
        main.append("};")
        geometry = f"{grid[0]}, {grid[1]}, {source.threads}, {source.shared_mem}"
        main.append(
            f"const unsigned g[] = {{{geometry}}}; host::launch(&part{n}::kernel{n}, g, arguments); "
            'std::puts("done"); }'
        )
    memory = """
static void *buffer(unsigned bytes, const char *data)
{
    void **const address = new void *(std::malloc(bytes));
    if (data)
        std::memcpy(*address, data, bytes);
    return address;
}
"""
    head = '#include "cuda_on_host.h"\n'
    return build(head + "".join(parts) + memory + "int main()\n{\n" + "\n".join(main) + "\n}\n", flags, "")


def _literal(data):
    return '"' + "".join(f"\\{byte:03o}" for byte in data) + '"' if data else "nullptr"
